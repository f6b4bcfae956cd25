"""What MLflow missed, it gets: after outages, kills and resumes, each figure once."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from fake_mlflow import FakeClient, FakeRun, FakeServer, install
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec_bench.commands.cli import make_parser
from genrec_bench.errors import UserError
from genrec_bench.tracking import courier as tracking_courier
from genrec_bench.tracking import resend as tracking_resend
from genrec_bench.tracking.outbox import WAITING_FOLDER, waiting
from genrec_bench.tracking.tracker import Tracker


def quiet(line: str) -> None:
    """Warnings are looked at elsewhere."""


def started(output: Path, name: str = "run", tags: Mapping[str, str] | None = None) -> Tracker:
    tracker = Tracker(output, "synthetic", quiet)
    tracker.start(name, {"a": 1}, tags or {}, output / "synthetic" / name)
    return tracker


def kill(tracker: Tracker) -> None:
    """What the system does for a process that is gone: it closes its files."""
    assert tracker._outbox is not None
    tracker._outbox.close()


def resend(output: Path) -> dict[str, int]:
    """The command, in this process."""
    args = make_parser().parse_args(["resend", "--output", str(output), "--json"])
    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("builtins.print", told.append)
        assert args.execute(args) == 0
    answer: dict[str, int] = json.loads(told[0])
    return answer


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    return install(monkeypatch, FakeServer())


@pytest.mark.parametrize("back_at", [1, 3, 5])
def test_an_outage_from_the_start_ends_within_the_run(
    server: FakeServer, tmp_path: Path, back_at: int
) -> None:
    server.away = True
    tracker = started(tmp_path)
    for step in range(6):
        server.away = step < back_at
        tracker.log({"loss": float(step)}, step)
    assert server.by_name("run").status == "RUNNING"
    tracker.finish()
    run = server.by_name("run")
    assert run.points() == [("loss", step, float(step)) for step in range(6)]
    assert run.status == "FINISHED" and run.params == {"a": "1"}
    assert not list(waiting(tmp_path)) and not (tmp_path / WAITING_FOLDER).exists()


def test_pauses_grow_while_it_is_away(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked again after 5, 10, 20, 40 seconds, so at 0, 5, 15, 35 and 75."""
    clock = [1000.0]
    monkeypatch.setattr(tracking_courier, "FLUSH_SECONDS", 5.0)
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    server.away = True
    tracker = started(tmp_path)
    asked = [0.0]
    for second in range(1, 100):
        clock[0] += 1.0
        before = server.requests
        tracker.log({"loss": 1.0}, second)
        if server.requests > before:
            asked.append(float(second))
    assert asked == [0.0, 5.0, 15.0, 35.0, 75.0]


def test_a_run_that_ended_without_mlflow_is_sent_by_the_next(
    server: FakeServer, tmp_path: Path
) -> None:
    record = tmp_path / "synthetic" / "first" / "record.json"
    server.away = True
    tracker = started(tmp_path, "first")
    tracker.log({"loss": 1.0}, 1)
    record.write_text("{}")
    tracker.finish(record)
    assert not server.runs and list(waiting(tmp_path)) == [record.parent]
    server.away = False
    started(tmp_path, "second").finish()
    first = server.by_name("first")
    assert first.points() == [("loss", 1, 1.0)] and first.status == "FINISHED"
    assert first.files == {"record.json": "{}"}
    assert first.start_time <= server.by_name("second").start_time
    assert not list(waiting(tmp_path))


