"""Several workers on one study: started together, told apart, and mourned without harm."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import pytest
from sweep_world import Make
from tiny_runs import SETTINGS, save_tiny

from genrec_bench.runs.jobs import Context, Crew
from genrec_bench.storage.locks import locked
from genrec_bench.studies.sweeps import sweep as sweep_module
from genrec_bench.studies.sweeps.sweep import sweep, sweep_together
from genrec_bench.studies.sweeps.sweep_request import SweepRequest
from genrec_bench.studies.worker import Task
from genrec_bench.training.budgets import parse_exact


def test_all_of_the_crew_share_a_study_that_is_not_finished(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make()
    asked = SweepRequest("grpo", parse_exact("400Mflop"), parse_exact("200Mflop"))
    begun: list[list[str]] = []

    def one_after_the_other(tasks: Sequence[Task], context: Context) -> None:
        begun.append([task.label for task in tasks])
        for task in tasks:
            task.work(context)

    monkeypatch.setattr(sweep_module, "carry_out", one_after_the_other)
    # As many as the budget may pay for, where a cluster has room for any number.
    for crew, most in ((Crew(0, "ray"), 2), (Crew(7), 2)):
        object.__setattr__(context, "crew", crew)
        sweep_together(asked, context)
        assert begun == [[f"trials ({n} of {most})" for n in range(1, most + 1)]]
    result = sweep(asked, context)
    assert result.finished and result.best is not None


def test_trials_that_all_fail_are_told_once(make: Make) -> None:
    context = make()
    asked = SweepRequest("grpo", parse_exact("100Mflop"), parse_exact("6Mflop"))
    # What one process raised would stop the others in the middle of a trial.
    sweep_module._share(asked, context)
    with pytest.raises(sweep_module.AllFailed):
        sweep(asked, context)


def test_a_worker_waits_for_anothers_trial_and_takes_it_up_if_that_one_dies(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = make()
    asked = SweepRequest("grpo", parse_exact("200Mflop"), parse_exact("200Mflop"))
    other = sweep_module.SweepWorker(asked, context)
    number = other.study.ask()
    lock = locked(other._trial_folder(number) / sweep_module.LOCK_FILE)
    assert lock.__enter__()
    waited: list[float] = []

    sleep = time.sleep

    def dies(seconds: float) -> None:
        if seconds != 1.25:
            return sleep(seconds)
        waited.append(seconds)
        if len(waited) == 2:
            lock.__exit__(None, None, None)

    monkeypatch.setattr(sweep_module, "WAIT_SECONDS", 1.25)
    monkeypatch.setattr(time, "sleep", dies)
    result = sweep(asked, context)
    assert len(waited) == 2
    assert [trial.state for trial in result.trials] == ["complete"] and result.finished


def command(data: Path, output: Path, *more: str) -> list[str]:
    words = [sys.executable, "-m", "genrec_bench", "sweep", "grpo", "--dataset", "industrial"]
    words += ["--total-budget", "30Gflop", "--trial-budget", "4Gflop", "--sampler", "random"]
    words += ["--data-dir", str(data), "--output", str(output), *more]
    return [*words, "--set", *SETTINGS]


@pytest.mark.slow
def test_two_processes_share_a_budget_and_one_may_die(
    tmp_path: Path, environment: dict[str, str]
) -> None:
    from mlflow.tracking import MlflowClient

    data, output = save_tiny(tmp_path / "data"), tmp_path / "runs"
    words = command(data, output)
    # Typed twice at one moment: they make the SFT start, the database and the study together.
    first, second = (subprocess.Popen(words, env=environment) for _ in range(2))
    trials = output / "industrial" / "sweeps"
    deadline = time.monotonic() + 300
    while not list(trials.glob("*/trials/0001/*/*/checkpoints/step-*")):
        assert time.monotonic() < deadline and first.poll() is None
        time.sleep(0.2)
    os.kill(second.pid, signal.SIGKILL)
    assert second.wait() == -signal.SIGKILL and first.wait(timeout=500) == 0
    (folder,) = trials.iterdir()
    rows = pd.read_csv(folder / "trials.csv")
    assert set(rows["state"]) <= {"complete", "pruned", "refused"}
    assert 26e9 < rows["charge"].sum() <= 30e9
    # Each trial was paid for once: what its record says is what the study says.
    client = MlflowClient(f"sqlite:///{output}/mlflow.db")
    ids = [e.experiment_id for e in client.search_experiments()]
    runs = client.search_runs(ids)
    children = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
    assert len(children) == (rows["state"] != "refused").sum()
    assert len({run.data.tags["mlflow.parentRunId"] for run in children}) == 1
    assert "RUNNING" not in {run.info.status for run in runs}


@pytest.mark.slow
def test_workers_of_one_command(tmp_path: Path, environment: dict[str, str]) -> None:
    data, output = save_tiny(tmp_path / "data"), tmp_path / "runs"
    words = command(data, output, "--workers", "2", "--no-mlflow")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=500)
    assert done.returncode == 0, done.stderr
    assert "[worker 2] trial " in done.stderr and "[worker 1] trial " in done.stderr
    assert len(done.stdout.splitlines()) == 4
    (folder,) = (output / "industrial" / "sweeps").iterdir()
    assert 26e9 < pd.read_csv(folder / "trials.csv")["charge"].sum() <= 30e9
