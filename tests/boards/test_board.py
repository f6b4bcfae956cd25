"""Boards: what is compared with what, and what a reader is told about it."""

import random
from pathlib import Path

import pytest
from board_world import (
    BEST,
    GOOD,
    SETTINGS,
    START,
    TRACK,
    bare,
    figures,
    make_record,
    metrics_of,
    whole,
)
from made_boards import make, names, only, row, rows

from genrec_bench import benchmark_version
from genrec_bench.boards.csv_table import to_csv
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.rows import user_values
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import to_markdown

POOR = (4, -1, 9, 30, -1, 8)


def test_rows_are_ordered_and_spent_is_what_the_algorithm_cost() -> None:
    board = make(bare("ugr", 0.1), bare("grpo", 0.2))
    assert [row.name for row in rows(board)] == ["SFT start", "grpo", "ugr", "ceiling"]
    assert [row.kind for row in rows(board)] == ["start", "result", "result", "ceiling"]
    # Rollout and update: 30 + 10 seconds, two phases of a million tokens and half a teraflop.
    assert rows(board)[1].spent == {"seconds": 40.0, "flops": 1e12, "tokens": 2e6}
    phases = rows(board)[1].phases
    assert list(phases) == ["sft", "rollout", "update", "evaluation"], "in order of the ledger"
    assert phases["rollout"] == {"seconds": 30.0, "flops": 5e11, "tokens": 1e6}
    assert rows(board)[1].deviations == {}, "one seed has no spread"
    assert rows(board)[3].means == {"HR@10": 0.9, "NDCG@10": 0.8}


def test_the_order_of_records_does_not_matter() -> None:
    records = [whole("ugr", GOOD, seed=i, minutes=i) for i in range(3)]
    records += [whole("grpo", BEST, seed=i, minutes=9 + i) for i in range(2)]
    records += [bare("grpo", 0.1, track=TRACK | {"budget": "90s"}, minutes=9, run_id="x")]
    records += [bare("ugr", 0.3, hyperparameters={"alpha": 1.0, "weight": True}, minutes=5)]
    board = make(*records)
    expected = to_markdown(board), to_csv(board)
    for seed in range(3):
        random.Random(seed).shuffle(records)
        board = make(*records)
        assert (to_markdown(board), to_csv(board)) == expected


def test_tracks_and_versions_are_never_mixed() -> None:
    other = bare("ugr", 0.3, track=TRACK | {"budget": "90s"}, run_id="other")
    old = Evidence(make_record("ugr", 0.4, run_id="old") | {"benchmark": "0.0"})
    board = make(other, old, bare("ugr", 0.1), bare("ugr", 0.1, seed=1))
    assert [section.num_records for section in board.sections] == [2, 1, 1]
    assert {(s.benchmark, s.track["budget"]) for s in board.sections} == {
        (benchmark_version(), None),
        (benchmark_version(), "90s"),
        ("0.0", None),
    }
    assert {s.unit for s in board.sections} == {"flops", "seconds"}


def test_other_datasets_and_trials_of_sweeps_stay_out() -> None:
    board = make(
        bare("ugr", 0.1),
        bare("grpo", 0.9, dataset="beauty"),
        bare("srpo", 0.9, splits=("valid",), metrics={"valid": figures(0.9)}),
        bare("vstar", 0.9, splits=("valid",), complete=False, failure="pruned"),
    )
    assert [row.name for row in rows(board)] == ["SFT start", "ugr", "ceiling"]
    assert only(board).num_records == 1


def test_a_configuration_is_named_by_what_differs_from_the_commonest() -> None:
    ablated = {"alpha": 0.5, "weight": False}
    records = [
        bare("ugr", 0.3),
        bare("ugr", 0.3, seed=1),
        bare("ugr", 0.2, hyperparameters=ablated, run_id="a"),
        bare("ugr", 0.1, settings={"prompts_per_step": 8}, run_id="b"),
        bare("ugr", 0.05, hyperparameters={"alpha": 0.5}, run_id="c"),
    ]
    board = make(*records)
    short = "ugr (without beam_width, without pass_samples, prompts_per_step=8)"
    assert names(board) == ["ugr", "ugr (weight=false)", short, "ugr (without weight)"]
    assert rows(board)[1].seeds == (0, 1)
    by_default = make(*records, ugr=ablated)
    assert names(by_default)[:2] == ["ugr (weight=true)", "ugr"]


