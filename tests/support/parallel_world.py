"""Jobs for other processes, and what tests put into every process that is started for them.

The program that does this, `sitecustomize.py`, is run by Python itself before any other.
"""

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_runs import shrink_backbone

from genrec_bench.errors import StorageError, UserError
from genrec_bench.runs.jobs import Context, Job, do
from genrec_bench.training import loop, steps

SUPPORT = Path(__file__).resolve().parent

DIE, HANG, ALWAYS = "GENREC_TEST_DIE", "GENREC_TEST_HANG", "GENREC_TEST_ALWAYS"
"""Environment: files that name, once they are there, the process that died or hangs in the second
step of a run; and the seed on which every process does."""

CUSTOMIZE = f"""
import os, signal, sys, time
from pathlib import Path

sys.path.append({str(SUPPORT)!r})
import pytest
from tiny_runs import shrink_backbone
from genrec_bench.training import loop
from genrec_bench.training.steps import RolloutStepper

patch = pytest.MonkeyPatch()
shrink_backbone(patch)
patch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
real = RolloutStepper.step


def claimed(name):
    try:
        with open(os.environ[name], "x") as file:
            file.write(str(os.getpid()))
        return True
    except (KeyError, FileExistsError):
        return False


def step(self, index, *more):
    # The command itself takes steps too, to see what they cost.
    if index == 1 and sys.argv[0] == "-c":
        if os.environ.get({ALWAYS!r}) == str(self._seed) or claimed({DIE!r}):
            os.kill(os.getpid(), signal.SIGKILL)
        if claimed({HANG!r}):
            time.sleep(600)
    return real(self, index, *more)


RolloutStepper.step = step
"""


def prepare_processes(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Have every Python that is started from now on use a smaller `tiny`; see above."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(CUSTOMIZE)
    patch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(SUPPORT)]))


def add(one: int, other: int, context: Context) -> int:
    return one + other


def about(context: Context) -> dict[str, object]:
    return {
        "process": os.getpid(),
        "threads": torch.get_num_threads(),
        "folder": os.getcwd(),
        "dataset": context.dataset.fingerprint,
        "crew": context.crew,
    }


def die_once(marker: Path, context: Context) -> str:
    """Die, unless the marker is there; where it cannot be made, a process dies each time."""
    if not marker.exists():
        if marker.parent.exists():
            marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return "survived"


def fail(kind: str, context: Context) -> None:
    raise {"user": UserError, "storage": StorageError, "broken": ValueError}[kind](f"no {kind}")


def run_and_die_once(job: Job, marker: Path, context: Context) -> Path:
    """Run a job on a smaller `tiny`, and die in its second step unless a process has before."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_backbone(patch)
        patch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
        real = steps.RolloutStepper.step

        def step(self: Any, index: int, *more: Any) -> dict[str, float]:
            if index == 1:
                die_once(marker, context)
            return real(self, index, *more)

        patch.setattr(steps.RolloutStepper, "step", step)
        return do(job, context)


def wait_for(marker: Path, context: Context) -> None:
    while not marker.exists():
        time.sleep(0.05)
