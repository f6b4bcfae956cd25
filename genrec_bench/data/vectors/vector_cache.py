"""A cache of vectors on disk, under a hash of all that they depend on."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from safetensors import SafetensorError

from genrec_bench.storage.digests import json_digest
from genrec_bench.storage.files import write_atomically
from genrec_bench.storage.locks import locked


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


def load_vectors(path: Path, rows: int) -> NDArray[np.float32] | None:
    """Read [rows, E] vectors; None where the file is missing or damaged."""
    try:
        arrays = safetensors.numpy.load(path.read_bytes())
    except (OSError, SafetensorError):
        return None
    if len(arrays) != 1:
        return None
    (found,) = arrays.values()
    good = found.shape[:1] == (rows,) and found.ndim == 2 and found.dtype == np.float32
    return found if good and bool(np.isfinite(found).all()) else None


def cached_vectors(
    path: Path, rows: int, make: Callable[[], NDArray[np.floating]]
) -> NDArray[np.float32]:
    """Read [rows, E] vectors; made now, and kept, where the file is missing or damaged.

    Of programs that ask at once, one makes them, and the others wait.

    Raises:
        StorageError: the disk refuses.
    """
    found = load_vectors(path, rows)
    if found is not None:
        return found
    with locked(path.with_name(f".{path.name}.lock"), wait=True):
        found = load_vectors(path, rows)
        if found is None:
            found = make().astype(np.float32)
            save_vectors(path, found)
    return found


def save_vectors(path: Path, vectors: NDArray[np.float32]) -> None:
    """Write vectors whole or not at all; StorageError where the disk refuses."""
    # Safetensors takes the memory as it lies, and would mix the rows of a transposed array up.
    write_atomically(path, safetensors.numpy.save({"vectors": np.ascontiguousarray(vectors)}))
