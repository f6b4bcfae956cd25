"""With MLflow's own server, which goes away and comes back."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from test_tracking_resend import resend

from genrec_bench.errors import UserError
from genrec_bench.tracking import courier as tracking_courier
from genrec_bench.tracking.parent import Parent
from genrec_bench.tracking.tracker import Tracker

START_SECONDS = 120


@contextmanager
def mlflow_server(folder: Path, port: int) -> Iterator[str]:
    """MLflow's server on this machine, killed in the end."""
    address = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", f"sqlite:///{folder / 'server.db'}"]
    command += ["--artifacts-destination", str(folder / "artifacts")]
    with (folder / "log").open("a") as log:
        server = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)
    try:
        until = time.monotonic() + START_SECONDS
        while True:
            try:
                with urllib.request.urlopen(f"{address}/health", timeout=2):
                    break
            except OSError:
                assert server.poll() is None and time.monotonic() < until
                time.sleep(0.5)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


@pytest.mark.slow
def test_a_server_that_goes_away_and_comes_back_has_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(tracking_courier, "_weather", {})
    monkeypatch.setattr(tracking_courier, "FLUSH_SECONDS", 0.0)
    monkeypatch.setattr(tracking_courier, "SLOWNESS", 0.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    output, lines = tmp_path / "out", list[str]()
    folder = output / "synthetic" / "run"
    with mlflow_server(tmp_path, port) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        parent = Parent(output, "synthetic", output / "sweep", "study", lines.append)
        known = parent.open("study", {}, {})
        tracker = Tracker(output, "synthetic", lines.append, parent=parent, child="1")
        tracker.start("run", {"long": "x" * 7000}, {"seed": "0"}, folder)
        tracker.log({"loss": 0.0, "nothing": float("nan")}, 0)
        run_id = tracker.run_id
        assert known and run_id and not lines
    tracker.log({"loss": 1.0}, 1)
    assert tracker._outbox is not None
    tracker._outbox.close()  # as a kill does
    with mlflow_server(tmp_path, port):
        tracker = Tracker(output, "synthetic", lines.append, parent=parent, child="1")
        tracker.start("run", {"long": "x" * 7000}, {"seed": "0"}, folder)
        tracker.log({"loss": 1.0}, 1)
        tracker.log({"loss": 2.0}, 2)
        assert tracker.run_id == run_id
    (folder / "record.json").write_text("{}")
    tracker.finish(folder / "record.json", "KILLED")
    parent.close()
    assert len(lines) == 2, "two outages"
    with pytest.raises(UserError, match="give the command again when it is back"):
        resend(output)
    with mlflow_server(tmp_path, port):
        assert resend(output)["left"] == 0
        from mlflow.tracking import MlflowClient

        client = MlflowClient(address)
        run = client.get_run(run_id)
        assert run.info.status == "KILLED" and run.data.tags["trial_state"] == "pruned"
        assert run.data.tags["mlflow.parentRunId"] == known
        history = client.get_metric_history(run_id, "loss")
        assert [(m.step, m.value) for m in history] == [(0, 0.0), (1, 1.0), (2, 2.0)]
        files = {file.path for file in client.list_artifacts(run_id)}
        assert files == {"configuration.json", "record.json"}
        assert client.get_run(known).info.status == "FINISHED"
