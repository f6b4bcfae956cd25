"""Boards: what is compared with what, and what a reader is told about it."""

import argparse
import json
import random
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from genrec_bench.board import Board, Row, leaderboard
from genrec_bench.errors import UserError
from genrec_bench.leaderboard import (
    add_leaderboard_parser,
    collect,
    render,
    to_markdown,
    write_board,
)
from genrec_bench.record_schema import Record
from genrec_bench.records import benchmark_version, build_record, join_outcomes, write_record

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
KEYS = ("HR@1", "HR@5", "HR@10", "NDCG@5", "NDCG@10", "sid/HR@10", "sid/NDCG@10")
TRACK = {"dataset": "d" * 64, "backbone": "tiny", "budget": None, "group_size": 16}


def figures(value: float) -> dict[str, float]:
    return dict.fromkeys(KEYS, value)


def make_record(
    algorithm: str, value: float, seed: int = 0, minutes: int = 0, **changes: Any
) -> Record:
    cost = {"tokens": 1_000_000, "flops": 5e11, "peak_memory_bytes": 1}
    phases = {"sft": 100.0, "rollout": 30.0, "update": 10.0, "evaluation": 7.0}
    moment = MIDNIGHT + timedelta(minutes=minutes)
    arguments: dict[str, Any] = {
        "run_id": f"{algorithm}-{seed}-{minutes}",
        "algorithm": algorithm,
        "dataset": "industrial",
        "seed": seed,
        "complete": True,
        "partial": True,
        "track": TRACK,
        "hyperparameters": {"alpha": 0.5, "weight": True},
        "settings": {"prompts_per_step": 64},
        "fingerprints": {"algorithm": "a" * 64},
        "versions": {},
        "commit": None,
        "hardware": {},
        "budget_limit": None,
        "spent": {phase: cost | {"seconds": seconds} for phase, seconds in phases.items()},
        "sft": {"valid": figures(0.06), "test": figures(0.05)},
        "metrics": {"valid": figures(value), "test": figures(value)},
        "ceiling": {"test": {"HR@10": 0.9, "NDCG@10": 0.8}},
        "started": moment,
        "finished": moment,
    }
    return build_record(**(arguments | changes))


def rows(board: Board) -> list[Row]:
    (section,) = board.sections
    return list(section.rows)


def names(board: Board, kind: str = "result") -> list[str]:
    return [row.name for row in rows(board) if row.kind == kind]


def test_the_markdown_page_is_as_written_by_hand() -> None:
    """Seeds with 0.10 and 0.14 have mean 0.12 and standard deviation 0.04 / sqrt(2) = 0.0283."""
    values = {key: index / 10 for index, key in enumerate(KEYS, start=1)}
    constant = {key: value for key, value in values.items() if key != "HR@10"}
    runs = [
        make_record("ugr", 0, seed=seed, metrics={"test": constant | {"HR@10": hits}})
        for seed, hits in ((0, 0.10), (7, 0.14))
    ]
    records = [*runs, make_record("grpo", 0, metrics={"test": values | {"NDCG@10": 0.45}})]
    expected = f"""\
# industrial (partial)

Made from records by `genrec-bench leaderboard industrial`; not to be edited.

## Track {records[0]["track_id"]}, genrec-bench {benchmark_version()}

dataset industrial (partial), fingerprint dddddddd, backbone tiny, budget none, group size 16

| industrial (partial) | HR@1 | HR@5 | HR@10 | NDCG@5 | NDCG@10 | sid/HR@10 | sid/NDCG@10 \
| seeds | seconds | TFLOP | Mtok |
|:-|-:|-:|-:|-:|-:|-:|-:|-:|-:|-:|-:|
| SFT start | 0.0500 | 0.0500 | 0.0500 | 0.0500 | 0.0500 | 0.0500 | 0.0500 | – | – | – | – |
| ugr | 0.1000 ± 0.0000 | 0.2000 ± 0.0000 | 0.1200 ± 0.0283 | 0.4000 ± 0.0000 \
| 0.5000 ± 0.0000 | 0.6000 ± 0.0000 | 0.7000 ± 0.0000 | 2 | 40.0 | 1.00 | 2.00 |
| grpo | 0.1000 | 0.2000 | 0.3000 | 0.4000 | 0.4500 | 0.6000 | 0.7000 | 1 | 40.0 | 1.00 | 2.00 |
| ceiling | – | – | 0.9000 | – | 0.8000 | – | – | – | – | – | – |

Ordered by NDCG@10. Spent: per run, without SFT and evaluation.

±: standard deviation over seeds.
"""
    page = to_markdown(leaderboard(records, "industrial"))
    # Widths of columns are layout.
    assert re.sub(r"-{2,}", "-", re.sub(r" {2,}", " ", page)) == expected