def test_the_next_one_gives_the_others_a_bounded_time(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.away = True
    for number in range(3):
        started(tmp_path, f"old{number}").finish()
    server.away = False
    monkeypatch.setattr(tracking_resend, "SETTLE_SECONDS", 0.0)
    started(tmp_path, "new").finish()
    assert [run.name for run in server.runs.values()] == ["new"]
    monkeypatch.setattr(tracking_resend, "SETTLE_SECONDS", 3.0)
    started(tmp_path, "newer").finish()
    assert len(server.runs) == 5


def test_a_killed_run_is_ended_and_goes_on_in_the_same_run(
    server: FakeServer, tmp_path: Path
) -> None:
    tracker = started(tmp_path, tags={"seed": "0"})
    for step in range(4):
        tracker.log({"loss": float(step), "seconds": 1.0}, step)
    (tmp_path / "synthetic" / "run" / "run.json").write_text("{}")
    kill(tracker)
    run_id, began = tracker.run_id, server.by_name("run").start_time
    assert server.by_name("run").status == "RUNNING"
    assert resend(tmp_path)["ended"] == 1
    assert server.by_name("run").status == "KILLED"
    # Resumed from a checkpoint after step 1; its clock ran otherwise this time.
    tracker = started(tmp_path, tags={"seed": "0"})
    assert server.by_name("run").status == "RUNNING"
    for step in range(2, 6):
        tracker.log({"loss": float(step), "seconds": 2.0}, step)
    tracker.finish()
    run = server.by_name("run")
    assert len(run.received) == len(run.points()) == 12, "nothing was sent twice"
    assert [value for key, _, value in run.points() if key == "loss"] == [0, 1, 2, 3, 4, 5]
    assert (run.status, run.start_time, run.params) == ("FINISHED", began, {"a": "1"})
    assert run.run_id == run_id and len(server.runs) == 1


def test_a_run_that_was_killed_after_its_record_has_finished(
    server: FakeServer, tmp_path: Path
) -> None:
    trackers = [started(tmp_path, name) for name in ("good", "bad")]
    for name, complete, tracker in zip(("good", "bad"), (True, False), trackers, strict=True):
        record = {"complete": complete, "finished": "2100-01-01T00:00:00+00:00"}
        (tmp_path / "synthetic" / name / "record.json").write_text(json.dumps(record))
        kill(tracker)
    answer = resend(tmp_path)
    assert answer["ended"] == answer["sent"] == answer["files"] == 2
    good, bad = server.by_name("good"), server.by_name("bad")
    assert (good.status, bad.status) == ("FINISHED", "FAILED")
    assert good.end_time == 4102444800000, "the first second of the year 2100"
    assert json.loads(good.files["record.json"])["complete"]
    assert resend(tmp_path) == dict.fromkeys(answer, 0)


def test_a_live_run_is_left_alone(server: FakeServer, tmp_path: Path) -> None:
    server.away = True
    tracker = started(tmp_path)
    tracker.log({"loss": 1.0}, 0)
    server.away = False
    answer = resend(tmp_path)
    assert answer["live"] == 1 and answer["ended"] == answer["sent"] == 0
    assert not server.runs
    tracker.finish()
    assert server.by_name("run").status == "FINISHED"


def test_resend_finds_what_no_note_leads_to(server: FakeServer, tmp_path: Path) -> None:
    server.away = True
    tracker = started(tmp_path)
    tracker.log({"loss": 1.0}, 0)
    tracker.finish()
    server.away = False
    shutil.rmtree(tmp_path / WAITING_FOLDER)
    answer = resend(tmp_path)
    assert (answer["sent"], answer["figures"], answer["left"]) == (1, 1, 0)
    assert server.by_name("run").status == "FINISHED"


def test_resend_says_that_mlflow_is_away(server: FakeServer, tmp_path: Path) -> None:
    server.away = True
    started(tmp_path).finish()
    with pytest.raises(UserError, match=r"mlflow.db failed \(server went away\): 0 runs .* 1 are"):
        resend(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        resend(tmp_path / "nowhere")


def test_resend_leaves_what_belongs_to_another_server(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = started(tmp_path, "begun")
    server.away = True
    begun.log({"loss": 1.0}, 0)
    begun.finish()
    unknown = started(tmp_path, "unknown")
    unknown.finish()
    other = install(monkeypatch, FakeServer())
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://other")
    answer = resend(tmp_path)
    assert answer["elsewhere"] == answer["sent"] == 1
    assert [run.name for run in other.runs.values()] == ["unknown"]
    # A run that is resumed is told in full to the server that it is resumed with.
    resumed = started(tmp_path, "begun")
    resumed.finish()
    assert other.by_name("begun").points() == [("loss", 0, 1.0)]


def test_a_run_that_mlflow_no_longer_knows_is_made_anew(server: FakeServer, tmp_path: Path) -> None:
    tracker = started(tmp_path)
    tracker.log({"loss": 0.0}, 0)
    server.runs.clear()
    tracker.log({"loss": 1.0}, 1)
    tracker.finish()
    run = server.by_name("run")
    assert run.points() == [("loss", 0, 0.0), ("loss", 1, 1.0)] and run.status == "FINISHED"


def test_a_run_that_mlflow_does_not_take_is_kept_until_it_does(
    server: FakeServer, tmp_path: Path
) -> None:
    """Somebody deletes the experiment, then restores it; another dataset's is always there."""
    server.deleted = True
    lines = list[str]()
    for name in ("first", "second"):
        tracker = Tracker(tmp_path, "synthetic", lines.append)
        tracker.start(name, {"a": 1}, {}, tmp_path / "synthetic" / name)
        tracker.log({"loss": 1.0}, 0)
        tracker.finish()
    (line,) = lines
    assert "MLflow refused a run (must be in the 'active' state)" in line and "resend" in line
    assert not server.runs
    with pytest.raises(UserError, match=r"refused 2 runs \(must be in the 'active' state\)"):
        resend(tmp_path)
    server.deleted = False
    answer = resend(tmp_path)
    assert (answer["sent"], answer["figures"], answer["left"], answer["refused"]) == (2, 2, 0, 0)
    for name in ("first", "second"):
        run = server.by_name(name)
        assert (run.status, run.params, run.points()) == (
            "FINISHED",
            {"a": "1"},
            [("loss", 0, 1.0)],
        )
    assert not list(waiting(tmp_path))


def test_a_run_that_goes_on_is_kept_while_mlflow_does_not_take_it(
    server: FakeServer, tmp_path: Path
) -> None:
    tracker = started(tmp_path)
    tracker.log({"loss": 0.0}, 0)
    kill(tracker)
    server.deleted = True
    tracker = started(tmp_path)
    tracker.log({"loss": 1.0}, 1)
    assert server.by_name("run").points() == [("loss", 0, 0.0)]
    server.deleted = False
    tracker.log({"loss": 2.0}, 2)  # It is asked again in the same run.
    assert server.by_name("run").points() == [("loss", step, float(step)) for step in range(3)]
    tracker.finish()
    assert len(server.runs) == 1 and server.by_name("run").status == "FINISHED"


def test_a_run_that_is_refused_does_not_hold_up_others(
    server: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.away = True
    for name in ("first", "second", "third"):
        started(tmp_path, name).finish()
    server.away = False
    create = FakeClient._create_run

    def choosy(
        client: FakeClient, experiment: str, start: int, tags: dict[str, str], name: str
    ) -> FakeRun:
        if name == "first":
            client._server.deleted = True
            try:
                return create(client, experiment, start, tags, name)
            finally:
                client._server.deleted = False
        return create(client, experiment, start, tags, name)

    monkeypatch.setattr(FakeClient, "_create_run", choosy)
    lines = list[str]()
    tracker = Tracker(tmp_path, "synthetic", lines.append)
    tracker.start("new", {}, {}, tmp_path / "synthetic" / "new")
    tracker.finish()
    assert {run.name for run in server.runs.values()} == {"second", "third", "new"}
    assert not lines, "what earlier runs meet is no news of this one"
    with pytest.raises(UserError, match="refused 1 runs"):
        resend(tmp_path)


def test_parameters_that_mlflow_refuses_do_not_cost_the_run(
    server: FakeServer, tmp_path: Path
) -> None:
    server.refuses = ("a",)
    tracker = started(tmp_path)
    tracker.log({"loss": 1.0}, 0)
    tracker.finish()
    run = server.by_name("run")
    assert (run.status, run.params, run.points()) == ("FINISHED", {}, [("loss", 0, 1.0)])
    assert not list(waiting(tmp_path))


def test_files_are_found_again_when_the_folder_has_moved(
    server: FakeServer, tmp_path: Path
) -> None:
    server.away = True
    tracker = started(tmp_path / "out")
    inside = tmp_path / "out" / "synthetic" / "run" / "record.json"
    inside.write_text("{}")
    tracker.finish(inside)
    (tmp_path / "out").rename(tmp_path / "moved")
    server.away = False
    assert resend(tmp_path / "moved")["files"] == 1
    assert server.by_name("run").files == {"record.json": "{}"}


events = st.lists(
    st.sampled_from(["step", "step", "step", "save", "away", "back", "mute", "kill", "settle"]),
    max_size=30,
)


@settings(deadline=None)
@given(events=events)
def test_whatever_happens_mlflow_ends_with_the_same(
    tmp_path_factory: pytest.TempPathFactory, events: list[str]
) -> None:
    """Outages, answers that get lost, kills and resumes in any order.

    A run logs step n's loss as n squared. A kill takes it back to its last checkpoint.
    """
    with pytest.MonkeyPatch.context() as patch:
        server = install(patch, FakeServer())
        output = tmp_path_factory.mktemp("out")
        tracker, step, saved = started(output), 0, 0
        for event in events:
            if event == "step":
                tracker.log({"loss": float(step**2)}, step)
                step += 1
            elif event == "save":
                saved = step
            elif event in ("away", "back", "mute"):
                server.away, server.loses_answers = event == "away", event == "mute"
            else:
                kill(tracker)
                if event == "settle" and not server.away and not server.loses_answers:
                    resend(output)
                tracker, step = started(output), saved
        server.away = server.loses_answers = False
        (output / "synthetic" / "run" / "record.json").write_text("{}")
        tracker.finish(output / "synthetic" / "run" / "record.json")
        reached = max([i for _, i, _ in server.by_name("run").points()], default=-1)
        assert reached >= step - 1
        run = server.by_name("run")
        assert run.points() == [("loss", i, float(i**2)) for i in range(reached + 1)]
        assert (run.status, run.params, run.files) == (
            "FINISHED",
            {"a": "1"},
            {"record.json": "{}"},
        )
        assert not list(waiting(output))
        answer: dict[str, Any] = resend(output)
        assert not any(answer.values())
