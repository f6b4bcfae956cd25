"""From per-user values of several algorithms to what can be said about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations, compress

import numpy as np

from genrec_bench.statistics.paired_tests import (
    LEVEL,
    bootstrap_test,
    holm,
    probability_interval,
    probability_of_improvement,
    sign_flip_test,
    smallest_difference,
    standardized_effect,
)
from genrec_bench.statistics.resampling import (
    RESAMPLES,
    Components,
    Estimate,
    Floats,
    Interval,
    SeedDraws,
    around,
    check_table,
    components,
    draw_seeds,
    estimate_from,
    half_width,
    resample_users,
    same_order,
    users_part,
)

UNKNOWN = Interval(-np.inf, np.inf)
"""Of a difference that a single seed tells nothing about."""


@dataclass(frozen=True)
class Entrant:
    """What one algorithm brings into a comparison.

    Attributes:
        values: [S, U] a metric's value for each test example under each seed; the users are the
            same, in the same order, for all entrants.
        seeds: S numbers, each once.
        fixed: whether it is a policy without seeds, such as the SFT start; S is then 1.
    """

    values: Floats
    seeds: tuple[int, ...]
    fixed: bool = False


@dataclass(frozen=True)
class Pair:
    """Two algorithms compared; differences are first minus second.

    Attributes:
        difference: mean over the paired seeds and all users.
        interval: of the difference, uncorrected; unbounded where it was not tested. It can leave
            out 0 where the test, which is stricter, is not sure.
        p_user: sign-flip test over users, these seeds given.
        p_seed: sign-flip test over seeds; at least 2 / 2^n; 1 where neither has seeds.
        p_bootstrap: over seeds and users; the one that decides; 1 where it was not tested.
        p_adjusted: the same, corrected for the number of pairs that were tested (Holm).
        distinct: whether ``p_adjusted`` is at most ``LEVEL``.
        effect: Cohen's d_z over users.
        probability: that a run of the first is better than one of the second, on these users.
        probability_interval: over seeds.
        smallest_difference: that this design would see; infinite where it was not tested.
        parts: where the variance of the difference comes from; None where it was not tested.
    """

    first: str
    second: str
    difference: float
    interval: Interval
    p_user: float
    p_seed: float
    p_bootstrap: float
    p_adjusted: float
    distinct: bool
    effect: float
    probability: float
    probability_interval: Interval
    smallest_difference: float
    parts: Components | None = None


@dataclass(frozen=True)
class Conclusions:
    """What a comparison says.

    Attributes:
        pairs: all of them, in the order of the names.
        ranks: best and worst possible place by name, 1 is the best; None with a single seed.
        smallest_difference: the greatest of those pairs that were tested; infinite without any.
    """

    estimates: Mapping[str, Estimate]
    pairs: tuple[Pair, ...]
    ranks: Mapping[str, tuple[int, int] | None]
    smallest_difference: float


def conclude(
    entrants: Mapping[str, Entrant],
    generator: np.random.Generator,
    *,
    resamples: int = RESAMPLES,
) -> Conclusions:
    """Estimate each entrant, compare all pairs, and rank what can be told apart.

    Runs are paired as ``match_seeds`` says. A pair is tested if that makes two pairs of runs or
    more, or if neither entrant has seeds. Neither the order of users nor that of entrants changes a
    figure; only a pair's signs follow the order of its names.

    Args:
        entrants: by name, in the order in which pairs are listed.
        generator: of all draws; equal generators give equal conclusions.
        resamples: of each bootstrap and each random permutation test. A p-value of the latter is
            never below 1 / (1 + resamples).

    Raises:
        ValueError: there is no entrant, or they have different numbers of users, or one has too few
            of them, no seed, other seeds than values, or values that are not finite.
    """
    _check(entrants)
    # Sorted names and users make draws independent of the order that everything came in.
    names = sorted(entrants)
    order = same_order([entrants[name].values for name in names])
    tables = {name: entrants[name].values[:, order] for name in names}
    contests = [_contest(pair, entrants, tables) for pair in combinations(names, 2)]
    cells = [tables[name] for name in names] + [contest.differences for contest in contests]
    sizes = sorted({len(cell) for cell in cells})
    draws = {size: draw_seeds(size, generator, resamples) for size in sizes}
    profiles = np.stack([cell.mean(axis=0) for cell in cells])
    resampled = resample_users(profiles, generator, resamples)
    estimates = {
        name: estimate_from(table, errors, draws[len(table)], fixed=entrants[name].fixed)
        for (name, table), errors in zip(tables.items(), resampled, strict=False)
    }
    p_users = sign_flip_test(profiles[len(names) :], generator, resamples)
    level = LEVEL / max(1, sum(contest.tested for contest in contests))
    pairs = [
        _compare(contest, errors, draws[len(contest.differences)], float(p_user), level, generator)
        for contest, errors, p_user in zip(contests, resampled[len(names) :], p_users, strict=True)
    ]
    listed = _listed(_corrected(pairs), tuple(entrants))
    ranked = [name for name in entrants if entrants[name].fixed or len(tables[name]) > 1]
    ranks = rank_intervals(ranked, listed)
    visible = [pair.smallest_difference for pair in listed]
    return Conclusions(
        estimates={name: estimates[name] for name in entrants},
        pairs=listed,
        ranks={name: ranks.get(name) for name in entrants},
        smallest_difference=max(filter(np.isfinite, visible), default=float("inf")),
    )


def family(pairs: Sequence[Pair], wanted: Sequence[tuple[str, str]]) -> tuple[Pair, ...]:
    """Comparisons that were declared beforehand, corrected among themselves and for no others.

    ``wanted`` are names, first and second; what ``conclude`` has no pair of is left out. The chance
    of any false finding among these is at most ``LEVEL``, as it is among all pairs; to look at both
    tables is to take that chance twice. ``smallest_difference`` is that of the fewer comparisons.
    """
    found: dict[tuple[str, str], Pair] = {}
    for pair in pairs:
        found |= {(pair.first, pair.second): pair, (pair.second, pair.first): _turned(pair)}
    chosen = [found[names] for names in wanted if names in found]
    level = LEVEL / max(1, sum(pair.parts is not None for pair in chosen))
    return tuple(
        pair
        if pair.parts is None
        else replace(pair, smallest_difference=smallest_difference(pair.parts, level))
        for pair in _corrected(chosen)
    )


def match_seeds(first: Sequence[int], second: Sequence[int]) -> tuple[list[int], list[int]]:
    """Pair the runs of two algorithms.

    Runs of the same seed saw the same batches and belong together. With two shared seeds or more,
    only these are compared. With fewer, the runs left over are paired too, in order of their seeds:
    they are independent, so that any pairing is as good, and those without a partner are left out.
    Returned are places in ``first`` and, as many, in ``second``.
    """
    shared = sorted(set(first) & set(second))
    pairs = [(first.index(seed), second.index(seed)) for seed in shared]
    if len(shared) < 2:
        left, right = (
            [side.index(seed) for seed in sorted(set(side) - set(shared))]
            for side in (first, second)
        )
        pairs += zip(left, right, strict=False)
    return [place for place, _ in pairs], [place for _, place in pairs]


def rank_intervals(names: Sequence[str], pairs: Sequence[Pair]) -> dict[str, tuple[int, int]]:
    """Best and worst place that each name may have, among these names.

    The best is 1 plus the number of names that are distinctly better; the worst is the number of
    all names less those that are distinctly worse. Two that cannot be told apart have overlapping
    places; where none can be, all share 1 to n.
    """
    better: dict[str, int] = dict.fromkeys(names, 0)
    worse: dict[str, int] = dict.fromkeys(names, 0)
    for pair in pairs:
        if pair.distinct and pair.first in better and pair.second in better:
            winner, loser = pair.first, pair.second
            if pair.difference < 0:
                winner, loser = loser, winner
            better[loser] += 1
            worse[winner] += 1
    return {name: (1 + better[name], len(names) - worse[name]) for name in names}


@dataclass(frozen=True)
class _Contest:
    """Two entrants before they are compared.

    Attributes:
        differences: [n, U] between paired runs.
        by_seed: all means of the first's and of the second's seeds.
        fixed: which of the two has no seeds.
        tested: whether it can be said how differences vary.
    """

    first: str
    second: str
    differences: Floats
    by_seed: tuple[Floats, Floats]
    fixed: tuple[bool, bool]
    tested: bool


def _contest(
    names: tuple[str, str], entrants: Mapping[str, Entrant], tables: Mapping[str, Floats]
) -> _Contest:
    """Pair the runs of two entrants; what has no seeds stands against every run."""
    first, second = (tables[name] for name in names)
    fixed = entrants[names[0]].fixed, entrants[names[1]].fixed
    by_seed = first.mean(axis=1), second.mean(axis=1)
    if not any(fixed):
        left, right = match_seeds(entrants[names[0]].seeds, entrants[names[1]].seeds)
        first, second = first[left], second[right]
    differences = first - second
    return _Contest(*names, differences, by_seed, fixed, all(fixed) or len(differences) > 1)


def _compare(
    contest: _Contest,
    errors: Floats,
    draws: SeedDraws,
    p_user: float,
    level: float,
    generator: np.random.Generator,
) -> Pair:
    """Compare two entrants; nothing is corrected yet.

    ``errors`` [R] are those of ``resample_users`` for their mean difference; draws are of as many
    seeds as runs were paired; at ``level`` the smallest difference is to be found.
    """
    values = contest.differences
    by_seed = values.mean(axis=1)
    difference = float(by_seed.mean())
    resamples = len(errors)
    interval, p_bootstrap, visible, parts = UNKNOWN, 1.0, float("inf"), None
    if contest.tested:
        parts = components(values)
        users = users_part(parts, errors, values.shape[1])
        interval = around(difference, half_width(parts, users, draws.mean, draws))
        p_bootstrap = bootstrap_test(difference, parts, users, draws)
        visible = smallest_difference(parts, level)
    p_seed = 1.0
    if not all(contest.fixed):
        p_seed = float(sign_flip_test(by_seed[None], generator, resamples)[0])
    return Pair(
        first=contest.first,
        second=contest.second,
        difference=difference,
        interval=interval,
        p_user=p_user,
        p_seed=p_seed,
        p_bootstrap=p_bootstrap,
        p_adjusted=p_bootstrap,
        distinct=False,
        effect=standardized_effect(values.mean(axis=0)),
        probability=probability_of_improvement(*contest.by_seed),
        probability_interval=probability_interval(
            *contest.by_seed, generator, resamples, fixed=contest.fixed
        ),
        smallest_difference=visible,
        parts=parts,
    )


def _corrected(pairs: Sequence[Pair]) -> list[Pair]:
    """Correct for the number of pairs that were tested; the others have p 1 and take no part."""
    tested = [pair.interval != UNKNOWN for pair in pairs]
    raised = iter(holm([pair.p_bootstrap for pair in compress(pairs, tested)]))
    adjusted = [next(raised) if known else 1.0 for known in tested]
    return [
        replace(pair, p_adjusted=p_value, distinct=p_value <= LEVEL)
        for pair, p_value in zip(pairs, adjusted, strict=True)
    ]


def _listed(pairs: Sequence[Pair], names: Sequence[str]) -> tuple[Pair, ...]:
    """Put pairs, and the two of each, in the order of the names."""
    place = {name: number for number, name in enumerate(names)}
    turned = [pair if place[pair.first] < place[pair.second] else _turned(pair) for pair in pairs]
    return tuple(sorted(turned, key=lambda pair: (place[pair.first], place[pair.second])))


def _turned(pair: Pair) -> Pair:
    """The same pair as second minus first."""
    chance = pair.probability_interval
    return replace(
        pair,
        first=pair.second,
        second=pair.first,
        difference=-pair.difference,
        interval=Interval(-pair.interval.high, -pair.interval.low),
        effect=-pair.effect,
        probability=1.0 - pair.probability,
        probability_interval=Interval(1.0 - chance.high, 1.0 - chance.low),
    )


def _check(entrants: Mapping[str, Entrant]) -> None:
    """Refuse entrants that cannot be compared."""
    sizes: dict[int, str] = {}
    for name, entrant in entrants.items():
        try:
            check_table(entrant.values)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
        rows, users = entrant.values.shape
        if rows != len(set(entrant.seeds)) or rows != len(entrant.seeds):
            raise ValueError(f"{name}: {rows} rows of values for the seeds {entrant.seeds}")
        if entrant.fixed and rows != 1:
            raise ValueError(f"{name}: fixed, and yet it has {rows} seeds")
        sizes.setdefault(users, name)
    if not sizes:
        raise ValueError("no entrant to conclude on")
    if len(sizes) > 1:
        told = ", ".join(f"{name} has {users}" for users, name in sizes.items())
        raise ValueError(f"all entrants need the same users: {told}")