def test_rows_are_ordered_and_spent_is_what_the_algorithm_cost() -> None:
    board = leaderboard([make_record("ugr", 0.1), make_record("grpo", 0.2)], "industrial")
    assert [row.name for row in rows(board)] == ["SFT start", "grpo", "ugr", "ceiling"]
    # Rollout and update: 30 + 10 seconds, two phases of a million tokens and half a teraflop.
    assert rows(board)[1].spent == {"seconds": 40.0, "flops": 1e12, "tokens": 2e6}
    assert rows(board)[1].deviations == {}, "one seed has no spread"
    assert rows(board)[3].means == {"HR@10": 0.9, "NDCG@10": 0.8}


def test_the_order_of_records_does_not_matter() -> None:
    records = [make_record("ugr", 0.1 + i / 100, seed=i, minutes=i) for i in range(4)]
    records += [make_record("grpo", 0.1, track=TRACK | {"budget": "90s"}, minutes=9)]
    records += [make_record("ugr", 0.3, hyperparameters={"alpha": 1.0, "weight": True}, minutes=5)]
    expected = to_markdown(leaderboard(records, "industrial"))
    for seed in range(5):
        random.Random(seed).shuffle(records)
        assert to_markdown(leaderboard(records, "industrial")) == expected


def test_tracks_and_versions_are_never_mixed() -> None:
    other = make_record("ugr", 0.3, track=TRACK | {"budget": "90s"}, run_id="other")
    old = make_record("ugr", 0.4, run_id="old") | {"benchmark": "0.0"}
    records = [other, old, make_record("ugr", 0.1), make_record("ugr", 0.1, seed=1)]
    board = leaderboard(records, "industrial")
    assert [section.num_records for section in board.sections] == [2, 1, 1]
    assert {(s.benchmark, s.track["budget"]) for s in board.sections} == {
        (benchmark_version(), None),
        (benchmark_version(), "90s"),
        ("0.0", None),
    }
    assert "budget 90s" in render(board) and "genrec-bench 0.0" in render(board)


def test_samples_have_columns_where_evaluation_drew_any() -> None:
    plain = make_record("ugr", 0.1)
    sampled = make_record("grpo", 0.2, metrics={"test": {"HR@10": 0.2, "Pass@10": 0.0625}})
    assert "Pass@" not in render(leaderboard([plain], "industrial"))
    shown = render(leaderboard([plain, sampled], "industrial"))
    assert "Pass@10" in shown and "Pass@1 " not in shown and "0.0625" in shown


def test_other_datasets_stay_out() -> None:
    records = [make_record("ugr", 0.1), make_record("grpo", 0.9, dataset="beauty")]
    assert names(leaderboard(records, "industrial")) == ["ugr"]


def test_a_configuration_is_named_by_what_differs_from_the_commonest() -> None:
    ablated = {"alpha": 0.5, "weight": False}
    records = [
        make_record("ugr", 0.3),
        make_record("ugr", 0.3, seed=1),
        make_record("ugr", 0.2, hyperparameters=ablated, run_id="a"),
        make_record("ugr", 0.1, settings={"prompts_per_step": 8}, run_id="b"),
        make_record("ugr", 0.05, hyperparameters={"alpha": 0.5}, run_id="c"),
    ]
    board = leaderboard(records, "industrial")
    expected = ["ugr", "ugr (weight=false)", "ugr (prompts_per_step=8)", "ugr (without weight)"]
    assert names(board) == expected
    assert rows(board)[1].seeds == (0, 1)
    by_default = leaderboard(records, "industrial", {"ugr": ablated})
    assert names(by_default)[:2] == ["ugr (weight=true)", "ugr"]


def test_seeds_of_different_code_are_not_averaged() -> None:
    changed = make_record("ugr", 0.2, seed=1, fingerprints={"algorithm": "b" * 64})
    board = leaderboard([make_record("ugr", 0.1), changed], "industrial")
    assert names(board) == ["ugr (code bbbbbbbb)", "ugr (code aaaaaaaa)"]


def test_the_newest_of_two_equal_runs_counts_and_the_reader_is_told() -> None:
    records = [make_record("ugr", 0.2, minutes=5), make_record("ugr", 0.1, minutes=1)]
    board = leaderboard(records, "industrial")
    assert rows(board)[1].means["HR@10"] == pytest.approx(0.2)
    assert rows(board)[1].seeds == (0,)
    assert any("1 record is not shown" in note for note in board.sections[0].notes)


def test_incomplete_runs_are_seen_but_not_ranked() -> None:
    records = [make_record("ugr", 0.1), make_record("grpo", 0.9, seed=3, complete=False)]
    board = leaderboard(records, "industrial")
    assert [row.name for row in rows(board)] == ["SFT start", "ugr", "grpo: incomplete", "ceiling"]
    assert rows(board)[2].means == {} and rows(board)[2].seeds == (3,)
    assert "0.9000 |" not in to_markdown(board).partition("grpo")[2].partition("\n")[0]


