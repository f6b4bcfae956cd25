"""Errors that are told in one line: the user's mistakes, and the disk's refusals."""

import contextlib
import difflib
import errno
from collections.abc import Iterable, Iterator
from textwrap import shorten

DISK_TROUBLE = (errno.EACCES, errno.EDQUOT, errno.EFBIG, errno.ENOSPC, errno.EPERM, errno.EROFS)
"""Errors of the disk (full, read-only, no permission), which the user has to mend."""

LONGEST_REASON = 300
"""Characters of a failure's reason in a record or in a message."""


class UserError(Exception):
    """A mistake in what the user asked for or handed in.

    The message is one line: what is wrong, where (file, line, key), and what would be right. The
    command line prints it without a traceback and exits with code 2.
    """


class StorageError(UserError):
    """The disk refuses, or a file on it is damaged; once that is mended, the run can go on."""


def is_disk_trouble(error: OSError) -> bool:
    """Return whether the disk refuses; any other error is a mistake in the program or its use."""
    return error.errno in DISK_TROUBLE


@contextlib.contextmanager
def storage_errors() -> Iterator[None]:
    """Raise StorageError for an ``OSError`` of the disk within; other errors pass as they are."""
    try:
        yield
    except OSError as error:
        if not is_disk_trouble(error):
            raise
        where = error.filename or "the disk"
        raise StorageError(f"cannot use {where}: {error.strerror}") from error


def one_line(text: object) -> str:
    """Return the beginning of a failure's reason, which may be a page long, in one line."""
    # A page is read, and not a book.
    return shorten(str(text)[: 20 * LONGEST_REASON], LONGEST_REASON, placeholder=" ...")


def nearest(name: str, choices: Iterable[str]) -> str:
    """Return a hint such as ``; did you mean 'ugr'?``, or nothing if no choice is near."""
    matches = difflib.get_close_matches(name, list(choices), n=1, cutoff=0.5)
    return f"; did you mean {matches[0]!r}?" if matches else ""
