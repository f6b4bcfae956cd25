"""The command that runs an ablation, goes on where it was cut short, and shows the figures."""

import csv
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from compare_world import StudyCommand
from fake_mlflow import FakeServer, install
from tiny_runs import SETTINGS, Killed, call, last_error, only_error, run_folders, run_words

from genrec_bench.commands.cli import main
from genrec_bench.runs.records import read_record
from genrec_bench.training import evaluation_cache, steps

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.usefixtures("somewhere")

BROKEN = '''
"""GRPO that fails."""

from genrec_bench.algorithms.grpo import GRPO
from genrec_bench.errors import UserError


class Broken(GRPO):
    """Fails when it rewards."""

    def reward(self, seen):
        """Fail."""
        raise {error}("no reward\\nand a second line")
'''


class Ablate(StudyCommand):
    place = "ablations"
    settings: Sequence[str] = (*SETTINGS, "pass_samples=0")

    def words(self, name: str, *more: str) -> list[str]:
        words = ["ablate", name, "--dataset", "industrial", "--data-dir", str(self.data)]
        words += ["--output", str(self.output), *(word for word in more if "=" not in word)]
        words += [] if {"--seeds", "--seed"} & set(more) else ["--seed", "0"]
        words += [] if "--tracked" in more else ["--no-mlflow"]
        assignments = [word for word in more if "=" in word]
        words = [word for word in words if word != "--tracked"]
        return [*words, "--set", *self.settings, *assignments]


@pytest.fixture
def ablate(capsys: Capture, data: Path, tmp_path: Path) -> Ablate:
    return Ablate(capsys, data, tmp_path / "runs")


def own(rows: list[dict[str, Any]], metrics: list[Any] | None = None, **more: Any) -> str:
    """Write a file of one's own and return its path."""
    table = {"name": "1", "metrics": metrics or ["HR@10", "MRR"], "rows": rows} | more
    content = {"title": "Mine", "paper": "nobody 2026", "setting": "another one"}
    Path("mine.yaml").write_text(yaml.safe_dump(content | {"algorithm": "ugr", "tables": [table]}))
    return "./mine.yaml"


TWO = {"label": "two", "set": ["confidence=false"]}


def test_what_is_not_there_is_told_of(capsys: Capture) -> None:
    Path("no.yaml").write_text("a: [")
    for words, message in (
        (["urg"], "unknown ablation 'urg'; did you mean 'ugr'?; the ablations are srpo, ugr, vsta"),
        (["./gone.yaml"], "ablation ./gone.yaml: there is no such file"),
        (["no.yaml"], "no.yaml: not valid YAML: "),
        (["vstar", "--tables", "2,5"], "--tables 5: must be of 2, 3, 4"),
        (["ugr", "--seeds", "1,1"], "argument --seeds: 1,1: a seed is given twice"),
        (["ugr", "--budget", "9"], "--budget '9' is not understood: "),
        (["ugr", "--set", "beta"], "--set beta: must be key=value"),
    ):
        assert only_error(call(capsys, ["ablate", *words])).startswith(message)


def test_nothing_runs_before_all_words_are_right(ablate: Ablate) -> None:
    for words, message in (
        (["confidence=true"], "--set confidence: the ablation's rows set it themselves"),
        (["alpha=0"], "--set alpha: neither a hyperparameter of ugr nor a setting"),
        (["alpha_min=2"], "alpha_min=2.0: must be between 0 and 1"),
    ):
        assert last_error(ablate.call("ugr", *words)).startswith(message)
    path = own([TWO, {"label": "b", "evaluate": ["rerank=maybe"]}])
    assert last_error(ablate.call(path)) == "rerank=maybe: must be true or false"
    assert not run_folders(ablate.output)
    # Which metrics there are, only a record can tell; one is enough.
    path = own([TWO, {"label": "b"}], metrics=[{"name": "x", "mean": ["HR@10", "NCDG@10"]}])
    said = last_error(ablate.call(path))
    assert said == ("table 1: there is no metric 'NCDG@10' in the records; did you mean 'NDCG@10'?")
    assert len(run_folders(ablate.output)) == 1


