"""Item embeddings, for algorithms that ask how near a wrong item is to the right one.

A paper that rewards nearness takes a frozen text encoder, which has to be downloaded. Two sources
need nothing but the dataset: the words of titles and descriptions, and which items users bought
together. Both are cut to a few dimensions by a truncated singular value decomposition, whose start
is seeded. V-STAR encodes descriptions (§4.1); titles alone tell more here, and both a little more.

An item of which a source knows nothing has the zero vector: its cosine with everything is 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.data.vectors.text_encoder import (
    check_model,
    encode_texts,
    keeps_some,
    kept_file,
    model_files,
    require_package,
)
from genrec_bench.data.vectors.vector_cache import cached_vectors, fingerprint, versions_of
from genrec_bench.errors import UserError, storage_errors
from genrec_bench.progress import Progress
from genrec_bench.storage.digests import texts_sha256

Floats = NDArray[np.float64]

SOURCES = ("auto", "text", "collaborative")
"""Every other word is the name of a sentence-transformers model."""

FOLDER = "embeddings"
"""Of a data directory."""

ENOUGH_TEXTS = 0.5
"""The share of items with a title or description from which on `auto` takes the text."""

SEED = 0
DIMENSIONS = 64
TEXT_DIMENSIONS = 128
"""Where there are descriptions, which have more to tell apart than titles alone."""

POWER_ITERATIONS = 7
"""Of the randomized decomposition; more than the library's default, for a slow spectrum."""

WORDS: dict[str, Any] = {
    "ngram_range": (1, 2),
    "sublinear_tf": True,
    # One letter or digit is a word too: sizes and models are told by them.
    "token_pattern": r"(?u)\b\w+\b",
}

DESCRIPTION_WEIGHT = 0.5
"""Length of a description's part of a vector, where a title's is 1."""

DESCRIPTION_WORDS = WORDS | {"ngram_range": (1, 1)}
"""No pairs of words: they took most of the time and brought nearest neighbours no nearer."""

PACKAGES = ("numpy", "scikit-learn", "scipy")
"""Whose versions the vectors depend on."""


@storage_errors()
def sid_embeddings(
    dataset: Dataset, source: str, data_dir: Path, progress: Progress | None = None
) -> NDArray[np.float32]:
    """Return embeddings of the catalog's SIDs, computed now if they are not in the cache.

    Items that share a SID cannot be told apart by a policy; theirs is the mean of their unit
    vectors, those left out of which the source knows nothing.

    Titles, descriptions and training examples are read, nothing of the other splits. Items without
    descriptions are told by their titles alone, in ``DIMENSIONS``.

    Args:
        source: "text", "collaborative", "auto", or a sentence-transformers model (name or folder).
        data_dir: holds the cache, in its folder `FOLDER`.
        progress: shows how far a model is; None for silence.

    Returns:
        [num_sids, E] in the order of ``catalog.unique_sids``; finite; a row of zeros where nothing
        is known of any of the SID's items.

    Raises:
        UserError: there is no text, or the model cannot be loaded.
        StorageError: the disk refuses.
    """
    source = resolve_source(dataset, source)
    catalog, folder = dataset.catalog, data_dir / FOLDER
    is_model = source not in SOURCES
    key = {
        "dataset": dataset.fingerprint,
        "sids": dataset.sid_fingerprint,
        "source": source,
        "parameters": [SEED, DIMENSIONS, POWER_ITERATIONS, sorted(WORDS.items())],
        "versions": versions_of([*PACKAGES, "sentence-transformers"] if is_model else PACKAGES),
        "model": model_files(source) if is_model else {},
    }
    if source != "collaborative":
        # Titles are in the dataset's fingerprint.
        words = [TEXT_DIMENSIONS, DESCRIPTION_WEIGHT, sorted(DESCRIPTION_WORDS.items())]
        key |= {"descriptions": dataset.contents.descriptions_sha256, "described": words}
    titles, descriptions = dataset.contents.titles, dataset.contents.descriptions
    num_sids = len(catalog.unique_sids)
    shown = progress or Progress(quiet=True)

    def make() -> NDArray[np.float32]:
        if source == "text":
            dimensions = TEXT_DIMENSIONS if any(descriptions) else DIMENSIONS
            vectors = word_vectors(titles, descriptions, dimensions)
        elif source == "collaborative":
            vectors = collaborative_vectors(dataset.train, catalog.num_items)
        else:
            texts = item_texts(titles, descriptions)
            encoded = encode_texts(texts, source, folder, shown, SOURCES)
            vectors = encoded.astype(np.float64)
        return sid_means(vectors, catalog.sid_of_item, num_sids)

    path = folder / f"{dataset.name}-{fingerprint(key)}.safetensors"
    return cached_vectors(path, num_sids, key, make, shown.say)


