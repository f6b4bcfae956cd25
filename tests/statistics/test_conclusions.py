import importlib.util
import sys
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from genrec_bench.statistics.conclusions import (
    Conclusions,
    Entrant,
    Pair,
    conclude,
    family,
    match_seeds,
    rank_intervals,
)
from genrec_bench.statistics.paired_tests import LEVEL, smallest_difference
from genrec_bench.statistics.resampling import Components, Interval

NONE = Interval(0.0, 0.0)


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def hits(seed: int, seeds: int = 3, users: int = 60, rate: float = 0.3) -> np.ndarray:
    return (generator(seed).random((seeds, users)) < rate).astype(np.float64)


def entrant(values: np.ndarray, first: int = 0, *, fixed: bool = False) -> Entrant:
    return Entrant(values, tuple(range(first, first + len(values))), fixed)


def by_names(found: Conclusions) -> dict[tuple[str, str], Pair]:
    return {(pair.first, pair.second): pair for pair in found.pairs}


def pair(first: str, second: str, difference: float, distinct: bool) -> Pair:
    return Pair(first, second, difference, NONE, 1.0, 1.0, 1.0, 1.0, distinct, 0.0, 0.5, NONE, 0.0)


def test_ranks_from_a_relation() -> None:
    # a beats c and d, b beats d; a and b, b and c, c and d cannot be told apart.
    pairs = [
        pair("a", "b", 0.3, False),
        pair("a", "c", 0.2, True),
        pair("d", "a", -0.4, True),
        pair("b", "c", 0.1, False),
        pair("b", "d", 0.2, True),
        pair("c", "d", 0.1, False),
    ]
    ranks = rank_intervals("abcd", pairs)
    assert ranks == {"a": (1, 2), "b": (1, 3), "c": (2, 4), "d": (3, 4)}
    # Without a, what it beat has one fewer above it.
    assert rank_intervals("bcd", pairs) == {"b": (1, 2), "c": (1, 3), "d": (2, 3)}
    assert rank_intervals("ab", pairs) == {"a": (1, 2), "b": (1, 2)}


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ((0, 1, 2), (0, 1, 2), [(0, 0), (1, 1), (2, 2)]),
        ((2, 0, 1), (1, 5, 2), [(1, 1), (2, 2)]),  # two are shared: no others
        ((0, 1, 2), (11, 10), [(0, 10), (1, 11)]),  # none: in order
        ((0, 1, 2), (2, 7, 8, 9), [(2, 2), (0, 7), (1, 8)]),  # one
        ((0,), (0, 1), [(0, 0)]),
        ((3,), (0, 1), [(3, 0)]),
    ],
)
def test_runs_of_the_same_seed_are_compared(
    first: tuple[int, ...], second: tuple[int, ...], expected: list[tuple[int, int]]
) -> None:
    left, right = match_seeds(first, second)
    assert [(first[i], second[j]) for i, j in zip(left, right, strict=True)] == expected


def test_a_comparison_by_hand() -> None:
    # Seeds in another order; what is left of b's is not used. Differences by seed and user:
    # seed 0: 1 0 0 1, seed 1: 1 0 1 0; means 0.5, 0.5; by user 1, 0, 0.5, 0.5.
    found = conclude(
        {
            "a": Entrant(np.array([[1.0, 1, 1, 0], [1, 0, 0, 1]]), (1, 0)),
            "b": Entrant(np.array([[0.0, 0, 0, 0], [0, 1, 0, 0], [1, 1, 1, 1]]), (0, 1, 7)),
        },
        generator(),
    )
    (only,) = found.pairs
    assert (only.first, only.second, only.difference) == ("a", "b", 0.5)
    # Users' mean 0.5, squared deviations 0.25 twice: sqrt(0.5 / 3).
    assert only.effect == pytest.approx(0.5 / np.sqrt(0.5 / 3))
    # 2^4 patterns of 1, 0, 0.5, 0.5: 2 is reached with three equal signs, either for 0.
    assert only.p_user == 4 / 16
    assert only.p_seed == 0.5
    # a's means 0.75 and 0.5; b's 0, 0.25 and 1: a wins against two of three.
    assert only.probability == pytest.approx(4 / 6)
    # Both seeds say 0.5, by accident: the rests are 0, 0, -0.5, 0.5 and back, 1 over 3 degrees of
    # freedom, a share of (1 / 3) / 8 in the mean. With one degree of freedom between seeds, t is
    # 0.5 / sqrt(1 / 24) = 2.449, p = 1 - 2 arctan(2.449) / pi = 0.246. Users add nothing.
    assert only.p_bootstrap == pytest.approx(0.246, abs=0.02)
    assert not only.distinct
    assert found.ranks == {"a": (1, 2), "b": (1, 2)}
    assert found.estimates["a"].by_seed == (0.75, 0.5)
    assert found.smallest_difference == only.smallest_difference > 0


