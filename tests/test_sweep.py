"""Sweeps: trials within a total budget, cut short at any moment, blind to test examples."""

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from tiny_runs import SETTINGS, Bench, call, only_error, save_tiny, shrink_backbone

from genrec_bench.budget import parse_budget
from genrec_bench.errors import UserError
from genrec_bench.jobs import Context, add_context_options, context_of
from genrec_bench.records import read_record
from genrec_bench.steps import RolloutStepper
from genrec_bench.sweeps import sweep as sweep_module
from genrec_bench.sweeps import trial as sweep_trial
from genrec_bench.sweeps.result import SweepResult
from genrec_bench.sweeps.study import Study
from genrec_bench.sweeps.sweep import SweepRequest, sweep

TOTAL, TRIAL = "900Mflop", "200Mflop"

FAILS = '''
"""GRPO with a choice that no run survives.

It is there to be found out.
"""

from dataclasses import dataclass

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.hyperparameters import hyperparameter


@dataclass(frozen=True)
class Choices(GRPOHyperparameters):
    """One more."""

    beta: float = hyperparameter(0.0, low=0, high=1, search=False, help="none")
    strength: float = hyperparameter(DEFAULT, low=0, high=2, search=(0, 2), help="how much")


class Fails(GRPO):
    """GRPO, told again."""

    hyperparameters_class = Choices

    def loss(self, batch, scores):
        """Divide by nothing where much is asked for."""
        loss, figures = super().loss(batch, scores)
        return loss / (self.hyperparameters.strength < 0.5), figures
'''

Make = Callable[..., Context]


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory with the dataset, for a smaller `tiny`; SFT starts gather in it."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_backbone(patch)
        yield save_tiny(tmp_path_factory.mktemp("data"))


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Make:
    def context(*words: str, output: str = "runs", tracked: bool = False) -> Context:
        parser = argparse.ArgumentParser()
        add_context_options(parser)
        given = ["--dataset", "industrial", "--data-dir", str(data)]
        given += ["--output", str(tmp_path / output), "--set", *SETTINGS, *words]
        given += [] if tracked else ["--no-mlflow"]
        with context_of(parser.parse_args(given)) as opened:
            return opened

    return context


def request(algorithm: str = "grpo", **changed: Any) -> SweepRequest:
    budgets = {"total": parse_budget(TOTAL), "trial": parse_budget(TRIAL)}
    return SweepRequest(algorithm, **{**budgets, "sampler": "random", **changed})


def table(result: SweepResult) -> pd.DataFrame:
    """All trials but for what differs between two equal sweeps."""
    return pd.read_csv(result.folder / "trials.csv").drop(columns="seconds")


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> SweepResult:
    parser = argparse.ArgumentParser()
    add_context_options(parser)
    output = tmp_path_factory.mktemp("undisturbed")
    words = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(output)]
    with context_of(parser.parse_args([*words, "--no-mlflow", "--set", *SETTINGS])) as context:
        return sweep(request(), context)


def test_a_sweep_spends_its_budget_and_finds_the_best(undisturbed: SweepResult) -> None:
    result = undisturbed
    assert result.finished and result.count("running") == 0
    assert 900e6 - 200e6 < result.charged <= 900e6, "no further trial would be paid for"
    assert result.spent["flops"] == result.charged
    first, *others = result.trials
    assert first.point == {"learning_rate": 3e-5, "beta": 0.0, "divide_by_std": True}
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
    monkeypatch.setattr(sweep_module, "carry_out", None)
    context = replace(make(), output=undisturbed.folder.parents[2])
    assert sweep(request(), context) == undisturbed
    # More trials of the same study do not change what it is called, another seed does.
    fewer = sweep(request(most=1), context)
    assert fewer.study == undisturbed.study and fewer.trials == undisturbed.trials


def test_test_examples_are_never_read(make: Make, undisturbed: SweepResult) -> None:
    class Unread:
        def __getattribute__(self, name: str) -> Any:
            raise AssertionError(f"{name} of the test examples was asked for")

        def __len__(self) -> int:
            raise AssertionError("the test examples were counted")

    context = make()
    unread: Any = Unread()
    result = sweep(request(), replace(context, dataset=replace(context.dataset, test=unread)))
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


def test_what_fails_is_charged_and_the_sweep_goes_on(make: Make, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS.replace("DEFAULT", "0.25"))
    result = sweep(request(str(tmp_path / "fails.py"), pruner="none"), make())
    failed = [trial for trial in result.trials if trial.state == "failed"]
    assert failed and result.count("complete"), "chances for either are even"
    for trial in failed:
        assert trial.point["strength"] >= 0.5 and "is nan" in trial.reason  # type: ignore[operator]
        assert 0 < trial.charge < 200e6, "it paid for the step that failed, and no more"
    assert result.charged <= 900e6 and result.bill["failed"] == len(failed)


def test_a_sweep_whose_first_trials_all_fail_says_why_and_stops(make: Make, tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(
        FAILS.replace("DEFAULT", "1.5").replace("search=(0, 2)", "search=(1, 2)")
    )
    asked, context = request(str(tmp_path / "fails.py")), make()
    for again in (False, True):
        with pytest.raises(UserError, match=r"its first 3 trials failed; .* is nan and"):
            sweep(asked, context)
        (folder,) = (tmp_path / "runs/industrial/sweeps").iterdir()
        assert len(pd.read_csv(folder / "trials.csv")) == 3, again
        assert json.loads((folder / "best.json").read_text())["value"] is None


def test_a_budget_below_one_step_is_charged_for_what_it_took(make: Make) -> None:
    small = request(total=parse_budget("100Mflop"), trial=parse_budget("1Mflop"))
    with pytest.raises(UserError, match=r"its first trial failed; .*too small for one step"):
        sweep(small, make())


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


def test_a_trial_that_another_machine_buried_stays_charged(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It comes to its end all the same, too late for the study."""
    original: Callable[..., Path] = vars(sweep_trial)["run"]
    url = f"sqlite:///{tmp_path}/shared.db"

    def buries(*args: Any, **named: Any) -> Path:
        path = original(*args, **named)
        (name,) = optuna.get_all_study_names(url)
        theirs = optuna.load_study(study_name=name, storage=url)
        theirs.tell(0, state=optuna.trial.TrialState.FAIL)
        return path

    monkeypatch.setattr(sweep_trial, "run", buries)
    context = make()
    said: list[str] = []
    monkeypatch.setattr(context.progress, "say", said.append)
    result = sweep(request(most=1, storage=url), context)
    assert "the study had taken it for dead" in said[-1]
    (trial,) = result.trials
    assert (trial.state, trial.charge, trial.cost) == ("died", 200e6, None)
    assert result.finished and result.best is None and result.bill["failed"] == 1
    assert not (result.folder / "study.db").exists()


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


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path) -> Bench:
    return Bench(capsys, data, tmp_path / "runs")


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
    assert "must be between 1 and" in error(
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
