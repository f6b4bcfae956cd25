"""All that a command prints passes through here, whoever prints it, and is `told`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from genrec_bench.errors import told


class ToldStream:
    """A stream whose text is `told`; all else is that of the stream, which is ``untold``."""

    def __init__(self, stream: TextIO) -> None:
        self.untold = stream

    def write(self, text: str) -> int:
        """Write a text, in a coding that lacks some of its characters too."""
        shown = told(text)
        try:
            self.untold.write(shown)
        except UnicodeEncodeError:
            coding = self.untold.encoding
            self.untold.write(shown.encode(coding, "backslashreplace").decode(coding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.untold, name)


@contextlib.contextmanager
def told_streams() -> Iterator[None]:
    """Have all that is printed in the body of a ``with`` statement be `told`."""
    with (
        contextlib.redirect_stdout(ToldStream(sys.stdout)),
        contextlib.redirect_stderr(ToldStream(sys.stderr)),
    ):
        yield