def test_what_tuning_found_is_the_algorithm_and_a_note_says_what_it_was() -> None:
    tuning = {"limit": "6Tflop", "flops": 5e12, "trials": 9, "failed": 1, "pruned": 3}
    untuned = {"limit": "6Tflop", "flops": 0.0, "trials": 0}
    found = {"alpha": 0.75, "weight": True}
    # A setting that records have by another name than `--set` was not tuned either.
    settings = SETTINGS | {"dtype": "float32"}
    board = make(
        bare("ugr", 0.3, hyperparameters=found, tuning=tuning, settings=settings),
        bare("ugr", 0.2, tuning=untuned, run_id="u", settings=settings),
        bare("grpo", 0.1, tuning=tuning, settings=settings),
        ugr={"alpha": 0.5, "weight": True},
        grpo={"alpha": 0.5, "weight": True},
    )
    assert names(board) == ["ugr", "ugr (alpha=0.5)", "grpo"]
    assert row(board, "ugr").tuning == tuning
    assert "ugr was tuned: alpha=0.75." in only(board).notes
    assert "grpo was tuned: the defaults were best." in only(board).notes


def test_controls_are_named_by_what_they_control_for() -> None:
    random_reward = {"alpha": 0.5, "weight": True, "reward": "random"}
    board = make(
        bare("sft", 0.2, control="SFT continued"),
        bare("sft", 0.15, run_id="sft"),
        bare("grpo", 0.1, control="random reward", hyperparameters=random_reward),
        bare("ugr", 0.3, control="random reward", hyperparameters=random_reward, run_id="u"),
    )
    assert names(board) == ["sft"], "the same configuration without a control is a row of its own"
    expected = ["random reward (ugr)", "SFT continued", "random reward (grpo)"]
    assert names(board, "control") == expected
    assert row(board, "SFT continued").algorithm == "sft"


def test_seeds_of_different_code_are_not_averaged() -> None:
    changed = bare("ugr", 0.2, seed=1, fingerprints={"algorithm": "b" * 64})
    board = make(bare("ugr", 0.1), changed)
    assert names(board) == ["ugr (code bbbbbbbb)", "ugr (code aaaaaaaa)"]


def test_seeds_that_were_rewarded_by_other_texts_are_not_averaged() -> None:
    made = {"algorithm": "a" * 64, "texts": "c" * 64}
    other = bare("ugr", 0.2, seed=1, fingerprints=made | {"texts": "d" * 64})
    board = make(bare("ugr", 0.1, fingerprints=made), other)
    assert names(board) == ["ugr (texts dddddddd)", "ugr (texts cccccccc)"]
    # Records from before items were told by their descriptions say nothing of texts.
    board = make(bare("ugr", 0.1), bare("ugr", 0.2, seed=1, fingerprints=made))
    assert names(board) == ["ugr (texts cccccccc)", "ugr (texts None)"]


def test_rows_whose_names_would_be_the_same_are_numbered() -> None:
    one, other = ({"codes": f"{'a' * 31}{last}"} for last in "12")
    board = make(
        bare("ugr", 0.3, hyperparameters=one, run_id="a"),
        bare("ugr", 0.2, hyperparameters=other, run_id="b"),
        ugr={"codes": "c" * 32},
    )
    assert sorted(names(board)) == ["ugr (codes=aaaaaaaa)", "ugr (codes=aaaaaaaa) #2"]


@pytest.mark.parametrize(
    "other",
    [bare("ugr", 0.1, minutes=1), bare("ugr", 0, minutes=9, complete=False, metrics={})],
    ids=["older", "failed"],
)
def test_the_newest_complete_run_of_equal_ones_counts_and_the_reader_is_told(
    other: Evidence,
) -> None:
    board = make(bare("ugr", 0.2, minutes=5), other)
    found = row(board, "ugr")
    assert found.means["HR@10"] == pytest.approx(0.2)
    assert (found.seeds, found.failures, names(board, "failed")) == ((0,), {}, [])
    assert any("1 record is not shown" in note for note in only(board).notes)


