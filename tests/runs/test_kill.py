"""`kill -9` at any moment, then the same command again: the end is the same, bit by bit."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from crashes import COMMANDS, assert_same_end, carry_out, count_moments, kills, prepare
from tiny_runs import shrink_backbone

LONGEST = 120.0
"""Seconds after which a process hangs, and does not compute."""

KILLS = 6
"""Of processes, for each command."""


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """A smaller `tiny`."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_backbone(patch)
        yield


def start(words: Sequence[str], root: Path, moment: int = -1) -> subprocess.Popen[bytes]:
    """Give a command in a process of its own."""
    support = Path(__file__).resolve().parents[1] / "support"
    environment = os.environ | {"PYTHONPATH": str(support.parent.parent)}
    script = [sys.executable, str(support / "killed.py"), str(root), str(moment), *words]
    return subprocess.Popen(script, cwd=root, env=environment, stderr=subprocess.DEVNULL)


def undisturbed(name: str, tmp_path: Path) -> tuple[Path, int]:
    """A root in which a command was carried out, and how many moments it had."""
    root = prepare(tmp_path / "whole")
    return root, count_moments(COMMANDS[name], root)


def draw(total: int, count: int, seed: int) -> list[int]:
    """Some moments, the last among them: all is written then, and not all is cleared away."""
    generator = np.random.default_rng(seed)
    chosen = generator.choice(total - 1, size=min(count, total) - 1, replace=False)
    return [*sorted(chosen.tolist()), total - 1]


def check_kills(name: str, count: int, tmp_path: Path, seed: int) -> None:
    """Kill at some moments; and at some moment of what comes after each kill."""
    whole, total = undisturbed(name, tmp_path)
    words = COMMANDS[name]
    for table in whole.glob("out/*/sweeps/*/trials.csv"):
        # Else that a sweep's table is the same says nothing of its pruner.
        assert words[0] != "sweep" or "pruned" in set(pd.read_csv(table)["state"])
    root = prepare(tmp_path / "root")
    chosen = draw(total, count, seed)
    left = kills(words, root, chosen, tmp_path / "once")
    assert len(left) == len(chosen) and total > 50
    for moment, copy in zip(chosen, left, strict=True):
        # The command is killed a second time, if it is still under way by then.
        (tmp_path / "twice").mkdir(exist_ok=True)
        second = kills(words, copy, [total // 7], tmp_path / "twice" / str(moment))
        for folder in (copy, *second):
            if folder != copy:
                carry_out(words, folder)
            assert_same_end(whole, folder)


@pytest.mark.parametrize(
    ("name", "count"), [("grpo", 3), ("srpo", 2), ("vstar", 2), ("ablate", 2), ("sweep", 2)]
)
def test_files_as_a_kill_leaves_them(name: str, count: int, tmp_path: Path) -> None:
    check_kills(name, count, tmp_path, seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_files_as_many_kills_leave_them(name: str, tmp_path: Path) -> None:
    check_kills(name, 20, tmp_path, seed=1)


def test_a_process_that_is_killed(tmp_path: Path) -> None:
    whole, total = undisturbed("grpo", tmp_path)
    root = prepare(tmp_path / "root")
    with start(COMMANDS["grpo"], root, moment=2 * total // 3) as process:
        assert process.wait(LONGEST) == -signal.SIGKILL
    carry_out(COMMANDS["grpo"], root)
    assert_same_end(whole, root)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_processes_that_are_killed_again_and_again(name: str, tmp_path: Path) -> None:
    """At random moments and after random times, until one comes through."""
    whole, total = undisturbed(name, tmp_path)
    words, generator = COMMANDS[name], np.random.default_rng(2)
    root, killed, ended = prepare(tmp_path / "root"), 0, 0
    while killed < KILLS:
        by_time = bool(killed % 2)
        moment = -1 if by_time else int(generator.integers(total))
        with start(words, root, moment) as process:
            try:
                # About as long as starting takes, and then as the work does.
                code = process.wait(generator.uniform(2, 12) if by_time else LONGEST)
            except subprocess.TimeoutExpired:
                process.kill()
                code = process.wait(LONGEST)
        assert code in (0, -signal.SIGKILL)
        killed += code != 0
        if code == 0:
            assert_same_end(whole, root, repeats=words[0] == "run")
            ended += 1
            root = prepare(tmp_path / f"root-{ended}")
    with start(words, root) as process:
        assert process.wait(LONGEST) == 0
    assert_same_end(whole, root, repeats=words[0] == "run")
