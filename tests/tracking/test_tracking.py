"""Tracking: MLflow gets everything, says nothing, and cannot hurt a run."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fake_mlflow import FakeServer, install
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench.tracking import courier as tracking_courier
from genrec_bench.tracking import sender as tracking_sender
from genrec_bench.tracking.sender import mlflow_name
from genrec_bench.tracking.tracker import NullTracker, Tracker


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Undo what the tracker sets, and do not wait for servers that are not there."""
    monkeypatch.setattr(tracking_courier, "_weather", {})
    for key, value in tracking_sender.ENVIRONMENT.items():
        monkeypatch.setenv(key, os.environ.get(key, value))
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


def test_a_short_outage_loses_nothing_without_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, lines = install(monkeypatch, FakeServer()), list[str]()
    with Tracker(tmp_path, "synthetic", warn=lines.append) as tracker:
        tracker.start("run", {}, {})
        # A server that does not answer is not asked again for every figure.
        monkeypatch.setattr(tracking_courier, "FLUSH_SECONDS", 3600.0)
        server.away = True
        asked = server.requests
        for step in range(2500):
            tracker.log({"loss": float(step)}, step)
        assert server.requests == asked + 1
        server.away = False
        tracker.finish()
    run = server.by_name("run")
    assert [value for _, value, _, _ in run.received] == [float(step) for step in range(2500)]
    assert run.status == "FINISHED"
    assert len(lines) == 1 and "server went away)" in lines[0]
    assert list(tmp_path.iterdir()) == [tmp_path / "mlflow.db"], "that of the look beforehand"


def test_what_mlflow_refuses_does_not_hold_up_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, lines = install(monkeypatch, FakeServer(refuses=("bad",))), list[str]()
    with Tracker(tmp_path, "synthetic", warn=lines.append) as tracker:
        tracker.start("run", {}, {}, tmp_path / "run")
        tracker.log({"good": 1.0}, 0)
        tracker.log({"bad": 1.0}, 1)
        tracker.log({"good": 2.0}, 2)
        tracker.finish()
    run = server.by_name("run")
    assert run.points() == [("good", 0, 1.0), ("good", 2, 2.0)] and run.status == "FINISHED"
    assert lines == ["warning: MLflow refused some of a run (not this one)"]


def test_each_outage_is_told_once_by_all_trackers_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, lines = install(monkeypatch, FakeServer(away=True)), list[str]()

    def run(name: str) -> None:
        with Tracker(tmp_path, "synthetic", warn=lines.append) as tracker:
            tracker.start(name, {}, {}, tmp_path / name)
            tracker.finish()

    run("first")
    run("second")
    assert len(lines) == 1
    server.away = False
    run("third")
    assert {r.name for r in server.runs.values()} == {"first", "second", "third"}
    server.away = True
    run("fourth")
    assert len(lines) == 2, "another outage"


def test_a_folder_that_refuses_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = install(monkeypatch, FakeServer())
    (tmp_path / "file").write_text("in the way")
    with Tracker(tmp_path, "synthetic") as tracker:
        tracker.start("run", {}, {}, tmp_path / "file" / "run")
        tracker.log({"loss": 1.0}, 0)
        tracker.finish()
    assert server.by_name("run").points() == [("loss", 0, 1.0)]


def test_a_password_is_not_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://ann:secret@127.0.0.1:9")
    lines: list[str] = []
    with Tracker(tmp_path, "synthetic", warn=lines.append) as tracker:
        tracker.start("run", {}, {}, tmp_path / "run")
    assert len(lines) == 1 and "secret" not in lines[0]
    assert "secret" not in (tmp_path / "run" / "tracking.jsonl").read_text()
    assert "127" not in (tmp_path / "run" / "tracking.jsonl").read_text()


def test_a_server_that_hangs_costs_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A socket that listens, so that a connection is made, and never answers."""
    lines: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{hanging.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        with Tracker(tmp_path, "synthetic", warn=lines.append) as tracker:
            tracker.start("run", {}, {}, tmp_path / "run")
            for step in range(100):
                tracker.log({"loss": 1.0}, step)
            tracker.finish()
    assert len(lines) == 1 and lines[0].startswith("warning: MLflow failed (")


def test_the_null_tracker_swallows_everything_but_exceptions(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), NullTracker() as tracker:
        tracker.start("run", {"a": 1}, {})
        tracker.log({"loss": 1.0}, 0)
        tracker.finish(tmp_path / "record.json")
        raise ZeroDivisionError


def test_mlflow_is_not_imported_before_a_run_starts() -> None:
    code = "import sys, genrec_bench.tracking.tracker; sys.exit('mlflow' in sys.modules)"
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
