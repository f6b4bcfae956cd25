"""The command `analyze`: what it prints and writes, and the analyses from end to end."""

import argparse
import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from fake_mlflow import FakeServer, install
from tiny_runs import (
    SETTINGS,
    Called,
    call,
    last_error,
    only_error,
    record_and_curves,
    run_folders,
    run_words,
)

from genrec_bench.commands import analyze_command
from genrec_bench.errors import UserError
from genrec_bench.runs.records import read_record
from genrec_bench.storage.figures import to_png
from genrec_bench.studies import analyses
from genrec_bench.studies.analyses import (
    Analysis,
    Result,
    analysis_files,
    budget,
    markdown_table,
    rows_and_notes,
)

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("somewhere")

FILES = ["analysis.json", "figure.pdf", "figure.png", "figure.svg", "table.csv", "table.md"]
TABLE = pd.DataFrame(
    {"name": ["a|b", "c"], "value": [1 / 3, np.nan], "count": [3, 4], "flops": [1.25e13, 2.0]}
)


def words(data: Path, kind: str, *more: str) -> list[str]:
    start = ["analyze", kind, "--dataset", "industrial", "--no-mlflow", "--data-dir", str(data)]
    return [*start, *more, "--set", *SETTINGS]


def draw(figure: Any) -> None:
    figure.subplots().plot([0, 1], [1, 0])


def size(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG file, from its header."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height = struct.unpack(">II", png[16:24])
    return width, height


@pytest.fixture
def constant(monkeypatch: pytest.MonkeyPatch) -> list[argparse.Namespace]:
    """An analysis that trains nothing, and what it was called with."""
    seen: list[argparse.Namespace] = []

    def run(context: Any, args: argparse.Namespace) -> Result:
        seen.append(args)
        return Result(TABLE, draw, ("A note.",))

    def options(parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--many", type=int)

    one = Analysis("one", "help", options, run)
    monkeypatch.setattr(analyze_command, "find_analysis", lambda name: one)
    return seen


def test_analyses_are_found_by_being_there() -> None:
    assert {"budget", "dynamics", "risk"} <= set(analyses.analysis_names())
    for name in analyses.analysis_names():
        assert analyses.find_analysis(name).name == name
    with pytest.raises(UserError, match="no analysis 'rsk'; did you mean 'risk'"):
        analyses.find_analysis("rsk")


def test_tables_are_rounded_for_people_only() -> None:
    lines = markdown_table(TABLE).splitlines()
    assert [cell.strip() for cell in lines[2].split(" | ")] == [
        "| a\\|b",
        "0.3333",
        "3",
        "1.25e+13 |",
    ]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["c", "", "4", "2.0000"]
    read = json.loads(rows_and_notes(Result(TABLE, draw, ("said",))))
    assert read["notes"] == ["said"]
    assert read["rows"][0]["value"] == pytest.approx(1 / 3, rel=1e-14)
    assert read["rows"][1]["value"] is None and read["rows"][0]["flops"] == 1.25e13


def test_a_figure_is_the_same_whenever_and_in_whatever_style_it_is_drawn() -> None:
    import matplotlib

    first = to_png(draw, "title")
    with matplotlib.rc_context({"axes.facecolor": "red", "savefig.dpi": 10, "font.size": 30}):
        assert to_png(draw, "title") == first
        assert matplotlib.rcParams["font.size"] == 30, "the user's style is left alone"
    assert size(first) == (1200, 675)
    assert b"tEXt" not in first and b"tIME" not in first
    assert to_png(draw, "another") != first


def test_the_files_of_a_result() -> None:
    files = analysis_files(Result(TABLE, draw, ("said",)), "t", {"x": (2, Path("p"))})
    assert sorted(files) == FILES and list(files)[-1] == "analysis.json"
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(files["table.csv"])), TABLE)
    page = files["table.md"].decode()
    assert page.startswith("# t\n\n| name") and page.endswith("|\n\nsaid\n")
    assert json.loads(files["analysis.json"]) == {"x": [2, "p"]}


def test_the_command_prints_and_writes(
    capsys: Capture, data: Path, constant: list[argparse.Namespace]
) -> None:
    called = call(capsys, words(data, "one", "--many", "3"))
    assert called.code == 0, called.err
    assert called.out.startswith("# one on industrial (partial)\n\n| name")
    assert called.out.endswith("\n\nA note.\n") and constant[0].many == 3
    (folder,) = Path("runs/industrial/analyses").iterdir()
    assert called.err.splitlines()[-1] == f"written: {folder}"
    assert sorted(path.name for path in folder.iterdir()) == FILES
    kept = json.loads((folder / "analysis.json").read_text())
    assert kept["request"]["options"] == {"many": 3} and kept["records"] == []
    assert kept["request"]["set"]["group_size"] == "4"

    called = call(capsys, words(data, "one", "--json"))
    assert json.loads(called.out)["rows"][1] == {"name": "c", "value": None, "count": 4, "flops": 2}


