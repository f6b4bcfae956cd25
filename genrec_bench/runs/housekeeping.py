"""What lies below an output folder: runs, their states, and what of them can go at what price."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec_bench.errors import StorageError, UserError, no_folder
from genrec_bench.runs.policy_folder import FOLDER
from genrec_bench.runs.record_schema import mistakes_in
from genrec_bench.runs.records import RECORD_FILE, TRACKING_FOLDERS
from genrec_bench.runs.run_folder import CHECKPOINTS, RUN_FILE, last_spent
from genrec_bench.storage.files import LEFTOVER, read_json
from genrec_bench.storage.folders import remove
from genrec_bench.storage.locks import try_lock
from genrec_bench.training.ledger import of_training

KINDS = {
    "leftovers": "what killed processes were writing",
    "checkpoints": "of runs that have ended",
    "policies": "of finished runs; without them, recommend and analyses cannot use the runs",
    "unfinished": "runs that were cut short; the same command would go on with them",
}
"""What can go."""

FREE = ("leftovers", "checkpoints")
"""Kinds that nobody will miss."""

AT_WORK = "at work"


@dataclass(frozen=True)
class RunState:
    """A run's folder.

    Attributes:
        state: complete, failed, cut short, at work, or damaged.
        record: without a look at the files beside it; empty where there is none that holds.
        size: bytes of all that lies in the folder; ``policy``: of its policy.
        seconds: of training, spent so far.
    """

    folder: Path
    state: str
    record: dict[str, Any]
    size: int
    policy: int
    seconds: float


@dataclass(frozen=True)
class Removable:
    """Something that can go: its kind, its bytes, and the seconds that it took to make."""

    kind: str
    path: Path
    size: int
    seconds: float


def runs_below(output: Path) -> list[RunState]:
    """Return all runs below a folder, trials of sweeps among them, sorted by folder.

    Raises:
        UserError: there is no such folder.
    """
    with contextlib.ExitStack() as stack:
        return [_state(folder, stack) for folder in _folders(output)]


def removable(output: Path) -> list[Removable]:
    """Return what can go of all runs that nobody works on.

    Raises:
        UserError: there is no such folder.
    """
    with contextlib.ExitStack() as stack:
        states = [_state(folder, stack) for folder in _folders(output)]
        return [one for state in states for one in _of_run(state)]


def clear(output: Path, kinds: Collection[str]) -> list[Removable]:
    """Remove what is of some kinds, of runs that nobody works on; return what is gone.

    Raises:
        UserError: there is no such folder.
        StorageError: the disk refuses.
    """
    gone = []
    for folder in _folders(output):
        # Locked while it is cleared: the same command may be given at this moment.
        with contextlib.ExitStack() as stack:
            for one in _of_run(_state(folder, stack)):
                if one.kind in kinds:
                    remove(one.path)
                    if one.path.exists():
                        raise StorageError(f"{one.path}: cannot be removed")
                    gone.append(one)
    return gone


def _folders(output: Path) -> Iterator[Path]:
    if not output.is_dir():
        raise UserError(f"--output {output}: {no_folder(output)}")
    for where, below, files in os.walk(output):
        below[:] = sorted(name for name in below if name not in TRACKING_FOLDERS)
        if RUN_FILE in files:
            below.clear()
            yield Path(where)


def _state(folder: Path, stack: contextlib.ExitStack) -> RunState:
    """Look at a run, and lock it until the stack is closed if nobody works on it."""
    free = try_lock(folder / RUN_FILE, stack)
    record: dict[str, Any] = {}
    seconds, state = 0.0, "cut short" if free else AT_WORK
    try:
        if (folder / RECORD_FILE).is_file():
            read = read_json(folder / RECORD_FILE)
            if mistakes_in(read):
                raise StorageError(f"{folder / RECORD_FILE} does not hold")
            record = read
            state = "complete" if record["complete"] else "failed"
            seconds = of_training(record["budget"]["spent"], "seconds")
        else:
            seconds = of_training(last_spent(folder)[0], "seconds")
    except (UserError, KeyError, TypeError, AttributeError):
        state = "damaged" if free else AT_WORK
    if not free:
        state = AT_WORK
    return RunState(folder, state, record, _size(folder), _size(folder / FOLDER), seconds)


def _of_run(run: RunState) -> Iterator[Removable]:
    if run.state in (AT_WORK, "damaged"):
        return
    for path in sorted(run.folder.glob(".*")):
        if LEFTOVER.fullmatch(path.name):
            yield Removable("leftovers", path, _size(path), 0.0)
    if run.state == "cut short":
        yield Removable("unfinished", run.folder, run.size, run.seconds)
        return
    if (run.folder / CHECKPOINTS).is_dir():
        yield Removable("checkpoints", run.folder / CHECKPOINTS, _size(run.folder / CHECKPOINTS), 0)
    if (run.folder / FOLDER).is_dir():
        yield Removable("policies", run.folder / FOLDER, run.policy, run.seconds)


def _size(path: Path) -> int:
    """Return the bytes of a file, or of all files below a folder."""
    total = 0
    files = [path] if path.is_file() else path.rglob("*")
    for file in files:
        with contextlib.suppress(OSError):
            total += file.lstat().st_size if file.is_file() or file.is_symlink() else 0
    return total
