"""What fails in a comparison is a row of its board, and is not tried again unasked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compare_world import TUNING, Compare, Sweeps, count_steps, stand_in
from tiny_runs import last_error, run_folders, save_tiny, shrink_backbone

from genrec_bench import run
from genrec_bench.ablate import Failure
from genrec_bench.errors import StorageError, UserError

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A data directory with the dataset, for a smaller `tiny`; SFT starts gather in it."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_backbone(patch)
        yield save_tiny(tmp_path_factory.mktemp("data"))


@pytest.fixture
def compare(
    capsys: Capture, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Compare:
    """Stays out of the repository."""
    monkeypatch.chdir(tmp_path)
    return Compare(capsys, data, tmp_path / "runs")


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> Sweeps:
    return stand_in(monkeypatch)


@pytest.fixture
def steps_taken(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    return count_steps(monkeypatch)


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

    assert compare.call("grpo", "--seeds", "1").code == 2
    assert len(run_folders(compare.output)) == 3
    # What tuning may cost is spent: there is nothing to try again with.
    assert compare.call("grpo", "--seeds", "1", "--retry-failed").code == 2
    assert len(run_folders(compare.output)) == 3


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
