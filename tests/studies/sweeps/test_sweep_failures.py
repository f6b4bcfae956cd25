"""Trials that fail, points that are refused, and what is no trial's fault."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest
from fake_mlflow import FakeServer, install
from sweep_world import FAILS, Make, request, table

from genrec_bench.algorithms.grpo import GRPO
from genrec_bench.errors import StorageError, UserError
from genrec_bench.studies.sweeps import admission
from genrec_bench.studies.sweeps import trial as sweep_trial
from genrec_bench.studies.sweeps.result import SweepResult
from genrec_bench.studies.sweeps.sweep import sweep
from genrec_bench.training.budgets import parse_exact
from genrec_bench.training.steps import RolloutStepper


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
    # Above what a step takes at least: less is refused before anything is trained.
    trial = parse_exact("6Mflop", "--trial-budget")
    small = request(total=parse_exact("100Mflop"), trial=trial)
    said = r"its first trial failed; .*--trial-budget 6Mflop: too small for one step"
    with pytest.raises(UserError, match=said):
        sweep(small, make())


REFUSES = FAILS.replace(
    "    def loss(self, batch, scores):",
    """    def __init__(self, hyperparameters):
        super().__init__(hyperparameters)
        if hyperparameters.strength != 0.25:
            raise UserError(f"strength={hyperparameters.strength}: asks for too much")

    def loss(self, batch, scores):""",
).replace(
    "from dataclasses import", "from genrec_bench.errors import UserError\nfrom dataclasses import"
)


def test_points_that_are_refused_cost_nothing_and_not_for_ever(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setattr(admission, "FREE_TRIALS", 3)
    (tmp_path / "refuses.py").write_text(REFUSES.replace("DEFAULT", "0.25"))
    context = make(tracked=True)
    said: list[str] = []
    monkeypatch.setattr(context.progress, "say", said.append)
    result = sweep(request(str(tmp_path / "refuses.py")), context)
    assert [trial.state for trial in result.trials] == ["complete", *["failed"] * 3]
    assert result.finished and result.best == result.trials[0]
    assert result.charged == result.trials[0].charge > 0, "and there is budget left"
    assert re.search(r"in a row could not begin; .*strength=.*: asks for too much$", said[-1])
    client = MlflowClient(f"sqlite:///{tmp_path}/runs/mlflow.db")
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    states = [run.data.tags.get("trial_state") for run in runs]
    assert sorted(filter(None, states)) == ["complete", "failed", "failed", "failed"]
    assert "RUNNING" not in {run.info.status for run in runs}


def test_what_the_system_refuses_to_an_algorithm_is_charged(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(self: Any, *args: Any) -> Any:
        raise FileNotFoundError(2, "No such file or directory", "weights")

    with monkeypatch.context() as patch:
        patch.setattr(GRPO, "loss", lacks)
        with pytest.raises(UserError, match="its first 3 trials failed; .*FileNotFoundError"):
            sweep(request(), make())
    (folder,) = (make().output / "industrial/sweeps").iterdir()
    rows = pd.read_csv(folder / "trials.csv")
    assert list(rows["state"]) == ["failed"] * 3 and (rows["charge"] > 0).all()


def test_a_full_disk_is_no_failed_trial(
    make: Make, undisturbed: SweepResult, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, calls = RolloutStepper.step, 0

    def fills(self: Any, *args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 7:
            raise OSError(28, "No space left on device", "x")
        return original(self, *args)

    monkeypatch.setattr(RolloutStepper, "step", fills)
    with pytest.raises(StorageError, match="cannot use x: No space left on device"):
        sweep(request(), make())
    result = sweep(request(), make())
    pd.testing.assert_frame_equal(table(result), table(undisturbed))


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
    server = install(monkeypatch, FakeServer())
    context = make(tracked=True)
    said: list[str] = []
    monkeypatch.setattr(context.progress, "say", said.append)
    result = sweep(request(most=1, storage=url), context)
    assert "the study had taken it for dead" in said[-1]
    (trial,) = result.trials
    assert (trial.state, trial.charge, trial.cost) == ("died", 200e6, None)
    assert result.finished and result.best is None and result.bill["failed"] == 1
    assert not (result.folder / "study.db").exists()
    trials = [run for run in server.runs.values() if "trial_state" in run.tags]
    assert [(run.status, run.tags["trial_state"]) for run in trials] == [("FAILED", "failed")]
    assert len(server.runs) == 2
