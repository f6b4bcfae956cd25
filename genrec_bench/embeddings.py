"""Item embeddings, for algorithms that ask how near a wrong item is to the right one.

A paper that rewards nearness takes a frozen text encoder, which has to be downloaded. Two sources
need nothing but the dataset: the words of the titles, and which items users bought together. Both
are cut to a few dimensions by a truncated singular value decomposition, whose start is seeded.

An item of which a source knows nothing has the zero vector: its cosine with everything is 0.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
import scipy.sparse
from numpy.typing import NDArray
from safetensors import SafetensorError

from genrec_bench.dataset import Dataset, Examples
from genrec_bench.errors import UserError, nearest, storage_errors
from genrec_bench.records import write_atomically
from genrec_bench.store import file_sha256
from genrec_bench.workers import Workers

Floats = NDArray[np.float64]

SOURCES = ("auto", "text", "collaborative")
"""Every other word is the name of a sentence-transformers model."""

ENOUGH_TITLES = 0.5
"""The share of items with a title from which on `auto` takes the text."""

SEED = 0
DIMENSIONS = 64
POWER_ITERATIONS = 7
"""Of the randomized decomposition; more than the library's default, for a slow spectrum."""

WORDS: dict[str, Any] = {
    "ngram_range": (1, 2),
    "sublinear_tf": True,
    # One letter or digit is a word too: sizes and models are told by them.
    "token_pattern": r"(?u)\b\w+\b",
}

KEY = "sids"


def sid_embeddings(
    dataset: Dataset, source: str, data_dir: Path, workers: Workers
) -> NDArray[np.float32]:
    """Return embeddings of the catalog's SIDs, computed now if they are not in the cache.

    Items that share a SID cannot be told apart by a policy; theirs is the mean of their unit
    vectors, those left out of which the source knows nothing.

    Args:
        dataset: titles and training examples are read, nothing of the other splits.
        source: "text", "collaborative", "auto", or a sentence-transformers model (name or folder).
        data_dir: holds the cache, in its folder ``embeddings``.
        workers: the main process computes, the others are handed the result.

    Returns:
        [num_sids, E] in the order of ``catalog.unique_sids``; finite; a row of zeros where nothing
        is known of any of the SID's items.

    Raises:
        UserError: there is no text, or the model cannot be loaded.
        StorageError: the disk refuses.
    """
    found: NDArray[np.float32] | UserError | None = None
    if workers.is_main:
        try:
            with storage_errors():
                found = _cached(dataset, resolve_source(dataset, source), data_dir)
        except UserError as error:
            # The others wait for an answer, and are to stop for the same reason. Without what led
            # to it, which need not travel from process to process.
            found = type(error)(str(error))
    found = workers.agree(found)
    if isinstance(found, UserError):
        raise found
    assert found is not None
    return found


def resolve_source(dataset: Dataset, source: str) -> str:
    """Return what ``auto`` stands for; any other source as it is.

    Raises:
        UserError: text is asked for, of items without any title.
    """
    titles = [title for title in dataset.catalog.titles if title.strip()]
    if source == "auto":
        enough = len(titles) >= ENOUGH_TITLES * dataset.catalog.num_items
        return "text" if enough else "collaborative"
    if source != "collaborative" and not titles:
        raise UserError(
            f"embeddings={source}: the items of {dataset.name} have no titles; "
            "use embeddings=collaborative"
        )
    return source


def text_vectors(titles: Sequence[str]) -> Floats:
    """Return [n, E] vectors of titles: weighted words and pairs of words, then decomposed.

    Term frequency is 1 + log(count), times the inverse document frequency; latent semantic
    analysis (Deerwester et al. 1990). A title without any word has the zero vector.
    """
    if not any(character.isalnum() for title in titles for character in title):
        return np.zeros((len(titles), 1))
    # Imported late, as below: it takes its time, and few runs need it.
    from sklearn.feature_extraction.text import TfidfVectorizer

    return _decompose(TfidfVectorizer(**WORDS).fit_transform(titles))


