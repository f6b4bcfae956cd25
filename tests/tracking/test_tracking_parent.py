"""Parents: one for a study, whoever works on it, and no run left running."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_mlflow import FakeServer, install
from test_tracking_resend import kill, quiet, resend

from genrec_bench.tracking import outbox as tracking_outbox
from genrec_bench.tracking.courier import LAST_SECONDS
from genrec_bench.tracking.outbox import open_outbox, unmark_waiting, waiting
from genrec_bench.tracking.parent import Parent
from genrec_bench.tracking.sender import PARENT_TAG
from genrec_bench.tracking.tracker import Tracker


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    return install(monkeypatch, FakeServer())


def parent_in(output: Path, sweep: str = "sweep") -> Parent:
    return Parent(output, "synthetic", output / sweep, "study's name", quiet)


def trial(output: Path, parent: Parent, number: int) -> Tracker:
    tracker = Tracker(output, "synthetic", quiet, parent=parent, child=f"trial-{number}")
    tracker.start(f"trial {number}", {}, {}, parent.folder / f"trial-{number}")
    return tracker


def hold(patch: pytest.MonkeyPatch, parent: Parent, seconds: float) -> Callable[[float], None]:
    """Have another process work at the parent's outbox, and send all, for so long.

    Time passes only while somebody waits for it, or calls what is returned.
    """
    held = open_outbox(parent.folder, parent._courier.sender.to)
    assert held is not None
    clock = [0.0]

    def sleep(pause: float) -> None:
        clock[0] += pause
        if clock[0] >= seconds:
            unmark_waiting(parent._output, parent.folder)
            held.close()

    clocks = SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep, time=time.time)
    patch.setattr(tracking_outbox, "time", clocks)
    return sleep


def states(server: FakeServer) -> dict[str, tuple[str, str | None]]:
    return {r.name: (r.status, r.tags.get("trial_state")) for r in server.runs.values()}


def test_children_stand_under_their_parent_and_say_how_they_ended(
    server: FakeServer, tmp_path: Path
) -> None:
    record = tmp_path / "record.json"
    record.write_text("{}")
    with parent_in(tmp_path) as parent:
        known = parent.open("study", {"trials": 4}, {"kind": "sweep"})
        assert known == parent.run_id == server.by_name("study").run_id
        trial(tmp_path, parent, 0).finish(record)
        trial(tmp_path, parent, 1).finish(record, "KILLED")
        trial(tmp_path, parent, 2).finish(record, "FAILED")
        with pytest.raises(KeyboardInterrupt), trial(tmp_path, parent, 3):
            raise KeyboardInterrupt
        parent.close()
    assert states(server) == {
        "study": ("FINISHED", None),
        "trial 0": ("FINISHED", "complete"),
        "trial 1": ("KILLED", "pruned"),
        "trial 2": ("FAILED", "failed"),
        "trial 3": ("KILLED", "interrupted"),
    }
    children = [run for run in server.runs.values() if run.name != "study"]
    assert {run.tags[PARENT_TAG] for run in children} == {known}
    assert PARENT_TAG not in server.by_name("study").tags
    assert not list(waiting(tmp_path))


def test_several_workers_and_machines_share_one(server: FakeServer, tmp_path: Path) -> None:
    first, second = parent_in(tmp_path), parent_in(tmp_path)
    elsewhere = parent_in(tmp_path / "other machine")
    told = parent_in(tmp_path / "third machine")
    known = first.open("study", {}, {})
    assert {second.open("study", {}, {}), elsewhere.open("study", {}, {})} == {known}
    assert told.open("study", {}, {}, known) == known
    assert len(server.runs) == 1
    trial(tmp_path / "other machine", elsewhere, 5).finish()
    assert server.by_name("trial 5").tags[PARENT_TAG] == known
    first.close("FAILED")
    assert server.by_name("study").status == "RUNNING", "another works on it here"
    for one in (second, elsewhere, told):
        one.close()
    assert server.by_name("study").status == "FINISHED"
    resumed = parent_in(tmp_path)
    assert resumed.open("study", {}, {}, known) == known
    assert server.by_name("study").status == "RUNNING"
    resumed.close("KILLED")
    assert server.by_name("study").status == "KILLED" and len(server.runs) == 2


@pytest.mark.parametrize("first_sent", ["child", "parent"])
def test_while_mlflow_is_away_nothing_becomes_an_orphan(
    server: FakeServer, tmp_path: Path, first_sent: str
) -> None:
    server.away = True
    parent = parent_in(tmp_path)
    assert parent.open("study", {"a": 1}, {}) is None
    one = trial(tmp_path, parent, 1)
    one.log({"loss": 1.0}, 0)
    if first_sent == "child":
        server.away = False
        one.log({"loss": 2.0}, 1)
        assert server.by_name("study").params == {"a": "1"}
        server.away = True
    one.finish()
    parent.close()
    server.away = False
    assert resend(tmp_path)["left"] == 0
    above = server.by_name("study")
    assert server.by_name("trial 1").tags[PARENT_TAG] == above.run_id
    assert states(server) == {"study": ("FINISHED", None), "trial 1": ("FINISHED", "complete")}
    assert not list(waiting(tmp_path))


def test_a_study_that_is_alive_is_not_ended_by_others(server: FakeServer, tmp_path: Path) -> None:
    parent = parent_in(tmp_path)
    parent.open("study", {}, {})
    assert resend(tmp_path)["ended"] == 0
    assert server.by_name("study").status == "RUNNING"
    # Killed: the system lets go of the lock.
    assert parent._alive is not None
    os.close(parent._alive)
    assert resend(tmp_path)["ended"] == 1
    assert server.by_name("study").status == "KILLED"


def test_a_trial_whose_process_died_is_ended_by_who_saw_it(
    server: FakeServer, tmp_path: Path
) -> None:
    parent = parent_in(tmp_path)
    parent.open("study", {}, {})
    dead = trial(tmp_path, parent, 1)
    kill(dead)
    parent.end_child("trial-1", "failed")
    assert states(server)["trial 1"] == ("FAILED", "failed")
    assert resend(tmp_path)["ended"] == 1, "its outbox had no end"
    assert states(server)["trial 1"] == ("FAILED", "failed"), "and it keeps its true state"
    again = trial(tmp_path, parent, 1)
    assert states(server)["trial 1"][0] == "RUNNING"
    again.finish()
    assert states(server)["trial 1"] == ("FINISHED", "complete")
    parent.end_child("trial-9", "failed")  # MLflow never heard of it.
    parent.close()
    assert len(server.runs) == 2


def test_a_child_outlives_the_folder_of_its_parent(server: FakeServer, tmp_path: Path) -> None:
    server.away = True
    parent = parent_in(tmp_path)
    parent.open("study", {}, {})
    tracker = Tracker(tmp_path, "synthetic", quiet, parent=parent)
    tracker.start("trial", {}, {}, tmp_path / "elsewhere")
    (tmp_path / "sweep" / "tracking.jsonl").unlink()
    server.away = False
    tracker.finish()
    assert server.by_name("trial").status == "FINISHED"
    assert PARENT_TAG not in server.by_name("trial").tags


SLOW = LAST_SECONDS + 5
"""What another process takes that imports MLflow before it sends for as long as it may."""


def test_the_last_worker_waits_for_a_slow_one_before_it_ends_the_parent(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = parent_in(tmp_path)
    parent.open("study", {}, {})
    hold(monkeypatch, parent, SLOW)
    parent.close()
    assert states(server)["study"] == ("FINISHED", None)
    assert resend(tmp_path)["ended"] == 0


def test_a_worker_that_is_interrupted_leaves_the_end_to_others(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = parent_in(tmp_path)
    parent.open("study", {}, {})
    sleep = hold(monkeypatch, parent, SLOW)
    with pytest.raises(KeyboardInterrupt), parent:
        raise KeyboardInterrupt
    assert states(server)["study"] == ("RUNNING", None)
    sleep(SLOW)
    assert resend(tmp_path)["ended"] == 1
    assert states(server)["study"] == ("KILLED", None)


def test_a_dead_trial_is_ended_however_slow_another_worker_is(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = parent_in(tmp_path)
    parent.open("study", {}, {})
    kill(trial(tmp_path, parent, 1))
    hold(monkeypatch, parent, SLOW)
    parent.end_child("trial-1", "failed")
    assert states(server)["trial 1"] == ("FAILED", "failed")


def test_the_note_of_what_is_unsent_outlives_another_worker(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent = parent_in(tmp_path)
    parent.open("study", {}, {})
    hold(monkeypatch, parent, 1.0)
    server.away = True
    parent.close()
    assert list(waiting(tmp_path)) == [parent.folder]


def test_a_dead_trial_keeps_its_end_however_often_it_is_told(
    server: FakeServer, tmp_path: Path
) -> None:
    parent, elsewhere = parent_in(tmp_path), parent_in(tmp_path / "other machine")
    parent.open("study", {}, {})
    elsewhere.open("study", {}, {})
    kill(trial(tmp_path, parent, 1))
    assert resend(tmp_path)["ended"] == 1
    assert states(server)["trial 1"] == ("KILLED", "interrupted"), "as far as its folder knows"
    parent.end_child("trial-1", "failed")
    assert states(server)["trial 1"] == ("FAILED", "failed")
    server.by_name("trial 1").end_time = 1
    for one in (parent, elsewhere, parent):
        one.end_child("trial-1", "failed")
    assert server.by_name("trial 1").end_time == 1
    parent.close()
    again = parent_in(tmp_path)
    again.open("study", {}, {})
    again.end_child("trial-1", "failed")
    assert server.by_name("trial 1").end_time == 1