def resolve_source(dataset: Dataset, source: str) -> str:
    """Return what ``auto`` stands for; any other source as it is.

    Raises:
        UserError: text is asked for, of items without any.
    """
    contents = dataset.contents
    texts = [text for text in item_texts(contents.titles, contents.descriptions) if text]
    if source == "auto":
        enough = len(texts) >= ENOUGH_TEXTS * dataset.catalog.num_items
        return "text" if enough else "collaborative"
    if source != "collaborative" and not texts:
        raise UserError(
            f"embeddings={source}: the items of {dataset.name} have neither titles nor "
            "descriptions; use embeddings=collaborative"
        )
    return source


def texts_encoded(dataset: Dataset, source: str) -> str:
    """Return the hash of the texts that ``sid_embeddings`` would read; "" where it reads none."""
    texts = (*dataset.contents.titles, *dataset.contents.descriptions)
    known = any(text.strip() for text in texts)
    if not known or resolve_source(dataset, source) == "collaborative":
        return ""
    return texts_sha256(texts)


def item_texts(titles: Sequence[str], descriptions: Sequence[str]) -> list[str]:
    """Return title and description of each item as the one text that a model encodes."""
    pairs = zip(titles, descriptions, strict=True)
    return [f"{title} {description}".strip() for title, description in pairs]


def word_vectors(titles: Sequence[str], descriptions: Sequence[str], dimensions: int) -> Floats:
    """Return [num_items, E] vectors of words: title and description side by side, decomposed.

    Term frequency is 1 + log(count), times the inverse document frequency; latent semantic
    analysis (Deerwester et al. 1990). Titles and descriptions have weights of their own, so that a
    word is as rare as it is among titles, and a part of its own length, so that a long description
    does not drown the title. An item without any word has the zero vector.

    Args:
        dimensions: E, or as many as there are.
    """
    title = word_weights(titles, WORDS)
    description = word_weights(descriptions, DESCRIPTION_WORDS)
    parts = [] if title is None else [title]
    parts += [] if description is None else [DESCRIPTION_WEIGHT * description]
    if not parts:
        return np.zeros((len(titles), 1))
    return decompose(scipy.sparse.csr_array(scipy.sparse.hstack(parts)), dimensions)


def word_weights(texts: Sequence[str], words: Mapping[str, Any]) -> scipy.sparse.csr_array | None:
    """Return [n, words] weights of the words of n texts, each row of length 1 or 0.

    ``words`` are arguments of scikit-learn's TfidfVectorizer. None if there is not one word.
    """
    if not any(character.isalnum() for text in texts for character in text):
        return None
    # Imported late, as below: it takes its time, and few runs need it.
    from sklearn.feature_extraction.text import TfidfVectorizer

    return scipy.sparse.csr_array(TfidfVectorizer(**words).fit_transform(texts))


