"""What went wrong, in one line, and whose mistake it was."""

import contextlib
import difflib
import errno
from collections.abc import Iterable, Iterator
from textwrap import shorten

DISK_TROUBLE = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS)
"""What a disk says when it refuses: nobody's mistake, and the user's to mend."""

LONGEST_REASON = 300
"""Characters of what a record or a line says of a failure."""


class UserError(Exception):
    """A mistake in what the user asked for or handed in.

    The message is one line: what is wrong, where (file, line, key), and what would be right. The
    command line prints it without a traceback and exits with code 2.
    """


class StorageError(UserError):
    """The disk, or what lies on it, refuses: no verdict on a run, which can go on once mended."""


def is_disk_trouble(error: OSError) -> bool:
    """Return whether the disk refuses; any other error of the system is a mistake of somebody's."""
    return error.errno in DISK_TROUBLE


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Name what the disk refuses to the body of a ``with`` statement or to a decorated function.

    Raises:
        StorageError: in place of an ``OSError`` that says so; all others pass.
    """
    try:
        yield
    except OSError as error:
        if not is_disk_trouble(error):
            raise
        where = error.filename or "the disk"
        raise StorageError(f"cannot use {where}: {error.strerror}") from error


def one_line(text: object) -> str:
    """Return the beginning of what is said of a failure, which may be a page."""
    return shorten(str(text), LONGEST_REASON, placeholder=" ...")


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a hint such as ``; did you mean 'ugr'?``, or an empty string when nothing is near.

    Args:
        name: what the user wrote.
        choices: the names that exist.
    """
    matches = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
