"""Means over seeds and users, and how far they can be off.

A metric's values are a crossed design: value[s, u] = mu + seed_s + user_u + rest[s, u]. Seeds and
users are both drawn at random, so both have to be redrawn. Of users there are hundreds: they are
resampled with replacement. Of seeds there are three to ten, and resampling so few understates both
their variance and how badly that variance is known: the usual percentile bootstrap then covers far
less than it promises, as ``benchmarks/statistics_simulation.py`` shows. So seed effects are redrawn
from a normal distribution, together with what as many seeds would have shown of its variance.

Shapes: S seeds, U users, R resamples, Q profiles (a profile is a mean over seeds for each user).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]

CONFIDENCE = 0.95
"""Of every interval."""

RESAMPLES = 10_000
"""So many that the error of a p-value of 5% is about a twentieth of it."""

TRIMMED = 0.25
"""What the interquartile mean leaves out at either end."""

IMPLAUSIBLE = 0.05
"""Chance of so little variance between seeds by accident, below which it is not believed."""

_CHUNK = 1 << 21  # cells of a block of weights


@dataclass(frozen=True)
class Interval:
    """From ``low`` to ``high``, in the unit of what it belongs to."""

    low: float
    high: float


@dataclass(frozen=True)
class Estimate:
    """One algorithm's metric.

    Attributes:
        mean: over seeds and users.
        iqm: interquartile mean of the seeds' means.
        by_seed: each seed's mean over users.
        num_users: U.
        covers_seeds: whether the intervals speak of other seeds too. False with one seed of
            something that has seeds: they then speak of other users under this seed.
    """

    mean: float
    interval: Interval
    iqm: float
    iqm_interval: Interval
    by_seed: tuple[float, ...]
    num_users: int
    covers_seeds: bool


@dataclass(frozen=True)
class Components:
    """Where the variance of a mean over seeds and users comes from.

    Attributes:
        seeds: from seeds, the rest that belongs to no seed or user included; 0 with one seed.
        users: from users alone, at least 0.
        profile: from users as their profile shows it, with its share of the rest.
        num_seeds: S.
        rest: from the rest, which is known from many cells; 0 with one seed.
    """

    seeds: float
    users: float
    profile: float
    num_seeds: int
    rest: float = 0.0

    @property
    def total(self) -> float:
        """Variance of the mean."""
        return self.seeds + self.users

    @property
    def cautious(self) -> Components:
        """The same, seeds causing no less than the rest alone does."""
        return replace(self, seeds=max(self.seeds, self.rest))


@dataclass(frozen=True)
class SeedDraws:
    """R samples of S standard normal numbers: what the effects of S seeds could have been.

    Attributes:
        mean: [R] of each sample, in its own standard error (1 / sqrt(S)).
        iqm: [R] interquartile mean, in the same unit.
        deviation: [R] standard deviation, S - 1 in its denominator.
    """

    mean: Floats
    iqm: Floats
    deviation: Floats


def interquartile_mean(values: Floats) -> Floats:
    """Mean of the middle half along the first axis (Agarwal et al., 2021).

    A quarter is cut at either end, rounded down: nothing of three, one of five, two of ten.
    """
    return np.asarray(stats.trim_mean(values, TRIMMED, axis=0), dtype=np.float64)


def components(values: Floats) -> Components:
    """Split the variance of the mean of [S, U] values by its source.

    Mean squares of the two-way layout with one value a cell (Searle, Casella and McCulloch, 1992,
    chapter 4) have the expectations

        E[MS_seeds] = U var(seed) + var(rest),  E[MS_users] = S var(user) + var(rest),
        E[MS_rest]  = var(rest),

    so that (MS_seeds + MS_users - MS_rest) / (S U) has the variance of the mean as its
    expectation. Its users' part, (MS_users - MS_rest) / (S U), is cut at 0. Its seeds' part,
    MS_seeds / (S U), cannot be below MS_rest / (S U) but by accident: MS_seeds is raised to the
    value below which so few seeds fall with the chance ``IMPLAUSIBLE`` even where seeds do not
    differ at all, so that an interval cannot collapse.

    With one seed all there is is the users' variance.
    """
    num_seeds, num_users = values.shape
    profile = float(values.mean(axis=0).var(ddof=1)) / num_users
    if num_seeds == 1:
        return Components(seeds=0.0, users=profile, profile=profile, num_seeds=1)
    by_seed = values.mean(axis=1)
    rest = values - by_seed[:, None] - values.mean(axis=0) + values.mean()
    freedom = num_seeds - 1
    rest_square = float(np.square(rest).sum()) / (freedom * (num_users - 1))
    noise = rest_square / (num_seeds * num_users)
    floor = noise * float(stats.chi2.ppf(IMPLAUSIBLE, freedom)) / freedom
    return Components(
        seeds=max(float(by_seed.var(ddof=1)) / num_seeds, floor),
        users=max(profile - noise, 0.0),
        profile=profile,
        num_seeds=num_seeds,
        rest=noise,
    )


def draw_seeds(num_seeds: int, generator: np.random.Generator, resamples: int) -> SeedDraws:
    """Draw what the effects of S seeds could have been, R times; with one seed there is nothing."""
    if num_seeds == 1:
        nothing = np.zeros(resamples)
        return SeedDraws(mean=nothing, iqm=nothing, deviation=nothing + 1.0)
    samples = generator.standard_normal((num_seeds, resamples))
    scale = np.sqrt(num_seeds)
    return SeedDraws(
        mean=samples.mean(axis=0) * scale,
        iqm=interquartile_mean(samples) * scale,
        deviation=samples.std(axis=0, ddof=1),
    )


def resample_users(profiles: Floats, generator: np.random.Generator, resamples: int) -> Floats:
    """How far [Q, R] the means of profiles [Q, U] fall from themselves on users with replacement.

    All profiles see the same draws, so that differences between them stay paired.
    """
    num_users = profiles.shape[1]
    centered = profiles - profiles.mean(axis=1, keepdims=True)
    found = np.empty((len(profiles), resamples))
    rows = max(1, _CHUNK // num_users)
    for start in range(0, resamples, rows):
        count = min(rows, resamples - start)
        drawn = generator.integers(num_users, size=(count, num_users))
        drawn += num_users * np.arange(count)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=count * num_users)
        weights = weights.reshape(count, num_users).astype(np.float64)
        found[:, start : start + count] = centered @ weights.T / num_users
    return found


def users_part(parts: Components, resampled: Floats, num_users: int) -> Floats:
    """Scale [R] resampled deviations of a profile's mean to the variance that users alone cause.

    Resampled users carry the rest with them, which the seeds' part already has, and their variance
    has U where an unbiased one has U - 1.
    """
    if parts.profile == 0.0:
        return resampled
    share = parts.users / parts.profile * num_users / (num_users - 1)
    return np.asarray(resampled * np.sqrt(share), dtype=np.float64)


def possible_errors(parts: Components, users: Floats, seeds: Floats, draws: SeedDraws) -> Floats:
    """By how much the mean could be off, [R], if seeds vary as much as these few allow.

    The seeds' part of each resample is divided by the deviation that its own seeds show, which
    gives it the tails of Student's t with S - 1 degrees of freedom; the users' part is added. This
    is the Behrens-Fisher distribution (Fisher, 1935; as a generalized pivot: Weerahandi, 1993).
    Read as a test it rejects true hypotheses at most as often as it says (Robinson, 1976), at small
    levels too, which degrees of freedom after Satterthwaite (1946) do not.
    """
    return np.asarray(np.sqrt(parts.seeds) * seeds / draws.deviation + users, dtype=np.float64)


def half_width(parts: Components, users: Floats, seeds: Floats, draws: SeedDraws) -> float:
    """Half the length of a symmetric interval of ``CONFIDENCE``.

    Halfway between two bootstraps of the same draws. One is the quantile of ``possible_errors``,
    which is too wide where users and few seeds matter alike. The other is the symmetric bootstrap-t
    (Efron, 1979; Hall, 1988): errors in the standard error of their own resample, at the variances
    as estimated; it is too narrow there. Where only one source varies they are the same: a t
    interval of the seeds' means, or a bootstrap of users. Neither covers as it says in between;
    halfway does, which benchmarks/statistics_simulation.py shows. ``users`` [R] are those of
    ``users_part``, ``seeds`` [R] ``mean`` or ``iqm`` of the draws.
    """
    errors = np.abs(possible_errors(parts, users, seeds, draws))
    if parts.total == 0.0:
        return 0.0
    # Standard errors of the resamples in that of the mean: a tiny variance is not yet a zero.
    shares = parts.seeds / parts.total, parts.users / parts.total
    seen = np.sqrt(shares[0] * np.square(draws.deviation) + shares[1])
    studentized = np.abs(np.sqrt(parts.seeds) * seeds + users) / seen
    return float(np.quantile(errors, CONFIDENCE) / 2 + np.quantile(studentized, CONFIDENCE) / 2)


def around(center: float, width: float) -> Interval:
    """The interval from ``center - width`` to ``center + width``."""
    return Interval(center - width, center + width)


def estimate_from(
    values: Floats, resampled: Floats, draws: SeedDraws, *, fixed: bool = False
) -> Estimate:
    """Estimate a metric [S, U] from draws: [R] of ``resample_users``, and those of seeds."""
    parts = components(values)
    users = users_part(parts, resampled, values.shape[1])
    by_seed = values.mean(axis=1)
    mean, iqm = float(by_seed.mean()), float(interquartile_mean(by_seed))
    return Estimate(
        mean=mean,
        interval=around(mean, half_width(parts, users, draws.mean, draws)),
        iqm=iqm,
        iqm_interval=around(iqm, half_width(parts, users, draws.iqm, draws)),
        by_seed=tuple(by_seed.tolist()),
        num_users=values.shape[1],
        covers_seeds=fixed or len(values) > 1,
    )


def estimate(
    values: Floats,
    generator: np.random.Generator,
    *,
    fixed: bool = False,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Estimate a metric's mean and interquartile mean, each with an interval.

    ``values`` [S, U] are of each test example under each seed; ``fixed`` says that it is a policy
    without seeds (S is 1). What ``check_values`` refuses is a ``ValueError``.
    """
    check_table(values)
    draws = draw_seeds(len(values), generator, resamples)
    resampled = resample_users(values.mean(axis=0, keepdims=True), generator, resamples)
    return estimate_from(values, resampled[0], draws, fixed=fixed)


def check_table(values: Floats) -> None:
    """Raise ``ValueError`` unless it is a table of finite numbers over a seed and two users."""
    if values.ndim != 2 or values.shape[0] < 1 or values.shape[1] < 2:
        raise ValueError(
            f"values have the shape {values.shape}; seeds by users, one seed and two users or more"
        )
    if not np.isfinite(values).all():
        raise ValueError("a value is not finite")


def same_order(tables: Iterable[Floats]) -> NDArray[np.int64]:
    """Order [U] of the users of tables [S, U] that does not depend on the order they came in.

    Resamples go by place. With users sorted by their values, equal tables lead to equal figures
    whatever order the users are in; users with equal values everywhere are interchangeable.
    """
    return np.lexsort(np.concatenate([*tables]))
