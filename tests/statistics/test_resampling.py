import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genrec_bench.statistics.resampling import (
    Components,
    check_table,
    components,
    draw_seeds,
    estimate,
    half_width,
    interquartile_mean,
    resample_users,
    same_order,
    users_part,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([9, 1, 2, 100, 3], 14 / 3),  # one of five is cut at either end: 2, 3, 9
        ([5, 1, 3], 3.0),  # nothing of three
        ([0, 4, 6, 100], 5.0),  # one of four
        (list(range(10)), 4.5),
        ([0, 0, 1, 1, 1, 2, 2, 2, 90, 90], 1.5),  # two of ten: 1, 1, 1, 2, 2, 2
        ([7], 7.0),
    ],
)
def test_the_interquartile_mean_cuts_a_quarter_at_either_end(
    values: list[float], expected: float
) -> None:
    assert float(interquartile_mean(np.array(values, dtype=float))) == pytest.approx(expected)


def test_the_variance_of_a_mean_is_split_by_hand() -> None:
    # Seeds' means 1.5 and 4.5, users' 2 and 4, all 3. Seeds: var 4.5 / 2. Profile: var 2 / 2.
    # Rests are +-0.5: sum of squares 1, 1 degree of freedom, a share of 1 / 4 in the mean.
    parts = components(np.array([[1.0, 2.0], [3.0, 6.0]]))
    assert parts == Components(seeds=2.25, users=0.75, profile=1.0, num_seeds=2, rest=0.25)
    assert parts.total == parts.cautious.total == 3.0


def test_one_seed_leaves_the_variance_of_users_alone() -> None:
    # var of 1, 2, 6 is (4 + 1 + 9) / 2 = 7, of their mean 7 / 3.
    parts = components(np.array([[1.0, 2.0, 6.0]]))
    assert (parts.seeds, parts.num_seeds) == (0.0, 1)
    assert parts.users == parts.profile == pytest.approx(7 / 3)


def test_seeds_that_agree_by_accident_do_not_collapse_the_variance() -> None:
    # Both seeds' means are 2, and so are all users'. Rests are 1, 0, -1 and back: 4 over 2 degrees
    # of freedom, 2 / 6 of the mean. The 5% quantile of chi squared with one is 0.0039321.
    parts = components(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]))
    assert parts.seeds == pytest.approx(0.0039321 / 3, rel=1e-4)
    assert parts.users == 0.0
    assert parts.cautious.seeds == parts.rest == pytest.approx(1 / 3)
    assert estimate(np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]]), generator()).interval.low < 2.0


def test_components_are_unbiased() -> None:
    # E: seeds 4/5 + 1/(5 40) = 0.805; users 9/40 = 0.225.
    draws = generator()
    found = []
    for _ in range(3000):
        effects = 2 * draws.standard_normal((5, 1)) + 3 * draws.standard_normal(40)
        parts = components(effects + draws.standard_normal((5, 40)))
        found.append((parts.seeds, parts.users))
    means, errors = np.mean(found, axis=0), np.std(found, axis=0) / np.sqrt(len(found))
    assert np.all(np.abs(means - [0.805, 0.225]) < 4 * errors)


def test_resampled_users_vary_as_scipy_says() -> None:
    profiles = generator(1).random((3, 60))
    found = resample_users(profiles, generator(2), 20_000)
    for profile, errors in zip(profiles, found, strict=True):
        theirs = stats.bootstrap((profile,), np.mean, n_resamples=9999, rng=generator(3))
        # The error of a standard deviation out of R is 1 / sqrt(2 R), here 0.5% and 0.7%.
        assert errors.std() == pytest.approx(theirs.standard_error, rel=0.04)
        assert abs(errors.mean()) < 5 * errors.std() / np.sqrt(20_000)


def test_resamples_are_the_same_for_all_profiles() -> None:
    profiles = generator(1).random((2, 30))
    both = np.stack([profiles[0], profiles[1], profiles[0] - profiles[1]])
    found = resample_users(both, generator(2), 500)
    assert np.allclose(found[0] - found[1], found[2])


def test_blocks_of_weights_do_not_show() -> None:
    # 2,097,152 cells a block: 41,943 resamples of 50 users, the rest in a second block.
    profile = np.append(np.zeros(49), 1.0)[None]
    found = resample_users(profile, generator(), 50_000)[0] * 50 + 1
    assert np.allclose(found, found.round())  # how often the last user was drawn
    assert found[41_943:].mean() == pytest.approx(1.0, abs=0.06)
    assert len(np.unique(found.round())) > 4


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
def test_where_only_seeds_vary_the_interval_is_students(seeds: int) -> None:
    by_seed = generator(seeds).standard_normal(seeds)
    values = np.repeat(by_seed[:, None], 50, axis=1)
    found = estimate(values, generator(), resamples=100_000)
    theirs = stats.ttest_1samp(by_seed, 0.0).confidence_interval(0.95)
    # The quantile's error: 0.05 * sqrt(0.95 / 0.05 / R), times how fast quantiles move there.
    assert found.interval.low == pytest.approx(theirs.low, rel=0.03)
    assert found.interval.high == pytest.approx(theirs.high, rel=0.03)