def test_a_failed_run_that_was_repeated_is_no_longer_missing() -> None:
    failed = make_record("ugr", 0.0, minutes=9, complete=False, metrics={})
    board = leaderboard([make_record("ugr", 0.1, minutes=1), failed], "industrial")
    assert names(board, "incomplete") == []
    assert rows(board)[1].means["HR@10"] == pytest.approx(0.1)
    assert any("1 record is not shown" in note for note in board.sections[0].notes)


def test_only_incomplete_runs_still_make_a_board() -> None:
    board = leaderboard([make_record("ugr", 0, complete=False, metrics={}, sft={})], "industrial")
    assert [row.name for row in rows(board)] == ["ugr: incomplete", "ceiling"]
    assert "ugr: incomplete" in render(board)


def test_partial_stands_at_every_dataset_and_only_where_it_is_true() -> None:
    partial = leaderboard([make_record("ugr", 0.1)], "industrial")
    for text in (render(partial), to_markdown(partial)):
        assert text.count("industrial (partial)") == 3, "title, track and table"
    whole = leaderboard([make_record("ugr", 0.1, partial=False)], "industrial")
    assert "partial" not in render(whole) + to_markdown(whole)


def test_units_and_missing_figures() -> None:
    spent = {"update": {"seconds": 3600.0, "tokens": 2e9, "flops": 3e15, "peak_memory_bytes": 1}}
    record = make_record("a|b", 0.1, spent=spent, metrics={"test": {"NDCG@10": 0.25}})
    text = to_markdown(leaderboard([record], "industrial"))
    line = next(line for line in text.splitlines() if "a\\|b" in line)
    cells = [cell.strip() for cell in line.replace("\\|", "/").strip("|").split("|")]
    assert cells == [
        "a/b",
        "–",
        "–",
        "–",
        "–",
        "0.2500",
        "–",
        "–",
        "1",
        "3600.0",
        "3.00",
        "2000.00",
    ]
    assert "PFLOP" in text


def write(folder: Path, record: Record) -> None:
    write_record(folder / record["run_id"], record, join_outcomes({}), pd.DataFrame({"step": [1]}))


def run(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    add_leaderboard_parser(parser.add_subparsers(), defaults=lambda: {"ugr": {"alpha": 0.5}})
    args = parser.parse_args(["leaderboard", *arguments])
    return int(args.handler(args))


def test_the_command_prints_and_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write(Path("runs/industrial"), make_record("ugr", 0.1))
    write(Path("leaderboards/industrial"), make_record("ugr", 0.1))  # the same run, committed
    write(Path("elsewhere"), make_record("grpo", 0.2))
    write(Path("runs/beauty"), make_record("grpo", 0.2, dataset="beauty", run_id="x"))
    assert run("industrial", "--records", "elsewhere") == 0
    out, err = capsys.readouterr()
    assert "ugr (weight=true)" in out and "grpo" in out and "written: " in err
    page = Path("leaderboards/industrial.md").read_text()
    assert page.startswith("# industrial (partial)\n") and "| grpo" in page
    assert not Path("leaderboards/beauty.md").exists()
    assert run() == 0
    assert Path("leaderboards/beauty.md").exists()
    capsys.readouterr()
    assert run("industrial", "--json") == 0
    (board,) = json.loads(capsys.readouterr().out)
    assert board["dataset"] == "industrial" and board["sections"][0]["num_records"] == 1


def test_without_records_the_command_says_how_to_make_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="genrec-bench run grpo --dataset synthetic"):
        run()
    write(Path("runs"), make_record("ugr", 0.1))
    with pytest.raises(UserError, match="did you mean 'industrial'.*run grpo --dataset industral"):
        run("industral")
    with pytest.raises(UserError, match="--records nowhere: there is no such folder"):
        run("industrial", "--records", "nowhere")
    assert not Path("leaderboards").exists(), "nothing is written after a mistake"


def test_two_different_records_of_one_run_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a", make_record("ugr", 0.1))
    write(tmp_path / "b", make_record("ugr", 0.2))
    with pytest.raises(UserError, match="differ but have one run_id"):
        collect([tmp_path / "a", tmp_path / "b"])
    assert len(collect([tmp_path / "a", tmp_path / "a", tmp_path / "missing"])) == 1


def test_a_board_is_rewritten_in_place(tmp_path: Path) -> None:
    write_board(leaderboard([make_record("ugr", 0.1)], "industrial"), tmp_path)
    path = write_board(leaderboard([make_record("grpo", 0.1)], "industrial"), tmp_path)
    assert path == tmp_path / "industrial.md" and "ugr" not in path.read_text()
