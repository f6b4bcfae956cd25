"""Folders: replaced as a whole, and cleared of what killed processes left."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from genrec_bench.errors import StorageError, UserError
from genrec_bench.storage.files import LEFTOVER

REPLACE_ATTEMPTS = 5


@contextlib.contextmanager
def written_whole(final: Path) -> Iterator[Path]:
    """Yield a new folder to write, which takes the place of ``final`` once all is written.

    Raises:
        StorageError: the disk refuses.
    """
    folder = final.parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{final.name}-") as temporary:
            # One level down, so that the folder gets ordinary permissions.
            new = Path(temporary) / "new"
            new.mkdir()
            yield new
            _replace(new, final, Path(temporary))
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}") from error


def _replace(new: Path, final: Path, aside: Path) -> None:
    """Put folder `new` at `final`; what was there goes into `aside`, and back if that fails."""
    for attempt in range(REPLACE_ATTEMPTS):
        old = aside / f"old-{attempt}"
        try:
            final.rename(old)
        except FileNotFoundError:
            pass
        try:
            new.rename(final)
            return
        except BaseException as error:
            # Also if the user interrupts between the two: what was there must not be lost.
            if isinstance(error, OSError) and final.exists():
                continue  # another process put its own there in between
            if old.exists() and not final.exists():
                old.rename(final)
            raise
    raise OSError(f"another process keeps writing {final}")


def check_writable(folder: Path, asked: str) -> None:
    """Make sure that files can be written below a folder, which need not be there; makes nothing.

    Args:
        asked: begins the message: the option that names the folder.

    Raises:
        StorageError: it could not be a folder, or nothing can be written there.
    """
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        raise StorageError(f"{asked}: cannot be a folder: {there} is a file")
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise StorageError(f"{asked}: cannot write to {there}: {error.strerror or error}") from None


def at_home(text: str, asked: str) -> Path:
    """Return a path that a person wrote, in which ``~`` stands for a home folder.

    Args:
        asked: begins the message: the option, variable or key that names the path.

    Raises:
        UserError: nobody has such a home, or it can be no path.
    """
    if "\0" in text:
        raise UserError(f"{asked}: {text!r} is no path: it has a NUL character")
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{asked}: {text}: {error}; write the folder out") from None


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed processes from a folder that nobody else writes to."""
    for path in folder.glob(".*") if folder.is_dir() else ():
        if LEFTOVER.fullmatch(path.name):
            remove(path)


def remove(path: Path) -> None:
    """Remove a file or a folder as far as possible, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