def test_a_failed_run_is_a_row_with_its_reason_and_what_it_spent() -> None:
    failed = bare("grpo", 0.9, seed=3, complete=False, metrics={}, failure="loss is nan")
    old = bare("srpo", 0.9, complete=False, metrics={})
    board = make(bare("ugr", 0.1), failed, old)
    assert [row.name for row in rows(board)] == ["SFT start", "ugr", "grpo", "srpo", "ceiling"]
    assert names(board, "failed") == ["grpo", "srpo"]
    found = row(board, "grpo")
    assert (found.means, found.seeds, found.failures) == ({}, (3,), {3: "loss is nan"})
    assert found.spent["seconds"] == 40.0 and found.links[0].run_id == "grpo-seed3-0"
    assert row(board, "srpo").failures == {0: "it ended early; the record gives no reason"}
    alone = make(bare("ugr", 0, complete=False, metrics={}, sft={}))
    assert [row.name for row in rows(alone)] == ["ugr", "ceiling"] and only(alone).pairs == {}


def test_seeds_that_failed_are_told_of_beside_those_that_did_not() -> None:
    failed = bare("ugr", 0.0, seed=0, complete=False, metrics={}, failure="disk")
    board = make(bare("ugr", 0.1, seed=2), bare("ugr", 0.3, seed=1), failed)
    (found,) = [one for one in rows(board) if one.algorithm == "ugr"]
    assert (found.kind, found.seeds, found.failures) == ("result", (1, 2), {0: "disk"})
    assert found.means["HR@10"] == pytest.approx(0.2)
    assert [(each.seed, each.failed) for each in found.links] == [(1, False), (2, False), (0, True)]
    # Its rollouts and updates: 40 s and a teraflop, which the row's own figures leave out.
    assert found.lost == {"seconds": 40.0, "flops": 1e12, "tokens": 2e6}
    assert found.spent == found.lost, "the mean of the two that finished"
    (note,) = [note for note in only(board).notes if note.startswith("ugr: 1 of 3 seeds failed")]
    assert note.endswith("The failed runs cost 40.0 s, 1.00 TFLOP, 2.00 Mtok more.")
    other = bare("ugr", 0.0, seed=4, complete=False, metrics={}, failure="x")
    assert row(make(bare("ugr", 0.1, seed=2), failed, other), "ugr").lost["seconds"] == 80.0


@pytest.mark.parametrize(
    ("metric", "prefix", "expected"),
    [
        # Of rank r below 10, 1 / log2(r + 2): 1, 1 / log2(3), 1 / 2, 0, 1 / log2(11), 0.
        ("NDCG@10", "", [1, 0.6309297535714575, 0.5, 0, 0.2890648263178879, 0]),
        ("HR@10", "", [1, 1, 1, 0, 1, 0]),
        ("HR@10", "start_", [1, 0, 1, 0, 0, 1]),
    ],
)
def test_values_by_user_are_those_of_the_metrics(
    metric: str, prefix: str, expected: list[float]
) -> None:
    one = whole("ugr", (0, 1, 2, -1, 9, 10))
    # Examples are matched by number, and not by place.
    shuffled = Evidence(one.record, one.outcomes.sample(frac=1, random_state=0))
    found = user_values([one, shuffled], metric, prefix)
    assert found is not None and found.tolist() == [pytest.approx(expected)] * 2
    assert user_values([one, whole("ugr", (0, 1))], metric, prefix) is None
    assert user_values([bare("ugr", 0.1)], metric) is None


