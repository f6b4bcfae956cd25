"""Caches are believed as long as they are what was written, and made of what is asked for.

A *seal* is a digest of JSON content, kept within it. The content holds the digests of the files
that belong to it, and of what they were made of. Whoever reads a cache checks this; a cache that is
`Unsound` is made again, and a line says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genrec_bench.errors import StorageError
from genrec_bench.storage.digests import json_digest, known_sha256
from genrec_bench.storage.files import read_json

SEAL, MADE_OF, FILES = "seal", "made_of", "files"


class Unsound(StorageError):
    """A cache is not what was written, or not made of what is asked for."""


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return JSON content with its seal, in place of an earlier one."""
    bare = {key: value for key, value in content.items() if key != SEAL}
    return {**bare, SEAL: json_digest(bare)}


def check_seal(content: Mapping[str, Any], where: object) -> bool:
    """Return whether content has a seal; what was written before there were any has none.

    Raises:
        Unsound: the content is not what was sealed; names `where`, the file.
    """
    if SEAL not in content:
        return False
    if sealed(content)[SEAL] != content[SEAL]:
        raise Unsound(f"{where}: was changed since it was written")
    return True


def digests_of(folder: Path, files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of files by their places in a folder."""
    return {path.relative_to(folder).as_posix(): known_sha256(path) for path in sorted(files)}


def check_files(folder: Path, digests: object) -> None:
    """Compare files of a folder with their digests, as `digests_of` returned them.

    Raises:
        Unsound: one is missing, cannot be read, or was changed.
    """
    if not isinstance(digests, Mapping):
        raise Unsound(f"{folder}: does not say what its files are")
    for name, digest in digests.items():
        path = folder / name
        try:
            found = known_sha256(path)
        except OSError as error:
            what = "is missing" if isinstance(error, FileNotFoundError) else "cannot be read"
            raise Unsound(f"{path}: {what}") from None
        if found != digest:
            raise Unsound(f"{path}: was changed since it was written")


def check_made_of(content: Mapping[str, Any], made_of: object, where: object) -> None:
    """Compare what a cache was made of with what is asked for, given as plain JSON.

    Raises:
        Unsound: it is something else.
    """
    if content.get(MADE_OF) != json_digest(made_of):
        raise Unsound(f"{where}: was made of something else")


def read_sealed(file: Path) -> tuple[dict[str, Any], bool]:
    """Return the JSON object of a file, and whether it has a seal, see `check_seal`.

    Raises:
        Unsound: it is missing, no JSON object, or was changed.
    """
    try:
        content = read_json(file, constants=True)
    except StorageError as error:
        raise Unsound(str(error)) from None
    return content, check_seal(content, file)