def test_declared_comparisons_are_corrected_for_their_own_number() -> None:
    """Of three pairs with p 0.02, 0.04 and 0.5, Holm makes 0.06, 0.08 and 0.5."""
    parts = Components(seeds=1e-6, users=2e-6, profile=2e-6, num_seeds=5, rest=1e-7)
    pairs = [
        replace(pair(names[0], names[1], difference, False), p_bootstrap=p, parts=parts)
        for names, difference, p in (("ab", 0.3, 0.02), ("ac", 0.2, 0.04), ("bc", -0.1, 0.5))
    ]
    pairs = [replace(each, interval=Interval(-1.0, 0.5)) for each in pairs]
    everything = family(pairs, [("a", "b"), ("a", "c"), ("b", "c")])
    assert [each.p_adjusted for each in everything] == pytest.approx([0.06, 0.08, 0.5])
    assert not any(each.distinct for each in everything)
    # Two of them, the second turned round: 0.04 and 0.04.
    first, second = family(pairs, [("a", "b"), ("c", "a"), ("a", "nobody")])
    assert (first.p_adjusted, second.p_adjusted) == pytest.approx((0.04, 0.04))
    assert first.distinct and second.distinct
    assert (second.first, second.second, second.difference) == ("c", "a", -0.2)
    assert second.interval == Interval(-0.5, 1.0)
    assert first.smallest_difference == smallest_difference(parts, LEVEL / 2)
    assert everything[0].smallest_difference == smallest_difference(parts, LEVEL / 3)


def test_a_declared_comparison_that_was_not_tested_costs_the_others_nothing() -> None:
    tested = {"a": entrant(hits(0)), "b": entrant(hits(1)), "lone": entrant(hits(2, seeds=1))}
    pairs = conclude(tested, generator()).pairs
    both, lone = family(pairs, [("a", "b"), ("a", "lone")])
    assert both.p_adjusted == both.p_bootstrap
    assert (lone.p_adjusted, lone.distinct, lone.smallest_difference) == (1.0, False, np.inf)


def test_what_is_far_better_is_found_and_ranked() -> None:
    users = generator(1).random(2000) < 0.3
    start = np.where(users, 1.0, 0.0)[None]
    drop = generator(2).random((3, 5, 2000)) < np.array([0.1, 0.1, 0.4])[:, None, None]
    values = np.where(drop, 0.0, start)
    found = conclude(
        {
            "start": Entrant(start, (0,), fixed=True),
            "x": entrant(values[0]),
            "y": entrant(values[1]),
            "z": entrant(values[2]),
        },
        generator(),
    )
    assert found.ranks == {"start": (1, 1), "x": (2, 3), "y": (2, 3), "z": (4, 4)}
    pairs = by_names(found)
    assert list(pairs) == list(combinations(["start", "x", "y", "z"], 2))
    assert pairs["start", "x"].interval.low > 0
    assert pairs["start", "z"].p_seed == 2 / 2**5
    assert pairs["start", "z"].probability == 1.0
    assert not pairs["x", "y"].distinct
    assert pairs["x", "y"].interval.low < 0 < pairs["x", "y"].interval.high
    assert found.estimates["start"].covers_seeds
    for one in found.pairs:
        assert one.p_bootstrap <= one.p_adjusted <= min(1.0, 6 * one.p_bootstrap)


def test_few_resamples_do_not_keep_many_rows_from_being_told_apart() -> None:
    """Six pairs ask for p below 0.0083 at first; of 99 resamples the least share is 0.01.

    As a board of 33 rows asks of the resamples that there are by default.
    """
    rates = {"a": 0.9, "b": 0.5, "c": 0.2, "d": 0.05}
    entrants = {name: entrant(hits(i, 5, 400, r)) for i, (name, r) in enumerate(rates.items())}
    found = conclude(entrants, generator(), resamples=99)
    assert all(pair.distinct for pair in found.pairs)
    assert all(pair.smallest_difference < abs(pair.difference) for pair in found.pairs)
    assert found.ranks == {"a": (1, 1), "b": (2, 2), "c": (3, 3), "d": (4, 4)}


