"""Locks on files, which the system frees if the process dies.

Files are opened here and not by filelock: what is locked may hold a mark or a run's own content.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import lock_descriptor

from genrec_bench.errors import StorageError

BEAT, SILENCE = 0.2, 5.0
"""Seconds between two signs of life, and of silence after which nobody waits any more."""


@contextlib.contextmanager
def locked(file: Path, *, wait: bool = False, mark: str | None = None) -> Iterator[bool]:
    """Hold a lock while the body of a ``with`` statement runs; yields whether it was free.

    Args:
        file: made if there is none, and never removed.
        wait: until it is free.
        mark: becomes the file's content, for ``read_mark``; None leaves the content as it is.

    Raises:
        StorageError: the disk refuses.
    """
    with contextlib.ExitStack() as stack:
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            handle = stack.enter_context(file.open("ab"))
            free = lock_descriptor(handle.fileno(), blocking=wait)
            if free and mark is not None and read_mark(file) != mark:
                handle.truncate(0)
                handle.write(mark.encode())
                handle.flush()
        except OSError as error:
            raise StorageError(f"cannot write {file}: {error.strerror or error}") from None
        yield free


@contextlib.contextmanager
def in_turn(file: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Wait for a lock and hold it, see `locked`; call `waiting` first if it is not free."""
    with locked(file) as free:
        if free:
            yield
            return
    waiting()
    with locked(file, wait=True):
        yield


@contextlib.contextmanager
def in_live_turn(file: Path) -> Iterator[None]:
    """Wait for a lock while who holds it gives signs of life, and hold it, giving such signs.

    A sign is that the locked file is touched.

    Raises:
        StorageError: who holds the lock gave no sign for long, or the disk refuses.
    """
    heard, sign = time.monotonic(), _touched(file)
    with contextlib.ExitStack() as stack:
        while not stack.enter_context(locked(file)):
            stack.close()
            if _touched(file) != sign:
                heard, sign = time.monotonic(), _touched(file)
            if time.monotonic() - heard > SILENCE:
                raise StorageError(f"{file}: a process holds this lock and does not go on; end it")
            time.sleep(BEAT / 4)
        over = threading.Event()
        beats = threading.Thread(target=_beat, args=(file, over), daemon=True)
        beats.start()
        try:
            yield
        finally:
            over.set()
            beats.join()


def _beat(file: Path, over: threading.Event) -> None:
    while not over.wait(BEAT):
        with contextlib.suppress(OSError):
            os.utime(file)


def _touched(file: Path) -> int:
    with contextlib.suppress(OSError):
        return file.stat().st_mtime_ns
    return 0


def try_lock(file: Path, stack: contextlib.ExitStack) -> bool:
    """Lock a file that is there, until the stack is closed, and return whether it was free.

    The file is only read. Where the file system has no locks, no file is free.
    """
    handle = stack.enter_context(file.open("rb"))
    try:
        return lock_descriptor(handle.fileno(), blocking=False)
    except OSError:
        return False


def read_mark(file: Path) -> str | None:
    """Return what the last one to lock a file wrote into it; None if there is no such file."""
    try:
        return file.read_text(errors="replace")
    except OSError:
        return None
