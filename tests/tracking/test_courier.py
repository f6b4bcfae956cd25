"""A run waits for no MLflow: what it misses costs one line, and is sent when it is back."""

import socket
import time
from pathlib import Path

import pytest
from fake_mlflow import FakeServer, install
from hypothesis import given
from hypothesis import strategies as st
from watched_waits import asked_in_time, waits_for_mlflow

from genrec_bench.commands.cli import main
from genrec_bench.tracking import courier as tracking_courier
from genrec_bench.tracking import store as tracking_store
from genrec_bench.tracking.exporter import LOCK_FILE
from genrec_bench.tracking.folder_view import SENT_FILE, TRACKING_FILE
from genrec_bench.tracking.store import URI, mlflow_name
from genrec_bench.tracking.tracker import Tracker

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """For a real MLflow, after what earlier tests have met is forgotten."""
    monkeypatch.setattr(tracking_courier, "_couriers", {})
    monkeypatch.delenv(URI, raising=False)
    return monkeypatch


def track(output: Path, name: str = "run") -> None:
    """Track a run that does nothing."""
    with Tracker(output, "synthetic").track(output / "synthetic" / name, name, {"a": 1}, {}):
        pass


def test_a_store_that_is_away_costs_one_line_and_gets_all_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Capture
) -> None:
    server = install(monkeypatch, FakeServer(away=True))
    for name in ("first", "second"):
        track(tmp_path, name)
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and not server.runs
    assert err.startswith("warning: MLflow failed (server went away); the run goes on, and what")
    server.away = False
    all_sent = dict.fromkeys(("first", "second", "third", "fourth"), "FINISHED")
    track(tmp_path, "third")
    until = time.monotonic() + 60
    # A run does not wait for a store that was away twice: the thread tells when it is back.
    while {run.name: run.status for run in server.runs.values()} != all_sent:
        assert time.monotonic() < until, server.runs
        track(tmp_path, "fourth")
        time.sleep(0.05)
    server.away = True
    track(tmp_path, "fifth")
    assert capfd.readouterr().err.count("\n") == 1, "another outage"


def test_a_store_that_comes_back_within_a_run_hears_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking_courier, "PAUSE", 0.05)
    server = install(monkeypatch, FakeServer(away=True))
    with Tracker(tmp_path, "synthetic").track(tmp_path / "run", "run", {}, {}):
        server.away = False
        until = time.monotonic() + 30
        while not server.runs and time.monotonic() < until:
            time.sleep(0.05)
        assert server.by_name("run").status == "RUNNING"
    assert server.by_name("run").status == "FINISHED"


def test_a_server_that_hangs_is_waited_for_twice(
    tmp_path: Path, address: pytest.MonkeyPatch, capfd: Capture
) -> None:
    """A socket that listens, so that a connection is made, and never answers."""
    waits = waits_for_mlflow(address)
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        port = hanging.getsockname()[1]
        address.setenv(URI, f"http://ann:secret@127.0.0.1:{port}")
        for number in range(4):
            track(tmp_path, str(number))
    assert waits == [tracking_courier.PATIENCE] * tracking_courier.TRIES
    out, err = capfd.readouterr()
    assert out == "" and err.count("\n") == 1 and err.startswith("warning: MLflow failed (")
    kept = [file.read_text() for file in tmp_path.rglob("*.json")]
    assert "secret" not in err and not any("secret" in text or "127" in text for text in kept)
    assert not (tmp_path / "mlflow.db").exists(), "no local database beside a server of one's own"


def test_runs_move_from_a_database_to_another_and_a_silent_server_is_told(
    tmp_path: Path, address: pytest.MonkeyPatch, capfd: Capture
) -> None:
    """With real databases, and a socket that listens and never answers."""
    from mlflow.tracking import MlflowClient

    track(tmp_path)
    there = f"sqlite:///{tmp_path / 'there.db'}"
    words = ["resend", "--output", str(tmp_path), "--tracking-uri"]
    assert main([*words, there]) == 0 and main([*words, there]) == 0
    client = MlflowClient(there)
    (experiment,) = client.search_experiments(filter_string="name LIKE 'genrec-bench/%'")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.info.status == "FINISHED" and run.data.params["a"] == "1"
    capfd.readouterr()
    address.setattr(tracking_store, "PATIENCE", 1.0)
    address.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    asked = asked_in_time(address, "genrec_bench.tracking.store")
    with socket.create_server(("127.0.0.1", 0)) as hanging:
        assert main([*words, f"http://127.0.0.1:{hanging.getsockname()[1]}"]) == 2
    assert asked == [2.0], "once, and twice as long as a request may take"
    err = capfd.readouterr().err
    assert "did not answer (" in err and "1 run waits for it" in err and err.count("\n") == 1


def test_a_folder_that_refuses_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = install(monkeypatch, FakeServer())
    (tmp_path / "synthetic").write_text("in the way")
    track(tmp_path)
    assert not server.runs


def test_a_long_configuration_is_sent_whole(tmp_path: Path, address: pytest.MonkeyPatch) -> None:
    """To a real database, in a folder with an odd name."""
    from mlflow.tracking import MlflowClient
    from sqlalchemy.engine import URL

    output = tmp_path / "odd 100%20#folder"
    params: dict[str, object] = {"long": "x" * 7000, "nested": {"on": True}}
    params |= {f"many{number}": number for number in range(150)}
    with Tracker(output, "synthetic").track(output / "run", "run", params, {"seed": "0"}):
        pass
    database = URL.create("sqlite", database=str(output / "mlflow.db"))
    client = MlflowClient(database.render_as_string())
    experiments = client.search_experiments(filter_string="name = 'genrec-bench/synthetic'")
    (run,) = client.search_runs([experiment.experiment_id for experiment in experiments])
    assert run.data.params["nested.on"] == "true" and run.data.params["many149"] == "149"
    assert len(run.data.params["long"]) == 6000 and run.data.tags["seed"] == "0"
    files = [artifact.path for artifact in client.list_artifacts(run.info.run_id)]
    assert files == ["configuration.json"] and run.info.status == "FINISHED"
    assert {file.name for file in (output / "run").iterdir()} == {
        TRACKING_FILE,
        LOCK_FILE,
        SENT_FILE,
    }


def test_names() -> None:
    names = ("sid/NDCG@10", "loss (mean)", "/a//b/../c/", "")
    assert [*map(mlflow_name, names)] == ["sid/NDCG_at_10", "loss _mean_", "a/b/c", "_"]


@given(st.text(max_size=300))
def test_mlflow_takes_every_name(name: str) -> None:
    from mlflow.utils.validation import _validate_metric, _validate_param_name

    _validate_metric(mlflow_name(name), 0.0, 0, 0)  # type: ignore[no-untyped-call]
    _validate_param_name(mlflow_name(name))  # type: ignore[no-untyped-call]
