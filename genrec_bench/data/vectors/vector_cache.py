"""A cache of vectors on disk, under a hash of all that they depend on, with a seal."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from genrec_bench.errors import one_line
from genrec_bench.storage.bounded_json import decode_json
from genrec_bench.storage.cached import (
    MADE_OF,
    SEAL,
    Unsound,
    check_made_of,
    check_seal,
    sealed,
)
from genrec_bench.storage.digests import content_digest, json_digest
from genrec_bench.storage.files import write_atomically
from genrec_bench.storage.locks import locked

CONTENT = "sha256"
"""Key of a seal: the digest of the numbers."""


def fingerprint(key: Mapping[str, object]) -> str:
    """Return a short hash of plain JSON values, the part of a file's name that tells it apart."""
    return json_digest(key)[:16]


def versions_of(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of what makes the vectors; a package that is missing has none."""
    found = {}
    for name in packages:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def load_vectors(path: Path, rows: int, made_of: object) -> NDArray[np.float32] | None:
    """Read [rows, E] vectors; None where there are none.

    Raises:
        Unsound: they are damaged, were changed, or were made of something else.
    """
    try:
        with safe_open(path, framework="numpy") as file:
            told = (file.metadata() or {}).get(SEAL, "")
            (name,) = file.keys()
            found: NDArray[np.float32] = file.get_tensor(name)
        content = decode_json(told) if told else {}
    except FileNotFoundError:
        return None
    except (OSError, SafetensorError, ValueError) as error:
        raise Unsound(f"{path}: cannot be read ({one_line(error)})") from None
    if not isinstance(content, dict) or not check_seal(content, path):
        raise Unsound(f"{path}: does not say what it was made of")
    check_made_of(content, made_of, path)
    good = found.shape[:1] == (rows,) and found.ndim == 2 and found.dtype == np.float32
    good = good and bool(np.isfinite(found).all())
    if not good or content.get(CONTENT) != content_digest(found.tobytes()):
        raise Unsound(f"{path}: was changed since it was written")
    return found


def cached_vectors(
    path: Path,
    rows: int,
    made_of: object,
    make: Callable[[], NDArray[np.floating]],
    say: Callable[[str], None],
) -> NDArray[np.float32]:
    """Read [rows, E] vectors; made now, and kept, where there are none that can be believed.

    Of programs that ask at once, one makes them, and the others wait.

    Args:
        made_of: all that they depend on, in plain JSON types.
        say: is told of what is made again.

    Raises:
        StorageError: the disk refuses.
    """
    with contextlib.suppress(Unsound):
        found = load_vectors(path, rows, made_of)
        if found is not None:
            return found
    with locked(path.with_name(f".{path.name}.lock"), wait=True):
        found = known_vectors(path, rows, made_of, say)
        if found is None:
            found = make().astype(np.float32)
            save_vectors(path, found, made_of)
    return found


def known_vectors(
    path: Path, rows: int, made_of: object, say: Callable[[str], None]
) -> NDArray[np.float32] | None:
    """Do as `load_vectors`; what is unsound is told of, and as good as not there."""
    try:
        return load_vectors(path, rows, made_of)
    except Unsound as error:
        say(f"{error}; it is made again")
        return None


def save_vectors(path: Path, vectors: NDArray[np.float32], made_of: object) -> None:
    """Write vectors whole or not at all; StorageError where the disk refuses."""
    # Safetensors takes the memory as it lies, and would mix the rows of a transposed array up.
    rows = np.ascontiguousarray(vectors)
    told = {MADE_OF: json_digest(made_of), CONTENT: content_digest(rows.tobytes())}
    metadata = {SEAL: json.dumps(sealed(told))}
    write_atomically(path, safetensors.numpy.save({"vectors": rows}, metadata))
