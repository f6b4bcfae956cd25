"""What keeps a run from being compared with others, in a few words a run or a pair of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from genrec_bench import benchmark_version
from genrec_bench.boards.verify import budget_share
from genrec_bench.runs.record_schema import EXTERNAL, SPLITS
from genrec_bench.training.budgets import BudgetKind, parse_exact

OFF: Mapping[BudgetKind, float] = {"seconds": 0.02, "tokens": 0.02, "flops": 0.01}
"""By what share of its budget a run may end off it before a note says so."""


FAILED, TRIAL, MADE_BY = "failed", "a trial, not tested", "made by"


def is_off_budget(record: Mapping[str, Any]) -> bool:
    """Return whether a run spent more or less than its budget by more than a step explains."""
    share = budget_share(record)
    return share is not None and abs(share - 1) > OFF[parse_exact(record["budget"]["limit"]).kind]


def marks_of(record: Mapping[str, Any]) -> list[str]:
    """Return what sets a run apart from a whole one of this version on whole data.

    Args:
        record: as it was written, checked or not.

    Raises:
        KeyError, TypeError, AttributeError, UserError: it is no record.
    """
    marks = ["an outside system"] if record.get("kind") == EXTERNAL else []
    if not record["complete"]:
        marks.append(FAILED)
    if "test" not in record.get("splits", SPLITS):
        marks.append(TRIAL)
    if record["partial"]:
        marks.append("part of the training data")
    if most := record["track"].get("test_examples"):
        marks.append(f"judged on a draw of {most:,}")
    if record["complete"] and is_off_budget(record):
        marks.append(f"spent {budget_share(record):.1%} of its budget")
    if record["benchmark"] != benchmark_version():
        marks.append(f"{MADE_BY} {record['benchmark']}")
    return marks


def comparability(first: Mapping[str, Any], second: Mapping[str, Any]) -> str:
    """Say in a sentence whether two runs may be compared on one board, and why not."""
    reasons = []
    if first["track_id"] != second["track_id"]:
        one, other = first["track"], second["track"]
        keys = [key for key in {**one, **other} if one.get(key) != other.get(key)]
        reasons.append(f"two tracks ({', '.join(keys)})")
    if first["benchmark"] != second["benchmark"]:
        reasons.append(f"{MADE_BY} {first['benchmark']} and {second['benchmark']}")
    if first["dataset"] != second["dataset"]:
        reasons.append(f"on {first['dataset']} and {second['dataset']}")
    known = [marks_of(record) for record in (first, second)]
    for name, marks, others in zip(("first", "second"), known, reversed(known), strict=True):
        # What both are, but no result, keeps neither off a board.
        told = [mark for mark in marks if mark not in others or mark in (FAILED, TRIAL)]
        told = [mark for mark in told if not mark.startswith(MADE_BY)]
        reasons += [f"the {name}: {', '.join(told)}"] if told else []
    if reasons:
        return f"Not to be compared: {'; '.join(reasons)}."
    return "One track: the two may be compared."