def test_a_folder_is_named_by_what_was_asked_for(
    capsys: Capture, data: Path, constant: list[argparse.Namespace]
) -> None:
    start = ["analyze", "one", "--dataset", "industrial", "--no-mlflow", "--data-dir", str(data)]

    def folder(*more: str) -> str:
        called = call(capsys, [*start, *more])
        assert called.code == 0, called.err
        return called.err.splitlines()[-1]

    plain = folder("--set", "steps=2", "beam_width=5")
    assert plain == folder("--set", "beam_width=5", "--json", "--set", "steps=2")
    others = [("--set", "steps=2"), ("--many", "1"), ("--budget", "60s")]
    assert len({plain, *(folder(*other) for other in others)}) == 4
    assert folder("--budget", "60s") == folder("--budget", "1m")


def test_mlflow_gets_the_request_and_the_files(
    capsys: Capture, data: Path, constant: list[argparse.Namespace], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = install(monkeypatch, FakeServer())
    asked = words(data, "one", "--many", "3")
    assert call(capsys, asked).code == 0
    assert not server.runs, "with --no-mlflow"
    assert call(capsys, [word for word in asked if word != "--no-mlflow"]).code == 0
    (folder,) = Path("runs/industrial/analyses").iterdir()
    (run,) = server.runs.values()
    assert (run.name, run.status, run.params["options.many"]) == (folder.name, "FINISHED", "3")
    tags = {"kind": "analysis", "analysis": "one", "dataset": "industrial", "partial": "true"}
    assert tags.items() <= run.tags.items() and sorted(run.files) == FILES


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["analyze"], "the following arguments are required: KIND"),
        (["analyze", "rsk"], "there is no analysis 'rsk'; did you mean 'risk'?"),
        (["analyze", "risk", "--bugdet", "9s"], "unrecognized arguments: --bugdet 9s"),
        (["analyze", "risk", "--budget", "9"], "budget '9' is not understood"),
        (["analyze", "risk", "--seed", "x"], "argument --seed: x: must be a whole number"),
        (["analyze", "budget", "--scales", "0.5"], "must be different numbers from 1 on"),
        (["analyze", "budget", "--scales", "nan"], "must be different numbers from 1 on"),
        (["analyze", "budget", "--scales", "1,1"], "must be different numbers from 1 on"),
        (["analyze", "budget", "--scales", "one"], "must be numbers"),
    ],
)
def test_a_mistake_in_the_words_is_one_line(capsys: Capture, asked: list[str], said: str) -> None:
    assert said in only_error(call(capsys, asked))


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["risk", "--algorithm", "grpo"], "grpo, as it is set, has no confidence to rank by"),
        (["risk", "--set", "confidence=false"], "ugr, as it is set, has no confidence to rank by"),
        (["risk", "--set", "rerank=true"], "--set rerank: this analysis chooses it itself"),
        (["risk", "--length-penalty", "9"], "rerank_length_penalty=9.0: must be between 0 and 2"),
        (["risk", "--set", "beam_width=9"], "beam_width=9: must be at least 10"),
        (["risk", "--weight", "-1"], "rerank_weight=-1.0: must be between 0 and 100"),
        (["dynamics", "--alphas", "0,2"], "alpha_min=2.0: must be between 0 and 1"),
        (["dynamics", "--set", "alpha_min=0"], "--set alpha_min: this analysis chooses it itself"),
        (["dynamics", "--vary", "group_size=2,4"], "HR@G means nothing where G differs"),
        (["dynamics", "--algorithm", "sft", "--vary", "steps=1,2"], "sft makes no rollouts"),
        (["budget", "--set", "token_budget=1"], "--set token_budget: this analysis chooses it"),
        (["budget", "--scales", "1,99"], "token_budget=99.0: must be between 1 and 16"),
        (["budget", "--set", "beam_width=9"], "beam_width=9: must be at least 10 for HR@10"),
    ],
)
def test_what_cannot_be_analysed_is_said_before_anything_is_trained(
    capsys: Capture, data: Path, asked: list[str], said: str
) -> None:
    start = ["--dataset", "industrial", "--data-dir", str(data), "--no-mlflow"]
    called = call(capsys, ["analyze", asked[0], *start, *asked[1:]])
    assert said in last_error(called)
    assert not run_folders(Path("runs"))


def done(called: Called) -> tuple[pd.DataFrame, Path]:
    """The table of a finished analysis, and its folder; the figure is looked at."""
    assert called.code == 0, called.err
    folder = Path(called.err.splitlines()[-1].removeprefix("written: "))
    assert sorted(path.name for path in folder.iterdir()) == FILES
    width, height = size((folder / "figure.png").read_bytes())
    assert width > 1000 and height > 500
    return pd.read_csv(folder / "table.csv"), folder


