"""Where RL gains: the grid's runs from end to end, gains by hand, and what is said of them."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sweep_world import FAILS
from tiny_runs import SETTINGS, Called, Killed, call, last_error, only_error, run_folders

from genrec_bench.boards.evidence import Evidence
from genrec_bench.runs.jobs import Context, Crew
from genrec_bench.runs.records import read_record
from genrec_bench.storage.figures import to_png
from genrec_bench.studies.analyses import _regime_grid as grids
from genrec_bench.studies.analyses import _regime_map as maps
from genrec_bench.studies.analyses._regime_grid import Cell, Grid, Whole
from genrec_bench.studies.analyses._regime_options import add_options
from genrec_bench.studies.worker import Task

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("somewhere")

BETAS = (("beta=0",), ("beta=0.04",))
QUICK = ("--stops", "0.5,1", "--budgets", "0.5xsft", "--seeds", "2")
FILES = ["analysis.json", "figure.pdf", "figure.png", "figure.svg", "table.csv", "table.md"]


def words(data: Path, *more: str) -> list[str]:
    start = ["analyze", "regime", "--dataset", "industrial", "--no-mlflow", "--data-dir", str(data)]
    settings = [word for word in SETTINGS if not word.startswith("steps=")]
    return [*start, *more, "--set", "validations=0", *settings]


def a_grid(**changed: Any) -> Grid:
    usual: dict[str, Any] = {
        "algorithm": "grpo",
        "stops": (0.5, 1.0),
        "budgets": (1.0, 2.0),
        "variants": BETAS,
        "seeds": (0, 1),
        "words": {},
        "control": "SFT continued",
    }
    return Grid(**{**usual, **changed})


def table_of(called: Called, code: int = 0) -> tuple[pd.DataFrame, Path]:
    assert called.code == code, called.err
    folder = Path(called.err.splitlines()[-1].removeprefix("written: "))
    assert sorted(path.name for path in folder.iterdir()) == FILES
    return pd.read_csv(folder / "table.csv"), folder


def test_the_grid_from_end_to_end(capsys: Capture, data: Path) -> None:
    asked = words(data, *QUICK)
    table, folder = table_of(call(capsys, asked))
    runs = [read_record(run) for run in run_folders(Path("runs"))]
    # Two stops, one budget, two seeds: SFT continued runs once for both betas.
    assert len(runs) == 2 * 1 * 2 * 3
    control = [run for run in runs if run["control"]]
    assert {run["algorithm"] for run in control} == {"sft"} and len(control) == 4
    assert table["variant"].tolist() == ["beta=0"] * 2 + ["beta=0.04"] * 2
    assert table["SFT"].tolist() == [0.5, 1.0] * 2 and set(table["seeds"]) == {2}
    cost = {row["SFT"]: row["SFT FLOPs"] for row in table.to_dict("records")}
    assert cost[0.5] == pytest.approx(cost[1.0] / 2, rel=0.03)
    # The unit of every budget is the whole start's cost, whatever the stop.
    assert table["RL FLOPs"].to_numpy() == pytest.approx(0.5 * cost[1.0], rel=0.05)
    assert len({run["track"]["budget"] for run in runs}) == 1

    def means(algorithm: str, sft: float, beta: float | None) -> list[float]:
        return [
            run["metrics"]["test"]["NDCG@10"]
            for run in runs
            if run["algorithm"] == algorithm
            and run["budget"]["spent"]["sft"]["flops"] == sft
            and run["configuration"]["hyperparameters"].get("beta") == beta
        ]

    for row in table.to_dict("records"):
        trained = means("grpo", row["SFT FLOPs"], float(row["variant"].partition("=")[2]))
        continued = means("sft", row["SFT FLOPs"], None)
        assert len(trained) == len(continued) == 2
        assert row["gain"] == pytest.approx(np.mean(trained) - np.mean(continued), abs=1e-9)
        assert row["low"] <= row["gain"] <= row["high"]

    again = call(capsys, asked)
    assert again.err.count("found: ") == 12 and len(run_folders(Path("runs"))) == 12
    same, same_folder = table_of(again)
    assert same_folder == folder
    pd.testing.assert_frame_equal(same, table)
    over_start = table_of(call(capsys, [*asked[:2], "--over", "start", *asked[2:]]))[1]
    assert over_start != folder and "over the SFT start" in (over_start / "table.md").read_text()


def test_what_was_cut_short_goes_on(
    capsys: Capture, data: Path, steps_taken: dict[str, Any]
) -> None:
    asked = words(data, "--stops", "1", "--budgets", "0.5", "--betas", "0.1", "--seeds", "2")
    steps_taken["raise"] = {2: Killed()}
    with pytest.raises(Killed):
        call(capsys, asked)
    before = {run.name for run in run_folders(Path("runs"))}
    assert before and not list(Path("runs").glob("industrial/analyses/*"))
    table, _ = table_of(call(capsys, asked))
    after = {run.name for run in run_folders(Path("runs"))}
    assert before < after and len(after) == 4 and table["seeds"].tolist() == [2]


def test_processes_do_the_runs_after_their_starts(
    capsys: Capture, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    few = ("--stops", "0.5,1", "--budgets", "0.5", "--betas", "0", "--seeds", "1")
    wanted, _ = table_of(call(capsys, words(data, *few)))
    seen: list[Task] = []

    def as_late_as_possible(tasks: Sequence[Task], context: Context) -> Mapping[str, Any]:
        assert context.crew == Crew(2)
        seen.extend(tasks)
        starts = [task for task in tasks if not task.after]
        others = [task for task in reversed(tasks) if task.after]
        return {task.label: task.work(context) for task in [*starts, *others]}

    monkeypatch.setattr(grids, "carry_out", as_late_as_possible)
    crew = ("--workers", "2", "--output", "other")
    found, _ = table_of(call(capsys, words(data, *few, *crew)))
    pd.testing.assert_frame_equal(found, wanted)
    starts = {task.label for task in seen if not task.after}
    assert len(starts) == 2 and len({task.label for task in seen}) == 2 + 4
    assert all(set(task.after) < starts for task in seen if task.after)


def test_a_run_that_fails_leaves_its_cell_empty(capsys: Capture, data: Path) -> None:
    Path("fails.py").write_text(FAILS.replace("DEFAULT", "0.1"))
    asked = words(data, "--stops", "1", "--budgets", "0.5", "--seeds", "2")
    variants = ("--algorithm", "fails.py", "--variants", "defaults,strength=1:beta=0.1")
    called = call(capsys, [*asked[:2], *variants, *asked[2:]])
    table, folder = table_of(called, code=2)
    assert table["variant"].tolist() == ["defaults", "strength=1 beta=0.1"]
    assert table["seeds"].tolist() == [2, 0] and table["apart"][1] == "untested"
    assert table["gain"].isna().tolist() == [False, True] and table["continued"].notna().all()
    page = (folder / "table.md").read_text()
    assert page.count("Failed: strength=1 beta=0.1, SFT x 1, budget 0.5xsft, seed") == 2


def test_the_plan_trains_nothing_and_knows_the_price(capsys: Capture, data: Path) -> None:
    called = call(capsys, [*words(data, "--plan"), "sft_seed=7"])
    assert called.code == 0 and not Path("runs").exists()
    # Stops 3 x (0.5 + 1 + 2 + 4) x (two betas and the control) x 3 seeds.
    assert "108 runs." in called.out and "202.5 times what the whole SFT start" in called.out
    assert "FLOP" not in called.out, "the start is not trained yet"
    one = ("--stops", "1", "--budgets", "2", "--betas", "0", "--seeds", "1")
    assert call(capsys, [*words(data, *one), "sft_seed=7"]).code == 0
    start = read_record(run_folders(Path("runs"))[0])["budget"]["spent"]["sft"]["flops"]
    told = call(capsys, [*words(data, *one, "--plan"), "sft_seed=7"]).out
    assert f"4 times what the whole SFT start costs, {4 * start / 1e9:.4g} GFLOP" in told


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--budget", "9s"], "9s: must be different numbers"),
        (["--stops", "0.5,2"], "must be different numbers above 0, up to 1"),
        (["--stops", "0.5,0.5"], "must be different numbers"),
        (["--stops", "0,1"], "must be different numbers above 0"),
        (["--budgets", "nan"], "must be different numbers"),
        (["--budgets", "90s"], "must be different numbers"),
        (["--betas", "0,0"], "a variant is given twice"),
        (["--betas", ""], "must be key=value"),
        (["--variants", "beta"], "must be key=value"),
        (["--variants", "beta=1:beta=2"], "must be key=value"),
        (["--betas", "0", "--variants", "beta=1"], "not allowed with argument"),
    ],
)
def test_a_mistake_in_the_words_is_one_line(capsys: Capture, asked: list[str], said: str) -> None:
    assert said in only_error(call(capsys, ["analyze", "regime", *asked]))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["--set", "beta=0.1"], "--set beta: this analysis chooses it itself"),
        (["--betas", "2"], "beta=2.0: must be between 0 and 1"),
        (["--variants", "bet=1"], "--variants bet: is no hyperparameter of grpo; did you mean"),
        (["--variants", "group_size=8"], "--variants group_size: is no hyperparameter of grpo"),
        (["--algorithm", "sft", "--betas", "0"], "--variants beta: is no hyperparameter of sft"),
        (["--set", "clip=x"], "clip"),
        (["--set", "sft_epochs=0"], "set sft_epochs above 0"),
    ],
)
def test_what_cannot_be_drawn_is_said_before_anything_is_trained(
    capsys: Capture, data: Path, asked: list[str], said: str
) -> None:
    start = ["--dataset", "industrial", "--data-dir", str(data), "--no-mlflow"]
    assert said in last_error(call(capsys, ["analyze", "regime", *start, *asked]))
    assert not run_folders(Path("runs"))


def test_stops_are_shares_of_the_epochs_that_were_taken() -> None:
    whole = Whole(flops=4e12, epochs=8.0)
    assert whole.settings_at(1.0) == {}, "the start that everybody has"
    assert float(whole.settings_at(0.25)["sft_epochs"]) == 2.0
    grid = a_grid(words={"learning_rate": "0.1", "clip_high": "0.3", "beam_width": "12"})
    job = grid.job(Cell(0.5, 2.0, ("beta=0.04",)), 3, whole)
    assert job.budget is not None and job.budget.text == "8Tflop"
    assert (job.algorithm, job.seed, job.control) == ("grpo", 3, "")
    assert {"beta=0.04", "clip_high=0.3", "sft_epochs=4.0"} <= set(job.assignments)
    # The control has the settings, and what it knows of the hyperparameters.
    control = grid.job(Cell(0.5, 2.0, None), 3, whole)
    assert (control.algorithm, control.control) == ("sft", "SFT continued")
    kept = [word.partition("=")[0] for word in control.assignments]
    assert kept == ["learning_rate", "beam_width", "sft_epochs", "sft_patience"]


def outcomes(ranks: Sequence[int], start: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "split": "test",
            "example": range(len(ranks)),
            "item_rank": ranks,
            "sid_rank": ranks,
            "start_item_rank": start,
            "start_sid_rank": start,
        }
    )


def test_gains_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    # By NDCG@10 rank 0 is worth 1, rank 2 a half, and a target that is missing nothing.
    start = [0, 2, -1, -1] * 10
    ranks = {
        (1.0, None, 0): [0, 2, -1, -1] * 10,  # mean 0.375
        (1.0, None, 1): [0, 0, -1, -1] * 10,  # 0.5
        (1.0, ("beta=0",), 0): [0, 0, 2, -1] * 10,  # 0.625
        (1.0, ("beta=0",), 1): [0, 0, 0, -1] * 10,  # 0.75
        (1.0, ("beta=0.04",), 0): [-1, -1, -1, -1] * 10,  # 0
    }
    by_path, runs = {}, {}
    for (stop, variant, seed), found in ranks.items():
        path = Path(f"{variant}-{seed}")
        spent = {"sft": {"flops": 8.0}, "update": {"flops": 3.0}, "rollout": {"flops": 1.0}}
        record: Any = {"track_id": "ab", "run_id": str(path), "budget": {"spent": spent}}
        by_path[path] = Evidence(record, outcomes(found, start), pd.DataFrame({"step": [1]}), path)
        runs[Cell(stop, 2.0, variant), seed] = path
    monkeypatch.setattr(maps, "read_evidence", by_path.__getitem__)
    grid = a_grid(stops=(1.0,), budgets=(2.0,))
    table = maps.compare_cells(grid, runs)
    first, second = table.to_dict("records")
    assert (first["start"], first["continued"], first["trained"]) == (0.375, 0.4375, 0.6875)
    assert first["gain"] == pytest.approx(0.25) and first["gain on start"] == pytest.approx(0.3125)
    assert first["low"] < 0.25 < first["high"] and first["seeds"] == 2
    assert (first["SFT FLOPs"], first["RL FLOPs"]) == (8.0, 4.0)
    # One seed: only the control's run on that seed is compared with, and there is no interval.
    assert second["gain"] == pytest.approx(-0.375) and np.isnan(second["low"])
    assert second["apart"] == "untested" and second["gain on start"] == pytest.approx(-0.375)


def row(variant: str, stop: float, budget: float, gain: float, apart: str) -> dict[str, Any]:
    of_one = {"gain": gain, "low": gain - 0.01, "high": gain + 0.01, "visible": 0.02}
    return {
        **{"variant": variant, "SFT": stop, "budget": budget, "start": 0.05, "apart": apart},
        **of_one,
        **{f"{key} on start": -value for key, value in of_one.items()},
        "apart on start": "–",
    }


@pytest.fixture
def known() -> pd.DataFrame:
    gains = [0.03, 0.001, -0.002, 0.0, 0.01, 0.004, -0.04, np.nan]
    apart = ["above", "–", "–", "–", "–", "–", "below", "untested"]
    places = [(v[0], stop, times) for v in BETAS for stop in (0.5, 1.0) for times in (1.0, 2.0)]
    rows = [row(*at, gain, word) for at, gain, word in zip(places, gains, apart, strict=True)]
    return pd.DataFrame(rows)


def test_the_words_say_where_it_gains_and_where_it_loses(known: pd.DataFrame) -> None:
    said, first, second, *_ = maps.words_of_map(a_grid(), known, "control")
    assert said.startswith("grpo gains most over SFT continued with beta=0 after SFT at 0.5")
    assert "+0.0300 NDCG@10 (95%: +0.0200 to +0.0400, told apart)" in said
    assert "It loses most with beta=0.04 after SFT at 1" in said and "-0.0400" in said
    assert "Of 7 cells 1 are told apart above SFT continued and 1 below it." in said
    cells = [[part.strip() for part in line.split("|")[1:-1]] for line in first.splitlines()[2:]]
    assert cells[0] == ["SFT", "budget 1", "budget 2"]
    assert cells[2:] == [["0.5", "+0.0300\\*", "+0.0010"], ["1", "-0.0020", "+0.0000"]]
    assert "-0.0400\\* |" in second and second.rstrip().endswith("– |")
    over_start = maps.words_of_map(a_grid(), known, "start")[0]
    assert "over the SFT start with beta=0.04 after SFT at 1 of its cost" in over_start
    lone = known.assign(low=np.nan, high=np.nan, visible=np.nan, apart="untested")
    assert "One seed says nothing" in maps.words_of_map(a_grid(), lone, "control")[0]


def test_the_map_is_drawn_with_and_without_gains(known: pd.DataFrame) -> None:
    def drawn(table: pd.DataFrame, over: str = "control") -> bytes:
        return to_png(lambda figure: maps.draw_map(figure, table, a_grid(), over))

    assert drawn(known) == drawn(known) != drawn(known, "start")
    assert drawn(known.assign(gain=np.nan, apart="untested")).startswith(b"\x89PNG")


def test_every_algorithm_has_a_map(capsys: Capture, data: Path) -> None:
    parser = argparse.ArgumentParser()
    add_options(parser)
    assert parser.parse_args([]).variants is None

    def names(algorithm: str) -> str:
        return call(capsys, words(data, "--plan", "--algorithm", algorithm)).out

    assert "(SFT continued, beta=0, beta=0.04)" in names("srpo")
    assert "(SFT continued, defaults)" in names("sft")
    assert json.loads(json.dumps(parser.parse_args(["--betas", "0,1"]).variants)) == [
        ["beta=0"],
        ["beta=1"],
    ]
