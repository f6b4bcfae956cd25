import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genrec_bench.statistics.paired_tests import (
    bootstrap_test,
    holm,
    probability_interval,
    probability_of_improvement,
    sign_flip_test,
    smallest_difference,
    standardized_effect,
)
from genrec_bench.statistics.resampling import (
    Components,
    Interval,
    components,
    draw_seeds,
    half_width,
    resample_users,
    users_part,
)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def only_seeds(by_seed: np.ndarray) -> Components:
    return components(np.repeat(by_seed[:, None], 4, axis=1))


def test_holm_by_hand() -> None:
    # Sorted 0.005, 0.01, 0.03, 0.04; times 4, 3, 2, 1: 0.02, 0.03, 0.06, 0.04, the last raised.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.6, 0.5]) == (1.0, 1.0)
    assert holm([0.03]) == (0.03,)
    assert holm([]) == ()


def test_holm_as_statsmodels_has_it() -> None:
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p_values = generator(1).random(20) ** 4
    theirs = multitest.multipletests(p_values, method="holm")[1]
    assert holm(p_values.tolist()) == pytest.approx(theirs)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_only_raises_and_keeps_the_order(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= q <= 1 for p, q in zip(p_values, adjusted, strict=True))
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)
    assert min(adjusted) == pytest.approx(min(1.0, min(p_values) * len(p_values)))


def test_flipping_signs_by_hand() -> None:
    # Of 1, 2, 3 only +++ and --- reach 6: 2 / 8. Of 1, 2, -3 all patterns reach 0.
    # Of 3, 1, 1 the sums are 5, 3, 3, 1 and back; 3 of 3, 1, -1 is reached by 6 of 8.
    rows = np.array([[1.0, 2, 3], [1, 2, -3], [3, 1, -1]])
    assert sign_flip_test(rows, generator(), 100).tolist() == [0.25, 1.0, 0.75]
    # The least p-value that so many seeds can have.
    for count in (2, 5, 10):
        found = sign_flip_test(np.arange(1.0, count + 1)[None], generator(), 100)
        assert found.tolist() == [2 / 2**count]


@pytest.mark.parametrize("count", [4, 7, 11])
def test_exact_flips_agree_with_scipy(count: int) -> None:
    # Rounded, so that there are ties.
    rows = (generator(count).standard_normal((4, count)) + 0.3).round(1)
    theirs = stats.permutation_test(
        (rows,), np.mean, permutation_type="samples", vectorized=True, n_resamples=10**5, axis=1
    ).pvalue
    assert sign_flip_test(rows, generator(), 10) == pytest.approx(theirs)


def test_random_flips_agree_with_scipy() -> None:
    row = generator(1).standard_normal(300)
    row += 0.12 - row.mean()
    theirs = stats.permutation_test(
        (row,), np.mean, permutation_type="samples", n_resamples=9999, rng=generator(2)
    ).pvalue
    ours = sign_flip_test(row[None], generator(3), 20_000)[0]
    assert 0.001 < theirs < 0.2
    error = np.sqrt(theirs * (1 - theirs) * (1 / 9999 + 1 / 20_000))
    assert abs(ours - theirs) < 4 * error


def test_random_flips_never_say_never_and_know_ties() -> None:
    rows = np.stack([np.ones(400), np.zeros(400), np.tile([1.0, -1.0], 200)])
    assert sign_flip_test(rows, generator(), 999).tolist() == [0.001, 1.0, 1.0]


def test_with_a_mean_for_each_seed_the_test_is_students() -> None:
    by_seed = np.array([0.011, 0.004, 0.013, -0.002, 0.009])
    parts, draws = only_seeds(by_seed), draw_seeds(5, generator(), 200_000)
    theirs = stats.ttest_rel(by_seed, np.zeros(5)).pvalue
    assert 0.04 < theirs < 0.1
    ours = bootstrap_test(float(by_seed.mean()), parts, np.zeros(200_000), draws)
    assert ours == pytest.approx(theirs, abs=4 * np.sqrt(theirs / 200_000))


def test_the_test_needs_far_more_than_five_percent_of_three_seeds() -> None:
    # With Student's t of 2 degrees of freedom 4.30 standard errors are 5%; 9.92 are 1%.
    by_seed = np.array([-1.0, 0.0, 1.0])  # standard error 1 / sqrt(3)
    parts, draws = only_seeds(by_seed), draw_seeds(3, generator(), 200_000)
    for errors, expected in [(1.96, 0.189), (4.303, 0.05), (9.925, 0.01)]:
        p_value = bootstrap_test(errors / np.sqrt(3), parts, np.zeros(200_000), draws)
        assert p_value == pytest.approx(expected, rel=0.1)


