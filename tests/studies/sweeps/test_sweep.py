"""Sweeps: trials within a total budget, cut short at any moment, blind to test examples."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from sweep_world import TOTAL, TRIAL, Make, request, table
from tiny_runs import SETTINGS, Bench, Killed, call, only_error

from genrec_bench.errors import UserError
from genrec_bench.runs.records import read_record
from genrec_bench.storage.locks import locked
from genrec_bench.studies.sweeps import sweep as sweep_module
from genrec_bench.studies.sweeps.result import SweepResult
from genrec_bench.studies.sweeps.study import Study
from genrec_bench.studies.sweeps.sweep import sweep
from genrec_bench.training.budgets import parse_exact
from genrec_bench.training.steps import RolloutStepper


def test_a_sweep_spends_its_budget_and_finds_the_best(undisturbed: SweepResult) -> None:
    result = undisturbed
    assert result.finished and result.count("running") == 0
    assert 900e6 - 200e6 < result.charged <= 900e6, "no further trial would be paid for"
    assert result.spent["flops"] == result.charged
    first, *others = result.trials
    assert first.point == {"learning_rate": 3e-5, "beta": 0.0}
    assert all(3e-6 <= trial.point["learning_rate"] <= 3e-4 for trial in others)  # type: ignore[operator]
    values = [t.value for t in result.trials if t.state == "complete" and t.value is not None]
    assert result.best is not None and result.best.value == max(values)
    assert result.count("pruned") > 0, "else this test says little"
    content = json.loads((result.folder / "best.json").read_text())
    assert content["set"] == list(result.words) and content["value"] == result.best.value
    assert content["limit"] == TOTAL and content["trials"] == len(result.trials)
    rows = table(result)
    assert rows["charge"].sum() == result.charged and list(rows["trial"]) == list(range(len(rows)))
    assert result.bill == {
        "limit": TOTAL,
        **result.spent,
        "trials": len(result.trials),
        "failed": 0,
        "pruned": result.count("pruned"),
        "study": result.study,
    }


def test_trials_leave_records_of_validation_alone_and_no_weights(undisturbed: SweepResult) -> None:
    records = [read_record(path) for path in undisturbed.folder.glob("trials/*/*/*/record.json")]
    assert len(records) == len(undisturbed.trials)
    for record in records:
        assert record["splits"] == ["valid"] and record["metrics"]["test"] == {}
        assert record["sft"]["test"] == {} and record["seed"] == 1000
        assert record["budget"]["limit"] == TRIAL
        spent = record["budget"]["spent"]
        assert sum(cost["flops"] for name, cost in spent.items() if name != "evaluation") > 0
    assert not list(undisturbed.folder.rglob("*.safetensors"))
    assert not list(undisturbed.folder.parent.parent.glob("*/run.json")), "no run among the others"


def test_a_finished_sweep_returns_at_once(
    undisturbed: SweepResult, make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "run_trial", None)
    context = replace(make(), output=undisturbed.folder.parents[2])
    assert sweep(request(), context) == undisturbed
    # Fewer trials are those that a sweep of so many would have made, whatever others found since.
    table = (undisturbed.folder / "trials.csv").read_text()
    fewer = sweep(request(most=2), context)
    assert fewer.study == undisturbed.study and fewer.trials == undisturbed.trials[:2]
    first, second = fewer.trials
    assert fewer.best == max(fewer.trials, key=lambda trial: trial.value or 0.0)
    assert fewer.bill["trials"] == 2 and fewer.charged == first.charge + second.charge
    assert (undisturbed.folder / "trials.csv").read_text() == table, "nobody's trial is forgotten"


def test_test_examples_are_never_read(make: Make, undisturbed: SweepResult) -> None:
    class Unread:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"{name} of the test examples was asked for")

        def __len__(self) -> int:
            raise AssertionError("the test examples were counted")

    context = make()
    unread: Any = Unread()
    splits = {**context.dataset.splits, "test": unread}
    result = sweep(request(), replace(context, dataset=replace(context.dataset, splits=splits)))
    assert [(t.state, t.value, t.point) for t in result.trials] == [
        (t.state, t.value, t.point) for t in undisturbed.trials
    ]


MOMENTS = [
    (Study, "ask", 3, True),
    (Study, "start", 1, False),
    (Study, "complete", 1, False),
    (RolloutStepper, "step", 7, False),
]
SELDOM = [
    *((Study, "ask", number, False) for number in (1, 3)),
    *((Study, "start", number, True) for number in (1, 3)),
    *((Study, "report", 2, after) for after in (False, True)),
    *((Study, "prune", 1, after) for after in (False, True)),
    (Study, "complete", 1, True),
]
"""Where a sweep is killed: class, method, at which call, and whether before or after it."""


@pytest.mark.parametrize(
    ("owner", "method", "number", "after"),
    [*MOMENTS, *(pytest.param(*moment, marks=pytest.mark.slow) for moment in SELDOM)],
)
def test_a_sweep_that_was_cut_short_ends_as_an_undisturbed_one(
    make: Make,
    undisturbed: SweepResult,
    monkeypatch: pytest.MonkeyPatch,
    owner: Any,
    method: str,
    number: int,
    after: bool,
) -> None:
    original, calls = getattr(owner, method), 0

    def dies(self: Any, *args: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == number and not after:
            raise Killed
        result = original(self, *args, **named)
        if calls == number:
            raise Killed
        return result

    context = make()
    with monkeypatch.context() as patch:
        patch.setattr(owner, method, dies)
        with pytest.raises(Killed):
            sweep(request(), context)
    result = sweep(request(), context)
    pd.testing.assert_frame_equal(table(result), table(undisturbed))
    assert result.finished


def test_words_that_are_given_are_not_searched(make: Make) -> None:
    asked = request(assignments=("beta=0.5",), most=2, pruner="none")
    result = sweep(asked, make("divide_by_std=false"))
    assert [set(trial.point) for trial in result.trials] == [{"learning_rate"}] * 2
    assert result.words[0] == "beta=0.5" and len(result.words) == 2
    for path in result.folder.glob("trials/*/*/*/record.json"):
        used = read_record(path)["configuration"]["hyperparameters"]
        assert used["beta"] == 0.5 and used["divide_by_std"] is False
    with pytest.raises(UserError, match=r"^sft: has nothing to search"):
        sweep(request("sft"), make("learning_rate=1e-3"))


def test_a_trial_of_a_study_of_this_name_elsewhere_is_not_ours(make: Make, tmp_path: Path) -> None:
    here = sweep_module.SweepWorker(request(), make())
    shared = sweep_module.SweepWorker(request(storage=f"sqlite:///{tmp_path}/shared.db"), make())
    assert here.study.name == shared.study.name and here._folder == shared._folder
    for work in (here, shared):
        assert work.study.ask() == 0
    lock = here._trial_folder(0) / sweep_module.LOCK_FILE
    with locked(lock, mark=here.study.mark):
        pass
    assert (here.ours(), shared.ours()) == ([0], [])
    with locked(lock, mark=shared.study.mark):
        pass
    assert shared.ours() == [0]


def test_with_a_budget_in_seconds_another_number_of_threads_is_another_study(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def names(threads: int) -> list[str]:
        monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
        found = []
        for total, trial in ((TOTAL, TRIAL), ("9s", "1s")):
            asked = request(total=parse_exact(total), trial=parse_exact(trial))
            found.append(sweep_module.SweepWorker(asked, make()).study.name)
        return found

    (operations, seconds), (same, other) = names(1), names(2)
    assert operations == same and seconds != other and names(1) == [operations, seconds]


def test_mlflow_has_one_parent_and_each_trials_true_end(make: Make, tmp_path: Path) -> None:
    from mlflow.tracking import MlflowClient

    result = sweep(request(), make(tracked=True))
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    (experiment,) = [e for e in client.search_experiments() if e.name.startswith("genrec")]
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    children = [run for run in runs if run is not parent]
    assert parent.info.status == "FINISHED" and parent.info.run_name == result.study
    assert len(children) == len(result.trials)
    assert {run.data.tags["mlflow.parentRunId"] for run in children} == {parent.info.run_id}
    states = sorted(run.data.tags["trial_state"] for run in children)
    assert states == sorted(trial.state for trial in result.trials)
    assert "RUNNING" not in {run.info.status for run in runs}


def words(bench: Bench, *more: str) -> list[str]:
    given = ["sweep", "grpo", "--dataset", "industrial", "--no-mlflow"]
    given += ["--data-dir", str(bench.data), "--output", str(bench.output), *more]
    return [*given, "--set", *SETTINGS]


def test_the_command_tells_trials_and_how_to_run_the_best(bench: Bench) -> None:
    given = words(bench, "--total-budget", TOTAL, "--trial-budget", TRIAL, "--trials", "2")
    called = call(bench.capsys, given)
    assert called.code == 0, called.err
    said = [line for line in called.err.splitlines() if line.startswith("trial ")]
    assert len(said) == 2 and said[0].startswith("trial 0: NDCG@10 0.")
    assert "learning_rate=3e-05" in said[0] and "% spent" in said[0]
    study, folder, best, command = called.out.splitlines()
    assert study.endswith("% of 900Mflop spent") and "2 trials" in study
    assert Path(folder.removeprefix("trials: ")).is_dir() and best.startswith("best: trial ")
    assert command.startswith("genrec-bench run grpo --dataset industrial --set ")
    again = call(bench.capsys, [given[0], given[1], "--json", *given[2:]])
    plain = json.loads(again.out)
    assert plain["finished"] and plain["trials"] == 2 and len(plain["table"]) == 2
    assert all(word in command for word in plain["set"])
    assert again.err == "", "what is finished is found"


def test_mistakes_are_one_line(bench: Bench) -> None:
    def error(*more: str) -> str:
        return only_error(call(bench.capsys, words(bench, *more)))

    assert "--total-budget" in error("--trial-budget", "1s")
    assert "give both in one unit" in error("--total-budget", "9s", "--trial-budget", "1Mflop")
    assert "would not pay for one trial" in error("--total-budget", "1s", "--trial-budget", "9s")
    assert "must be a whole number from 1 to" in error(
        "--total-budget", "9s", "--trial-budget", "1s", "--trials", "0"
    )
    assert "unrecognized arguments: --budget" in error(
        "--total-budget", "9s", "--trial-budget", "1s", "--budget", "1s"
    )
    assert "beam_width=5: a sweep looks at NDCG@10" in only_error(
        call(
            bench.capsys,
            [
                w if w != "beam_width=10" else "beam_width=5"
                for w in words(bench, "--total-budget", "9s", "--trial-budget", "1s")
            ],
        )
    )
    assert not list(bench.output.rglob("study.db")), "nothing was begun"
