"""MLflow shows what the folder of a run says, whenever it is asked for: each figure once."""

import contextlib
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from fake_mlflow import FakeServer, dying, install
from tiny_runs import Bench, call, only_error, run_folders, run_words, save_tiny, shrink_backbone

from genrec_bench.runs.records import RECORD_FILE
from genrec_bench.runs.run_tracker import shown_name
from genrec_bench.tracking import folder_view
from genrec_bench.tracking.folder_view import TRACKING_FILE, curve_key
from genrec_bench.tracking.store import URI, mlflow_name
from genrec_bench.training import loop, rollouts

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory with the dataset, for a smaller `tiny`; SFT starts gather in it."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_backbone(patch)
        yield save_tiny(tmp_path_factory.mktemp("data"))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> FakeServer:
    return install(monkeypatch, FakeServer())


class Tracked(Bench):
    """Runs commands that are tracked."""

    def words(self, *more: str) -> list[str]:
        words = run_words("grpo", self.data, self.output, *more)
        return [word for word in words if word != "--no-mlflow"]

    def folder(self) -> Path:
        (folder,) = run_folders(self.output)
        return folder

    def resend(self) -> dict[str, Any]:
        called = call(self.capsys, ["resend", "--output", str(self.output), "--json"])
        assert called.code == 0, called.err
        answer: dict[str, Any] = json.loads(called.out)
        return answer


@pytest.fixture
def bench(capsys: Capture, data: Path, tmp_path: Path) -> Tracked:
    return Tracked(capsys, data, tmp_path / "runs")


@pytest.fixture
def missed(bench: Tracked, server: FakeServer) -> Tracked:
    """A run that is complete, and of which MLflow has heard nothing."""
    server.away = True
    assert call(bench.capsys, bench.words()).code == 0
    server.away = False
    assert not server.runs
    return bench