def test_users_alone_as_a_test_of_many_differences() -> None:
    values = generator(1).standard_normal((1, 500)) + 0.1
    parts = components(values)
    users = users_part(parts, resample_users(values, generator(2), 50_000)[0], 500)
    ours = bootstrap_test(float(values.mean()), parts, users, draw_seeds(1, generator(), 50_000))
    theirs = stats.ttest_1samp(values[0], 0.0).pvalue
    assert 0.001 < theirs < 0.2
    assert ours == pytest.approx(theirs, rel=0.15)


def test_no_difference_is_no_evidence() -> None:
    parts = Components(seeds=0.0, users=0.0, profile=0.0, num_seeds=3)
    draws = draw_seeds(3, generator(), 99)
    assert bootstrap_test(0.0, parts, np.zeros(99), draws) == 1.0
    assert bootstrap_test(0.1, parts, np.zeros(99), draws) == 0.01
    assert smallest_difference(parts, 0.05) == 0.0, "without variance everything is visible"


def test_p_values_go_on_where_no_resample_is_as_far() -> None:
    # Seeds alone are Student's t: of 40 standard errors and 4 degrees of freedom p is 2.3e-6, which
    # no resample reaches. The 100 that set the height are known to a tenth.
    parts = Components(seeds=0.04, users=0.0, profile=0.0, num_seeds=5)
    draws = draw_seeds(5, generator(), 20_000)
    p_value = bootstrap_test(40 * 0.2, parts, np.zeros(20_000), draws)
    assert p_value == pytest.approx(2 * stats.t.sf(40, 4), rel=0.35)
    assert p_value < 1e-5
    # Users alone are normal: 5 standard errors, p is 5.7e-7.
    alone = Components(seeds=0.0, users=0.04, profile=0.04, num_seeds=1)
    users = 0.2 * generator(1).standard_normal(20_000)
    p_value = bootstrap_test(1.0, alone, users, draw_seeds(1, generator(), 20_000))
    assert p_value == pytest.approx(2 * stats.norm.sf(5), rel=0.35)


@pytest.mark.parametrize("resamples", [99, 2000, 20_000])
def test_p_values_fall_without_a_jump(resamples: int) -> None:
    """Where counting ends and the model goes on, both say the same."""
    parts = Components(seeds=0.02, users=0.02, profile=0.02, num_seeds=5)
    draws = draw_seeds(5, generator(), resamples)
    users = np.sqrt(0.02) * generator(1).standard_normal(resamples)
    found = [
        bootstrap_test(error, parts, users, draws) for error in np.linspace(0, 4, 4001).tolist()
    ]
    assert np.all(np.diff(found) <= 0) and found[0] == 1.0 and 0 < found[-1] < 2e-4
    # A step of a thousandth is worth no more than a resample or two.
    steps = np.array(found[:-1]) / np.array(found[1:])
    assert steps[np.array(found[:-1]) < 0.01].max() < 1.1


@pytest.mark.filterwarnings("error")
def test_tiny_variances_are_no_division_by_zero() -> None:
    first = np.array([1.0, 0.0, 2.0]) * 1e-160
    found = probability_interval(first, first[::-1].copy(), generator(), 100)
    assert found.low < 0.5 < found.high
    values = np.outer(first, [1.0, 2.0, 1.0, 0.0])
    draws = draw_seeds(3, generator(), 100)
    assert np.isfinite(half_width(components(values), np.zeros(100), draws.mean, draws))


def test_the_effect_by_hand() -> None:
    # Mean 2, deviation sqrt((1 + 0 + 1) / 2) = 1.
    assert standardized_effect(np.array([1.0, 2.0, 3.0])) == 2.0
    assert standardized_effect(np.zeros(3)) == 0.0
    assert standardized_effect(np.full(3, -0.5)) == -np.inf
    # Values that differ by rounding alone have no effect of rounding.
    profile = np.full(5, 0.3) + np.array([0, 1, 0, -1, 0]) * 5e-17
    assert profile.std() > 0 and standardized_effect(profile) == np.inf


def test_the_probability_of_improvement_by_hand() -> None:
    # 3 beats 2 and 0, 1 beats 0 only: 3 of 4. A tie is half: (0.5 + 1) / 2.
    assert probability_of_improvement(np.array([3.0, 1.0]), np.array([2.0, 0.0])) == 0.75
    assert probability_of_improvement(np.array([1.0]), np.array([1.0, 0.0])) == 0.75


@given(
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
    st.lists(st.integers(0, 5), min_size=1, max_size=8),
)
def test_the_probability_of_improvement_is_mann_whitneys(left: list[int], right: list[int]) -> None:
    first, second = np.array(left, dtype=float), np.array(right, dtype=float)
    theirs = stats.mannwhitneyu(first, second).statistic / (len(first) * len(second))
    assert probability_of_improvement(first, second) == pytest.approx(theirs)


