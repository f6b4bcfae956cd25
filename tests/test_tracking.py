"""Tracking: MLflow gets everything, says nothing, and cannot hurt a run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench import tracking
from genrec_bench.tracking import NullTracker, Tracker, mlflow_name


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what the tracker sets, and do not wait for servers that are not there."""
    for key in tracking._ENVIRONMENT:
        monkeypatch.setenv(key, os.environ.get(key, tracking._ENVIRONMENT[key]))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def local_client(output: Path):  # type: ignore[no-untyped-def]  # MLflow is imported late
    from mlflow.tracking import MlflowClient
    from sqlalchemy.engine import URL

    database = URL.create("sqlite", database=str(output / "mlflow.db"))
    return MlflowClient(database.render_as_string())


def test_a_local_database_holds_the_whole_run(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "odd 100%20#folder"
    record = tmp_path / "record.json"
    record.write_text("{}")
    table = tmp_path / "table.md"
    table.write_text("a table")
    params: dict[str, object] = {
        "algorithm": "ugr",
        "hyperparameters": {"alpha": 0.5, "on": True},
        "long": "x" * 7000,
    } | {f"many{i}": i for i in range(150)}
    with Tracker(output, "synthetic") as tracker:
        tracker.start("first", params, {"seed": "0"})
        for step in range(600):
            tracker.log({"loss": 1.0 / (step + 1), "sid/HR@10": 0.25}, step)
        tracker.attach(table)
        tracker.finish(record)
        tracker.attach(record)  # too late: the run has ended
    for error, name in ((ValueError, "failed"), (KeyboardInterrupt, "killed")):
        with pytest.raises(error), Tracker(output, "synthetic") as tracker:
            tracker.start(name, {}, {})
            tracker.log({"loss": 2.0}, 0)
            raise error
    assert capfd.readouterr() == ("", "")

    client = local_client(output)
    experiment = client.get_experiment_by_name("genrec-bench/synthetic")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert {name: run.info.status for name, run in runs.items()} == {
        "first": "FINISHED",
        "failed": "FAILED",
        "killed": "KILLED",
    }
    first = runs["first"]
    assert first.data.params["hyperparameters.alpha"] == "0.5"
    assert first.data.params["hyperparameters.on"] == "true"
    assert first.data.params["algorithm"] == "ugr" and first.data.params["many149"] == "149"
    assert len(first.data.params["long"]) == 6000 and first.data.tags["seed"] == "0"
    assert first.data.metrics["sid/HR_at_10"] == 0.25
    history = client.get_metric_history(first.info.run_id, "loss")
    assert [(m.step, m.value) for m in history] == [(s, 1.0 / (s + 1)) for s in range(600)]
    assert runs["failed"].data.metrics == {"loss": 2.0}, "what was logged before the failure stays"
    artifacts = [artifact.path for artifact in client.list_artifacts(first.info.run_id)]
    assert artifacts == ["configuration.json", "record.json", "table.md"]
    assert len(list(output.glob("mlartifacts/*/artifacts/record.json"))) == 1


def test_an_unreachable_server_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with Tracker(tmp_path, "synthetic") as tracker:
        tracker.start("run", {"a": 1}, {})
        tracker.log({"loss": 1.0}, 0)
        tracker.finish()
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1
    assert err.startswith("warning: MLflow failed (") and "the run goes on" in err
    assert list(tmp_path.iterdir()) == [], "no local database beside a server of one's own"


def test_a_database_that_cannot_be_opened_costs_one_line(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_text("this is no database, and long enough to be read as one")
    lines: list[str] = []
    with Tracker(tmp_path, "synthetic", warn=lines.append) as tracker:
        tracker.start("run", {}, {})
        tracker.log({"loss": 1.0}, 0)
    assert len(lines) == 1 and "not a database" in lines[0]


class FlakyClient:
    """Fails for the first `failures` batches."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.values: list[float] = []
        self.status = "RUNNING"

    def log_batch(self, run_id: str, metrics: list[object]) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("server went away\nand a long story")
        assert len(metrics) <= 1000
        self.values += [metric.value for metric in metrics]  # type: ignore[attr-defined]

    def set_terminated(self, run_id: str, status: str) -> None:
        self.status = status


def flaky_tracker(
    client: FlakyClient, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> Tracker:
    monkeypatch.setattr(tracking, "FLUSH_SECONDS", 0.0)
    tracker = Tracker(Path("unused"), "synthetic", warn=lines.append)
    monkeypatch.setattr(tracker, "_client", client)
    return tracker


def test_a_short_outage_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    client, lines = FlakyClient(failures=1), list[str]()
    tracker = flaky_tracker(client, lines, monkeypatch)
    for step in range(2500):
        tracker.log({"loss": float(step)}, step)
    assert client.values == [] and client.failures == 0, "not every step asks a dead server again"
    tracker.finish()
    assert client.values == [float(step) for step in range(2500)]
    assert client.status == "FINISHED"
    assert len(lines) == 1 and "server went away)" in lines[0]


def test_a_run_is_ended_even_where_its_figures_cannot_be_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client, lines = FlakyClient(failures=99), list[str]()
    tracker = flaky_tracker(client, lines, monkeypatch)
    with tracker:
        tracker.log({"loss": 1.0}, 0)
    assert client.status == "FAILED", "finish was not called"
    tracker.finish()
    assert client.status == "FAILED" and len(lines) == 1


def test_the_null_tracker_swallows_everything_but_exceptions(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), NullTracker() as tracker:
        tracker.start("run", {"a": 1}, {})
        tracker.log({"loss": 1.0}, 0)
        tracker.finish(tmp_path / "record.json")
        raise ZeroDivisionError


def test_mlflow_is_not_imported_before_a_run_starts() -> None:
    code = "import sys, genrec_bench.tracking; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("HR@10", "HR_at_10"),
        ("sid/NDCG@10", "sid/NDCG_at_10"),
        ("loss (mean)", "loss _mean_"),
        ("/a//b/../c/", "a/b/c"),
        ("", "_"),
    ],
)
def test_names(name: str, expected: str) -> None:
    assert mlflow_name(name) == expected


@given(st.text(max_size=300))
def test_mlflow_takes_every_name(name: str) -> None:
    from mlflow.utils.validation import _validate_metric, _validate_param_name

    _validate_metric(mlflow_name(name), 0.0, 0, 0)  # type: ignore[no-untyped-call]
    _validate_param_name(mlflow_name(name))  # type: ignore[no-untyped-call]
