"""Files: written whole or not at all, read as JSON."""

import glob
import json
import os
import re
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from filelock import lock_descriptor

from genrec_bench.errors import StorageError, UserError
from genrec_bench.storage.bounded_json import load_json

LEFTOVER = re.compile(r"\..+\.[0-9a-f]{32}")
"""Temporary names, under which files and folders are written."""


def inside(folder: Path, name: str) -> Path:
    """Return the path of a file by a name that came from elsewhere.

    Names are checked where they are read; whatever makes a path of one asks here once more.

    Raises:
        UserError: it would not lie right in the folder.
    """
    if name in ("", ".", "..") or set(name) & set("/\\\0"):
        raise UserError(f"{name!r} is no name of a file in {folder}: it leads elsewhere")
    return folder / name


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; make missing folders.

    The temporary file is locked while it is written, so that what killed processes left of the
    same file is told from what others are writing, and removed.

    Raises:
        StorageError: the disk refuses (full, read-only, no permission).
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(path)
        while not _written(path, content):
            pass  # Another process took the file for a leftover before it was locked.
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error


def _written(path: Path, content: bytes) -> bool:
    """Write under a temporary name and rename; False if the temporary file was taken away."""
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        with temporary.open("xb") as file:
            with suppress(OSError):  # There are file systems without locks.
                lock_descriptor(file.fileno(), blocking=False)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
            if not temporary.exists():
                return False
            os.replace(temporary, path)
        return True
    finally:
        with suppress(OSError):
            temporary.unlink()


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files of one file that no process holds."""
    for temporary in path.parent.glob(f".{glob.escape(path.name)}.*"):
        if LEFTOVER.fullmatch(temporary.name):
            with suppress(OSError), temporary.open("rb") as file:
                if lock_descriptor(file.fileno(), blocking=False):
                    temporary.unlink()


def read_json(file: Path, *, constants: bool = False) -> dict[str, Any]:
    """Read a JSON object, within the bounds of `bounded_json.decode_json`.

    Raises:
        StorageError: if the file is missing or no JSON object.
    """
    try:
        content = load_json(file, constants=constants)
    except (OSError, ValueError) as error:
        raise StorageError(f"{file}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise StorageError(f"{file}: holds no JSON object")
    return content


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON that people can read, keys sorted; see `write_atomically`."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    write_atomically(path, f"{text}\n".encode())