def test_dynamics_reads_the_curves_and_trains_nothing_twice(capsys: Capture, data: Path) -> None:
    asked = words(data, "dynamics", "--alphas", "0,1", "--seed", "3", "--windows", "2")
    table, folder = done(call(capsys, asked))
    assert table["variant"].tolist() == ["alpha_min=0"] * 2 + ["alpha_min=1"] * 2
    assert table["share"].tolist() == [0.5, 1.0] * 2 and set(table["seeds"]) == {1}
    runs = run_folders(Path("runs"))
    assert len(runs) == 2
    for run in runs:
        record, curves = record_and_curves(run)
        alpha = record["configuration"]["hyperparameters"]["alpha_min"]
        rows = table[table["variant"] == f"alpha_min={alpha:g}"]
        assert record["seed"] == 3
        # Two steps in two windows: each row is one step.
        for column in ("HR@1", "HR@4", "unique_candidates"):
            assert rows[column].tolist() == pytest.approx(curves[column].tolist()[1:])
    described = json.loads((folder / "analysis.json").read_text())
    assert {record["run_id"] for record in described["records"]} == {run.name for run in runs}

    again = call(capsys, asked)
    assert again.err.count("found: ") == 2 and run_folders(Path("runs")) == runs
    assert done(again)[1] == folder


def test_risk_agrees_with_evaluation(capsys: Capture, data: Path) -> None:
    # A rate and a weight at which two steps leave a mark, so that the two orders differ.
    asked = words(data, "risk", "--weight", "100")
    table, folder = done(call(capsys, [*asked, "learning_rate=0.01"]))
    (run,) = run_folders(Path("runs"))
    rows = table.set_index(["part", "setting"])
    before = read_record(run)["metrics"]["test"]
    choices = ("learning_rate=0.01", "rerank=true", "rerank_weight=100")
    called = call(capsys, run_words("ugr", data, Path("reranked"), "--json", *choices))
    after = json.loads(called.out)["metrics"]["test"]
    assert before["NDCG@10"] != after["NDCG@10"]
    for k in (1, 3, 5, 10):
        column = rows[f"NDCG@{k}"]
        assert column["re-ranking", "original"] == pytest.approx(before[f"NDCG@{k}"])
        assert column["re-ranking", "re-ranked"] == pytest.approx(after[f"NDCG@{k}"])
        assert column["re-ranking", "gain"] == pytest.approx(
            after[f"NDCG@{k}"] - before[f"NDCG@{k}"]
        )
        assert column["rejection", "0%"] == pytest.approx(after[f"NDCG@{k}"])
    # All ten items shown to each: precision is a tenth of the hit rate.
    assert rows["precision"]["truncation", "0%"] == pytest.approx(after["HR@10"] / 10)
    assert rows["mean length"]["truncation", "0%"] == 10
    assert rows["requests"]["rejection", "90%"] == 3, "of thirty"
    assert "0.1231" in (folder / "table.md").read_text(), "the published figures are beside"


def test_decoding_tokens_are_those_of_the_paper() -> None:
    # V-STAR, section 5.5: with L = 3 and B = 16, budgets of 1 + 2B, 1 + 4B, 1 + 6B and 1 + 8B.
    found = [budget.decoding_tokens(scale, levels=3, group_size=16) for scale in (1, 2, 3, 4)]
    assert found == [33, 65, 97, 129]
    assert budget.decoding_tokens(4, levels=1, group_size=16) == 1


def test_budget_trains_with_both_decoders(capsys: Capture, data: Path) -> None:
    table, _ = done(call(capsys, words(data, "budget", "--scales", "2", "--seeds", "0,1")))
    assert table["decoder"].tolist() == ["ved", "beam"]
    assert set(table["scale"]) == {2} and set(table["steps"]) == {2}
    # G = 4, L = 3: 1 + 2 * 2 * 4.
    assert table["decoding tokens"].tolist() == [17, 17]
    records = [read_record(run) for run in run_folders(Path("runs"))]
    assert len(records) == 4
    for row, decoder in enumerate(("ved", "beam")):
        chosen = [
            record
            for record in records
            if record["configuration"]["hyperparameters"]["training"] == decoder
        ]
        assert {r["configuration"]["hyperparameters"]["token_budget"] for r in chosen} == {2}
        for metric in ("HR@10", "NDCG@10"):
            both = [record["metrics"]["test"][metric] for record in chosen]
            assert table[metric][row] == pytest.approx(sum(both) / 2)
            # Two numbers are each half their difference from their mean.
            deviation = abs(both[0] - both[1]) / 2**0.5
            assert table[f"{metric} std"][row] == pytest.approx(deviation)
        flops = [record["budget"]["spent"]["rollout"]["flops"] for record in chosen]
        assert table["rollout FLOPs"][row] == pytest.approx(sum(flops) / 2)
    # A beam is not charged for a value that does not guide it.
    assert table["value FLOPs"][0] > 0 and table["value FLOPs"][1] == 0
    assert (table["training FLOPs"] > table["rollout FLOPs"] + table["value FLOPs"]).all()
