"""May the variance of seeds be pooled over rows? By simulation, as Markdown.

    python benchmarks/pooled_seeds.py [--simulations N]

Seven rows of equal quality under a few seeds; the first is the control, which the six others are
compared with (t tests with Satterthwaite's degrees of freedom, Holm). What users add is known.
The variance of seeds is each pair's own, pooled over all rows, or moderated: each pair's own drawn
toward that of all pairs, by as much as their spread allows (Smyth, 2004). Pooling buys degrees of
freedom. Is what it says still true where rows differ in how much their seeds vary?
"""

from __future__ import annotations

import argparse

import numpy as np
from numpy.typing import NDArray
from scipy import special, stats
from tabulate import tabulate

Floats = NDArray[np.float64]

LEVEL = 0.05
ROWS = 7
WORLDS = {
    "equal": (1, 1, 1, 1, 1, 1, 1),
    "one row varies more": (1, 1, 1, 1, 1, 1, 4),
    "a calm control": (0.3, 1, 1, 1, 1, 1, 1),
    # Deviations of the gains over the SFT start on the board of 0.3, the control first.
    "as on Industrial": (0.14, 0.65, 0.14, 0.89, 0.06, 0.34, 0.14),
    "half vary more": (1, 1, 1, 1, 3, 3, 3),
}
"""Deviations of seeds' true means, row by row."""


def own(effects: Floats) -> tuple[Floats, Floats]:
    """Variance [n, 6] of a difference's mean from its own seeds, and its degrees of freedom."""
    seeds = effects.shape[2]
    variance = (effects[:, 1:] - effects[:, :1]).var(axis=2, ddof=1) / seeds
    return variance, np.full(variance.shape, seeds - 1.0)


def pooled(effects: Floats) -> tuple[Floats, Floats]:
    """The same from the seeds of all rows."""
    seeds = effects.shape[2]
    of_all = 2 * effects.var(axis=2, ddof=1).mean(axis=1) / seeds
    shape = (len(effects), ROWS - 1)
    return np.broadcast_to(of_all[:, None], shape), np.full(shape, ROWS * (seeds - 1.0))


def moderated(effects: Floats) -> tuple[Floats, Floats]:
    """The same, each pair's own drawn toward that of all."""
    variance, freedom = own(effects)
    half = freedom[0, 0] / 2
    logs = np.log(variance) - special.digamma(half) + np.log(half)
    spread = np.maximum(logs.var(axis=1, ddof=1) - special.polygamma(1, half), 1e-3)
    prior = (
        0.5 + 1 / spread
    )  # where the trigamma function of half the prior's freedom is the spread
    for _ in range(30):
        value = special.polygamma(1, prior)
        prior += value * (1 - value / spread) / special.polygamma(2, prior)
    common = np.exp(logs.mean(axis=1) + special.digamma(prior) - np.log(prior))[:, None]
    weight = np.minimum(2 * prior, 200)[:, None]
    return (weight * common + freedom * variance) / (weight + freedom), np.minimum(
        weight + freedom, ROWS * freedom
    )


WAYS = {"own": own, "pooled": pooled, "moderated": moderated}


def judged(
    deviations: tuple[float, ...], seeds: int, users: float, generator: np.random.Generator, n: int
) -> dict[str, object]:
    """Coverage of the worst and the best covered pair, and how often any is falsely found.

    ``users`` is the variance that they add, in that which seeds add on average.
    """
    scale = np.asarray(deviations)[None, :, None]
    effects = generator.standard_normal((n, ROWS, seeds)) * scale
    of_users = users * 2 * float(np.square(scale).mean()) / seeds
    means = effects.mean(axis=2)
    differences = means[:, 1:] - means[:, :1]
    differences += generator.standard_normal(differences.shape) * np.sqrt(of_users)
    row: dict[str, object] = {}
    for name, way in WAYS.items():
        variance, freedom = way(effects)
        total = variance + of_users
        errors, freedoms = np.abs(differences) / np.sqrt(total), total**2 / (variance**2 / freedom)
        p = np.asarray(2 * stats.t.sf(errors, freedoms), dtype=np.float64)
        held = np.asarray(p > LEVEL).mean(axis=0)
        row[f"{name}: coverage"] = f"{held.min():.1%} to {held.max():.1%}"
        row[f"{name}: false"] = f"{(p.min(axis=1) * (ROWS - 1) <= LEVEL).mean():.1%}"
    return row


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--simulations", type=int, default=4000, help="data sets for a row")
    count = parser.parse_args().simulations
    generator = np.random.default_rng(0)
    rows = []
    for seeds in (5, 10):
        for users in (0.0, 1.0):
            for name, deviations in WORLDS.items():
                row: dict[str, object] = {"seeds": seeds, "users": users, "rows": name}
                rows.append(row | judged(deviations, seeds, users, generator, count))
    print(tabulate(rows, headers="keys", tablefmt="github"))


if __name__ == "__main__":
    main()
