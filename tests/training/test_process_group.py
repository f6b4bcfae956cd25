"""``--processes N``: one run by several processes; where one dies, all end, and a line says so."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tiny_runs import SETTINGS, call, only_error, run_folders, save_tiny, weights

from genrec_bench.errors import UserError
from genrec_bench.runs.records import read_record
from genrec_bench.training import process_group, workers
from genrec_bench.training.launchers import ALONE, MEMBER, SIZES, OthersGone
from genrec_bench.training.process_group import share_run
from genrec_bench.training.workers import Workers

PATIENCE = 150.0
"""Seconds for a run of two processes on a busy machine."""

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*SIZES, "LOCAL_WORLD_SIZE", MEMBER):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def start(root: Path, tmp_path: Path) -> Iterator[Start]:
    """Starts a run of two processes on a tiny dataset."""
    save_tiny(tmp_path)
    begun: list[subprocess.Popen[str]] = []

    def run(*words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "genrec_bench", "run", "grpo", "--processes", "2"]
        command += ["--dataset", "industrial", "--data-dir", str(tmp_path), "--no-mlflow"]
        said = {word.partition("=")[0] for word in words}
        given = [word for word in SETTINGS if word.partition("=")[0] not in said]
        environment = os.environ | {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            [*command, "--output", str(tmp_path / "runs"), "--set", *given, *words],
            env=environment | {"ACCELERATE_USE_CPU": "true"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        begun.append(process)
        return process

    yield run
    for process in begun:
        for child in psutil.Process(process.pid).children() if process.poll() is None else []:
            child.kill()
        process.kill()
        process.wait()


def second_of(process: subprocess.Popen[str]) -> psutil.Process:
    """The second process, once both are there."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for child in psutil.Process(process.pid).children():
            if child.environ().get("RANK") == "1":
                return child
        time.sleep(0.1)
    raise AssertionError("there is no second process")


