"""SHA-256 of files, contents and JSON values, as hexadecimal text.

Runs, caches and records are found by these digests: another way to write a value as JSON would make
all of them other ones.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path

_KNOWN: dict[tuple[object, ...], str] = {}
"""Digests of files by all that changes when somebody writes to them."""

SETTLED = 100_000_000
"""Nanoseconds after which another change of a file gets another time."""


def content_digest(content: str | bytes) -> str:
    """Return the digest of bytes, or of a text in UTF-8."""
    return hashlib.sha256(content.encode() if isinstance(content, str) else content).hexdigest()


def json_digest(value: object) -> str:
    """Return the digest of a plain JSON value, in which the order of keys does not matter."""
    return content_digest(json.dumps(value, sort_keys=True))


def canonical_digest(value: object) -> str:
    """Return the digest of a value's canonical JSON: keys sorted, no blanks, finite numbers.

    Programs in other languages can compute it, so records use it.

    Raises:
        ValueError: a number is not finite.
    """
    return content_digest(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False))


def file_sha256(path: Path) -> str:
    """Return the digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def texts_sha256(texts: Iterable[str]) -> str:
    """Return the sha256 of texts in their order, without joining what may be gigabytes."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(json.dumps(text).encode() + b"\n")
    return digest.hexdigest()


def files_digest(paths: Iterable[Path]) -> str:
    """Return one digest of the contents of several files, in their order.

    A process that asks again about files that did not change does not read them again.
    """
    return content_digest("".join(map(known_sha256, paths)))


def known_sha256(path: Path) -> str:
    """Return the digest of a file's content, which is read once in a process if it stays as it is.

    Raises:
        OSError: it cannot be read.
    """
    status = path.stat()
    key = (path.absolute(), status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    digest = _KNOWN.get(key) or file_sha256(path)
    # Clocks of file systems are coarse: a file just written may change again unnoticed.
    if time.time_ns() - status.st_ctime_ns > SETTLED:
        _KNOWN[key] = digest
    return digest
