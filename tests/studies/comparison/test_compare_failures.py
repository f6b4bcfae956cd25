"""The board of a comparison: what fails is a row of it and not tried again unasked; MLflow."""

import json
from typing import Any

import pytest
from board_world import reseal
from compare_world import TUNING, Compare, Sweeps
from fake_mlflow import FakeServer, install
from tiny_runs import call, last_error, run_folders

from genrec_bench.errors import StorageError, UserError
from genrec_bench.runs import run
from genrec_bench.studies.attempts import Failure
from genrec_bench.studies.comparison import compare as compare_module
from genrec_bench.tracking.folder_view import TRACKING_FILE


def test_what_fails_is_a_row_and_is_tried_again_only_if_asked_for(
    compare: Compare, sweeps: Sweeps, steps_taken: dict[str, Any]
) -> None:
    # GRPO's first run fails by what the user asked for; random reward's by a mistake of ours.
    steps_taken["raise"] = {1: UserError("the loss is nan"), 2: ValueError("shapes\ndiffer")}
    result = compare.json("grpo", "--seeds", "1", code=1)
    reasons = {cell["name"]: cell["failure"] for cell in result["cells"]}
    assert reasons == {
        "grpo": "the loss is nan",
        "SFT continued": None,
        "random reward": "ValueError: shapes differ",
    }
    record = compare.records()["grpo", 0]
    assert not record["complete"] and record["failure"] == "the loss is nan"
    assert "the loss is nan" in (compare.folder() / "board.html").read_text()

    called = compare.call("grpo", "--seeds", "1")
    assert called.code == 1 and steps_taken["taken"] == 2
    assert "failed: grpo, seed 0: the loss is nan" in called.out
    assert "0 of 1" in called.out and "--retry-failed tries these again" in called.out
    assert len(run_folders(compare.output)) == 3

    steps_taken["raise"] = {3: UserError("the loss is inf")}
    called = compare.call("grpo", "--seeds", "1", "--retry-failed")
    assert called.code == 2 and "failed: grpo, seed 0: the loss is inf" in called.out
    called = compare.call("grpo", "--seeds", "1", "--retry-failed")
    assert called.code == 0 and "failed" not in called.out
    assert compare.call("grpo", "--seeds", "1").code == 0


def test_an_algorithm_that_cannot_be_tuned_is_a_row_too(compare: Compare, sweeps: Sweeps) -> None:
    sweeps.failure = Failure("no trial came to its end: the loss is nan", broken=False)
    called = compare.call("grpo", "--seeds", "1")
    assert called.code == 2
    assert "failed: tuning grpo: no trial came to its end: the loss is nan" in called.out
    record = compare.records()["grpo", 0]
    assert not record["complete"] and record["tuning"]["flops"] == 3e8
    assert record["budget"]["spent"] == {} and record["metrics"]["test"] == {}
    assert record["failure"] == "no trial came to its end: the loss is nan"
    assert "0 of 1" in called.out
    assert "3e+08" not in called.out and "tuning 300 MFLOP of 400 MFLOP" in called.out

    # 300 spent and 50 for a further trial are within 400.
    assert "--retry-failed tries these again." in called.out

    assert compare.call("grpo", "--seeds", "1").code == 2
    assert len(run_folders(compare.output)) == 3
    # Tried again in vain: the row says what that cost too.
    sweeps.flops, sweeps.trials = 4e8, 6
    called = compare.call("grpo", "--seeds", "1", "--retry-failed")
    assert called.code == 2 and "--retry-failed" not in called.out
    assert "grpo: not tuned again: the tuning budget is spent." in called.out
    assert compare.records()["grpo", 0]["tuning"]["flops"] == 4e8
    assert compare.call("grpo", "--seeds", "1", "--retry-failed").code == 2
    assert len(run_folders(compare.output)) == 4


