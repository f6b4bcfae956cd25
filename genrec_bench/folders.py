"""Folders that are put in place whole."""

from pathlib import Path

REPLACE_ATTEMPTS = 5


def replace_folder(new: Path, final: Path, aside: Path) -> None:
    """Put folder `new` at `final`; what was there goes into `aside`, and back if that fails.

    Raises:
        OSError: the disk refuses.
    """
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
            # A key pressed between the two must not cost what was there either.
            if isinstance(error, OSError) and final.exists():
                continue  # another process put its own there in between
            if old.exists() and not final.exists():
                old.rename(final)
            raise
    raise OSError(f"another process keeps writing {final}")
