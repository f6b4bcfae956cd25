"""What a command line says, without secrets and without the folders of one machine.

A record is passed on, and whoever reads it shall see what was run, and not who has which password.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from genrec_bench.errors import HIDDEN, SECRET, redacted

_OPTION = re.compile(rf"--?{SECRET}", re.IGNORECASE)
_FOLDER = re.compile(r"(?:(?<=://)|(?<![\w.*~:/\\-]))(?:/|[A-Za-z]:[\\/])[^\s,;]+")


def told_words(words: Sequence[str]) -> list[str]:
    """Return the words of a command line as others may read them.

    Secrets are `redacted`, those behind an option of such a name too. Of a whole path there is what
    lies below the current folder, or else its last part.
    """
    told: list[str] = []
    for word in words:
        if told and _OPTION.fullmatch(told[-1]) and not word.startswith("-"):
            told.append(HIDDEN)
        else:
            told.append(_FOLDER.sub(lambda found: _shown(found.group()), redacted(word)))
    return told


def _shown(path: str) -> str:
    whole = Path(path)
    if whole.is_absolute() and whole.is_relative_to(Path.cwd()):
        return whole.relative_to(Path.cwd()).as_posix()
    last = re.split(r"[/\\]", path.rstrip("/\\"))[-1]
    return f".../{last}"
