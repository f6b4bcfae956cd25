"""What sets a run apart from others is said of it, and of a pair before its figures are shown."""

from typing import Any

import pytest
from board_world import BUDGET, TRACK, make_record

from genrec_bench.boards.marks import comparability, marks_of

COST = {"seconds": 1.0, "tokens": 1.0, "peak_memory_bytes": 1}


def record(**changes: Any) -> dict[str, Any]:
    return make_record("ugr", 0.1, **{"partial": False, **changes})


DRAW = {"track": TRACK | {"test_examples": 2000}}
OFF = {**BUDGET, "spent": {"rollout": {**COST, "flops": 0.4e12}}}


@pytest.mark.parametrize(
    ("changes", "marks"),
    [
        ({}, []),
        ({**BUDGET, "spent": {"rollout": {**COST, "flops": 1.005e12}}}, []),
        (OFF, ["spent 40.0% of its budget"]),
        (DRAW, ["judged on a draw of 2,000"]),
        ({"partial": True}, ["part of the training data"]),
        ({"splits": ("valid",)}, ["a trial, not tested"]),
        ({"complete": False, "failure": "no"}, ["failed"]),
        ({"benchmark": "0.3"}, ["made by 0.3"]),
        ({**DRAW, "partial": True}, ["part of the training data", "judged on a draw of 2,000"]),
    ],
)
def test_what_sets_a_run_apart(changes: dict[str, Any], marks: list[str]) -> None:
    assert marks_of(record(**changes)) == marks


@pytest.mark.parametrize(
    ("first", "second", "reasons"),
    [
        (DRAW, {}, "two tracks (test_examples); the first: judged on a draw of 2,000"),
        ({}, {"benchmark": "0.3"}, "made by 0.4 and 0.3"),
        ({}, {"dataset": "office"}, "on industrial and office"),
        ({**BUDGET}, OFF, "the second: spent 40.0% of its budget"),
        (
            {"complete": False, "failure": "no"},
            {"complete": False, "failure": "no"},
            "the first: failed; the second: failed",
        ),
    ],
)
def test_why_two_are_not_to_be_compared(
    first: dict[str, Any], second: dict[str, Any], reasons: str
) -> None:
    whole = {"rollout": {**COST, "flops": 1e12}}
    told = comparability(record(spent=whole, **first), record(**{"spent": whole, **second}))
    assert told == f"Not to be compared: {reasons}."


def test_what_both_have_in_common_keeps_neither_off_a_board() -> None:
    pair = record(partial=True), record(partial=True, seed=1)
    assert comparability(*pair) == "One track: the two may be compared."
