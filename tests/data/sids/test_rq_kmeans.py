"""Residual k-means: numbers by hand, GREAM's equations as properties, and too few points."""

import warnings

import numpy as np
import pytest
import sklearn.cluster
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec_bench.data.cards import card_names, load_card
from genrec_bench.data.sids import rq_kmeans
from genrec_bench.data.sids.rq_kmeans import Vectors, kmeans, residual_quantize
from genrec_bench.progress import Progress

QUIET = Progress(quiet=True)


def random_points(n: int, width: int, seed: int) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def test_two_levels_by_hand() -> None:
    # Around 1 and 12 at first; what is left, -1, 1, -2 and 2, lies around -1.5 and 1.5.
    points = np.array([[0, 0], [2, 0], [10, 0], [14, 0]], dtype=np.float32)
    codes, codebooks = residual_quantize(points, (2, 2), 0, kmeans, QUIET)
    assert sorted(codebooks[0].tolist()) == [[1, 0], [12, 0]]
    assert sorted(codebooks[1].tolist()) == [[-1.5, 0], [1.5, 0]]
    first, second = codebooks[0][codes[:, 0]], codebooks[1][codes[:, 1]]
    assert first[:, 0].tolist() == [1, 1, 12, 12]
    assert second[:, 0].tolist() == [-1.5, 1.5, -1.5, 1.5]
    assert (first + second)[:, 0].tolist() == [-0.5, 2.5, 10.5, 13.5]


@settings(max_examples=20)
@given(st.integers(1, 60), st.integers(1, 4), st.lists(st.integers(1, 9), min_size=1, max_size=3))
def test_every_code_is_the_nearest_to_its_residual(
    n: int, width: int, codes_per_level: list[int]
) -> None:
    points = random_points(n, width, seed=n)
    codes, codebooks = residual_quantize(points, codes_per_level, 0, kmeans, QUIET)
    assert codes.shape == (n, len(codes_per_level)) and codes.dtype == np.int32
    for item in range(n):
        left = points[item].astype(np.float64)
        for level, codebook in enumerate(codebooks):
            assert len(codebook) <= codes_per_level[level]
            distances = [float(np.sum((left - centroid) ** 2)) for centroid in codebook]
            assert distances[codes[item, level]] <= min(distances) + 1e-5
            left = left - codebook[codes[item, level]]


def test_a_centroid_is_the_mean_of_its_points() -> None:
    points = random_points(300, 3, seed=1)
    centroids, codes = kmeans(points, 7, seed=0)
    for code in range(7):
        np.testing.assert_allclose(centroids[code], points[codes == code].mean(axis=0), atol=1e-2)


def test_fewer_distinct_points_than_codes_are_all_centroids() -> None:
    points = np.array([[1, 2], [3, 4], [1, 2], [3, 4], [1, 2]], dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codes, codebooks = residual_quantize(points, (4, 4), 0, kmeans, QUIET)
    assert [len(codebook) for codebook in codebooks] == [2, 1]
    np.testing.assert_array_equal(codebooks[0][codes[:, 0]], points)
    assert codes[:, 1].tolist() == [0] * 5, "nothing is left for the second level"


def test_points_that_only_rounding_tells_apart_cause_no_warning() -> None:
    points = np.full((40, 2), 1000.0, dtype=np.float32)
    points[::2] = np.nextafter(points[::2], np.float32(2000))
    points[0], points[1] = 0.0, np.nextafter(np.float32(0), np.float32(1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, codes = kmeans(points, 3, seed=0)
    assert codes[0] == codes[1] != codes[2]


def test_the_seed_decides_and_the_global_generator_has_no_part() -> None:
    points = random_points(400, 8, seed=2)

    def run(seed: int) -> list[list[int]]:
        found, _ = residual_quantize(points, (16, 16), seed, kmeans, QUIET)
        codes: list[list[int]] = found.tolist()
        return codes

    np.random.seed(1)
    expected = np.random.random()
    np.random.seed(1)
    once = run(0)
    assert np.random.random() == expected, "the global generator was used"
    assert run(0) == once
    assert run(1) != once


@pytest.mark.parametrize("levels", [1, 3])
def test_more_levels_leave_less(levels: int) -> None:
    points = random_points(200, 4, seed=3)

    def left(levels: int) -> float:
        codes, books = residual_quantize(points, (8,) * levels, 0, kmeans, QUIET)
        sums = sum(book[codes[:, level]] for level, book in enumerate(books))
        return float(np.square(points - sums).sum())

    assert left(levels + 1) < 0.95 * left(levels)


@pytest.mark.parametrize(("many", "starts", "most"), [(10**6, 4, 300), (60, 1, 50), (61, 4, 300)])
def test_many_points_have_one_short_start(
    monkeypatch: pytest.MonkeyPatch, many: int, starts: int, most: int
) -> None:
    points = np.random.default_rng(0).normal(size=(60, 3)).astype(np.float32)
    asked: list[tuple[int, int]] = []
    original = sklearn.cluster.KMeans

    def watched(num_codes: int, *, n_init: int, max_iter: int, random_state: int) -> object:
        asked.append((n_init, max_iter))
        return original(num_codes, n_init=n_init, max_iter=max_iter, random_state=random_state)

    monkeypatch.setattr(sklearn.cluster, "KMeans", watched)
    monkeypatch.setattr(rq_kmeans, "MANY", many)
    centroids, codes = kmeans(points, 8, 3)
    assert asked == [(starts, most)] and len(centroids) == 8
    usual = original(8, n_init=4, random_state=3).fit(points)
    if starts == 4:
        assert np.array_equal(codes, usual.labels_), "what cards' SIDs were made by"


def test_no_card_has_many_items() -> None:
    sizes = [load_card(name).expected.items or 0 for name in card_names()]
    assert 0 < max(sizes) < rq_kmeans.MANY