def collaborative_vectors(train: Examples, num_items: int) -> Floats:
    """Return [num_items, E] vectors of items, alike where the same users bought the same things.

    Each user counts once, by the longest sequence (history and target): examples of one user
    repeat each other, and would count his first purchases most. With n_ij the users who have items
    i and j (n_ii those who have i), the matrix is the positive pointwise mutual information
    max(0, log(n_ij sum n / (n_i n_j))), n_i the sum of a row; then decomposed (Levy and Goldberg
    2014). An item that no sequence shows beside another has the zero vector.
    """
    longest: dict[int, int] = {}
    lengths = train.history_lengths
    for row, user in enumerate(train.users.tolist()):
        # The later of equally long ones: histories are cut, and recent purchases say more.
        if user not in longest or lengths[row] >= lengths[longest[user]]:
            longest[user] = row
    baskets = [np.append(train.history(row), train.targets[row]) for row in longest.values()]
    users = np.repeat(np.arange(len(baskets)), [len(basket) for basket in baskets])
    items = np.concatenate([np.zeros(0, dtype=np.int32), *baskets])
    shape = (len(baskets), num_items)
    bought = scipy.sparse.csr_array((np.ones(len(items)), (users, items)), shape=shape)
    # An item that a user bought twice is one item; the constructor has added its entries up.
    bought.data[:] = 1.0
    together = (bought.T @ bought).tocoo()
    one, other = together.coords
    of_item = np.bincount(one, weights=together.data, minlength=num_items)
    surprise = np.log(together.data * of_item.sum() / (of_item[one] * of_item[other]))
    matrix = scipy.sparse.csr_array((np.maximum(surprise, 0.0), (one, other)), shape=together.shape)
    has_company = np.bincount(one, minlength=num_items) > 1
    vectors: Floats = decompose(matrix, DIMENSIONS) * has_company[:, None]
    return vectors


def check_reward_source(source: str, data_dir: Path, dataset: Dataset | None = None) -> None:
    """Raise UserError where a source is none of ours, and no model that can be had.

    A model whose vectors are kept is not needed; without the dataset, they may be those.
    """
    if source in SOURCES:
        return
    require_package(source, SOURCES)
    folder = data_dir / FOLDER
    if dataset is None:
        kept = keeps_some(folder)
    else:
        texts = item_texts(dataset.contents.titles, dataset.contents.descriptions)
        kept = kept_file(texts, source, folder).exists()
    if not kept:
        check_model(source, SOURCES)


def sid_means(
    vectors: Floats, sid_of_item: NDArray[np.int32], num_sids: int
) -> NDArray[np.float32]:
    """Return [num_sids, E] the mean of the unit vectors of each SID's items, zero ones left out.

    ``vectors`` are [num_items, E] of any length, ``sid_of_item`` is [num_items].
    """
    units, known = unit_rows(vectors)
    total = np.zeros((num_sids, vectors.shape[1]))
    np.add.at(total, sid_of_item[known], units[known])
    count = np.bincount(sid_of_item[known], minlength=num_sids)
    return (total / np.maximum(count, 1)[:, None]).astype(np.float32)


def unit_rows(vectors: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """Return [n, E] vectors of length 1, or 0 where nothing is known, and [n] which are known."""
    length = np.linalg.norm(vectors, axis=1)
    # A decomposition leaves rounding errors where there is nothing.
    known = length > 1e-9 * max(1.0, float(length.max(initial=0.0)))
    return np.where(known[:, None], vectors / np.where(known, length, 1.0)[:, None], 0.0), known


def decompose(matrix: scipy.sparse.csr_array, dimensions: int) -> Floats:
    """Return [n, E] rows of U S of a truncated singular value decomposition of an [n, m] matrix.

    E is ``dimensions``, or as many as there are.
    """
    from sklearn.decomposition import TruncatedSVD

    dimensions = min(dimensions, *matrix.shape)
    if not matrix.nnz:
        return np.zeros((matrix.shape[0], dimensions))
    if matrix.shape[1] == 1:
        return np.asarray(matrix.toarray(), dtype=np.float64)
    decomposition = TruncatedSVD(dimensions, n_iter=POWER_ITERATIONS, random_state=SEED)
    # Equal rows have no variance, and it divides by that for a figure that we do not read.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(decomposition.fit_transform(matrix), dtype=np.float64)
