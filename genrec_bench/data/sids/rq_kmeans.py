"""RQ-KMeans: k-means on vectors, then on what is left of them, level by level (GREAM, 3.1.2)."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from genrec_bench.progress import Progress

Vectors = NDArray[np.float32]
Codes = NDArray[np.int32]

Clustering = Callable[[Vectors, int, int], tuple[Vectors, Codes]]
"""From residuals [n, E], the number of codes K and a seed: centroids [<= K, E] and codes [n]."""

MANY = 32768
"""From so many points on k-means takes the settings for many. No shipped card has as many items, so
that its SIDs are those that records were made with."""

RESTARTS, RESTARTS_FOR_MANY = 4, 1
"""Starts of k-means, of which the one with the least error is kept: it finds local optima only.
With many points these differ little."""

ITERATIONS, ITERATIONS_FOR_MANY = 300, 50
"""Most iterations of a start; with many points the later ones change less than a thousandth."""


def residual_quantize(
    vectors: Vectors,
    codes_per_level: Sequence[int],
    seed: int,
    cluster: Clustering,
    progress: Progress,
) -> tuple[Codes, tuple[Vectors, ...]]:
    """Return a code for each level and the levels' centroids, by GREAM Eq. 4 to 8.

    The residuals of the first level are the vectors (Eq. 4). A level clusters its residuals
    (Eq. 5), the code is the item's cluster (Eq. 6), and the next level's residuals are what remains
    once the cluster's centroid is subtracted (Eq. 7).

    ``vectors`` are [n, E], finite, n > 0; each level draws a seed of its own from ``seed``.

    Returns:
        [n, L] zero-based codes, and for each level the centroids [<= K_l, E]: their sum over a
        SID's levels is its reconstruction.
    """
    residuals = vectors.astype(np.float32)
    codes = np.empty((len(vectors), len(codes_per_level)), dtype=np.int32)
    codebooks = []
    seeds = np.random.SeedSequence(seed).generate_state(len(codes_per_level))
    with progress.bar("SIDs: levels", len(codes_per_level)) as bar:
        for level, (num_codes, level_seed) in enumerate(zip(codes_per_level, seeds, strict=True)):
            centroids, codes[:, level] = cluster(residuals, num_codes, int(level_seed))
            codebooks.append(centroids)
            residuals -= centroids[codes[:, level]]
            bar.advance(1)
    return codes, tuple(codebooks)


def kmeans(points: Vectors, num_codes: int, seed: int) -> tuple[Vectors, Codes]:
    """Cluster points around their means: k-means++ starts, Lloyd's iterations (scikit-learn).

    ``points`` are [n, E]. Where there are fewer distinct ones than K, ``num_codes``, each of them
    is a centroid, and the codes beyond stay unused.

    Returns:
        Centroids [min(K, distinct points), E], and the nearest one for each point, [n].
    """
    # Imported late: it takes its time, and recipes are read without it.
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    distinct, place = np.unique(points, axis=0, return_inverse=True)
    if len(distinct) <= num_codes:
        return distinct, place.reshape(-1).astype(np.int32)
    many = len(points) >= MANY
    restarts = RESTARTS_FOR_MANY if many else RESTARTS
    most = ITERATIONS_FOR_MANY if many else ITERATIONS
    with warnings.catch_warnings():
        # Points that only rounding tells apart; a code without points does no harm.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = KMeans(num_codes, n_init=restarts, max_iter=most, random_state=seed).fit(points)
    return np.asarray(found.cluster_centers_, dtype=np.float32), found.labels_.astype(np.int32)
