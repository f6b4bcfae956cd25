"""One vector for each item, to be quantized into SIDs.

The rewards' embeddings (`embeddings.py`) are one for each SID and say that nothing is known of an
item with zeros. SIDs are made before there are any, so that here every item needs a vector:

- All have length 1. A decomposition gives short vectors to rare words and rare items, and a
  codebook would put most items into a few cells around zero.
- An item of which a source knows nothing borrows the vector of another. A common vector for all of
  them would give hundreds of items one SID, more than codes can tell apart; a random one far from
  everything else would draw codes away from items of which something is known. Lenders take turns
  in a random order, so that no SID gets more than its share.

Vectors in a file are the user's own and are taken as they are.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Examples
from genrec_bench.data.vectors.embeddings import (
    DESCRIPTION_WEIGHT,
    DESCRIPTION_WORDS,
    DIMENSIONS,
    PACKAGES,
    POWER_ITERATIONS,
    SEED,
    TEXT_DIMENSIONS,
    WORDS,
    Floats,
    collaborative_vectors,
    item_texts,
    unit_rows,
    word_vectors,
)
from genrec_bench.data.vectors.text_encoder import (
    check_model,
    encode_texts,
    keeps_some,
    require_package,
)
from genrec_bench.data.vectors.vector_cache import cached_vectors, fingerprint, versions_of
from genrec_bench.errors import UserError, no_file, storage_errors
from genrec_bench.progress import Progress
from genrec_bench.storage.arrays import open_array
from genrec_bench.storage.digests import texts_sha256

SOURCES = ("text", "collaborative")
"""A path that ends in ``.npy`` is a file; every other word is a sentence-transformers model."""

CHOICES = (*SOURCES, "FILE.npy")


@storage_errors()
def item_vectors(
    source: str,
    titles: Sequence[str],
    descriptions: Sequence[str],
    train: Examples,
    cache: Path,
    progress: Progress,
) -> NDArray[np.float32]:
    """Return a vector for each item, made now if it is not in the cache.

    No target of validation or test can enter: `train` is all that is known of interactions.

    Args:
        source: "text" (words of titles and descriptions), "collaborative" (which items the same
            users have, in training alone), a file ``*.npy`` (row i is item i's), or the name or
            folder of a sentence-transformers model (title and description, as one text).
        titles: [num_items], "" where unknown, like `descriptions`.
        train: read by "collaborative" alone.
        cache: a folder, made if missing; its files can be deleted at any time.
        progress: shows how far a model is, and is told how many items borrow their vector.

    Returns:
        [num_items, E]; finite; rows of length 1, but for those of a file.

    Raises:
        UserError: the source cannot be used, or knows nothing of any item.
        StorageError: the disk refuses.
    """
    num_items = len(titles)
    if len(descriptions) != num_items:
        raise ValueError("titles and descriptions disagree about the number of items")
    check_source(source, cache)
    if _is_file(source):
        return read_vectors(Path(source), num_items)
    if source == "text":
        words = [sorted(WORDS.items()), sorted(DESCRIPTION_WORDS.items())]
        key: dict[str, object] = {
            "titles": texts_sha256(titles),
            "descriptions": texts_sha256(descriptions),
            "parameters": [TEXT_DIMENSIONS, DESCRIPTION_WEIGHT, *words],
        }
    elif source == "collaborative":
        key = {"train": _examples_sha256(train), "items": num_items, "parameters": DIMENSIONS}
    else:
        texts = item_texts(titles, descriptions)
        encoded = encode_texts(texts, source, cache, progress, CHOICES)
        return _one_for_each(encoded, source, progress)
    shared = {
        "source": source,
        "versions": versions_of(PACKAGES),
        "seed": [SEED, POWER_ITERATIONS],
    }
    key |= shared
    path = cache / f"items-{fingerprint(key)}.safetensors"

    def make() -> Floats:
        with progress.bar("item vectors", 1):
            if source == "text":
                return word_vectors(titles, descriptions, TEXT_DIMENSIONS)
            return collaborative_vectors(train, num_items)

    found = cached_vectors(path, num_items, key, make, progress.say)
    return _one_for_each(found, source, progress)


def check_source(source: str, cache: Path | None = None) -> None:
    """Raise UserError for a file that is missing, or a model that cannot be had.

    Args:
        cache: where it keeps vectors of a model, none may be needed, and none is asked for yet.
    """
    if _is_file(source):
        if not Path(source).is_file():
            raise UserError(f"embeddings={source}: {no_file(Path(source))}")
    elif source not in SOURCES:
        require_package(source, CHOICES)
        if cache is None or not keeps_some(cache):
            check_model(source, CHOICES)


LARGEST = 1e15
"""That no number of a vector in a file reaches."""


def read_vectors(path: Path, num_items: int) -> NDArray[np.float32]:
    """Read [num_items, E] vectors of a NumPy file as they are; UserError for anything else."""
    right = f"it must hold floats [{num_items}, E], one row for each item, saved with numpy.save"
    try:
        array = open_array(path)
    except ValueError as error:
        raise UserError(f"{path} cannot be read as an array ({error}); {right}") from None
    if array.dtype.kind != "f":
        raise UserError(f"{path} holds {array.dtype}; {right}")
    if array.ndim != 2:
        raise UserError(f"{path} has {array.ndim} dimensions; {right}")
    if len(array) != num_items:
        raise UserError(f"{path} has {len(array)} rows for {num_items} items; {right}")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and named below
        vectors: NDArray[np.float32] = np.array(array, dtype=np.float32, order="C")
    # Squares of larger ones are infinite; NaN is not below either.
    bad = np.flatnonzero(~(np.abs(vectors) < LARGEST).all(axis=1))
    if len(bad):
        raise UserError(
            f"{path}: row {bad[0]} (of {len(bad)} such rows) holds a number that is not finite, or "
            f"{LARGEST:g} and more"
        )
    return vectors


def _is_file(source: str) -> bool:
    return source.endswith(".npy")


def _one_for_each(
    vectors: NDArray[np.float32], source: str, progress: Progress
) -> NDArray[np.float32]:
    """Return rows of length 1; those of which nothing is known are borrowed, and counted."""
    units, known = unit_rows(vectors.astype(np.float64))
    lenders = np.random.default_rng(SEED).permutation(np.flatnonzero(known))
    borrowers = np.flatnonzero(~known)
    if not len(lenders):
        raise UserError(
            f"embeddings={source}: nothing is known of any item: "
            + (
                "training sequences tell no item from another; use embeddings=text"
                if source == "collaborative"
                else "none has a word in title or description; use embeddings=collaborative"
            )
        )
    if len(borrowers):
        progress.say(
            f"embeddings={source}: nothing is known of {len(borrowers)} of {len(units)} items; "
            "each has the vector of another item"
        )
    units[borrowers] = units[np.resize(lenders, len(borrowers))]
    return units.astype(np.float32)


def _examples_sha256(examples: Examples) -> str:
    """Hash all of the examples, in one byte order."""
    digest = hashlib.sha256()
    arrays = (examples.users, examples.history_items, examples.history_offsets, examples.targets)
    for array in arrays:
        digest.update(len(array).to_bytes(8, "little"))
        digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
    return digest.hexdigest()