def collaborative_vectors(train: Examples, num_items: int) -> Floats:
    """Return [num_items, E] vectors of items, alike where the same users bought the same things.

    Each user counts once, by the longest sequence (history and target): examples of one user
    repeat each other, and would count his first purchases most. With n_ij the users who have items
    i and j (n_ii those who have i), the matrix is the positive pointwise mutual information
    max(0, log(n_ij sum n / (n_i n_j))), n_i the sum of a row; then decomposed (Levy and Goldberg
    2014). An item that no sequence shows beside another has the zero vector.

    Args:
        train: the training examples.
        num_items: of the catalog.
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
    vectors: Floats = _decompose(matrix) * has_company[:, None]
    return vectors


def check_source(source: str) -> None:
    """Refuse a source that cannot be used, before anything is trained.

    Raises:
        UserError: it is none of ours, and the package for models is not installed.
    """
    if source not in SOURCES and find_spec("sentence_transformers") is None:
        raise UserError(
            f"embeddings={source} is none of {', '.join(SOURCES)}{nearest(source, SOURCES)}; to "
            "use a sentence-transformers model install the package: pip install "
            "'genrec-bench[text]'"
        )


def model_vectors(titles: Sequence[str], model: str) -> Floats:
    """Return [n, E] vectors of titles by a sentence-transformers model; zeros for empty titles.

    Args:
        titles: [n].
        model: a name on the hub, or a folder.

    Raises:
        UserError: the package is not installed, or the model cannot be loaded.
    """
    check_source(model)
    from sentence_transformers import SentenceTransformer

    try:
        encoder = SentenceTransformer(model, trust_remote_code=False)
    except Exception as error:  # the hub, the disk and the model's own files each fail their way
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"embeddings={model}: the sentence-transformers model cannot be loaded ({reason}); "
            f"other sources are {', '.join(SOURCES)}{nearest(model, SOURCES)}"
        ) from None
    vectors: Floats = np.asarray(
        encoder.encode(list(titles), show_progress_bar=False), dtype=np.float64
    )
    known = np.array([bool(title.strip()) for title in titles])
    vectors *= known[:, None]
    return vectors


def sid_means(
    vectors: Floats, sid_of_item: NDArray[np.int32], num_sids: int
) -> NDArray[np.float32]:
    """Return [num_sids, E] the mean of the unit vectors of each SID's items, zero ones left out.

    Args:
        vectors: [num_items, E] of any length.
        sid_of_item: [num_items].
        num_sids: rows of the result.
    """
    length = np.linalg.norm(vectors, axis=1)
    # A decomposition leaves rounding errors where there is nothing.
    known = length > 1e-9 * max(1.0, float(length.max(initial=0.0)))
    units = vectors[known] / length[known, None]
    total = np.zeros((num_sids, vectors.shape[1]))
    np.add.at(total, sid_of_item[known], units)
    count = np.bincount(sid_of_item[known], minlength=num_sids)
    return (total / np.maximum(count, 1)[:, None]).astype(np.float32)


def _decompose(matrix: scipy.sparse.csr_array) -> Floats:
    """Return [n, E] rows of U S, E as many dimensions as asked for, or as there are."""
    from sklearn.decomposition import TruncatedSVD

    dimensions = min(DIMENSIONS, *matrix.shape)
    if not matrix.nnz:
        return np.zeros((matrix.shape[0], dimensions))
    if matrix.shape[1] == 1:
        return np.asarray(matrix.toarray(), dtype=np.float64)
    decomposition = TruncatedSVD(dimensions, n_iter=POWER_ITERATIONS, random_state=SEED)
    # Equal rows have no variance, and it divides by that for a figure that we do not read.
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.asarray(decomposition.fit_transform(matrix), dtype=np.float64)


def _versions(source: str) -> dict[str, str]:
    """Return the versions of what makes the vectors; a package that is missing has none."""
    names = ["numpy", "scikit-learn", "scipy"]
    names += [] if source in SOURCES else ["sentence-transformers"]
    found = {}
    for name in names:
        with contextlib.suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def _cached(dataset: Dataset, source: str, data_dir: Path) -> NDArray[np.float32]:
    catalog = dataset.catalog
    key = {
        "dataset": dataset.fingerprint,
        "sids": dataset.sid_fingerprint,
        "source": source,
        "parameters": [SEED, DIMENSIONS, POWER_ITERATIONS, sorted(WORDS.items())],
        "versions": _versions(source),
        "model": _model_files(source),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    path = data_dir / "embeddings" / f"{dataset.name}-{digest[:16]}.safetensors"
    num_sids = len(catalog.unique_sids)
    found = _read(path, num_sids)
    if found is None:
        if source == "text":
            vectors = text_vectors(catalog.titles)
        elif source == "collaborative":
            vectors = collaborative_vectors(dataset.train, catalog.num_items)
        else:
            vectors = model_vectors(catalog.titles, source)
        found = sid_means(vectors, catalog.sid_of_item, num_sids)
        write_atomically(path, safetensors.numpy.save({KEY: found}))
    return found


def _model_files(source: str) -> dict[str, str]:
    """Hash a model that is a folder: the next one there may be another."""
    folder = Path(source)
    if source in SOURCES or not folder.is_dir():
        return {}
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): file_sha256(path) for path in files}


def _read(path: Path, num_sids: int) -> NDArray[np.float32] | None:
    """Read a file of the cache; None where it is missing or damaged, as it can be made again."""
    try:
        found = safetensors.numpy.load(path.read_bytes())[KEY]
    except (OSError, SafetensorError, KeyError):
        return None
    good = found.shape[:1] == (num_sids,) and found.ndim == 2 and found.dtype == np.float32
    return found if good and bool(np.isfinite(found).all()) else None
