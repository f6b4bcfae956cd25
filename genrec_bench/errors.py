"""What went wrong, in one line, and whose mistake it was."""

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """A mistake in what the user asked for or handed in.

    The message is one line: what is wrong, where (file, line, key), and what would be right. The
    command line prints it without a traceback and exits with code 2.
    """


class StorageError(UserError):
    """The disk, or what lies on it, refuses: no verdict on a run, which can go on once mended."""


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a hint such as ``; did you mean 'ugr'?``, or an empty string when nothing is near.

    Args:
        name: what the user wrote.
        choices: the names that exist.
    """
    matches = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