def test_ugr_is_killed_and_goes_on(ablate: Ablate, monkeypatch: pytest.MonkeyPatch) -> None:
    real = steps.RolloutStepper.step
    taken = 0

    def step(self: Any, index: int, share: float, part: float = 1.0) -> dict[str, float]:
        nonlocal taken
        taken += 1
        if taken == 6:
            raise Killed
        return real(self, index, share, part)

    monkeypatch.setattr(steps.RolloutStepper, "step", step)
    # Two steps a run: the third run dies in its second.
    with pytest.raises(Killed):
        ablate.call("ugr")
    cut = run_folders(ablate.output)
    finished = [folder for folder in cut if (folder / "record.json").exists()]
    assert len(cut) == 3 and len(finished) == 2

    called = ablate.call("ugr", "--json")
    assert called.code == 0
    lines = called.err.splitlines()
    assert lines[0] == "ablation ugr on industrial (partial)"
    assert lines[1] == "runs in all: 5; looking for those that are finished"
    assert lines[2] == "finished already: 2"
    assert "[3/5] (b3) GRPO, uncertainty reward, seed 0" in lines
    assert lines[-1] == f"written: {ablate.folder()}"
    folders = run_folders(ablate.output)
    assert len(folders) == 5 and set(cut) <= set(folders)

    told = json.loads(called.out)
    (table,) = told["tables"]
    start, *rows = table["rows"]
    records = {folder.name: read_record(folder) for folder in folders}
    assert start["means"] == {
        name: next(iter(records.values()))["sft"]["test"][name] for name in table["metrics"]
    }
    assert start["sft"] and start["runs"] == start["deviations"] == start["failures"] == {}
    shown = {
        "(b1) GRPO, 0/1 reward": ("rule", False, False),
        "(b2) GRPO, rank reward": ("rank", False, False),
        "(b3) GRPO, uncertainty reward": ("uncertainty", False, False),
        "(c) b3 with difficulty": ("uncertainty", True, False),
        "(d) UGR, c with confidence": ("uncertainty", True, True),
    }
    for row in rows:
        record = records[row["runs"]["0"]]
        chosen = record["configuration"]["hyperparameters"]
        parts = (chosen["reward"], chosen["difficulty"], chosen["confidence"])
        assert parts == shown.pop(row["label"])
        assert row["means"] == {name: record["metrics"]["test"][name] for name in table["metrics"]}
        assert row["deviations"] == row["failures"] == {}
    assert not shown
    assert rows[-1]["published"]["office"]["NDCG@10"] == 0.1231
    assert told["dataset"] == "industrial" and told["partial"] and told["seeds"] == [0]

    # All is there now: the tables alone are made again, and they are the same.
    def never(*_: Any) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(steps.RolloutStepper, "step", never)
    again = ablate.call("ugr", "--json")
    assert again.out == called.out and "finished already: 5" in again.err


def test_the_tables_show_ours_beside_the_published(ablate: Ablate) -> None:
    rows: list[dict[str, Any]] = [
        {"label": "start", "sft": True, "published": {"office": [0.5, 0.25]}},
        {"label": "a|b", "set": ["reward=rule"], "published": {"office": [0.125, None]}},
        {"label": "the same", "set": ["reward=rule", "alpha_min=0"]},
    ]
    called = ablate.call(own(rows, note="Mind this."), "--seeds", "0,3")
    assert called.code == 0
    lines = called.out.splitlines()
    assert lines[0] == "Mine (nobody 2026), on industrial (partial)"
    assert "seeds 0, 3, steps=2, " in called.out and "hits are counted by item" in called.out
    differ = "The settings differ: compare the order of the rows, not the figures."
    assert f"Published: another one. {differ}" in lines
    assert "The published figures are on office; there are none on industrial." in lines
    assert "Mind this." in lines
    folders = run_folders(ablate.output)
    assert len(folders) == 2, "two rows that are one run, two seeds"
    first, second = (read_record(folder)["metrics"]["test"] for folder in folders)
    (start,) = [line.split() for line in lines if line.startswith("start ")]
    assert start[-3:] == ["–", "0.5000", "0.2500"]
    (one,) = [line.split() for line in lines if line.startswith("a|b ")]
    (other,) = [line.split() for line in lines if line.startswith("the same ")]
    # Of two numbers the sample standard deviation is their distance over the root of 2.
    figures = []
    for name in ("HR@10", "MRR"):
        mean, distance = (first[name] + second[name]) / 2, abs(first[name] - second[name])
        figures += [f"{mean:.4f}", "±", f"{distance / math.sqrt(2):.4f}"]
    assert one == ["a|b", *figures, "2", "0.1250", "–"]
    assert other == ["the", "same", *figures, "2", "–", "–"]

    page = (ablate.folder() / "table.md").read_text()
    assert page.startswith("# Mine (nobody 2026), on industrial (partial)\n")
    assert "| a\\|b " in page and str(ablate.data) not in page
    with (ablate.folder() / "table.csv").open() as file:
        table = list(csv.DictReader(file))
    assert [(line["row"], line["metric"]) for line in table] == [
        (row["label"], metric) for row in rows for metric in ("HR@10", "MRR")
    ]
    assert float(table[2]["mean"]) == pytest.approx((first["HR@10"] + second["HR@10"]) / 2)
    assert table[0]["deviation"] == table[3]["published office"] == ""
    assert table[1]["published office"] == "0.25" and table[2]["runs"] == "2"


