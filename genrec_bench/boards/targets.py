"""Budget to reach a target: how much a run spends until its validation metric is good enough.

The targets are shares of what the baseline, GRPO, gains over the SFT start. A run is evaluated on a
fixed part of the validation split at equal shares of its budget; each time is called a look. It
reaches a target at the first look whose value is at least the target.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from genrec_bench.boards.board import Reached
from genrec_bench.errors import UserError
from genrec_bench.training.budgets import BudgetKind, parse_exact

METRIC = "valid/NDCG@10"
"""Column of the curves; NaN in the rows of steps without a look."""

LOOKED_BY = ("validations", "validation_examples", "beam_width")
"""Settings of looks: how often, at how many examples, with which beam."""

ROUNDING = 1e-9
"""Share of one example's worth that a gain may lack."""

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of GRPO's gain."""


@dataclass(frozen=True)
class Looks:
    """One run's looks at the validation split, in order.

    Attributes:
        spent: in the unit of the budget; 0 for the look at the SFT start.
    """

    spent: tuple[float, ...]
    values: tuple[float, ...]

    @property
    def start(self) -> float:
        """Value of the SFT start."""
        return self.values[0]

    @property
    def best(self) -> float:
        """The best value that was seen."""
        return max(self.values)

    def reach(self, target: float) -> float | None:
        """Budget spent at the first look that found at least `target`, or None."""
        pairs = zip(self.spent, self.values, strict=True)
        return next((spent for spent, value in pairs if value >= target), None)


def unit_of(track: Mapping[str, Any]) -> BudgetKind:
    """The unit of a track's budget; FLOPs where the track counts steps instead."""
    try:
        return parse_exact(str(track.get("budget"))).kind
    except UserError:
        return "flops"


def read_looks(curves: pd.DataFrame, unit: BudgetKind) -> Looks | None:
    """Read a run's looks from its curves.

    Returns:
        None where there was no look, or none at the SFT start.
    """
    if not {METRIC, unit, "step"} <= set(curves.columns):
        return None
    seen = curves[curves[METRIC].notna()].sort_values("step", kind="stable")
    if seen.empty or seen["step"].iloc[0] != 0:
        return None
    return Looks(*(tuple(map(float, seen[column])) for column in (unit, METRIC)))


def target_values(baseline: Sequence[Looks], examples: float) -> dict[str, float]:
    """Values of the metric to reach, by label.

    GRPO's gain is the median over its seeds of the best value, less the SFT start's. Of two seeds
    in the middle the lower one counts, so that most seeds of GRPO reach what is its own.

    Args:
        baseline: looks of the baseline's seeds.
        examples: that a look ranks; infinity where nobody knows.

    Returns:
        Empty where GRPO gains less than one more example with its target on top would add: the
        best of several looks lies above the start by luck alone.
    """
    if not baseline:
        return {}
    start = statistics.median(one.start for one in baseline)
    best = statistics.median_low(one.best for one in baseline)
    # Exactly one example's worth is enough; a difference of means is a little off.
    if best <= start or best - start < (1 - ROUNDING) / examples:
        return {}
    # Not start + share * gain: all of the gain must come to the best value to the last bit.
    return {f"{share:.0%}": (1 - share) * start + share * best for share in SHARES}


def reached(runs: Sequence[Looks | None], targets: Mapping[str, float]) -> dict[str, Reached]:
    """Budget to reach each target.

    Args:
        runs: looks of a row's seeds, in order; None, where a run has none, leaves all empty.

    Returns:
        By label; a miss counts as more than any budget, so that the median is a miss where most
        seeds miss.
    """
    known = [one for one in runs if one is not None]
    if not known or len(known) < len(runs):
        return {}
    found = {}
    for label, target in targets.items():
        by_seed = tuple(one.reach(target) for one in known)
        median = statistics.median(math.inf if spent is None else spent for spent in by_seed)
        found[label] = Reached(None if math.isinf(median) else median, by_seed)
    return found


def curve(runs: Sequence[Looks | None]) -> tuple[tuple[float, float, float, float], ...]:
    """Put the looks of a row's seeds together.

    Args:
        runs: looks of the seeds; those without any are left out.

    Returns:
        (mean spent, mean, lowest, highest value) look by look. Where the seeds looked at different
        numbers of places, at those of the seed with the fewest, by straight lines between looks.
    """
    known = [one for one in runs if one is not None]
    if not known:
        return ()
    fewest = min(known, key=lambda one: len(one.spent))
    if all(len(one.spent) == len(fewest.spent) for one in known):
        spent = np.mean([one.spent for one in known], axis=0)
        values = np.array([one.values for one in known])
    else:
        spent = np.array(fewest.spent)
        values = np.array([np.interp(spent, one.spent, one.values) for one in known])
    columns = (spent, values.mean(axis=0), values.min(axis=0), values.max(axis=0))
    return tuple(zip(*(column.tolist() for column in columns), strict=True))
