"""Parents: one for a study, whoever works on it, and no run left running."""

import contextlib
import os
from collections import Counter
from pathlib import Path

import pytest
from fake_mlflow import FakeServer, dying, install

from genrec_bench.runs.run_tracker import Tracked
from genrec_bench.tracking.exporter import PARENT_TAG, Exporter
from genrec_bench.tracking.folder_view import TRACKING_FILE
from genrec_bench.tracking.store import Store
from genrec_bench.tracking.tracker import Tracker
from genrec_bench.training.loop import Pruned


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    return install(monkeypatch, FakeServer())


def study(output: Path) -> contextlib.AbstractContextManager[Tracked]:
    return Tracker(output, "synthetic").track(output / "study", "study", {"a": 1}, {}, shared=True)


def trial(output: Path, parent: Tracked, number: int) -> contextlib.AbstractContextManager[Tracked]:
    folder = output / "study" / "trials" / str(number)
    return parent.child(str(number)).track(folder, f"trial {number}", {}, {})


def test_a_child_is_named_after_its_place(server: FakeServer, tmp_path: Path) -> None:
    with study(tmp_path) as parent:
        folder = tmp_path / "study" / "trials" / "3"
        with parent.child("3", "trial 3").track(folder, "ugr, seed 0", {}, {}):
            pass
    assert server.by_name("trial 3: ugr, seed 0").status == "FINISHED"


def resend(output: Path) -> Counter[str]:
    exporter = Exporter(Store(output))
    for file in sorted(output.rglob(TRACKING_FILE)):
        exporter.export(file.parent)
    return +exporter.counts


def states(server: FakeServer) -> dict[str, tuple[str, str | None]]:
    return {r.name: (r.status, r.tags.get("trial_state")) for r in server.runs.values()}


def test_children_stand_under_their_parent_and_say_how_they_ended(
    server: FakeServer, tmp_path: Path
) -> None:
    with study(tmp_path) as parent:
        with trial(tmp_path, parent, 0):
            pass
        with trial(tmp_path, parent, 1) as tracked:
            tracked.failed = True
        for number, error in ((2, Pruned), (3, KeyboardInterrupt), (4, ValueError)):
            with pytest.raises(error), trial(tmp_path, parent, number):
                raise error
        assert server.by_name("study").status == "RUNNING"
    assert states(server) == {
        "study": ("FINISHED", None),
        "trial 0": ("FINISHED", "complete"),
        "trial 1": ("FAILED", "failed"),
        "trial 2": ("KILLED", "pruned"),
        "trial 3": ("KILLED", "interrupted"),
        "trial 4": ("FAILED", "failed"),
    }
    above = server.by_name("study")
    children = [run for run in server.runs.values() if run is not above]
    assert {run.tags[PARENT_TAG] for run in children} == {above.run_id}
    assert PARENT_TAG not in above.tags


def test_several_workers_and_machines_share_one(server: FakeServer, tmp_path: Path) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    with study(here), study(there) as elsewhere:
        with pytest.raises(ValueError), study(here):
            raise ValueError("of one worker")
        assert server.by_name("study").status == "RUNNING", "another works on it here"
        with trial(there, elsewhere, 5):
            pass
    assert server.by_name("trial 5").tags[PARENT_TAG] == server.by_name("study").run_id
    assert server.by_name("study").status == "FINISHED" and len(server.runs) == 2
    with pytest.raises(KeyboardInterrupt), study(here):
        assert server.by_name("study").status == "RUNNING", "it goes on"
        raise KeyboardInterrupt
    assert server.by_name("study").status == "KILLED" and len(server.runs) == 2


@pytest.mark.parametrize("first", ["child", "parent"])
def test_while_mlflow_is_away_nothing_becomes_an_orphan(
    server: FakeServer, tmp_path: Path, first: str
) -> None:
    server.away = True
    with study(tmp_path) as parent, trial(tmp_path, parent, 1):
        pass
    server.away = False
    folder = tmp_path / "study"
    Exporter(Store(tmp_path)).export(folder / "trials" / "1" if first == "child" else folder)
    resend(tmp_path)
    assert states(server) == {"study": ("FINISHED", None), "trial 1": ("FINISHED", "complete")}
    assert server.by_name("trial 1").tags[PARENT_TAG] == server.by_name("study").run_id
    assert server.by_name("study").params == {"a": "1"}


def test_a_study_that_is_alive_is_not_ended_by_others(server: FakeServer, tmp_path: Path) -> None:
    with dying(), study(tmp_path):
        assert resend(tmp_path) == {"live": 1}
        assert server.by_name("study").status == "RUNNING"
    assert resend(tmp_path) == {"sent": 1, "ended": 1}
    assert server.by_name("study").status == "KILLED"


@pytest.mark.parametrize("found_first", [False, True])
def test_a_trial_whose_process_died_is_ended_by_who_saw_it(
    server: FakeServer, tmp_path: Path, found_first: bool
) -> None:
    """Whoever finds its folder knows only that it was cut short; the study knows better."""
    for _ in range(2):
        with study(tmp_path) as parent:
            with dying(), trial(tmp_path, parent, 1):
                pass
            assert states(server)["trial 1"][0] == "RUNNING"
            if found_first:
                resend(tmp_path)
                assert states(server)["trial 1"] == ("KILLED", "interrupted")
            folder = tmp_path / "study" / "seen"
            with parent.child("1").track(folder, "trial 1", {}, {}) as seen:
                seen.failed = True
        assert states(server)["trial 1"] == ("FAILED", "failed")
        ended = server.by_name("trial 1").end_time
        resend(tmp_path)
        assert states(server)["trial 1"] == ("FAILED", "failed"), "it keeps its true state"
        assert server.by_name("trial 1").end_time == ended
    with study(tmp_path) as parent, trial(tmp_path, parent, 1):
        assert states(server)["trial 1"][0] == "RUNNING"
    assert states(server)["trial 1"] == ("FINISHED", "complete") and len(server.runs) == 2


def test_a_child_outlives_the_folder_of_its_parent(server: FakeServer, tmp_path: Path) -> None:
    server.away = True
    with study(tmp_path) as parent, trial(tmp_path, parent, 1):
        pass
    os.unlink(tmp_path / "study" / TRACKING_FILE)
    server.away = False
    resend(tmp_path)
    assert states(server) == {"trial 1": ("FINISHED", "complete")}
    assert PARENT_TAG not in server.by_name("trial 1").tags