def test_words_of_inference_evaluate_a_policy_again_without_training_it(
    ablate: Ablate, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Words that rows set themselves are refused for all of them; here that is the beam's width.
    ablate.settings = [word for word in ablate.settings if not word.startswith("beam_width=")]
    learning = ["learning_rate=0.01"]
    rows = [
        {"label": "as it is", "evaluate": ["rerank=false", "beam_width=20"]},
        {"label": "reranked", "evaluate": ["rerank=true", "rerank_weight=50"]},
        {"label": "narrow", "evaluate": ["beam_width=1"]},
    ]
    path = own(rows, metrics=["NDCG@1", "unique_candidates"])
    told = ablate.json(path, *learning)
    (run,) = run_folders(ablate.output)
    kept = sorted(file.name for file in run.glob("evaluation-*.json"))
    assert len(kept) == 2, "what the record tells is not evaluated again"
    as_it_is, reranked, narrow = (row["means"] for row in told["tables"][0]["rows"])
    assert as_it_is["NDCG@1"] == read_record(run)["metrics"]["test"]["NDCG@1"]
    assert as_it_is["unique_candidates"] == reranked["unique_candidates"] == 20
    assert narrow["unique_candidates"] == 1
    # Reranking does not bear on training: a run of its own ends at the same policy.
    reranking = ["rerank=true", "rerank_weight=50", "beam_width=20", "pass_samples=0"]
    words = run_words("ugr", ablate.data, Path("alone"), *learning, *reranking)
    assert call(ablate.capsys, words).code == 0
    (alone,) = run_folders(Path("alone"))
    assert reranked["NDCG@1"] == read_record(alone)["metrics"]["test"]["NDCG@1"]
    assert reranked["NDCG@1"] != as_it_is["NDCG@1"]

    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("evaluated again")

    with monkeypatch.context() as patch:
        patch.setattr(evaluation_cache, "evaluate", never)
        assert ablate.json(path, *learning) == told
    (run / kept[0]).write_text("{}")
    called = ablate.call(path, *learning)
    assert called.code == 0 and "is evaluated again" in called.err


def test_a_policy_is_evaluated_again_with_its_trained_heads(ablate: Ablate) -> None:
    row = {"label": "by value", "algorithm": "vstar", "evaluate": ["inference=ved"]}
    told = ablate.json(own([row], metrics=["NDCG@10", "MRR"]), "value_weight=3")
    (ours,) = told["tables"][0]["rows"]
    # How candidates are found at inference does not bear on training, value head included.
    words = ["inference=ved", "value_weight=3", "pass_samples=0"]
    assert call(ablate.capsys, run_words("vstar", ablate.data, Path("alone"), *words)).code == 0
    (alone,) = run_folders(Path("alone"))
    metrics = read_record(alone)["metrics"]["test"]
    assert ours["means"] == {name: metrics[name] for name in ("NDCG@10", "MRR")}
    (run,) = run_folders(ablate.output)
    assert read_record(run)["metrics"]["test"]["MRR"] != metrics["MRR"]


@pytest.mark.parametrize(
    ("error", "code", "begin"),
    [
        ("UserError", 2, ""),
        ("ArithmeticError", 1, "ArithmeticError: "),
        ("GeneratorExit", 2, "broken.py line 13: GeneratorExit: "),
    ],
)
def test_a_row_that_fails_is_shown_and_the_others_go_on(
    ablate: Ablate, error: str, code: int, begin: str
) -> None:
    Path("broken.py").write_text(BROKEN.format(error=error))
    rows = [{"label": "bad", "algorithm": "./broken.py"}, {"label": "good", "algorithm": "grpo"}]
    called = ablate.call(own(rows))
    assert called.code == code
    assert ("Traceback" in called.err) == (code == 1)
    reason = f"{begin}no reward and a second line"
    (bad,) = [line.split() for line in called.out.splitlines() if line.startswith("bad ")]
    assert bad == ["bad", "failed", "failed", "0", "of", "1"]
    (good,) = [line.split() for line in called.out.splitlines() if line.startswith("good ")]
    assert len(good) == 4 and float(good[1]) > 0
    assert f"Failed: bad, seed 0: {reason}" in called.out.splitlines()
    told = ablate.json("./mine.yaml", code=code)
    bad_row, good_row = told["tables"][0]["rows"]
    assert bad_row["means"] == {} and bad_row["failures"] == {"0": reason}
    assert good_row["failures"] == {} and len(good_row["runs"]) == 1
    # With the file mended, only that row is run.
    mended = BROKEN[: BROKEN.index("        raise")] + "        return super().reward(seen)\n"
    Path("broken.py").write_text(mended)
    mended_row, same_row = ablate.json("./mine.yaml")["tables"][0]["rows"]
    assert same_row == good_row and mended_row["means"] == good_row["means"]


def test_mlflow_has_the_tables(ablate: Ablate, monkeypatch: pytest.MonkeyPatch) -> None:
    server = install(monkeypatch, FakeServer())
    path = own([{"label": "good", "algorithm": "grpo"}])
    assert main(ablate.words(path, "--tracked")) == 0
    run, tables = server.runs.values()
    assert run.tags["algorithm"] == "grpo" and set(run.files) == {"record.json"}
    assert tables.status == "FINISHED" and tables.name == ablate.folder().name
    assert tables.tags["kind"] == "ablation" and tables.tags["ablation"] == "mine"
    assert tables.tags["partial"] == "true" and tables.params["seeds"] == "[0]"
    names = ("table.md", "table.csv")
    assert tables.files == {name: (ablate.folder() / name).read_text() for name in names}
