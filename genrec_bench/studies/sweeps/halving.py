"""Pruning: which trials go on, from what looks at validation data have found so far.

Asynchronous successive halving (Li et al. 2020). Nobody waits: a trial that comes to a rung is
compared with those that have been there. The verdict follows from the looks alone, so that it can
be asked for again, after a kill, and is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

RUNGS = (25, 50)
"""Percent of a trial's budget at which the better half goes on."""

LAST_RUNG = 75
"""From here on there is too little left to save."""

Looks = Mapping[int, float]
"""What each look of a trial found, by the percentage of its budget that was spent."""


def falls_behind(looks: Looks, step: int, others: Sequence[Looks]) -> bool:
    """Return whether a trial is in the worse half of a rung that it has come to with a look.

    Args:
        looks: the trial's, this one among them.
        step: percentage of this look.
        others: looks of all other trials.
    """
    for rung in RUNGS:
        if _first(looks, rung) != step:
            continue
        there = [values[at] for values in others if (at := _first(values, rung)) is not None]
        ranked = sorted([*there, looks[step]], reverse=True)
        # Of an odd number the smaller half; the first of all goes on.
        if looks[step] < ranked[max(len(ranked) // 2, 1) - 1]:
            return True
    return False


def _first(looks: Looks, rung: int) -> int | None:
    """Return the percentage at which a trial came to a rung; None if it has not."""
    return min((step for step in looks if rung <= step < LAST_RUNG), default=None)
