"""How small a gain over the control a comparison will see, told before it begins.

Two things make a gain hard to see: users, whose values change even where nothing changes on the
whole, and seeds. How much users' values vary, the SFT start's own outcomes say. How much of that
variance remains between two rows on the same users, and by how much seeds differ, nobody knows
before the runs: it is stated, as boards have shown it, and printed beside what follows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec_bench.boards.board import ORDER_BY
from genrec_bench.policy.backbones import find_backbone
from genrec_bench.runs.jobs import Context, configure
from genrec_bench.runs.registry import baseline
from genrec_bench.statistics.paired_tests import LEVEL, smallest_difference
from genrec_bench.statistics.resampling import Components
from genrec_bench.studies.comparison.plan import Plan
from genrec_bench.training.metrics import values_of
from genrec_bench.training.sft_start import evaluate_start, sft_start


@dataclass(frozen=True)
class Spread:
    """What two rows' difference varies by.

    Attributes:
        users: share of the variance of the start's users that remains in their differences,
            whatever the seeds.
        rest: the same for what belongs to one user under one seed.
        seeds: deviation of a seed's difference, as a share of the start's mean.
    """

    users: float
    rest: float
    seeds: float


STATED = Spread(users=0.1, rest=0.03, seeds=0.01)
"""Rounded medians of rows less SFT continued on Industrial in 0.2, at 0.9 times SFT's cost."""


def visible_gain(
    start: NDArray[np.float64],
    users: int,
    seeds: int,
    comparisons: int,
    spread: Spread = STATED,
) -> float:
    """The gain over the control that four of five such comparisons find.

    Args:
        start: [n] the SFT start's values, example by example; more than one.
        users: U, that the comparison will have.
        seeds: S of each row.
        comparisons: among which the first one is corrected (Holm).
    """
    variance = float(start.var(ddof=1)) / users
    rest = spread.rest * variance / seeds
    of_seeds = (spread.seeds * float(start.mean())) ** 2 / seeds if seeds > 1 else 0.0
    of_users = spread.users * variance
    parts = Components(of_seeds + rest, of_users, of_users + rest, seeds, rest)
    return smallest_difference(parts, LEVEL / comparisons)


def comparisons_of(plan: Plan) -> int:
    """How many comparisons are declared: each row with the control, and with the baseline."""
    others = len(plan.rows) - 1
    with_baseline = any(row.name == baseline() for row in plan.tuned)
    return max(1, others + (others - 1 if with_baseline else 0))


def power_text(plan: Plan, start: NDArray[np.float64], spread: Spread = STATED) -> str:
    """Say how small a gain the plan's design will see.

    Args:
        start: [n] values of the metric that decides, on validation examples.
    """
    seeds, users = len(plan.seeds), plan.examples["test"]
    seen = visible_gain(start, users, seeds, comparisons_of(plan), spread)
    mean = float(start.mean())
    share = f", {seen / mean:.1%} of the SFT start's {mean:.4f}" if mean > 0 else ""
    unsure = " One seed says nothing of other seeds." if seeds == 1 else ""
    return (
        f"Smallest gain over the control that four of five such comparisons see, by {ORDER_BY} on "
        f"{users:,} test users with {seeds} seed{'s' if seeds > 1 else ''} a row: {seen:.4f}"
        f"{share}. Stated, not measured: {spread.users:.0%} of the variance of users remains "
        f"between two rows, seeds of their difference spread by {spread.seeds:.1%} of the "
        f"start's {ORDER_BY}.{unsure}"
    )


def outlook_on_power(plan: Plan, context: Context) -> str:
    """The same for an SFT start that is trained; it ranks the validation split if it has not yet.

    Raises:
        StorageError: the disk refuses.
    """
    settings = configure(plan.rows[0].job(0), context)[2]
    what = (find_backbone(context.backbone), context.dataset, settings)
    start = sft_start(*what, context.data_dir, context.workers, context.progress)
    found = evaluate_start(start, *what, context.workers, context.progress, ("valid",))["valid"]
    values = values_of(ORDER_BY, found.outcomes["item_rank"].to_numpy())
    return power_text(plan, values) if len(values) > 1 else ""
