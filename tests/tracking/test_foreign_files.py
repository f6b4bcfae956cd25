"""What a run's folder names and is not its own is never sent: folders may come from strangers."""

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fake_mlflow import FakeServer, install
from tiny_runs import call

from genrec_bench.errors import UserError
from genrec_bench.runs.run_folder import CHECKPOINTS
from genrec_bench.storage.confined import Foreign, own_bytes
from genrec_bench.tracking import courier as tracking_courier
from genrec_bench.tracking.exporter import LOCK_FILE, Exporter
from genrec_bench.tracking.folder_view import TRACKING_FILE
from genrec_bench.tracking.store import LOCAL, URI, Store
from genrec_bench.training.checkpoints import STATE

Harm = Callable[[Path, Path], None]
SECRET = "what nobody shall see"


def tracked(folder: Path, **changes: Any) -> Path:
    """A run that was cut short, of which MLflow knows nothing."""
    about: dict[str, Any] = {"to": LOCAL, "name": folder.name, "token": folder.name, "tags": {}}
    about |= {"experiment": "genrec-bench/synthetic", "params": {}, "parent": None, "began": 1}
    folder.mkdir(parents=True)
    (folder / TRACKING_FILE).write_text(json.dumps(about | changes))
    (folder / "table.csv").write_text("our own\n")
    return folder


def again(folder: Path, **changes: Any) -> None:
    about = json.loads((folder / TRACKING_FILE).read_text())
    (folder / TRACKING_FILE).write_text(json.dumps(about | changes))


def instead(folder: Path, name: str, make: Callable[[Path], None]) -> None:
    (folder / name).unlink(missing_ok=True)
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    make(folder / name)


HARMS: dict[str, tuple[Harm, bool]] = {
    # What is wrong, and whether the rest of the folder can be sent.
    "a link": (lambda f, s: instead(f, "table.md", lambda at: at.symlink_to(s / "x.md")), True),
    "a relative link": (
        lambda f, s: instead(
            f, "board.md", lambda at: at.symlink_to(os.path.relpath(s / "x.md", f))
        ),
        True,
    ),
    "a second name": (
        lambda f, s: instead(f, "board.csv", lambda at: os.link(s / "x.md", at)),
        True,
    ),
    "a pipe": (lambda f, s: instead(f, "figure.png", os.mkfifo), True),
    "a record that is a pipe": (lambda f, s: instead(f, "record.json", os.mkfifo), True),
    "a record that is a link": (
        lambda f, s: instead(f, "record.json", lambda at: at.symlink_to(s / "x.md")),
        True,
    ),
    "a folder that is a link": (
        lambda f, s: instead(f, CHECKPOINTS, lambda at: at.symlink_to(s / CHECKPOINTS)),
        True,
    ),
    "a note that is a link": (
        lambda f, s: instead(f, TRACKING_FILE, lambda at: at.symlink_to(s / "run" / TRACKING_FILE)),
        False,
    ),
    "a lock that is a link": (
        lambda f, s: instead(f, LOCK_FILE, lambda at: at.symlink_to(s / "new")),
        False,
    ),
    "a lock that is a pipe": (lambda f, s: instead(f, LOCK_FILE, os.mkfifo), False),
    "a parent elsewhere": (
        lambda f, s: again(f, parent=[os.path.relpath(s / "run", f), "secret"]),
        False,
    ),
    "a parent by its whole path": (lambda f, s: again(f, parent=[str(s / "run"), "t"]), False),
    "itself as its parent": (lambda f, s: again(f, parent=[".", "t"]), False),
    "a file that is named": (lambda f, s: again(f, kind="file", path=str(s / "x.md")), False),
    "another experiment": (lambda f, s: again(f, experiment="Default"), False),
    "a question for a token": (lambda f, s: again(f, token="x' or tags.a != 'b"), False),
    "a moment that is none": (lambda f, s: again(f, began=10**30), False),
}


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A folder that is not among the runs, with a run of somebody's."""
    folder = tmp_path / "secret"
    tracked(folder / "run", name=SECRET)
    (folder / "x.md").write_text(SECRET)
    checkpoint = folder / CHECKPOINTS / "step-00000001"
    checkpoint.mkdir(parents=True)
    curves = {"content": {"curves": [{"step": 1, SECRET: 1.0}]}}
    (checkpoint / STATE).write_text(json.dumps(curves))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(str(path) for path in folder.rglob("*"))