def test_runs_that_do_not_overlap_leave_doubt() -> None:
    apart = np.array([0.3, 0.31, 0.33]), np.array([0.2, 0.24, 0.22])
    found = probability_interval(*apart, generator(), 5000)
    assert found.high == 1.0
    assert 0.3 < found.low < 0.99


def test_one_run_says_nothing_about_another_and_a_fixed_policy_all() -> None:
    one, many = np.array([0.3]), np.array([0.1, 0.2, 0.25])
    assert probability_interval(one, many, generator(), 100) == Interval(0.0, 1.0)
    fixed = probability_interval(one, many, generator(), 2000, fixed=(True, False))
    assert fixed.low > 0.3
    for other, chance in ((0.3, 0.5), (0.2, 1.0)):
        both = probability_interval(one, np.array([other]), generator(), 100, fixed=(True, True))
        assert both == Interval(chance, chance)


@pytest.mark.parametrize(("count", "gap"), [(3, 0.0), (3, 1.0), (5, 1.0), (10, 2.0)])
def test_the_interval_of_the_probability_covers(count: int, gap: float) -> None:
    truth = float(stats.norm.cdf(gap / np.sqrt(2)))
    draws, simulations = generator(count), 1000
    held = 0
    for _ in range(simulations):
        first, second = draws.standard_normal((2, count))
        found = probability_interval(first + gap, second, draws, 500)
        held += found.low <= truth <= found.high
    # Between 93% and 97%, and four standard errors of 1000 simulations beside.
    low, high = stats.binom(simulations, [0.93, 0.97]).ppf([3e-5, 1 - 3e-5])
    assert low <= held <= high


def test_the_smallest_difference_where_only_users_vary() -> None:
    # z(0.975) + z(0.8) = 1.959964 + 0.841621.
    parts = Components(seeds=0.0, users=0.04, profile=0.04, num_seeds=1)
    assert smallest_difference(parts, 0.05) == pytest.approx(0.2 * 2.801585, rel=1e-4)
    many = Components(seeds=0.0, users=0.04, profile=0.04, num_seeds=5)
    assert smallest_difference(many, 0.05) == pytest.approx(0.2 * 2.801585, rel=1e-3)


@pytest.mark.parametrize("seeds", [2, 3, 5, 10])
@pytest.mark.parametrize("level", [0.05, 0.05 / 28])
def test_the_smallest_difference_where_only_seeds_vary(seeds: int, level: float) -> None:
    parts = Components(seeds=0.04, users=0.0, profile=0.0, num_seeds=seeds)
    shift = smallest_difference(parts, level) / 0.2
    critical = stats.t.isf(level / 2, seeds - 1)
    assert stats.nct.sf(critical, seeds - 1, shift) == pytest.approx(0.8, abs=0.01)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_smallest_difference_is_found_with_its_power(share: float) -> None:
    true = Components(seeds=share, users=1 - share, profile=1 - share, num_seeds=5)
    level, simulations, resamples = 0.01, 400, 2000
    shift = smallest_difference(true, level)
    random = generator(5)
    found = 0
    for _ in range(simulations):
        draws = draw_seeds(5, random, resamples)
        shown = Components(share * random.chisquare(4) / 4, 1 - share, 1 - share, 5)
        users = np.sqrt(1 - share) * random.standard_normal(resamples)
        difference = shift + random.standard_normal()
        found += bootstrap_test(difference, shown, users, draws) <= level
    low, high = stats.binom(simulations, 0.8).ppf([1e-5, 1 - 1e-5])
    assert low <= found <= high


@given(share=st.floats(0, 1), seeds=st.integers(2, 10), level=st.floats(1e-3, 0.2))
@settings(max_examples=15)
def test_a_stricter_level_sees_less(share: float, seeds: int, level: float) -> None:
    parts = Components(seeds=share, users=1 - share, profile=1 - share, num_seeds=seeds)
    assert smallest_difference(parts, level / 2) > smallest_difference(parts, level) > 1.0


def test_seeds_that_agree_by_accident_are_no_evidence() -> None:
    lucky = Components(seeds=1e-6, users=0.0, profile=0.0, num_seeds=3, rest=0.04)
    honest = Components(seeds=0.04, users=0.0, profile=0.0, num_seeds=3, rest=0.04)
    draws = draw_seeds(3, generator(), 50_000)
    # 2 standard errors of 0.2 with Student's t of 2 degrees of freedom: p = 0.1835.
    for parts in (lucky, honest):
        p_value = bootstrap_test(0.4, parts, np.zeros(50_000), draws)
        assert p_value == pytest.approx(0.1835, abs=0.01)
    assert smallest_difference(lucky, 0.05) == smallest_difference(honest, 0.05)