def killed(bench: Tracked, *more: str, at: Callable[[], None] | None = None) -> None:
    """A run that the system ends: nobody writes its end down.

    It is killed after its record, or when ``at`` says so by an exception.
    """
    figures = rollouts._figures

    def reached(*args: Any, **given: Any) -> dict[str, float]:
        if at is not None:
            at()
        return figures(*args, **given)

    with dying(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(rollouts, "_figures", reached)
        with contextlib.suppress(ValueError, loop.Pruned):
            call(bench.capsys, bench.words(*more))


def expected(folder: Path) -> list[tuple[str, int, float]]:
    """What a run's own files say of its figures."""
    record = json.loads((folder / RECORD_FILE).read_text())
    rows = pd.read_parquet(folder / "curves.parquet").to_dict("records")
    points = [
        (mlflow_name(curve_key(str(name))), int(row["step"]), float(value))
        for row in rows
        for name, value in row.items()
        if name != "step" and not math.isnan(value)
    ]
    ends = {f"ledger/{phase}": values for phase, values in record["budget"]["spent"].items()}
    for prefix, values in (ends | record["metrics"]).items():
        for name, value in values.items():
            points.append((mlflow_name(f"{prefix}/{name}"), int(rows[-1]["step"]), float(value)))
    return sorted(points)


def test_a_run_that_mlflow_missed_is_sent_once(missed: Tracked, server: FakeServer) -> None:
    folder = missed.folder()
    # Only files that a run writes are sent, and no links, which lead out of the folder.
    (folder / "notes.txt").write_text("private")
    (folder / "table.md").symlink_to(folder / "notes.txt")
    answer = missed.resend()
    (run,) = server.runs.values()
    assert run.points() == expected(folder) and len(run.received) == len(run.points())
    assert answer["figures"] == len(run.received) and answer["sent"] == answer["files"] == 1
    assert (run.name, run.status) == ("grpo, seed 0", "FINISHED")
    assert run.tags["algorithm"] == "grpo" and run.tags["run_id"] == folder.name
    assert run.params["settings.steps"] == "2"
    assert run.files == {RECORD_FILE: (folder / RECORD_FILE).read_text()}
    again = missed.resend()
    assert (
        again.pop("left_out")
        == answer["left_out"]
        == [f"{folder}/table.md (a link, or behind one)"]
    )
    assert not any(again.values()) and len(run.received) == len(run.points())


def test_looks_and_final_figures_are_no_one_curve(missed: Tracked, server: FakeServer) -> None:
    """Looks are at a few examples: a final figure behind them looked like a collapse."""
    missed.resend()
    (run,) = server.runs.values()
    steps: dict[str, list[int]] = {}
    for key, step, _ in run.points():
        steps.setdefault(key, []).append(step)
    assert steps["look/NDCG_at_10"] == [0, 1, 2] and steps["look/HR_at_10"] == [0, 1, 2]
    finals = [key for key in steps if key.startswith(("valid/", "test/", "ledger/"))]
    assert {"valid/NDCG_at_10", "test/NDCG_at_10"} < set(finals)
    assert all(steps[key] == [2] for key in finals)
    assert "loss" in steps and "spent/flops" in steps and "flops" not in steps


def test_names_of_runs_tell_what_they_are() -> None:
    assert shown_name("ugr", 3) == "ugr, seed 3"
    assert shown_name("grpo", 0, "random reward") == "random reward (grpo), seed 0"


def test_a_run_that_was_sent_in_part_under_earlier_names_goes_on(
    missed: Tracked, server: FakeServer
) -> None:
    """Their order stays, by which the exporter knows what it has sent."""
    folder = missed.folder()
    about = folder_view.read_about(folder)
    assert about is not None
    rows = pd.read_parquet(folder / "curves.parquet").to_dict("records")
    columns = [
        str(name)
        for row in rows
        for name, value in sorted(row.items())
        if name != "step" and not math.isnan(value)
    ]
    figures = folder_view.figures_of(folder, about)[: len(columns)]
    assert [name for name, *_ in figures] == [curve_key(name) for name in columns]


@pytest.mark.parametrize("loses_answers", [False, True])
def test_wherever_an_outage_begins_mlflow_ends_with_the_same(
    missed: Tracked, server: FakeServer, loses_answers: bool
) -> None:
    """Requests fail, or are carried out and their answers get lost."""
    for lasting in range(30):
        server.fail_after, server.loses_answers = lasting, loses_answers
        called = call(missed.capsys, ["resend", "--output", str(missed.output)])
        assert called.code == 0 or "give the command again" in called.err
    server.fail_after, server.loses_answers = None, False
    missed.resend()
    (run,) = server.runs.values()
    assert run.points() == expected(missed.folder())
    assert run.status == "FINISHED" and set(run.files) == {RECORD_FILE}


def fail() -> None:
    raise ValueError("this algorithm is broken")


def give_up() -> None:
    raise loop.Pruned(f"{loop.PRUNED}50% of its budget")


@pytest.mark.parametrize(
    ("at", "status", "failure"),
    [(None, "FINISHED", ""), (fail, "FAILED", "broken"), (give_up, "KILLED", "pruned at")],
)
def test_a_run_that_was_killed_after_its_record_ends_as_that_says(
    bench: Tracked,
    server: FakeServer,
    at: Callable[[], None] | None,
    status: str,
    failure: str,
) -> None:
    killed(bench, at=at)
    record = json.loads((bench.folder() / RECORD_FILE).read_text())
    assert record["complete"] is (at is None) and failure in record["failure"]
    assert next(iter(server.runs.values())).status == "RUNNING"
    assert bench.resend()["ended"] == 1
    (run,) = server.runs.values()
    assert run.status == status and json.loads(run.files[RECORD_FILE]) == record
    assert run.end_time == pd.Timestamp(record["times"]["finished"]).value // 1_000_000
    assert run.points() == expected(bench.folder())
    assert not any(bench.resend().values())


def test_a_killed_run_is_ended_and_goes_on_in_the_same_run(
    bench: Tracked, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    steps = iter(range(100))

    def die() -> None:
        if next(steps) == 3:
            raise KeyboardInterrupt

    killed(bench, "steps=5", at=die)
    assert bench.resend()["ended"] == 1
    (run,) = server.runs.values()
    before = run.points()
    assert run.status == "KILLED" and {step for _, step, _ in before} == {0, 1, 2, 3}
    assert call(bench.capsys, bench.words("steps=5")).code == 0
    assert list(server.runs.values()) == [run] and run.status == "FINISHED"
    assert set(before) < set(run.points()) and len(run.received) == len(run.points())
    assert run.points() == expected(bench.folder())


def test_what_belongs_to_another_server_is_left_alone(
    bench: Tracked, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed(bench)
    other = install(monkeypatch, FakeServer())
    monkeypatch.setenv(URI, "http://other")
    assert bench.resend()["elsewhere"] == 1 and not other.runs
    monkeypatch.delenv(URI)
    install(monkeypatch, server)
    assert bench.resend()["ended"] == 1


def test_runs_of_one_store_are_sent_to_another_when_asked(
    missed: Tracked, server: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    missed.resend()
    words = ["resend", "--output", str(missed.output)]
    other = install(monkeypatch, FakeServer())
    monkeypatch.setenv(URI, "http://other")
    told = call(missed.capsys, words)
    assert told.code == 0 and not other.runs
    assert "of another store, which `resend --tracking-uri ADDRESS` sends" in told.out
    monkeypatch.delenv(URI)
    for sent in (1, 0):
        told = call(missed.capsys, [*words, "--tracking-uri", "http://ann:secret@other:5000"])
        assert told.code == 0 and f": {sent} runs, " in told.out and "secret" not in told.out
    (run,) = other.runs.values()
    assert run.points() == expected(missed.folder()) and set(run.files) == {RECORD_FILE}
    # It still belongs where it was: news of it goes there.
    install(monkeypatch, server)
    assert missed.resend()["elsewhere"] == 0


def test_a_server_that_is_not_there_is_told_at_once(
    missed: Tracked, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = install(monkeypatch, FakeServer(away=True))
    monkeypatch.setenv(URI, "http://other:5000")
    words = ["resend", "--output", str(missed.output)]
    told = only_error(call(missed.capsys, words))
    assert told.startswith("MLflow at http://other:5000 did not answer (server went away): ")
    assert "0 runs wait for it (1 more belong to another store); start it or mend" in told
    told = only_error(call(missed.capsys, [*words, "--tracking-uri", "http://third:5000"]))
    assert "third:5000 did not answer" in told and "1 run waits for it; start" in told
    assert not other.runs


@pytest.mark.parametrize("address", ["runs/mlflow.db", "localhost:5000", "", "http://"])
def test_what_is_no_address_is_refused(missed: Tracked, address: str) -> None:
    words = ["resend", "--output", str(missed.output), "--tracking-uri", address]
    assert "must be an address, such as http://HOST:5000" in only_error(call(missed.capsys, words))


def test_a_store_that_was_lost_is_filled_anew_from_the_folders(
    missed: Tracked, server: FakeServer
) -> None:
    missed.resend()
    server.runs.clear()
    missed.output.rename(missed.output.with_name("moved"))
    missed.output = missed.output.with_name("moved")
    assert missed.resend()["sent"] == 1
    (run,) = server.runs.values()
    assert run.points() == expected(missed.folder()) and set(run.files) == {RECORD_FILE}


def test_a_run_that_mlflow_does_not_take_is_kept_until_it_does(
    missed: Tracked, server: FakeServer
) -> None:
    """Somebody deletes the experiment, then restores it."""
    server.deleted = True
    called = call(missed.capsys, ["resend", "--output", str(missed.output)])
    assert called.code == 2 and "refused 1 runs (must be in the 'active' state)" in called.err
    server.deleted = False
    assert missed.resend()["sent"] == 1
    (run,) = server.runs.values()
    assert run.points() == expected(missed.folder())
    server.deleted = True
    assert not any(missed.resend().values()), "what was deleted on purpose does not come back"


def test_what_mlflow_refuses_does_not_hold_up_the_rest(missed: Tracked, server: FakeServer) -> None:
    server.refuses = ("settings.steps",)
    assert missed.resend()["refused"] == 1
    (run,) = server.runs.values()
    assert run.status == "FINISHED" and run.points() == expected(missed.folder())


def test_resend_says_that_mlflow_is_away(missed: Tracked, server: FakeServer) -> None:
    server.away = True
    called = call(missed.capsys, ["resend", "--output", str(missed.output)])
    assert called.code == 2 and called.err.count("\n") == 1
    assert "mlflow.db did not answer (server went away): nothing was sent, and 1 run" in called.err
    server.away, server.fail_after = False, 3
    called = call(missed.capsys, ["resend", "--output", str(missed.output)])
    assert called.code == 2 and "mlflow.db failed (server went away): 0 runs" in called.err
    assert "1 are left" in called.err
    called = call(missed.capsys, ["resend", "--output", str(missed.output / "no")])
    assert called.code == 2 and "there is no such folder" in called.err


def test_a_folder_whose_note_is_damaged_is_no_run(missed: Tracked, server: FakeServer) -> None:
    for damage in ("", "null", "[1]", '{"token": "x"}', "\x00"):
        (missed.folder() / TRACKING_FILE).write_text(damage)
        answer = missed.resend()
        (left_out,) = answer.pop("left_out")
        assert left_out.startswith(str(missed.folder() / TRACKING_FILE))
        assert not any(answer.values())
    assert not server.runs
