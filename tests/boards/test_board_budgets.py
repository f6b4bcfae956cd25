"""What a board says of budgets: targets, curves, and runs that ended off theirs."""

from typing import Any

import pytest
from board_world import BEST, BUDGET, GOOD, SETTINGS, TRACK, bare, whole
from made_boards import make, only, row, rows

from genrec_bench.boards.board import Reached
from genrec_bench.boards.evidence import Evidence


def test_targets_and_curves_are_in_the_unit_of_the_budget() -> None:
    """GRPO gains 0.04 over 0.10, so targets are 0.11, 0.12, 0.13 and 0.14."""
    records = [
        whole("grpo", BEST, looks=(0.10, 0.12, 0.14), **BUDGET),
        whole("ugr", GOOD, looks=(0.10, 0.115, 0.125), **BUDGET),
        whole("sft", GOOD, looks=(0.10, 0.90, 0.95), control="SFT continued", **BUDGET),
    ]
    board = make(*records)
    assert only(board).unit == "flops"
    assert list(only(board).target_values.values()) == pytest.approx([0.11, 0.12, 0.13, 0.14])
    ugr = row(board, "ugr")
    assert ugr.targets == {
        "25%": Reached(5e11, (5e11,)),
        "50%": Reached(1e12, (1e12,)),
        "75%": Reached(None, (None,)),
        "100%": Reached(None, (None,)),
    }
    assert ugr.curve[1] == (5e11, 0.115, 0.115, 0.115)
    assert row(board, "SFT continued").targets["100%"].median == 5e11
    seconds: dict[str, Any] = {"track": TRACK | {"budget": "40s"}, "budget_limit": "40s"}
    board = make(whole("grpo", BEST, looks=(0.1, 0.2), **seconds))
    assert row(board, "grpo").targets["100%"].median == 40.0


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([whole("ugr", GOOD, looks=(0.1, 0.2))], "grpo gains, and it was not run here"),
        ([whole("grpo", GOOD)], "some runs of grpo kept no figures of validation"),
        ([whole("grpo", GOOD, looks=(0.2, 0.1))], "grpo gained less than one validation example"),
        (
            [whole("grpo", GOOD, looks=(0.1, 0.2), control="random reward")],
            "grpo gains, and it was not run here",
        ),
    ],
)
def test_without_targets_a_note_says_why(records: list[Evidence], reason: str) -> None:
    section = only(make(*records))
    assert section.target_values == {} and all(row.targets == {} for row in section.rows)
    assert any(note.startswith("No targets: ") and reason in note for note in section.notes)


def test_rows_that_looked_otherwise_have_no_targets() -> None:
    """More looks reach a target earlier, other examples or beams find other values."""
    usual = SETTINGS | {"validations": 2, "validation_examples": 512}
    looks = {"looks": (0.10, 0.12, 0.14), **BUDGET}
    often, fewer, wide = (
        usual | change
        for change in ({"validations": 9}, {"validation_examples": 16}, {"beam_width": 50})
    )
    board = make(
        whole("grpo", BEST, settings=usual, **looks),
        whole("sft", GOOD, settings=usual | {"prompts_per_step": 9}, **looks),
        whole("ugr", GOOD, settings=often, **looks),
        whole("srpo", GOOD, settings=fewer, **looks),
        whole("vstar", GOOD, settings=wide, **looks),
    )
    assert {row.name: (bool(row.targets), bool(row.curve)) for row in rows(board)} == {
        "SFT start": (False, False),
        "grpo": (True, True),
        "sft": (True, True),
        "ugr": (False, True),
        "srpo": (False, False),
        "vstar": (False, False),
        "ceiling": (False, False),
    }
    why = "its validations are not like those of the others"
    assert [note for note in only(board).notes if why in note] == [
        f"srpo has no targets and no curve: {why} (validation_examples 16).",
        f"ugr has no targets: {why} (validations 9).",
        f"vstar has no targets and no curve: {why} (beam_width 50).",
    ]
    alone = make(
        whole("sft", GOOD, settings=usual, **looks), whole("ugr", GOOD, settings=fewer, **looks)
    )
    assert row(alone, "sft").curve and not row(alone, "ugr").curve, "one drawing, one measure"


@pytest.mark.parametrize(
    ("limit", "spent", "told"),
    [
        ("1Tflop", {"flops": 0.504e12}, ""),
        ("1Tflop", {"flops": 0.508e12}, "ugr ended off its budget: seed 3 spent 101.6% of it."),
        ("1Tflop", {"flops": 0.492e12}, "ugr ended off its budget: seed 3 spent 98.4% of it."),
        ("2Mtok", {"tokens": 1_015_000, "flops": 9e12}, ""),
        ("2Mtok", {"tokens": 1_025_000}, "ugr ended off its budget: seed 3 spent 102.5% of it."),
        ("40s", {"seconds": 20.3}, ""),
        ("40s", {"seconds": 19.0}, "ugr ended off its budget: seed 3 spent 95.0% of it."),
    ],
)
def test_a_share_of_the_budget_that_is_off_is_told(
    limit: str, spent: dict[str, float], told: str
) -> None:
    """FLOPs may be off by a hundredth, tokens and seconds by two: rollout and update cost alike."""
    cost = {"tokens": 1_000_000, "flops": 5e11, "seconds": 20.0, "peak_memory_bytes": 1}
    budget: dict[str, Any] = {"track": TRACK | {"budget": limit}, "budget_limit": limit}
    exact, off = (dict.fromkeys(("rollout", "update"), one) for one in (cost, cost | spent))
    board = make(
        bare("ugr", 0.1, spent=exact, **budget),
        bare("ugr", 0.1, 3, spent=off, **budget),
        bare("grpo", 0, spent=off, complete=False, metrics={}, failure="x", **budget),
    )
    assert [note for note in only(board).notes if "off its budget" in note] == [told] * bool(told)
