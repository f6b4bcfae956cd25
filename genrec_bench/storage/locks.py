"""Locks on files, which the system frees if the process dies."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Callable, Iterator
from pathlib import Path

from genrec_bench.errors import StorageError


@contextlib.contextmanager
def locked(file: Path, *, wait: bool = False, mark: str | None = None) -> Iterator[bool]:
    """Hold a lock while the body of a ``with`` statement runs; yields whether it was free.

    Args:
        file: to lock; made if there is none, and never removed.
        wait: whether to wait until it is free.
        mark: becomes the file's content, to be read by ``read_mark``; None leaves it alone.

    Raises:
        StorageError: the disk refuses.
    """
    with contextlib.ExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(file.open("ab"))
            free = _lock(handle.fileno(), wait)
            if free and mark is not None and read_mark(file) != mark:
                handle.truncate(0)
                handle.write(mark.encode())
                handle.flush()
        except OSError as error:
            raise StorageError(f"cannot write {file}: {error.strerror or error}") from None
        yield free


@contextlib.contextmanager
def in_turn(file: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock while the body of a ``with`` statement runs, however long it takes to get it.

    Args:
        file: see `locked`.
        waiting: called if the lock is not free.

    Raises:
        StorageError: the disk refuses.
    """
    with locked(file) as free:
        if free:
            yield
            return
    waiting()
    with locked(file, wait=True):
        yield


def read_mark(file: Path) -> str | None:
    """Return what the last one to lock a file wrote into it; None if there is no such file."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return None


def _lock(handle: int, wait: bool) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True