def test_results_controls_and_the_start_are_compared_with_each_other() -> None:
    """The start finds three of six among ten: its HR@10 is a half."""
    records = [whole("ugr", GOOD, seed=seed) for seed in range(3)]
    records += [whole("grpo", BEST, seed=seed) for seed in range(3)]
    records += [whole("sft", POOR, seed=0, control="SFT continued")]
    section = only(make(*records))
    by_name = {row.name: row for row in section.rows}
    start = by_name["SFT start"].estimates["HR@10"]
    assert start.mean == pytest.approx(0.5) and start.num_users == 6
    assert by_name["ugr"].estimates["HR@10"].by_seed == pytest.approx([5 / 6] * 3)
    compared = {(pair.first, pair.second) for pair in section.pairs["HR@10"]}
    assert len(compared) == 6 and ("grpo", "ugr") in compared
    assert by_name["SFT continued"].ranks["NDCG@10"] is None, "one seed has no rank"
    rank = by_name["grpo"].ranks["NDCG@10"]
    assert rank is not None and rank[0] == 1
    assert set(section.smallest_difference) == {"NDCG@10", "HR@10"}
    assert any("One seed only: SFT continued." in note for note in section.notes)


def test_records_that_keep_no_start_outcomes_leave_the_start_without_interval() -> None:
    old = [whole("ugr", GOOD, seed=i, start=None, sft={"test": metrics_of(START)}) for i in (0, 1)]
    section = only(make(*old))
    start, ugr = section.rows[:2]
    assert start.kind == "start" and start.estimates == {} and start.means["HR@10"] == 0.5
    assert ugr.estimates["HR@10"].num_users == 6
    assert any("The SFT start has no interval" in note for note in section.notes)


def test_a_row_on_other_examples_is_not_tested() -> None:
    records = [whole("ugr", GOOD), whole("grpo", BEST), whole("srpo", (0, 1))]
    section = only(make(*records))
    by_name = {row.name: row for row in section.rows}
    assert by_name["srpo"].estimates == {} and by_name["ugr"].estimates
    assert "srpo has no interval: its outcomes are not those of one test set." in section.notes


def test_links_lead_from_the_board_to_the_records() -> None:
    def at(algorithm: str, folder: str) -> Evidence:
        return Evidence(make_record(algorithm, 0.1), path=Path(folder, "r", "record.json"))

    board = make_board(
        [at("ugr", "boards/v0.3"), at("grpo", "runs")], "industrial", None, Path("boards")
    )
    assert row(board, "ugr").links[0].path == "v0.3/r/record.json"
    assert row(board, "grpo").links[0].path == "../runs/r/record.json"
    assert row(board, "ugr").links[0].value["HR@10"] == 0.1
    assert row(board, "SFT start").links[0].value["HR@10"] == 0.05
    assert row(board, "ceiling").links[0].value == {"HR@10": 0.9, "NDCG@10": 0.8}
    assert make(bare("ugr", 0.1)).sections[0].rows[1].links[0].path == ""


def test_what_all_rows_share_is_told_once_and_not_in_their_names() -> None:
    today = {"ugr": {"alpha": 0.5, "rate": None}, "grpo": {"beta": 0.0, "rate": None}}
    rate = {"rate": 1e-5}
    records = [
        bare("ugr", 0.1, hyperparameters={"alpha": 0.5} | rate),
        bare("ugr", 0.2, minutes=1, hyperparameters={"alpha": 0.9} | rate),
        bare("grpo", 0.3, hyperparameters={"beta": 0.0} | rate),
    ]
    (section,) = make_board(records, "industrial", today).sections
    assert {row.name for row in section.rows} >= {"ugr", "ugr (alpha=0.9)", "grpo"}
    note = "All rows have rate=1e-05, which the names do not repeat."
    assert note in section.notes
    # Where one row has another value, each says its own.
    other = bare("grpo", 0.3, minutes=2, hyperparameters={"beta": 0.0, "rate": 1e-4})
    (section,) = make_board([*records, other], "industrial", today).sections
    names = {row.name for row in section.rows}
    assert {"ugr (rate=1e-05)", "grpo (rate=1e-05)", "grpo (rate=0.0001)"} <= names
    assert note not in section.notes
    # A single algorithm's value is its own.
    (section,) = make_board(records[:1], "industrial", today).sections
    assert "ugr (rate=1e-05)" in {row.name for row in section.rows}
