"""A comparison by two processes: the same as by one, whoever dies on the way."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import parallel_world
import psutil
import pytest
from compare_world import TUNING, Compare
from tiny_runs import equal_weights, last_error, only_error, run_folders

from genrec_bench.runs.records import read_record

WORDS = (*TUNING, "100Mflop", "--controls", "sft")


@pytest.fixture
def two(compare: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compare:
    """The command as two processes of small policies carry it out."""
    parallel_world.prepare_processes(monkeypatch, tmp_path / "site")
    return compare


def assert_same(compare: Compare, one: Path) -> None:
    """The records of a comparison, and the policies, are those of another output folder."""
    other = Compare(compare.capsys, compare.data, one)
    found, wanted = compare.comparable_records(), other.comparable_records()
    assert list(found) == list(wanted) and found == wanted
    for (_, run), (_, same) in zip(paths(compare), paths(other), strict=True):
        assert equal_weights(run.parent, same.parent)
    # Nothing was begun twice.
    assert len(run_folders(compare.output)) == len(wanted)


def paths(compare: Compare) -> list[tuple[str, Path]]:
    folder = compare.folder()
    cells = json.loads((folder / "result.json").read_text())["cells"]
    return [(cell["name"], folder / cell["record"]) for cell in cells]


def alone(compare: Compare, tmp_path: Path) -> Path:
    """Carry the comparison out in this process, and return the output folder."""
    assert Compare(compare.capsys, compare.data, tmp_path / "one").call("grpo", *WORDS).code == 0
    return tmp_path / "one"


def test_two_processes_make_the_same_though_one_dies(
    two: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = alone(two, tmp_path)
    monkeypatch.setenv(parallel_world.DIE, str(tmp_path / "died"))
    called = two.call("grpo", *WORDS, "--workers", "2")
    assert called.code == 0, called.err
    assert (tmp_path / "died").exists() and "another process goes on with it" in called.err
    assert_same(two, one)
    board = (two.folder() / "board.csv").read_text()
    other = Compare(two.capsys, two.data, one).folder() / "board.csv"
    assert len(board.splitlines()) == len(other.read_text().splitlines())

    # Given again it finds everything, and starts nobody.
    monkeypatch.setattr(subprocess, "Popen", None)
    called = two.call("grpo", *WORDS, "--workers", "2")
    assert called.code == 0 and "runs finished already: 2 of 2" in called.err
    assert "[worker" not in called.err


@pytest.mark.slow
@pytest.mark.parametrize("blow", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_command_that_started_them_and_it_goes_on(
    two: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blow: signal.Signals
) -> None:
    words = [*two.words("grpo", *WORDS), "--workers", "2"]
    hangs = tmp_path / "hangs"
    command = subprocess.Popen(
        [sys.executable, "-m", "genrec_bench", *words],
        env=os.environ
        | {
            parallel_world.HANG: str(hangs),
            "PYTHONPATH": os.pathsep.join(
                [os.environ["PYTHONPATH"], str(Path(__file__).parents[3])]
            ),
        },
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        # Its own group, as a terminal has it.
        process_group=0,
    )
    deadline = time.monotonic() + 300
    while not hangs.exists():
        assert time.monotonic() < deadline and command.poll() is None
        time.sleep(0.1)
    children = psutil.Process(command.pid).children()
    assert children
    if blow == signal.SIGINT:
        os.killpg(command.pid, blow)
    else:
        command.send_signal(blow)
    code = command.wait(timeout=100)
    assert code == (-blow if blow == signal.SIGKILL else 130)
    assert not psutil.wait_procs(children, timeout=30)[1]
    assert two.call("grpo", *WORDS, "--workers", "2").code == 0
    assert_same(two, alone(two, tmp_path))


@pytest.mark.slow
def test_a_run_that_processes_die_of_is_a_row_with_its_cost(
    two: Compare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genrec_bench.studies.parallel.MOST_DEATHS", 2)
    monkeypatch.setenv(parallel_world.ALWAYS, "1")
    words = (*WORDS[2:], "--seeds", "2", "--workers", "2")
    called = two.call("grpo", *words)
    assert called.code == 1, called.err
    records = [read_record(path) for _, path in paths(two)]
    (record,) = [record for record in records if not record["complete"]]
    assert len(records) == 4 and record["algorithm"] == "grpo" and record["seed"] == 1
    assert record["failure"].startswith("2 processes died of it, the last one: worker ")
    # What the last checkpoint knows of, after one step.
    assert record["budget"]["spent"]["update"]["flops"] > 0
    assert record["failure"] in (two.folder() / "board.md").read_text().replace("\\", "")
    # It is not tried again unasked, and is if it is asked for.
    called = two.call("grpo", *words)
    assert "failed before: 2 processes died of it" in called.err and "[worker" not in called.err
    monkeypatch.delenv(parallel_world.ALWAYS)
    called = two.call("grpo", *words, "--retry-failed")
    assert called.code == 0 and called.err.count("grpo on industrial") == 1


def test_who_cannot_work_is_told_before_anything_starts(
    compare: Compare, monkeypatch: pytest.MonkeyPatch
) -> None:
    for words, message in (
        (["--workers", "0"], "argument --workers: 0: must be a whole number from 1 to 512"),
        (["--workers", "two"], "argument --workers: two: must be a whole number from 1 to 512"),
        (["--workers", "-1"], "argument --workers: -1: must be a whole number from 1 to 512"),
        (["--on", "slurm"], "argument --on: slurm: must be ray or ray://HOST:PORT"),
        (["--on", "ray://"], "argument --on: ray://: must be ray or ray://HOST:PORT"),
    ):
        assert only_error(compare.call("grpo", *words)).startswith(message)

    called = compare.call("grpo", "--budget", "9s", "--tuning-budget", "20s", "--on", "ray")
    assert only_error(called).startswith("--on ray: a budget in seconds is worth what the machine")

    assert not compare.output.exists()

    monkeypatch.setitem(sys.modules, "ray", None)
    called = compare.call("grpo", *WORDS, "--on", "ray")
    assert last_error(called).startswith("--on ray: Ray is not installed; the extra")
