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
from tiny_runs import call, run_words, save_tiny, shrink_backbone

from genrec_bench.tracking import courier as tracking_courier
from genrec_bench.tracking.store import URI
from genrec_bench.tracking.tracker import Tracker

START_SECONDS = 240


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    monkeypatch.setattr(tracking_courier, "_couriers", {})
    monkeypatch.setattr(tracking_courier, "PATIENCE", 20.0)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    shrink_backbone(monkeypatch)
    output = tmp_path / "out"
    words = run_words("grpo", save_tiny(tmp_path / "data"), output)
    words.remove("--no-mlflow")
    resend = ["resend", "--output", str(output)]
    with mlflow_server(tmp_path, port) as address:
        monkeypatch.setenv(URI, address)
        long = {"long": "x" * 7000}
        study = Tracker(output, "synthetic").track(output / "study", "study", long, {}, shared=True)
        parent = study.__enter__()
        child = parent.child("1").track(output / "trial", "trial", {}, {})
        child.__enter__()
    child.__exit__(None, None, None)
    study.__exit__(None, None, None)
    assert call(capsys, words).code == 0, "a run while it is away"
    called = call(capsys, resend)
    assert called.code == 2 and "give the command again when it is back" in called.err
    with mlflow_server(tmp_path, port):
        called = call(capsys, resend)
        assert called.code == 0 and "3 runs" in called.out
        from mlflow.tracking import MlflowClient

        client = MlflowClient(address)
        ids = [experiment.experiment_id for experiment in client.search_experiments()]
        runs = {run.info.run_name: run for run in client.search_runs(ids)}
        assert runs.keys() == {"study", "trial", "grpo, seed 0"}
        assert {run.info.status for run in runs.values()} == {"FINISHED"}
        trial = runs["trial"].data.tags
        assert trial["mlflow.parentRunId"] == runs["study"].info.run_id
        assert trial["trial_state"] == "complete"
        history = client.get_metric_history(runs["grpo, seed 0"].info.run_id, "loss")
        assert [metric.step for metric in history] == [1, 2]
        monkeypatch.delenv(URI)
        local = run_words("grpo", tmp_path / "data", tmp_path / "local")
        local.remove("--no-mlflow")
        assert call(capsys, local).code == 0
        move = ["resend", "--output", str(tmp_path / "local"), "--tracking-uri", address]
        for sent in (1, 0):
            called = call(capsys, move)
            assert called.code == 0 and f": {sent} runs, " in called.out
        found = client.search_runs(ids, "attributes.run_name = 'grpo, seed 0'")
        assert len(found) == 2 and {run.info.status for run in found} == {"FINISHED"}
        for name, file in (("study", "configuration.json"), ("grpo, seed 0", "record.json")):
            files = client.list_artifacts(runs[name].info.run_id)
            assert [artifact.path for artifact in files] == [file]
