"""Modules of the folder where a command is given are run neither by it nor by its processes."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from tiny_runs import SETTINGS, save_tiny

from genrec_bench.training import child_processes

HOSTILE = ("json", "random", "torch", "yaml")
"""Of the standard library and of others; each is imported by most commands."""

SPAWNS = """
import multiprocessing, subprocess, sys
import random, yaml

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    child = context.Process(target=print)
    child.start()
    child.join()
    assert child.exitcode == 0
    subprocess.run([sys.executable, "-m", "json.tool", "--help"], check=True)
"""


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A folder with modules that leave a mark where they are run."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name in HOSTILE:
        mark = f"import sys\nopen({str(folder / f'{name}.was-run')!r}, 'w').close()\nsys.exit(3)\n"
        (folder / f"{name}.py").write_text(mark)
    return folder


@pytest.fixture
def environment(root: Path) -> dict[str, str]:
    """That of a process of a user who knows nothing of safe paths."""
    own = {key: value for key, value in os.environ.items() if key != child_processes.SAFE}
    return own | {child_processes.PATH: str(root)}


def check(words: Sequence[str], folder: Path, environment: dict[str, str]) -> str:
    """Run a program in a folder, and return what it printed; no module of the folder was run."""
    done = subprocess.run(
        words, cwd=folder, env=environment, capture_output=True, text=True, timeout=600
    )
    assert not list(folder.glob("*.was-run")), done.stderr
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_modules_of_this_folder_do_what_they_say(
    hostile: Path, environment: dict[str, str]
) -> None:
    with pytest.raises(AssertionError):
        check([sys.executable, "-c", "import yaml"], hostile, environment)


def test_the_package_as_a_module(hostile: Path, environment: dict[str, str]) -> None:
    told = check([sys.executable, "-m", "genrec_bench", "data", "list"], hostile, environment)
    assert "synthetic" in told


@pytest.mark.parametrize("path", ["", os.pathsep, f"{os.pathsep}/nowhere"])
def test_processes_and_what_they_start(
    path: str, hostile: Path, environment: dict[str, str]
) -> None:
    started = environment | {child_processes.PATH: path}
    # In a file: what is spawned reads it once more.
    script = hostile.parent / "spawns.py"
    script.write_text(SPAWNS)
    check([*child_processes.python(started), str(script)], hostile, started)


@pytest.mark.slow
def test_a_command_with_two_processes(
    hostile: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    words = [sys.executable, "-m", "genrec_bench", "sweep", "grpo", "--dataset", "industrial"]
    words += ["--total-budget", "8Gflop", "--trial-budget", "4Gflop", "--sampler", "random"]
    words += ["--data-dir", str(save_tiny(tmp_path / "data")), "--output", "runs"]
    told = check([*words, "--workers", "2", "--set", *SETTINGS], hostile, environment)
    assert "2 trials" in told
