"""Is one algorithm better than another? Tests on [S, U] differences, paired by seed and user."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

from genrec_bench.statistics.resampling import (
    CONFIDENCE,
    Components,
    Floats,
    Interval,
    SeedDraws,
    possible_errors,
)

LEVEL = 1.0 - CONFIDENCE
"""Chance of any false finding by one metric in one section of a board, at most."""

POWER = 0.8
"""With which a design should see a difference that is called visible."""

_COUNTED = 100  # resamples as far, from which on their share is known well enough
_COUNTED_SHARE = 0.01  # and no more than this share of few resamples
_EXACT_FLIPS = 1 << 12  # up to so many, all patterns of signs are tried
_CHUNK = 1 << 22  # cells of a block of signs
_TOLERANCE = 1e-9  # relative: sums in another order are equal


def sign_flip_test(
    differences: Floats, generator: np.random.Generator, resamples: int
) -> NDArray[np.float64]:
    """Two-sided sign-flip test of paired differences.

    The statistic is the mean. All 2^n patterns of signs are tried where they are few (p is then
    their share at least as far from 0, never below 2 / 2^n), else R random ones, the one that was
    seen counted in: (1 + as far) / (1 + R) (Phipson and Smyth, 2010). The same as
    ``scipy.stats.permutation_test`` with permutation_type "samples", for many rows [Q, n] at once.
    Returned are [Q] p-values.
    """
    num_rows, count = differences.shape
    seen = np.abs(differences.sum(axis=1)) * (1.0 - _TOLERANCE)
    if 2**count <= _EXACT_FLIPS:
        bits = np.arange(2**count)[:, None] >> np.arange(count) & 1
        flipped = np.abs(differences @ (2.0 * bits - 1.0).T)
        return np.asarray((flipped >= seen[:, None]).mean(axis=1))
    far = np.ones(num_rows)
    rows = max(1, _CHUNK // count)
    for start in range(0, resamples, rows):
        size = (min(rows, resamples - start), count)
        signs = generator.integers(2, size=size, dtype=np.int8) * 2.0 - 1.0
        far += (np.abs(differences @ signs.T) >= seen[:, None]).sum(axis=1)
    return far / (1 + resamples)


def bootstrap_test(difference: float, parts: Components, users: Floats, draws: SeedDraws) -> float:
    """Two-sided p-value of a mean difference over seeds and users.

    The share of ``possible_errors`` that are as large as the difference, (1 + as far) / (1 + R). It
    takes other seeds and other users into account; ``sign_flip_test`` takes the one or the other.
    It is stricter than the interval: two or three seeds that agree by accident, more closely than
    the rest of the variance lets them, are no evidence, so that seeds count for no less than that
    rest.

    Where only a few resamples are as far, their share says little, and with many rows Holm's first
    level may lie below the least one there is. Beyond the last error that many reach, p falls as
    ``_tail`` does: as far out as that is the resamples' word, what comes after is a model's.
    ``users`` are those of ``users_part``; the draws are of as many seeds.
    """
    parts = parts.cautious
    errors = np.abs(possible_errors(parts, users, draws.mean, draws))
    seen = abs(difference) * (1.0 - _TOLERANCE)
    far = int((errors >= seen).sum())
    enough = max(1, min(_COUNTED, int(_COUNTED_SHARE * len(errors))))
    if far >= enough or parts.total == 0.0:
        return (1 + far) / (1 + len(errors))
    last = float(np.partition(errors, -enough)[-enough])
    return (1 + enough) / (1 + len(errors)) * _tail(seen, parts) / _tail(last, parts)


def _tail(error: float, parts: Components) -> float:
    """Chance of an error as large, with normal users, and seeds whose variance S of them showed.

    The same distribution as that of ``possible_errors``, by integration instead of draws.
    """
    spread = np.sqrt(np.array([parts.total]))
    weights = np.ones(1)
    if parts.num_seeds > 1:
        ratios, weights = _variance_ratios(parts.num_seeds - 1)
        spread = np.sqrt(parts.seeds / ratios + parts.users)
    return float(2 * special.ndtr(-error / spread) @ weights)


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """P-values such that comparing all with one level keeps the chance of any error below it.

    The i-th smallest of m is multiplied by m - i + 1, made no smaller than those before it, and
    cut at 1 (Holm, 1979). It needs no independence.
    """
    order = np.argsort(p_values, kind="stable")
    factors = np.arange(len(order), 0, -1)
    raised = np.maximum.accumulate(np.asarray(p_values, dtype=np.float64)[order] * factors)
    adjusted = np.empty(len(order))
    adjusted[order] = np.minimum(raised, 1.0)
    return tuple(adjusted.tolist())


def standardized_effect(profile: Floats) -> float:
    """Cohen's d_z: mean of [U] users' differences by their standard deviation (U - 1).

    0 where all are 0, infinite where all are the same and not 0.
    """
    mean, deviation = float(profile.mean()), float(profile.std(ddof=1))
    # All the same up to rounding: without this the effect would be what rounding left.
    if deviation <= abs(mean) * _TOLERANCE:
        return 0.0 if mean == 0.0 else float(np.copysign(np.inf, mean))
    return mean / deviation


def smallest_difference(parts: Components, level: float) -> float:
    """The true difference that ``bootstrap_test`` finds with ``POWER`` at a level (two-sided).

    The variances are taken as estimated, users' means as normal. Where only users matter it is
    (z(1 - level / 2) + z(POWER)) standard errors; where only seeds matter it is found with the
    noncentral t distribution; in between, by integrating over what the seeds may show of their
    variance.
    """
    total = parts.cautious.total
    if total == 0.0:
        return 0.0
    # In standard errors: what seeds cause of their square, and cause at least, whatever they show.
    share, least = parts.cautious.seeds / total, parts.rest / total
    if parts.num_seeds == 1:
        weights, critical = np.ones(1), np.array([stats.norm.isf(level / 2)])
    else:
        ratios, weights = _variance_ratios(parts.num_seeds - 1)
        by_seeds = np.maximum(share * ratios, least)
        estimated = by_seeds + (1.0 - share)
        shares, errors = _critical_errors(parts.num_seeds - 1, level)
        critical = np.interp(by_seeds / estimated, shares, errors) * np.sqrt(estimated)

    def missing_power(difference: float) -> float:
        found = special.ndtr(difference - critical) + special.ndtr(-difference - critical)
        return float(weights @ found) - POWER

    visible = optimize.brentq(missing_power, 0.0, float(critical.max()) + 10.0)
    return float(visible) * float(np.sqrt(total))


@lru_cache(maxsize=64)
def _critical_errors(freedom: int, level: float) -> tuple[Floats, Floats]:
    """Return [n] shares of the variance that seeds cause, and where ``bootstrap_test`` rejects.

    Shares go from 0 to 1; the errors [n] are in standard errors as estimated.
    """
    shares = np.square(np.sin(np.linspace(0.0, np.pi / 2, 33)))
    ratios, weights = _variance_ratios(freedom)
    spread = np.sqrt(shares[:, None] / ratios + 1.0 - shares[:, None])
    low = np.zeros(len(shares))
    high = np.full(len(shares), stats.t.isf(level / 2, freedom) + stats.norm.isf(level / 2))
    for _ in range(40):
        middle = (low + high) / 2
        often = 2 * special.ndtr(-middle[:, None] / spread) @ weights > level
        low, high = np.where(often, middle, low), np.where(often, high, middle)
    return shares, high


@lru_cache(maxsize=64)
def _variance_ratios(freedom: int) -> tuple[Floats, Floats]:
    """Quantiles of a variance as estimated by the true one, and their weights, densest near 0."""
    steps = (np.arange(400) + 0.5) / 400
    weights = 4 * steps**3
    ratios = stats.chi2.ppf(steps**4, freedom) / freedom
    return np.asarray(ratios, dtype=np.float64), weights / weights.sum()


def probability_of_improvement(first: Floats, second: Floats) -> float:
    """Chance that a run of the first is better than one of the second, on these users.

    U / (n m) of Mann and Whitney (1947) over [n] and [m] seeds' means; a tie counts half.
    """
    return float(((1.0 + np.sign(first[:, None] - second)) / 2.0).mean())


def probability_interval(
    first: Floats,
    second: Floats,
    generator: np.random.Generator,
    resamples: int,
    *,
    fixed: tuple[bool, bool] = (False, False),
) -> Interval:
    """Interval of the probability of improvement, over seeds.

    Resampling a few seeds gives 1 to 1 whenever they do not overlap. So both populations of seeds
    are taken for normal, and P(X > Y) is the normal distribution function of
    delta = (mean_X - mean_Y) / sqrt(var_X + var_Y). What delta can be, its estimate d leaves open:

        delta = d sqrt(chi squared(f) / f) + z sqrt(var_X / n + var_Y / m) / sqrt(var_X + var_Y)

    with f degrees of freedom after Satterthwaite (Reiser and Guttman, 1986), of which R are drawn.
    The interval always holds ``probability_of_improvement``. ``fixed`` says which of the two has no
    seeds (n or m is 1); it is 0 to 1 where one has a single seed and is not fixed.
    """
    sides = (first, second)
    if any(len(side) == 1 and not still for side, still in zip(sides, fixed, strict=True)):
        return Interval(0.0, 1.0)
    found = probability_of_improvement(first, second)
    variances = [float(side.var(ddof=1)) if len(side) > 1 else 0.0 for side in sides]
    variance = sum(variances)
    if variance == 0.0:
        return Interval(found, found)
    terms = list(zip(variances, map(len, sides), strict=True))
    # Shares of the variance first: squares of tiny variances would be 0.
    freedom = 1 / sum((one / variance) ** 2 / (count - 1) for one, count in terms if one > 0.0)
    error = np.sqrt(sum(one / count for one, count in terms) / variance)
    estimate = float(first.mean() - second.mean()) / np.sqrt(variance)
    possible = estimate * np.sqrt(generator.chisquare(freedom, resamples) / freedom)
    possible += error * generator.standard_normal(resamples)
    low, high = special.ndtr(np.quantile(possible, [LEVEL / 2, 1.0 - LEVEL / 2]))
    return Interval(min(float(low), found), max(float(high), found))
