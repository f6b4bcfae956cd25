"""Files: written whole or not at all, read as JSON."""

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

from genrec_bench.errors import StorageError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file whole or not at all; make missing folders.

    Raises:
        StorageError: the disk refuses (full, read-only, no permission).
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        StorageError: if the file is missing or no JSON object.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StorageError(f"{file}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise StorageError(f"{file}: holds no JSON object")
    return content


def write_json(path: Path, value: object) -> None:
    """Write a value as JSON that people can read, keys sorted; see `write_atomically`."""
    text = json.dumps(value, indent=2, sort_keys=True, ensure_ascii=False)
    write_atomically(path, f"{text}\n".encode())