@pytest.mark.filterwarnings("error")
@given(st.integers(0, 2**32), st.integers(1, 3), st.sampled_from([1.0, 0.3, 1 / 3, 1e-9, 1e-160]))
@settings(max_examples=60)
def test_equal_rows_are_no_reason_for_a_warning(key: int, seeds: int, unit: float) -> None:
    draws = generator(key)
    table = np.repeat(draws.integers(0, 2, (1, 6)) * unit, seeds, axis=0)
    other = draws.integers(0, 2, (seeds, 6)) * unit
    tables = {"a": table, "b": table, "c": other, "d": table[:, ::-1].copy()}
    found = conclude({name: entrant(one) for name, one in tables.items()}, draws, resamples=40)
    same = by_names(found)["a", "b"]
    assert same.difference == same.effect == 0.0 and not same.distinct
    assert same.p_user == same.p_seed == same.p_adjusted == 1.0 and same.probability == 0.5
    if seeds > 1:
        assert same.interval == NONE and same.smallest_difference == 0.0


def test_a_single_run_is_shown_but_not_ranked() -> None:
    found = conclude(
        {"a": entrant(hits(1, rate=0.9)), "b": entrant(hits(2)[:1]), "c": entrant(hits(3))},
        generator(),
    )
    assert found.ranks["b"] is None
    assert found.ranks["a"] is not None and found.ranks["a"][1] <= 2
    assert not found.estimates["b"].covers_seeds
    pairs = by_names(found)
    for names in [("a", "b"), ("b", "c")]:
        untested = pairs[names]
        assert (untested.p_bootstrap, untested.p_adjusted) == (1.0, 1.0)
        assert not untested.distinct
        assert untested.interval == Interval(-np.inf, np.inf)
        assert untested.probability_interval == Interval(0.0, 1.0)
        assert untested.smallest_difference == np.inf
    assert pairs["a", "b"].p_user < 0.05  # users alone would have said so
    # Only one pair was tested: nothing to correct for.
    assert pairs["a", "c"].p_adjusted == pairs["a", "c"].p_bootstrap
    assert found.smallest_difference == pairs["a", "c"].smallest_difference


def test_two_policies_without_seeds_are_compared_by_user() -> None:
    first, second = hits(1, 1, 500, 0.4), hits(2, 1, 500, 0.3)
    found = conclude(
        {"a": Entrant(first, (0,), True), "b": Entrant(second, (0,), True)}, generator()
    )
    (only,) = found.pairs
    theirs = stats.ttest_rel(first[0], second[0]).pvalue
    assert only.p_bootstrap == pytest.approx(theirs, abs=0.005)
    assert only.p_user == pytest.approx(theirs, abs=0.005)
    assert only.p_seed == 1.0
    assert found.ranks["a"] is not None


def test_one_entrant_has_no_pairs() -> None:
    alone = conclude({"a": entrant(hits(1))}, generator(), resamples=50)
    assert alone.pairs == ()
    assert alone.ranks == {"a": (1, 1)}
    assert alone.smallest_difference == np.inf


def test_runs_without_shared_seeds_are_compared_all_the_same() -> None:
    tables = hits(1, 4, 200), hits(2, 4, 200, 0.35)
    shared = conclude({"a": entrant(tables[0]), "b": entrant(tables[1])}, generator())
    apart = conclude({"a": entrant(tables[0]), "b": entrant(tables[1], 90)}, generator())
    assert apart == shared


@given(
    shapes=st.lists(st.integers(1, 3), min_size=2, max_size=4),
    users=st.integers(2, 9),
    seed=st.integers(0, 2**32),
)
@settings(max_examples=25)
def test_neither_users_nor_names_have_an_order(shapes: list[int], users: int, seed: int) -> None:
    draws = generator(seed)
    tables = {
        f"{place}": entrant(draws.integers(3, size=(rows, users)) / 2)
        for place, rows in enumerate(shapes)
    }
    found = conclude(tables, generator(), resamples=60)
    shuffle = draws.permutation(users)
    moved = {name: replace(one, values=one.values[:, shuffle]) for name, one in tables.items()}
    assert conclude(moved, generator(), resamples=60) == found
    turned = conclude(dict(reversed(tables.items())), generator(), resamples=60)
    assert turned.estimates == found.estimates
    assert turned.ranks == found.ranks
    others = by_names(turned)
    for one in found.pairs:
        other = others[one.second, one.first]
        assert other.difference == -one.difference
        assert other.interval == Interval(-one.interval.high, -one.interval.low)
        assert other.effect == -one.effect
        assert other.probability == pytest.approx(1 - one.probability)
        assert other.probability_interval.low == pytest.approx(1 - one.probability_interval.high)
        same = ("p_user", "p_seed", "p_bootstrap", "p_adjusted", "distinct", "smallest_difference")
        assert all(getattr(one, name) == getattr(other, name) for name in same)


