"""Trials as a study sees them, and whether its budget admits another.

`study.py` has the argument why workers that decide so never exceed the total budget together.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from genrec_bench.training.budgets import Budget
from genrec_bench.training.hyperparameters import Value

Verdict = Literal["start", "wait", "stop"]

SLACK = 1e-9
"""Relative; what sums of decimal fractions may be off by."""

FREE_TRIALS = 100
"""A study ends when so many trials in a row failed at no cost: no budget would ever end it."""


@dataclass(frozen=True)
class Trial:
    """A trial as the database has it.

    Attributes:
        number: from 0, in the order in which trials were asked for.
        state: "died" is a trial that was running and gave no sign of life any more.
        value: validation NDCG@10, of a pruned trial that of its last look.
        point: hyperparameters by name.
        cost: seconds, flops and tokens; None while it runs and if it died.
        charge: on the total budget, in its unit.
        reason: why it failed or was pruned.
    """

    number: int
    state: Literal["running", "complete", "pruned", "failed", "died", "refused"]
    value: float | None
    point: Mapping[str, Value]
    cost: Mapping[str, float] | None
    charge: float
    reason: str


def verdict(
    trials: Sequence[Trial],
    total: Budget,
    trial_budget: float,
    most: int | None = None,
    excused: int = 0,
) -> Verdict:
    """Say whether another trial may start after these.

    Args:
        trials: all that come before it.
        trial_budget: what the trial may cost, in the unit of ``total``.
        most: how many trials may start in all; None for any number.
        excused: how many of the first trials ``most`` leaves out; what they cost counts.

    Returns:
        "wait" if it may not, but a running trial's end could change that.
    """
    trials = first_of(trials, most, excused)
    more = most is None or _counted(trials, excused) < most
    if more and not is_stuck(trials, excused) and pays(trials, total, trial_budget):
        return "start"
    return "wait" if any(trial.state == "running" for trial in trials) else "stop"


def pays(trials: Sequence[Trial], total: Budget, trial_budget: float) -> bool:
    """Return whether a budget pays for one more trial after all of these."""
    spent = math.fsum(trial.charge for trial in trials)
    return spent + trial_budget <= total.amount * (1 + SLACK)


def is_stuck(trials: Sequence[Trial], excused: int = 0) -> bool:
    """Return whether one trial after the other fails at no cost, but for the first ``excused``."""
    ended = [trial for trial in trials[excused:] if trial.state not in ("refused", "running")]
    free = [trial.state == "failed" and trial.charge == 0 for trial in ended[-FREE_TRIALS:]]
    return len(free) == FREE_TRIALS and all(free)


def first_of(trials: Sequence[Trial], most: int | None, excused: int = 0) -> tuple[Trial, ...]:
    """Return the trials that a sweep of at most ``most`` looks at; others may have made more.

    The first ``excused`` trials come on top of ``most``. None for ``most``: all trials.
    """
    counted = [n for n, t in enumerate(trials) if n >= excused and t.state != "refused"]
    end = len(trials) if most is None or len(counted) <= most else counted[most]
    return tuple(trials[:end])


def _counted(trials: Sequence[Trial], excused: int) -> int:
    """Return how many trials were begun after those that are excused."""
    return sum(trial.state != "refused" for trial in trials[excused:])
