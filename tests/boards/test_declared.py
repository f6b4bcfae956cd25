"""What was declared beforehand: which rows are compared with which."""

import pytest
from board_world import BEST, BUDGET, GOOD, START, whole

from genrec_bench.boards.board import Section
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.sections import make_board


def section_of(*evidence: Evidence) -> Section:
    (section,) = make_board(evidence, "industrial").sections
    return section


SPENT = {"seconds": 1.0, "tokens": 1, "flops": 1e12, "peak_memory_bytes": 1}


def test_rows_are_compared_with_the_start_the_control_and_the_baseline() -> None:
    """What continues SFT has no rollouts; nothing depends on what it is called."""
    runs = [
        whole("grpo", BEST, 0, **BUDGET),
        whole("grpo", GOOD, 1, **BUDGET),
        *(whole("ugr", GOOD, seed, **BUDGET) for seed in (0, 1)),
        *(
            whole("more", START, s, control="more SFT", spent={"update": SPENT}, **BUDGET)
            for s in (0, 1)
        ),
        *(whole("tuned", START, s, spent={"update": SPENT}, **BUDGET) for s in (0, 1)),
    ]
    section = section_of(*runs)
    assert section.parts == {"start": "SFT start", "control": "more SFT", "baseline": "grpo"}
    gains, others = section.gains["NDCG@10"], section.declared["NDCG@10"]
    # In order of NDCG@10; of equal ones by name.
    names = ["grpo", "ugr", "more SFT", "tuned"]
    assert [(each.first, each.second) for each in gains] == [(n, "SFT start") for n in names]
    assert [(each.first, each.second) for each in others] == [
        ("grpo", "more SFT"),
        ("ugr", "more SFT"),
        ("tuned", "more SFT"),
        ("ugr", "grpo"),
        ("tuned", "grpo"),
    ]
    # The start has 1, 0, 1/log2(5), 0, 0, 1/log2(3); ugr 1, 1/log2(3), 1/log2(5), 1, 0, 1/2.
    ugr = gains[1]
    assert ugr.difference == pytest.approx((1 + 0.5) / 6)
    assert len(section.pairs["NDCG@10"]) == 10
    assert section.smallest_difference["NDCG@10"] >= others[0].smallest_difference


def test_without_a_row_that_continues_sft_nothing_is_compared_with_it() -> None:
    section = section_of(*(whole("ugr", GOOD, seed) for seed in (0, 1)))
    assert section.parts == {"start": "SFT start"}
    assert section.declared["NDCG@10"] == () and len(section.gains["NDCG@10"]) == 1