def wait_for(found: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_two_processes_leave_one_record_and_go_on_after_a_death(
    start: Start, tmp_path: Path
) -> None:
    endless = start("steps=100000", "sft_epochs=0.2", "validations=0")
    checkpoints = tmp_path / "runs" / "industrial"
    wait_for(lambda: list(checkpoints.glob("*/checkpoints/*")), endless)
    second_of(endless).kill()
    began = time.monotonic()
    out, said = endless.communicate(timeout=60)
    assert time.monotonic() - began < 60 and endless.returncode == 2 and out == ""
    errors = [line for line in said.splitlines() if "error" in line]
    assert errors == [
        "genrec-bench: error: process 1 of 2 (the first is 0) was killed by SIGKILL, perhaps for "
        "lack of memory; the same command again goes on from the last checkpoint"
    ]
    assert "Traceback" not in said and said.splitlines()[-1] == errors[0]
    assert not list(checkpoints.glob("*/record.json"))
    # The same start, and another number of steps: a run of its own, to its end.
    whole = start("steps=2", "sft_epochs=0.2", "validations=0")
    out, said = whole.communicate(timeout=PATIENCE)
    assert whole.returncode == 0, said
    (path,) = checkpoints.glob("*/record.json")
    assert out == f"record: {path}\n"
    record = read_record(path)
    assert record["hardware"]["processes"] == 2 and "--processes" in record["command"]


def test_what_is_wrong_is_told_once(start: Start) -> None:
    process = start("steps=2", "prompts_per_step=1")
    out, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2 and out == ""
    (line,) = said.splitlines()
    assert line.startswith("genrec-bench: error: prompts_per_step=1: must be at least 2")


def test_an_interruption_ends_both(start: Start, tmp_path: Path) -> None:
    process = start("steps=100000", "sft_epochs=0.2", "validations=0")
    second = second_of(process)
    wait_for(lambda: list((tmp_path / "runs").glob("*/*/checkpoints/*")), process)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130 and said.count("interrupted") == 1
    assert not second.is_running()


def test_nobody_is_left_behind(start: Start) -> None:
    process = start("steps=100000", "sft_epochs=0.2")
    second = second_of(process)
    process.kill()
    process.wait()
    psutil.wait_procs([second], timeout=60)
    assert not second.is_running()


PROGRAM = """
import os, sys, time
rank = int(os.environ["RANK"])
{body}
"""


@pytest.mark.parametrize(
    ("body", "code", "said"),
    [
        ("", 0, ""),
        ("print('mine', file=sys.stderr); sys.exit(2)", 2, "mine\n"),
        (
            "if rank == 1: print('a\\nlast', file=sys.stderr); sys.exit(2)\ntime.sleep(60)",
            2,
            "last\n",
        ),
        ("if rank == 1: print('a\\nb', file=sys.stderr); sys.exit(1)\ntime.sleep(60)", 1, "a\nb\n"),
        ("if rank == 0: print('me', file=sys.stderr); sys.exit(1)\ntime.sleep(60)", 1, "me\n"),
        ("if rank == 1: os.kill(os.getpid(), 9)\nsys.exit(3)", -1, "process 1 of 3 (the first is"),
        ("if rank == 0: os.kill(os.getpid(), 11)\nsys.exit(3)", -1, "0) was killed by SIGSEGV;"),
        ("sys.exit(3)", -1, "lost the others; the same command"),
    ],
)
def test_the_first_cause_is_told(
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    body: str,
    code: int,
    said: str,
) -> None:
    """Whatever else the others say of it; -1 stands for an error that the command tells."""
    file = tmp_path / "program.py"
    file.write_text(PROGRAM.format(body=body))
    monkeypatch.setattr(process_group, "GRACE", 3.0)
    monkeypatch.setattr(process_group, "python", lambda environment: [sys.executable, str(file)])
    if code < 0:
        with pytest.raises(UserError) as error:
            share_run(3, ["run", "grpo"])
        assert said in str(error.value)
    else:
        assert share_run(3, ["run", "grpo"]) == code
        assert capfd.readouterr().err == said


def test_processes_and_launchers_have_to_agree(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, somewhere: None
) -> None:
    assert share_run(None, []) is None and share_run(1, []) is None
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert share_run(3, []) is None
    said = only_error(call(capsys, ["run", "grpo", "--processes", "2"]))
    assert said.startswith("--processes 2: a launcher started 3 processes already")
    for wrong in ("0", "-1", "two", "100000"):
        assert "--processes" in only_error(call(capsys, ["run", "grpo", f"--processes={wrong}"]))


def test_a_group_that_breaks_is_no_end_of_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    group = Workers()
    group.count = 2

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("[gloo/transport] Connection closed by peer\n[127.0.0.1]:1")

    monkeypatch.setattr(workers, "gather_object", broken)
    monkeypatch.setattr(workers, "broadcast_object_list", broken)
    monkeypatch.setattr(group._accelerator, "reduce", broken)
    monkeypatch.setattr(group._accelerator, "wait_for_everyone", broken)
    calls: list[Callable[[], object]] = [
        lambda: group.sum([1.0]),
        lambda: group.sum_named({"a": 1.0}),
        lambda: group.agree("x"),
        group.wait,
    ]
    for work in calls:
        with pytest.raises(OthersGone, match="of the 2 processes of this run is gone .*closed by"):
            work()


def test_who_lost_another_leaves_the_word_to_who_started_both(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, somewhere: None
) -> None:
    def gone(*_: object) -> None:
        raise OthersGone("gone")

    monkeypatch.setattr("genrec_bench.commands.run_command.share_run", gone)
    assert only_error(call(capsys, ["run", "grpo"])) == "gone"
    monkeypatch.setenv(MEMBER, "999")
    quiet = call(capsys, ["run", "grpo"])
    assert quiet.code == ALONE and quiet.err == ""


def test_weights_are_those_of_one_process(start: Start, tmp_path: Path) -> None:
    """With adapters; `test_workers.py` has all algorithms, step by step."""
    words = ("steps=2", "sft_epochs=0.2", "validations=0", "lora_rank=2", "prompts_per_step=3")
    process = start(*words)
    out, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, said
    (two,) = run_folders(tmp_path / "runs")
    command = [sys.executable, "-m", "genrec_bench", "run", "--from-record", str(two)]
    command += ["--data-dir", str(tmp_path), "--no-mlflow", "--output", str(tmp_path / "one")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    environment |= {"ACCELERATE_USE_CPU": "true"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (one,) = run_folders(tmp_path / "one")
    ours, theirs = weights(two), weights(one)
    assert ours.keys() == theirs.keys() and any("lora" in name for name in ours)
    for name, tensor in ours.items():
        assert (tensor - theirs[name]).abs().max() < 1e-4, name