def test_a_full_disk_is_no_verdict_on_an_algorithm(
    compare: Compare, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise StorageError("cannot write it: No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_record", full)
        called = compare.call("grpo", "--seeds", "1")
    assert last_error(called) == "cannot write it: No space left on device"
    assert "[3/4]" not in called.err
    assert compare.call("grpo", "--seeds", "1").code == 0
    assert len(run_folders(compare.output)) == 3


def test_what_failed_attempts_spent_is_paid(
    compare: Compare, sweeps: Sweeps, steps_taken: dict[str, Any]
) -> None:
    # Each time after one step: another attempt's record is not this one's.
    steps_taken["raise"] = {2: UserError("the loss is nan")}
    result = compare.json("grpo", "--seeds", "1", code=2)
    first = result["cells"][0]
    assert first["spent"] > 0 and first["wasted"] == 0.0
    assert result["paid"]["training"] == first["spent"]

    steps_taken["raise"] = {steps_taken["taken"] + 2: UserError("the loss is inf")}
    second = compare.json("grpo", "--seeds", "1", "--retry-failed", code=2)["cells"][0]
    assert second["failure"] == "the loss is inf" and second["record"] != first["record"]
    assert second["spent"] == second["wasted"] == first["spent"]
    assert compare.records()["grpo", 0]["failure"] == "the loss is inf"

    result = compare.json("grpo", "--seeds", "1", "--retry-failed")
    third = result["cells"][0]
    assert third["failure"] is None and third["wasted"] == 2 * first["spent"]
    assert result["paid"]["training"] == third["spent"] + 2 * first["spent"]
    assert compare.json("grpo", "--seeds", "1")["paid"] == result["paid"]


def test_a_run_that_began_is_not_said_to_have_cost_nothing(
    compare: Compare, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise ValueError("no record today")

    with monkeypatch.context() as patch:
        patch.setattr(run, "write_record", broken)
        called = compare.call("grpo", "--seeds", "1")
    assert called.code == 2
    last = called.err.splitlines()[-1]
    assert "the run left no record: ValueError: no record today; the same command again" in last
    assert compare.call("grpo", "--seeds", "1").code == 0
    assert len(run_folders(compare.output)) == 3


def test_a_run_that_cannot_begin_is_a_row(
    compare: Compare, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise UserError("not with these words")

    with monkeypatch.context() as patch:
        patch.setattr(compare_module, "do", refuses)
        result = compare.json("grpo", "--seeds", "1", code=2)
    assert {cell["failure"] for cell in result["cells"]} == {"not with these words"}
    assert compare.records()["grpo", 0]["budget"]["spent"] == {}
    assert result["paid"] == {"tuning": 3e8, "training": 0.0, "controls": 0.0}


def test_trials_that_all_fail_leave_failed_rows(
    compare: Compare, steps_taken: dict[str, Any]
) -> None:
    steps_taken["raise"] = {number: UserError("the loss is nan") for number in (1, 2, 3)}
    called = compare.call("grpo", *TUNING, "100Mflop")
    assert called.code == 2
    reason = "tuning: no trial came to its end: the loss is nan"
    assert f"failed: grpo, seed 0: {reason}" in called.out
    record = compare.records()["grpo", 0]
    assert record["failure"] == reason and record["tuning"]["failed"] == 3
    assert compare.records()["random reward", 0]["complete"]
    taken = steps_taken["taken"]
    assert compare.call("grpo", *TUNING, "100Mflop").code == 2
    assert steps_taken["taken"] == taken

    # They cost nothing, so that the tuning budget pays for three more.
    assert "--retry-failed tries these again." in called.out
    called = compare.call("grpo", *TUNING, "100Mflop", "--retry-failed")
    assert called.code == 0, called.err
    assert "learning_rate=3e-05" in next(
        line for line in called.err.splitlines() if line.startswith("trial 3: ")
    ), "the defaults, as that of the first attempt"
    assert "trial 6: " not in called.err
    record = compare.records()["grpo", 0]
    assert record["complete"] and record["tuning"]["trials"] == 6
    assert record["tuning"]["failed"] == 3 and 0 < record["tuning"]["flops"] <= 4e8
    taken = steps_taken["taken"]
    for words in ((), ("--retry-failed",)):
        assert compare.call("grpo", *TUNING, "100Mflop", *words).code == 0
    assert steps_taken["taken"] == taken


def test_no_board_is_made_of_records_that_do_not_hold(compare: Compare, sweeps: Sweeps) -> None:
    assert compare.call("grpo", "--seeds", "1").code == 0
    result = json.loads((compare.folder() / "result.json").read_text())
    path = (compare.folder() / result["cells"][0]["record"]).resolve()
    record = json.loads(path.read_text())
    record["metrics"]["test"]["HR@10"] = 0.99
    reseal(path, record)
    board = (compare.folder() / "board.md").read_bytes()
    called = compare.call("grpo", "--seeds", "1")
    assert called.code == 2 and called.out == ""
    (altered,) = [line for line in called.err.splitlines() if line.startswith("altered: ")]
    assert path.parent.name in altered and "metrics.test.HR@10: stated 0.99, found" in altered
    assert "some records do not hold" in called.err.splitlines()[-1]
    assert (compare.folder() / "board.md").read_bytes() == board


def test_the_same_comparison_again_is_one_run_of_mlflow(
    compare: Compare, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = install(monkeypatch, FakeServer())
    words = [word for word in compare.words("grpo", "--seeds", "1") if word != "--no-mlflow"]
    for _ in range(2):
        assert call(compare.capsys, words).code == 0
        found = server.by_name(f"compare-{compare.folder().name}")
        assert found.status == "FINISHED" and found.tags["kind"] == "comparison"
        assert set(found.files) == {"board.md", "board.csv", "board.html"}
    others = [run.tags["algorithm"] for run in server.runs.values() if run is not found]
    assert others == ["grpo", "sft", "grpo"]
    # What a server that is away misses is sent later: the folder says that it has ended again.
    server.away, ended = True, found.end_time
    assert call(compare.capsys, words).code == 0
    assert found.end_time == ended
    server.away = False
    assert call(compare.capsys, ["resend", "--output", str(compare.output)]).code == 0
    assert found.end_time != ended and found.status == "FINISHED"
    assert (compare.folder() / TRACKING_FILE).is_file()