def test_a_shift_of_one_shifts_its_differences() -> None:
    tables = {"a": entrant(hits(1)), "b": entrant(hits(2)), "c": entrant(hits(3))}
    found = by_names(conclude(tables, generator(), resamples=300))
    tables["b"] = entrant(hits(2) + 0.25)
    moved = by_names(conclude(tables, generator(), resamples=300))
    for names, shift in {("a", "b"): -0.25, ("b", "c"): 0.25, ("a", "c"): 0.0}.items():
        assert moved[names].difference == pytest.approx(found[names].difference + shift)
        assert moved[names].interval.low == pytest.approx(found[names].interval.low + shift)


def test_conclusions_come_from_their_generator_alone() -> None:
    tables = {"a": entrant(hits(1)), "b": entrant(hits(2)), "s": entrant(hits(3)[:1], fixed=True)}
    np.random.seed(0)
    found = conclude(tables, generator(5), resamples=200)
    np.random.seed(1)
    assert conclude(tables, generator(5), resamples=200) == found
    assert conclude(tables, generator(6), resamples=200) != found


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({}, "no entrant"),
        ({"a": entrant(np.zeros((2, 1)))}, "a: values have the shape"),
        ({"a": Entrant(np.zeros((2, 5)), (0,))}, r"a: 2 rows of values for the seeds \(0,\)"),
        ({"a": Entrant(np.zeros((2, 5)), (1, 1))}, "a: 2 rows of values for the seeds"),
        ({"a": entrant(np.zeros((2, 5)), fixed=True)}, "a: fixed, and yet it has 2 seeds"),
        (
            {"a": entrant(np.zeros((2, 5))), "b": entrant(np.zeros((2, 6)))},
            "same users: a has 5, b has 6",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(tables: dict[str, Entrant], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        conclude(tables, generator())


@pytest.fixture(scope="module")
def simulation(root: Path) -> ModuleType:
    """The script that measures coverage; benchmarks/ is no package."""
    path = root / "benchmarks" / "statistics_simulation.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def bounds(count: int, *shares: float) -> tuple[float, float]:
    """What a share between the least and the greatest of some can be out of a count of draws."""
    low = stats.binom(count, min(shares)).ppf(1e-4) / count
    high = stats.binom(count, max(shares)).ppf(1 - 1e-4) / count
    return float(low), float(high)


@pytest.mark.parametrize(("seeds", "spread"), [(3, 3.0), (5, 1.0), (10, 0.0)])
def test_intervals_cover(simulation: ModuleType, seeds: int, spread: float) -> None:
    usual, low = cover(simulation, simulation.World(seeds, 500, spread), 200, seeds, 1000)
    # The bounds tell our intervals from the usual ones where seeds matter and are few.
    assert (usual < low) == (seeds == 3)


@pytest.mark.slow
@pytest.mark.parametrize("users", [500, 4000])
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("spread", [0.0, 0.5, 1.0, 3.0])
def test_intervals_cover_everywhere(
    simulation: ModuleType, seeds: int, users: int, spread: float
) -> None:
    cover(simulation, simulation.World(seeds, users, spread), 1000, 0, 2000)


def cover(
    simulation: ModuleType, world: object, count: int, seed: int, resamples: int
) -> tuple[float, float]:
    """All six of our intervals cover as they say; return the usual one's share, and the least."""
    found = simulation.coverage(world, count, generator(seed), resamples)
    low, high = bounds(count, 0.93, 0.97)
    usual = found.pop("usual")
    assert len(found) == 6
    assert all(low <= share <= high for share in found.values()), found
    return usual, low


def test_equal_algorithms_are_seldom_told_apart(simulation: ModuleType) -> None:
    world = simulation.World(4, 200, 1.0)
    random = generator(1)
    false = np.mean([simulation.compared(world, 4, 0.0, random, 1000)[1] for _ in range(60)])
    assert false <= bounds(60, 0.05)[1]


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [3, 5, 10])
@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0])
@pytest.mark.parametrize("taste", [0.0, 0.5])
def test_equal_algorithms_are_seldom_told_apart_anywhere(
    simulation: ModuleType, seeds: int, spread: float, taste: float
) -> None:
    world, random = simulation.World(seeds, 500, spread, taste), generator()
    false = np.mean([simulation.compared(world, 5, 0.0, random, 2000)[1] for _ in range(400)])
    assert false <= bounds(400, 0.05)[1]


def test_a_visible_difference_is_found(simulation: ModuleType) -> None:
    world = simulation.World(5, 300, 0.5)
    random = generator(2)
    shift = simulation.visible_difference(world, 3, random, 100)
    once, twice = (
        np.mean([simulation.compared(world, 3, k * shift, random, 1000)[0] for _ in range(30)])
        for k in (1, 2)
    )
    low, high = bounds(30, 0.7, 0.9)
    assert low <= once <= high
    assert twice >= bounds(30, 0.98)[0]
