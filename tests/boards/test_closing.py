"""The last lines of a run: what was seen, what it says, and a command that is understood."""

import shlex

import pytest
from board_world import BEST, START, bare, whole
from tiny_runs import Bench

from genrec_bench.boards.closing import closing
from genrec_bench.boards.evidence import Evidence
from genrec_bench.commands.cli import make_parser


def spending(share: float) -> Evidence:
    """A run that spent a share of what SFT cost."""
    one = whole("ugr", BEST)
    spent = one.record["budget"]["spent"]
    for phase in ("rollout", "update"):
        spent[phase]["flops"] = spent["sft"]["flops"] * share / 2
    return one


def test_what_was_seen_is_the_gain_on_the_same_users() -> None:
    # NDCG@10 of BEST: 1, 1, 0.63093, 1, 0.5, 1; of START: 1, 0, 0.43068, 0, 0, 0.63093.
    seen, _ = closing(spending(0.02), "ugr", "synthetic")
    gains = (0, 1, 0.63093 - 0.43068, 1, 0.5, 1 - 0.63093)
    assert len(BEST) == len(START) == len(gains)
    assert f"NDCG@10 {sum(gains) / 6:+.4f} over the SFT start on 6 test users" in seen
    assert "for 0.02 times what SFT cost" in seen


def test_a_small_budget_says_nothing_and_a_large_one_says_little() -> None:
    (_, small), (_, large) = (closing(spending(x), "ugr", "synthetic") for x in (0.02, 2.0))
    assert small.startswith("so small a budget") and "says nothing of ugr" in small
    assert "run ugr --dataset synthetic --budget 2xsft" in small
    assert large.startswith("one seed does not tell ugr from luck") and "compare" in large


@pytest.mark.parametrize("algorithm", ["ugr", "grpo", "sft", "./my algorithm.py"])
@pytest.mark.parametrize("share", [0.02, 2.0])
def test_the_next_command_is_understood(algorithm: str, share: float) -> None:
    (_, line) = closing(spending(share), algorithm, "industrial@mine (1)")
    words = shlex.split(line.partition("; next: genrec-bench ")[2])
    args = make_parser().parse_args(words)
    assert args.dataset == "industrial@mine (1)"
    asked = [args.algorithm] if share < 1 else args.algorithms.split(",")
    assert algorithm in asked or algorithm == "sft"
    assert len(set(asked)) == len(asked)


def test_of_a_way_to_decode_no_larger_budget_is_asked_for() -> None:
    one = spending(0.0)
    one.record["trained"] = False
    (_, line) = closing(one, "d3", "synthetic")
    assert line.startswith("nothing was trained") and "2xsft" not in line
    args = make_parser().parse_args(shlex.split(line.partition("; next: genrec-bench ")[2]))
    assert args.controls == "sft,d3"


def test_without_outcomes_of_the_start_nothing_is_said() -> None:
    assert closing(bare("ugr", 0.1), "ugr", "synthetic") == []
    assert closing(whole("ugr", BEST, start=None), "ugr", "synthetic") == []


def test_a_run_really_ends_with_it(bench: Bench) -> None:
    called = bench.call("grpo", "steps=2")
    assert called.code == 0, called.err
    assert called.out.startswith("record: ") and len(called.out.splitlines()) == 1
    seen, then = called.err.splitlines()[-2:]
    assert seen.startswith("seen: NDCG@10 ") and "; next: genrec-bench " in then
