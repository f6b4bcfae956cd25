"""Quantizing vectors into codes: every method of making SIDs behind one function."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.sids.balanced import balanced_kmeans
from genrec_bench.data.sids.rq_kmeans import Clustering, kmeans, residual_quantize
from genrec_bench.data.sids.sid_recipe import METHODS
from genrec_bench.errors import UserError, nearest
from genrec_bench.progress import Progress

CLUSTERINGS: Mapping[str, Clustering] = {
    "rq-kmeans": kmeans,
    "rq-kmeans-balanced": balanced_kmeans,
}


@dataclass(frozen=True, eq=False)
class Quantized:
    """Item vectors as codes, and what the codes stand for.

    Attributes:
        codes: [n, L] zero-based; items may share a SID.
        codebooks: for each level the vectors of its codes, [at most K_l, E], in the space they live
            in: the item vectors' for k-means, the latent one for RQ-VAE.
        reconstruction: [n, E] what a SID says of its item's vector, in the space of the vectors.
        distances: [n] squared distance of each vector to its reconstruction.
        errors: for each level the summed squared distances of the vectors to what the codes up to
            that level reconstruct, divided by those to the vectors' mean: 0 is exact, 1 no better
            than the mean. NaN where all vectors are equal.
    """

    codes: NDArray[np.int32]
    codebooks: tuple[NDArray[np.float32], ...]
    reconstruction: NDArray[np.float32]
    distances: NDArray[np.float64]
    errors: tuple[float, ...]


def quantize(
    vectors: NDArray[np.float32],
    method: str,
    codes_per_level: Sequence[int],
    seed: int,
    progress: Progress,
) -> Quantized:
    """Make a SID for each of the vectors [n, E]; on one machine the same for the same arguments.

    A level may use fewer codes than K_l: no method finds more clusters than there are different
    things to cluster. The global generators of random numbers are neither read nor changed.

    Raises:
        UserError: an unknown method, no items, no levels, or vectors that are not finite.
    """
    if method not in METHODS:
        raise UserError(
            f"unknown method {method!r}{nearest(method, METHODS)}; "
            f"SIDs are made by {', '.join(METHODS)}"
        )
    _check(vectors, codes_per_level)
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    with _one_thread():
        if method in CLUSTERINGS:
            cluster = CLUSTERINGS[method]
            by_level: Iterator[NDArray[np.float32]]
            codes, codebooks = residual_quantize(vectors, codes_per_level, seed, cluster, progress)
            by_level = accumulate(book[codes[:, level]] for level, book in enumerate(codebooks))
        else:
            # Imported late: torch takes its time, and only this method needs it.
            from genrec_bench.data.sids.rq_vae import rq_vae

            codes, codebooks, decoded = rq_vae(vectors, codes_per_level, seed, progress)
            by_level = iter(decoded)
        whole = _squared_distances(vectors, vectors.mean(axis=0, dtype=np.float64)).sum()
        errors = []
        for reconstruction in by_level:
            distances = _squared_distances(vectors, reconstruction)
            errors.append(float(distances.sum() / whole) if whole > 0 else float("nan"))
    return Quantized(codes, codebooks, reconstruction, distances, tuple(errors))


def _check(vectors: NDArray[np.float32], codes_per_level: Sequence[int]) -> None:
    if vectors.ndim != 2 or not vectors.size:
        raise UserError(f"item vectors must be a table [items, width], not {list(vectors.shape)}")
    if not codes_per_level or min(codes_per_level) < 1:
        raise UserError(
            f"codes per level are {list(codes_per_level)}; "
            "SIDs need at least one level, and every level at least one code"
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise UserError(f"item vectors: row {bad[0]} (from 0) has an entry that is not finite")


def _squared_distances(
    vectors: NDArray[np.float32], others: NDArray[np.floating]
) -> NDArray[np.float64]:
    difference = vectors.astype(np.float64) - others
    found: NDArray[np.float64] = np.square(difference).sum(axis=1)
    return found


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: several add up in an order that changes from time to time."""
    # The limit holds for libraries that are loaded, and scikit-learn brings threads of its own.
    import sklearn.cluster  # noqa: F401
    import torch
    from threadpoolctl import threadpool_limits

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(limits=1):
            yield
    finally:
        torch.set_num_threads(threads)
