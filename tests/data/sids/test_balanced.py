"""Balanced k-means: the assignment against scipy's, its proof by prices, and equal clusters."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linear_sum_assignment

from genrec_bench.data.sids import balanced
from genrec_bench.data.sids.balanced import Floats, balanced_assignment, balanced_kmeans
from genrec_bench.data.sids.rq_kmeans import Vectors, kmeans, residual_quantize
from genrec_bench.progress import Progress


def cost_of(costs: Floats, codes: np.ndarray[tuple[int], np.dtype[np.int32]]) -> float:
    return float(costs[np.arange(len(codes)), codes].sum())


def least_cost(costs: Floats) -> float:
    """The same by scipy: a column for each place.

    A code has floor(n / K) places that must be taken and one that may be; rows that stand for no
    item fill those that stay free, and no other.
    """
    num_items, num_codes = costs.shape
    floor, remainder = divmod(num_items, num_codes)
    nobody = num_codes - remainder
    must = np.repeat(costs, floor, axis=1)
    forbidden = np.full((nobody, must.shape[1]), 1e9)
    table = np.block([[must, costs], [forbidden, np.zeros((nobody, num_codes))]])
    return float(table[linear_sum_assignment(table)].sum())


def sizes_are_even(codes: np.ndarray[tuple[int], np.dtype[np.int32]], num_codes: int) -> bool:
    sizes = np.bincount(codes, minlength=num_codes)
    return len(sizes) == num_codes and int(sizes.max() - sizes.min()) <= 1


def lower_bound(costs: Floats, prices: Floats) -> float:
    """What no balanced assignment can undercut: the dearest codes have the places beyond floor."""
    num_items, num_codes = costs.shape
    floor, remainder = divmod(num_items, num_codes)
    paid = floor * prices.sum() + np.sort(prices)[::-1][:remainder].sum()
    return float((costs + prices).min(axis=1).sum() - paid)


def test_an_assignment_by_hand() -> None:
    # All want the first code; the two that lose least by the second have to take it.
    costs = np.array([[0.0, 5.0], [0.0, 1.0], [0.0, 3.0], [0.0, 2.0]])
    codes, prices = balanced_assignment(costs)
    assert codes.tolist() == [0, 1, 0, 1]
    # The first code costs more by at least what the last one to leave lost, and less than the next.
    assert 2 <= prices[0] - prices[1] <= 3


def test_the_place_left_over_goes_where_it_saves_most() -> None:
    costs = np.array([[0.0, 9.0], [0.0, 9.0], [4.0, 0.0]])
    assert balanced_assignment(costs)[0].tolist() == [0, 0, 1]
    assert balanced_assignment(costs[:, ::-1].copy())[0].tolist() == [1, 1, 0]


@settings(max_examples=150)
@given(st.data())
def test_no_assignment_is_cheaper(data: st.DataObject) -> None:
    num_items = data.draw(st.integers(1, 24), label="items")
    num_codes = data.draw(st.integers(1, 7), label="codes")
    # Few different whole numbers bring ties, many none.
    largest = data.draw(st.sampled_from([1, 5, 10_000]), label="largest")
    rng = np.random.default_rng(data.draw(st.integers(0, 10_000), label="seed"))
    costs = rng.integers(-largest, largest + 1, size=(num_items, num_codes)).astype(np.float64)
    codes, prices = balanced_assignment(costs)
    assert sizes_are_even(codes, num_codes)
    assert cost_of(costs, codes) == pytest.approx(least_cost(costs), abs=1e-6)
    priced = costs + prices
    assert (priced[np.arange(num_items), codes] <= priced.min(axis=1) + 1e-4).all()
    begun, _ = balanced_assignment(costs, rng.normal(scale=largest, size=num_codes))
    assert sizes_are_even(begun, num_codes)
    assert cost_of(costs, begun) == pytest.approx(least_cost(costs), abs=1e-6), "whatever prices"


def test_prices_prove_a_larger_assignment() -> None:
    rng = np.random.default_rng(0)
    # Clusters of very unequal size, so that many items have to move.
    points = np.concatenate([rng.normal(size=(900, 3)), 5 + 0.1 * rng.normal(size=(600, 3))])
    centroids, _ = kmeans(points.astype(np.float32), 40, seed=0)
    costs = np.square(points[:, None] - centroids).sum(axis=2)
    codes, prices = balanced_assignment(costs)
    assert sizes_are_even(codes, 40)
    assert cost_of(costs, codes) == pytest.approx(lower_bound(costs, prices), rel=1e-9)
    assert cost_of(costs, codes) > costs.min(axis=1).sum() * 1.01, "balance costs something here"


def random_points(n: int, seed: int = 0) -> Vectors:
    return np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32)


@pytest.mark.parametrize(("n", "num_codes"), [(30, 4), (32, 4), (33, 4), (5, 5), (3, 8), (1, 1)])
def test_clusters_are_even_and_centroids_are_means(n: int, num_codes: int) -> None:
    points = random_points(n)
    centroids, codes = balanced_kmeans(points, num_codes, seed=0)
    assert sizes_are_even(codes, min(n, num_codes))
    for code, centroid in enumerate(centroids):
        np.testing.assert_allclose(centroid, points[codes == code].mean(axis=0), atol=1e-6)


def test_two_far_clusters_share_the_crowded_one() -> None:
    points = np.array([[0], [1], [2], [3], [4], [100]], dtype=np.float32)
    centroids, codes = balanced_kmeans(points, 2, seed=0)
    # Three each, and only 0, 1 and 2 beside 3, 4 and 100 is best.
    assert sorted(centroids[:, 0].tolist()) == pytest.approx([1, 107 / 3])
    assert codes[0] == codes[1] == codes[2] != codes[3] == codes[4] == codes[5]


def test_equal_points_are_spread() -> None:
    points = np.ones((10, 3), dtype=np.float32)
    centroids, codes = balanced_kmeans(points, 5, seed=0)
    assert np.bincount(codes).tolist() == [2] * 5
    np.testing.assert_array_equal(centroids, np.ones((5, 3)))


def test_every_level_is_even() -> None:
    points, quiet = random_points(203, seed=4), Progress(quiet=True)
    codes, _ = residual_quantize(points, (8, 16), 0, balanced_kmeans, quiet)
    assert sizes_are_even(codes[:, 0], 8) and sizes_are_even(codes[:, 1], 16)


@pytest.fixture
def all_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balanced, "MANY", 1)
    monkeypatch.setattr(balanced, "SAMPLE", 1)
    monkeypatch.setattr(balanced, "SAMPLE_A_CODE", 60)


def unequal_clusters(n: int) -> Vectors:
    rng = np.random.default_rng(1)
    centres = 4 * rng.normal(size=(40, 6))
    sizes = rng.dirichlet(np.full(40, 0.5))
    return (centres[rng.choice(40, p=sizes, size=n)] + rng.normal(size=(n, 6))).astype(np.float32)


@pytest.mark.usefixtures("all_are_many")
@pytest.mark.parametrize("num_codes", [12, 30])
def test_many_points_leave_as_much_as_few(num_codes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points = unequal_clusters(4001)

    def left() -> float:
        # A start alone may end in a better or worse local optimum either way.
        squares = 0.0
        for seed in range(4):
            centroids, codes = balanced_kmeans(points, num_codes, seed)
            assert sizes_are_even(codes, num_codes)
            for code, centroid in enumerate(centroids):
                np.testing.assert_allclose(centroid, points[codes == code].mean(axis=0), atol=1e-5)
            squares += float(np.square(points - centroids[codes]).sum())
        return squares

    by_a_sample = left()
    again = left()
    monkeypatch.setattr(balanced, "MANY", len(points) + 1)
    assert by_a_sample == again
    assert by_a_sample < 1.01 * left()


@pytest.mark.usefixtures("all_are_many")
def test_many_points_far_from_the_origin_are_told_apart() -> None:
    points = np.round(unequal_clusters(2000), 2)
    near, far = (balanced_kmeans(moved, 20, seed=0) for moved in (points, points + 2**12))
    left = [
        float(np.square(moved.astype(np.float64) - centroids[codes]).sum())
        for moved, (centroids, codes) in zip((points, points + 2**12), (near, far), strict=True)
    ]
    assert left[1] == pytest.approx(left[0], rel=0.02)


@pytest.mark.usefixtures("all_are_many")
@pytest.mark.parametrize("n", [1, 3, 64, 65, 500])
def test_many_points_that_are_equal_or_too_few(n: int) -> None:
    for points in (np.ones((n, 3), dtype=np.float32), random_points(n)):
        centroids, codes = balanced_kmeans(points, 64, seed=0)
        assert sizes_are_even(codes, min(n, 64)) and np.isfinite(centroids).all()


@pytest.mark.usefixtures("all_are_many")
@pytest.mark.parametrize("share", [0.3, 0.5, 0.9])
def test_equal_items_among_many_move_at_once(share: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """As items without a text have the same vector: one by one they took hours."""
    points = unequal_clusters(5000)
    points[: int(share * len(points))] = points[0]
    moves = 0
    move = balanced._Graph.move_along_shortest_path

    def counted(graph: balanced._Graph) -> bool:
        nonlocal moves
        moves += 1
        return move(graph)

    monkeypatch.setattr(balanced._Graph, "move_along_shortest_path", counted)
    _, codes = balanced_kmeans(points, 30, seed=0)
    assert sizes_are_even(codes, 30)
    assert moves < 600, "of 1,500 and more that are equal, most have to go elsewhere"
