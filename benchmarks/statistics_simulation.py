"""Do the intervals cover, and do the tests err, as often as they say? By simulation, as Markdown.

    python benchmarks/statistics_simulation.py [--simulations N] [--tables coverage]

Each table's head says how many data sets were drawn for a cell, so that its error can be told.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from genrec_bench.statistics.conclusions import Entrant, conclude, family
from genrec_bench.statistics.paired_tests import LEVEL, smallest_difference
from genrec_bench.statistics.resampling import (
    Components,
    Interval,
    components,
    draw_seeds,
    estimate_from,
    resample_users,
)

Floats = NDArray[np.float64]

HIT_RATE = 0.1
LIKELY, UNLIKELY = 0.3, 0.02
"""Chances of a hit of two kinds of users, as many of each as give ``HIT_RATE``."""

TRUNCATION = 2.0
TRUNCATED_DEVIATION = 0.8796256610342398
"""Standard deviation of a standard normal number that was cut off at ``TRUNCATION``."""

TEN_PLACES = np.arange(10)
BLOCK = 100
"""Data sets that share their draws."""

ALGORITHMS = 4
SEEDS = (3, 5, 10)
USERS = (500, 4000)
SPREADS = (0.0, 0.5, 1.0, 3.0)


@dataclass(frozen=True)
class World:
    """Algorithms of equal quality under seeds that differ.

    Attributes:
        seeds: S.
        users: U.
        spread: standard deviation of seeds' true means, in standard errors of one run's HR.
        taste: by how much of itself a user's chance differs between algorithms.
        memory: share of outcomes that users repeat under every seed and algorithm.
    """

    seeds: int
    users: int
    spread: float
    taste: float = 0.5
    memory: float = 0.7

    def draw(self, algorithms: int, generator: np.random.Generator) -> dict[str, Floats]:
        """Hits and discounted gains, [algorithms, seeds, users]; equal means, which ``mean`` is."""
        shape = (algorithms, self.seeds, self.users)
        share = (HIT_RATE - UNLIKELY) / (LIKELY - UNLIKELY)
        chances = np.where(generator.random(self.users) < share, LIKELY, UNLIKELY)
        tastes = 1 + self.taste * (2 * generator.integers(2, size=(algorithms, 1, self.users)) - 1)
        effects = _truncated(generator, (algorithms, self.seeds, 1))
        deviation = self.spread * np.sqrt(HIT_RATE * (1 - HIT_RATE) / self.users)
        chances = chances * tastes * (1 + deviation / HIT_RATE * effects)
        luck = _remembered(generator, shape, self.memory, generator.random(self.users))
        places = _remembered(generator, shape, self.memory, generator.random(self.users))
        hits = (luck < chances).astype(np.float64)
        return {"HR": hits, "NDCG": hits / np.log2((10 * places).astype(np.int64) + 2)}

    @staticmethod
    def mean(metric: str) -> float:
        """True mean of a metric."""
        gain = float((1 / np.log2(TEN_PLACES + 2)).mean())
        return HIT_RATE * (gain if metric == "NDCG" else 1.0)


def _truncated(generator: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Normal numbers of variance 1 and bounded size, so that no chance leaves 0 to 1."""
    found = generator.standard_normal(shape)
    while (far := np.abs(found) > TRUNCATION).any():
        found[far] = generator.standard_normal(int(far.sum()))
    return np.asarray(found / TRUNCATED_DEVIATION)


def _remembered(
    generator: np.random.Generator, shape: tuple[int, ...], memory: float, own: Floats
) -> Floats:
    """Uniform numbers, of which each user's own returns with some chance."""
    fresh = generator.random(shape, dtype=np.float32).astype(np.float64)
    return np.where(generator.random(shape, dtype=np.float32) < memory, own, fresh)


def coverage(
    world: World, simulations: int, generator: np.random.Generator, resamples: int
) -> dict[str, float]:
    """Share of intervals that hold the truth, by what they are of.

    ``mean``, ``IQM`` and ``difference`` of both metrics are ours; ``usual`` is the percentile
    bootstrap of seeds and users, of the difference of HR.
    """
    held: dict[str, int] = {}
    for start in range(0, simulations, BLOCK):
        count = min(BLOCK, simulations - start)
        draws = draw_seeds(world.seeds, generator, resamples)
        cases: list[tuple[str, float, Floats]] = []
        for _ in range(count):
            for metric, values in world.draw(2, generator).items():
                cases.append((metric, world.mean(metric), values[0]))
                cases.append((f"{metric} difference", 0.0, values[0] - values[1]))
        profiles = np.stack([values.mean(axis=0) for _, _, values in cases])
        resampled = resample_users(profiles, generator, resamples)
        for (name, truth, values), errors in zip(cases, resampled, strict=True):
            found = estimate_from(values, errors, draws)
            held[name] = held.get(name, 0) + _holds(found.interval, truth)
            if truth:
                iqm = f"{name} IQM"
                held[iqm] = held.get(iqm, 0) + _holds(found.iqm_interval, truth)
            elif name.startswith("HR"):
                usual = _usual(values, errors, generator)
                held["usual"] = held.get("usual", 0) + _holds(usual, truth)
    return {name: number / simulations for name, number in held.items()}


def _holds(interval: Interval, truth: float) -> bool:
    return interval.low <= truth <= interval.high


def _usual(values: Floats, errors: Floats, generator: np.random.Generator) -> Interval:
    """Percentiles of means over resampled seeds and users."""
    places = generator.integers(len(values), size=(len(values), len(errors)))
    means = values.mean(axis=1)[places].mean(axis=0) + errors
    low, high = np.quantile(means, [LEVEL / 2, 1 - LEVEL / 2])
    return Interval(float(low), float(high))


