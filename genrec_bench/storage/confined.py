"""Files of a folder that somebody else may have made: nothing is read that lies outside of it."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from genrec_bench.errors import UserError
from genrec_bench.storage.bounded_json import read_at_most
from genrec_bench.storage.files import inside

FOLLOWED = (errno.ELOOP, errno.EMLINK, errno.ENOTDIR)
"""What systems say of a link where none may be."""


class Foreign(UserError):
    """What is named in a folder is no file of its own, or none that can be used."""


def own_bytes(folder: Path, *names: str, most: int) -> bytes:
    """Return the content of a file below a folder.

    No link is followed on the way, and what is read is what was checked: a file that is exchanged
    meanwhile is one or the other. A file that has a second name may be anybody's.

    Args:
        names: of the folders below, and of the file.
        most: bytes that it may have.

    Raises:
        Foreign: it is a link, lies behind one, has a second name, is too large, or is no file.
        OSError: it is missing or cannot be read.
    """
    path, flags = folder, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for name in names:
            path = inside(path, name)
            try:
                below = os.open(name, flags, dir_fd=handle)
            except OSError as error:
                if error.errno in FOLLOWED:
                    raise Foreign(f"{path} (a link, or behind one)") from None
                raise
            os.close(handle)
            handle = below
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise Foreign(f"{path} (no file)")
        if found.st_nlink > 1:
            raise Foreign(f"{path} (a file that has another name too)")
        if found.st_size > most:
            raise Foreign(f"{path} (more than {most:,} bytes)")
        with os.fdopen(os.dup(handle), "rb") as file:
            return read_at_most(file, most)
    finally:
        os.close(handle)


def check_own(path: Path) -> None:
    """Refuse a name at which there is anything but a file of the folder's own, or nothing.

    Raises:
        Foreign: there is.
        OSError: it cannot be found out.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
        raise Foreign(f"{path} (a link, or no file)")