def test_where_only_users_vary_the_interval_is_a_bootstrap_of_users() -> None:
    values = generator(1).random((1, 400))
    found = estimate(values, generator(), fixed=True, resamples=50_000)
    theirs = stats.bootstrap(
        (values[0],), np.mean, method="percentile", n_resamples=20_000, rng=generator(2)
    ).confidence_interval
    length = theirs.high - theirs.low
    assert found.interval.low == pytest.approx(theirs.low, abs=0.03 * length)
    assert found.interval.high == pytest.approx(theirs.high, abs=0.03 * length)
    assert found.iqm_interval == found.interval


def test_the_interval_lies_between_its_two_bootstraps() -> None:
    # Both sources cause half of the variance; three seeds. The Behrens-Fisher quantile and that of
    # the bootstrap-t are integrals over what three seeds may show: E over chi squared of a normal
    # tail, taken over a grid of its quantiles: about 3.3 and 2.2 standard errors.
    parts = Components(seeds=0.5, users=0.5, profile=0.5, num_seeds=3)
    ratios = stats.chi2.ppf((np.arange(1000) + 0.5) / 1000, 2) / 2

    def quantile(spread: np.ndarray) -> float:
        steps = np.linspace(1.5, 6.0, 500)
        tails = 2 * stats.norm.sf(steps[:, None] / spread).mean(axis=1)
        return float(np.interp(-0.05, -tails, steps))

    fisher = quantile(np.sqrt(0.5 / ratios + 0.5))
    studentized = quantile(np.sqrt(1 / (0.5 * ratios + 0.5)))
    assert studentized < fisher
    draws = draw_seeds(3, generator(), 200_000)
    users = np.sqrt(0.5) * generator(1).standard_normal(200_000)
    found = half_width(parts, users, draws.mean, draws)
    assert found == pytest.approx((fisher + studentized) / 2, rel=0.02)


def test_the_part_of_users_has_their_variance() -> None:
    parts = Components(seeds=1.0, users=0.25, profile=1.0, num_seeds=3)
    # A quarter of the variance, and 10 / 9 for the users' number.
    scaled = users_part(parts, np.array([3.0, -6.0]), 10)
    assert scaled == pytest.approx(np.array([3.0, -6.0]) * np.sqrt(0.25 * 10 / 9))
    none = Components(seeds=1.0, users=0.0, profile=0.0, num_seeds=3)
    assert users_part(none, np.zeros(2), 10).tolist() == [0.0, 0.0]


def test_an_estimate_says_what_it_is_of() -> None:
    values = np.array([[0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 0.0, 1.0], [0.0, 1.0, 0.0, 0.0]])
    found = estimate(values, generator())
    assert found.by_seed == (0.5, 0.75, 0.25)
    assert (found.mean, found.iqm, found.num_users) == (0.5, 0.5, 4)
    assert found.covers_seeds
    assert not estimate(values[:1], generator()).covers_seeds
    assert estimate(values[:1], generator(), fixed=True).covers_seeds
    # Values that never differ have an interval of no length.
    found = estimate(np.full((3, 20), 0.25), generator(), resamples=100)
    assert (found.interval.low, found.interval.high) == (0.25, 0.25)


@given(
    seeds=st.integers(1, 5),
    users=st.integers(2, 12),
    seed=st.integers(0, 2**32),
    shift=st.floats(-10, 10),
    scale=st.floats(0.01, 100),
)
@settings(max_examples=40)
def test_estimates_follow_their_values(
    seeds: int, users: int, seed: int, shift: float, scale: float
) -> None:
    values = generator(seed).random((seeds, users))
    found = estimate(values, generator(), resamples=50)
    moved = estimate(scale * values + shift, generator(), resamples=50)
    for ours, theirs in [
        (found.mean, moved.mean),
        (found.interval.low, moved.interval.low),
        (found.iqm_interval.high, moved.iqm_interval.high),
    ]:
        assert theirs == pytest.approx(scale * ours + shift, rel=1e-6, abs=1e-6)
    assert found.interval.low <= found.mean <= found.interval.high
    assert found.iqm_interval.low <= found.iqm <= found.iqm_interval.high


def test_users_are_sorted_whatever_order_they_come_in() -> None:
    tables = [hits.astype(np.float64) for hits in generator().integers(2, size=(2, 2, 50))]
    shuffle = generator(3).permutation(50)
    shuffled = [table[:, shuffle] for table in tables]
    order, other = same_order(tables), same_order(shuffled)
    for table, moved in zip(tables, shuffled, strict=True):
        assert np.array_equal(table[:, order], moved[:, other])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros(5), r"shape \(5,\)"),
        (np.zeros((0, 5)), r"shape \(0, 5\)"),
        (np.zeros((2, 1)), "two users or more"),
        (np.array([[0.0, np.nan]]), "not finite"),
    ],
)
def test_what_is_no_table_of_values_is_refused(values: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_table(values)