def test_hostile_folders_leave_nothing_foreign_in_a_local_store(
    secret: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from mlflow.tracking import MlflowClient

    monkeypatch.setattr(tracking_courier, "_couriers", {})
    monkeypatch.delenv(URI, raising=False)
    output, before = tmp_path / "runs", names(secret)
    tracked(output / "honest")
    for number, (harm, _) in enumerate(HARMS.values()):
        harm(tracked(output / f"hostile{number}"), secret)
    (output / "elsewhere").symlink_to(secret)
    called = call(capsys, ["resend", "--output", str(output)])
    assert called.code == 0
    (line,) = [line for line in called.err.splitlines() if line.startswith("left out")]
    assert all(f"hostile{number}" in line for number in range(len(HARMS))) and "honest" not in line
    client = MlflowClient(f"sqlite:///{output / 'mlflow.db'}")
    experiments = client.search_experiments()
    runs = client.search_runs([experiment.experiment_id for experiment in experiments])
    sent = {run.info.run_name for run in runs}
    whole = {f"hostile{n}" for n, (_, rest) in enumerate(HARMS.values()) if rest}
    assert sent == {"honest", *whole}
    for run in runs:
        files = [file.path for file in client.list_artifacts(run.info.run_id)]
        assert files == ["table.csv"] and run.info.status == "KILLED"
        assert SECRET not in str(run.to_dictionary())
    stored = [path for path in (output / "mlartifacts").rglob("*") if path.is_file()]
    assert len(stored) == len(runs)
    assert {path.read_text() for path in stored} == {"our own\n"}
    assert SECRET.encode() not in (output / "mlflow.db").read_bytes()
    assert names(secret) == before and (secret / "x.md").read_text() == SECRET


def test_a_file_that_is_exchanged_while_it_is_sent_is_sent_as_it_was_checked(
    secret: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, folder = install(monkeypatch, FakeServer()), tracked(tmp_path / "runs" / "a")
    offer = Exporter._offer

    def exchanged(self: Exporter, method: str, *args: Any, **more: Any) -> bool:
        if method == "log_artifact":
            instead(folder, "table.csv", lambda at: at.symlink_to(secret / "x.md"))
        return offer(self, method, *args, **more)

    monkeypatch.setattr(Exporter, "_offer", exchanged)
    Exporter(Store(tmp_path / "runs")).export(folder)
    (run,) = server.runs.values()
    assert run.files == {"table.csv": "our own\n"}


def test_tags_of_mlflow_are_not_a_folders_to_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = install(monkeypatch, FakeServer())
    tags = {
        "mlflow.parentRunId": "1",
        "genrec_bench_token": "2",
        "genrec_bench_sent": "[",
        "a": "b",
    }
    folder = tracked(tmp_path / "runs" / "a", tags=tags)
    Exporter(Store(tmp_path / "runs")).export(folder)
    (run,) = server.runs.values()
    assert run.status == "KILLED" and run.tags["genrec_bench_token"] == "a"
    assert run.tags["a"] == "b" and "mlflow.parentRunId" not in run.tags


def test_own_bytes(secret: Path, tmp_path: Path) -> None:
    folder = tmp_path / "own"
    (folder / "below").mkdir(parents=True)
    (folder / "below" / "a").write_text("mine")
    (folder / "link").symlink_to(secret)
    (folder / "up").symlink_to("..")
    os.mkfifo(folder / "pipe")
    assert own_bytes(folder, "below", "a", most=4) == b"mine"
    reasons = {
        ("below", "a"): "more than 3 bytes",
        ("below",): "no file",
        ("pipe",): "no file",
        ("link", "x.md"): "a link",
        ("up", "secret", "x.md"): "a link",
    }
    finder = threading.Timer(60, os._exit, [1])  # A pipe that is read would wait for ever.
    finder.start()
    for place, reason in reasons.items():
        with pytest.raises(Foreign, match=reason):
            own_bytes(folder, *place, most=3)
    finder.cancel()
    for place in (("..", "x"), ("/etc", "passwd"), ("a/b",), ("",)):
        with pytest.raises(UserError, match="leads elsewhere"):
            own_bytes(folder, *place, most=3)
    with pytest.raises(FileNotFoundError):
        own_bytes(folder, "nothing", most=3)