def compared(
    world: World, algorithms: int, shift: float, generator: np.random.Generator, resamples: int
) -> tuple[bool, bool]:
    """Conclude on algorithms of which the first is better by a shift.

    Returns:
        Whether the first was told from the second, and whether any two of the others were told
        apart.
    """
    values = world.draw(algorithms, generator)["NDCG"]
    values[0] += shift
    entrants = {
        str(place): Entrant(table, tuple(range(world.seeds))) for place, table in enumerate(values)
    }
    pairs = conclude(entrants, generator, resamples=resamples).pairs
    found = {(pair.first, pair.second): pair.distinct for pair in pairs}
    false = any(found[names] for names in found if shift == 0.0 or "0" not in names)
    return found["0", "1"], false


def declared_false(
    world: World, algorithms: int, generator: np.random.Generator, resamples: int
) -> bool:
    """Conclude on equal algorithms; whether any declared comparison finds a difference.

    The first is the control and the second the baseline: each row less the control, and less the
    baseline, one family.
    """
    values = world.draw(algorithms, generator)["NDCG"]
    entrants = {
        str(place): Entrant(table, tuple(range(world.seeds))) for place, table in enumerate(values)
    }
    wanted = [(str(row), "0") for row in range(1, algorithms)]
    wanted += [(str(row), "1") for row in range(2, algorithms)]
    pairs = conclude(entrants, generator, resamples=resamples).pairs
    return any(pair.distinct for pair in family(pairs, wanted))


def visible_difference(
    world: World, algorithms: int, generator: np.random.Generator, simulations: int = 200
) -> float:
    """The smallest visible difference at the true variances, which are averaged out of many."""
    parts = []
    for _ in range(simulations):
        first, second = world.draw(2, generator)["NDCG"]
        parts.append(components(first - second))
    users = float(np.mean([one.users for one in parts]))
    seeds = float(np.mean([one.seeds for one in parts]))
    rest = float(np.mean([one.rest for one in parts]))
    level = LEVEL / (algorithms * (algorithms - 1) / 2)
    return smallest_difference(Components(seeds, users, users, world.seeds, rest), level)


def coverage_table(simulations: int, resamples: int) -> str:
    """Share of 95% intervals that hold the truth."""
    generator = np.random.default_rng(0)
    rows: list[dict[str, object]] = []
    for seeds, users, spread in product(SEEDS, USERS, SPREADS):
        shares = coverage(World(seeds, users, spread), simulations, generator, resamples)
        rows.append({"seeds": seeds, "users": users, "spread": spread, **shares})
    return _table(f"Coverage of 95% intervals, {simulations} data sets a row", rows)


def errors_table(simulations: int, resamples: int) -> str:
    """Share of comparisons of equal algorithms in which any two are told apart."""
    generator = np.random.default_rng(1)
    count = max(1, simulations // 2)
    rows: list[dict[str, object]] = []
    for seeds, spread, taste in product((2, *SEEDS), (0.0, 1.0, 3.0), (0.0, 0.5)):
        world = World(seeds, USERS[0], spread, taste)
        false = [compared(world, ALGORITHMS, 0.0, generator, resamples)[1] for _ in range(count)]
        row = {"seeds": seeds, "spread": spread, "taste": taste, "told apart": np.mean(false)}
        rows.append(row)
    return _table(f"{ALGORITHMS} equal algorithms, any two told apart, {count} data sets", rows)


def declared_table(simulations: int, resamples: int) -> str:
    """Share of comparisons of equal algorithms in which a declared one finds a difference."""
    generator = np.random.default_rng(3)
    count = max(1, simulations // 2)
    rows: list[dict[str, object]] = []
    for seeds, spread in product(SEEDS, (0.0, 1.0, 3.0)):
        world = World(seeds, USERS[0], spread)
        false = [declared_false(world, ALGORITHMS, generator, resamples) for _ in range(count)]
        rows.append({"seeds": seeds, "spread": spread, "false": np.mean(false)})
    title = f"{ALGORITHMS} equal algorithms, any declared comparison finds a difference"
    return _table(f"{title}, {count} data sets", rows)


def power_table(simulations: int, resamples: int) -> str:
    """Share of true differences that are found."""
    generator = np.random.default_rng(2)
    count = max(1, simulations // 5)
    rows: list[dict[str, object]] = []
    for seeds, spread in product(SEEDS, (0.0, 1.0, 3.0)):
        world = World(seeds, USERS[0], spread)
        shift = visible_difference(world, ALGORITHMS, generator)
        row: dict[str, object] = {"seeds": seeds, "spread": spread, "smallest difference": shift}
        for times in (1, 2):
            told = [
                compared(world, ALGORITHMS, times * shift, generator, resamples)[0]
                for _ in range(count)
            ]
            row[f"found at {times}x"] = np.mean(told)
        rows.append(row)
    return _table(f"Power among {ALGORITHMS} algorithms, {count} data sets", rows)


TABLES = {
    "coverage": coverage_table,
    "errors": errors_table,
    "declared": declared_table,
    "power": power_table,
}


def _table(title: str, rows: list[dict[str, object]]) -> str:
    body = tabulate(rows, headers="keys", tablefmt="github", floatfmt=".3f")
    return f"## {title}\n\n{body}\n"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=1000, help="data sets for a cell")
    parser.add_argument("--resamples", type=int, default=2000, help="of each data set")
    parser.add_argument("--tables", nargs="+", choices=TABLES, default=[*TABLES])
    chosen = parser.parse_args()
    print("spread: deviation of seeds' true means, in standard errors of one run's HR")
    print("taste: by how much of itself a user's chance of a hit differs between algorithms")
    for name in chosen.tables:
        print("\n" + TABLES[name](chosen.simulations, chosen.resamples), flush=True)


if __name__ == "__main__":
    main()
