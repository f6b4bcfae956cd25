"""What the folder of a run says to MLflow: what the run is, its figures, its files, how it ended.

`tracking.json` marks a folder that MLflow is to know. It holds what the run is, and its end once
the process has told it. All else is read from what the run writes for itself: its checkpoints while
it goes on, then its record and curves. Whoever works in a folder holds a lock on it, which the
system frees if the process dies. A folder without a lock and without an end is that of a dead run.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd

from genrec_bench.errors import UserError
from genrec_bench.runs.record_schema import Record
from genrec_bench.runs.records import RECORD_FILE, read_record
from genrec_bench.runs.run_folder import CHECKPOINTS
from genrec_bench.training.checkpoints import STATE, training_checkpoints
from genrec_bench.training.loop import PRUNED

TRACKING_FILE = "tracking.json"

KEYS = set("experiment name params tags token parent began dead ended".split())

FILES = (
    RECORD_FILE,
    "table.md",
    "table.csv",
    "figure.png",
    "analysis.json",
    "board.csv",
    "board.html",
    "board.md",
)
"""The files of a folder that MLflow gets, as far as they are there."""

STATES = {"FINISHED": "complete", "FAILED": "failed", "KILLED": "interrupted"}
"""What became of a trial; MLflow has one word for pruned and interrupted ones."""


@dataclass(frozen=True)
class End:
    """How a run ended.

    Attributes:
        status: ``FINISHED``, ``FAILED`` or ``KILLED``.
        state: ``complete``, ``failed``, ``pruned`` or ``interrupted``.
        at: milliseconds since 1970.
        is_told: whether the process told it itself; otherwise it was found out afterwards.
    """

    status: str
    state: str
    at: int
    is_told: bool = True


def read_about(folder: Path) -> dict[str, Any] | None:
    """Return what `tracking.json` says; None if the folder has none that can be read."""
    try:
        about = json.loads((folder / TRACKING_FILE).read_text())
        return about if set(about) >= KEYS else None
    except (OSError, ValueError, TypeError):
        return None


def end_of(folder: Path, about: Mapping[str, Any]) -> End:
    """Return how a run ended in whose folder nobody works."""
    if about["ended"]:
        return End(**about["ended"])
    record = _record(folder)
    if record is None:
        signs = [folder / TRACKING_FILE, *(folder / CHECKPOINTS).glob(f"*/{STATE}")]
        return End("KILLED", "interrupted", max(map(_changed, signs)) // 1_000_000, False)
    status = "FINISHED" if record["complete"] else "FAILED"
    state = STATES[status]
    if record["failure"].startswith(PRUNED):
        status, state = "KILLED", "pruned"
    return End(status, state, _finished(record), False)


def figures_of(
    folder: Path, about: Mapping[str, Any], after: int
) -> tuple[list[tuple[int, int, dict[str, float]]], bool]:
    """Return the figures of a run beyond a step, and whether they are all that there will be.

    Each comes with its step and its moment in milliseconds since 1970. A step's moment is the start
    of the run and the seconds that were spent until then: it is the same whenever it is asked for.

    Args:
        folder: of the run.
        about: from ``read_about``.
        after: the last step that is known already; -1 for none.
    """
    record = _record(folder)
    rows = _saved(folder, after) if record is None else _curves(folder)
    began, last = int(about["began"]), 0
    found = []
    for row in rows:
        at, last = began + int(1000 * row.get("seconds", 0.0)), int(row["step"])
        if last > after:
            found.append((last, at, {name: row[name] for name in row if name != "step"}))
    if record is not None:
        ends = {
            **_joined("ledger", record["budget"]["spent"]),
            **_joined("", record["metrics"]),
        }
        at = max([_finished(record), *(at + 1 for _, at, _ in found)])
        found.append((last, at, ends))
    return found, record is not None


def files_of(folder: Path) -> dict[str, list[int]]:
    """Return the names of the files that MLflow gets, with size and time of the last change.

    A link is none of them, as it may lead out of the folder.
    """
    paths = [folder / name for name in FILES]
    stats = {path.name: path.stat() for path in paths if path.is_file() and not path.is_symlink()}
    return {name: [stat.st_size, stat.st_mtime_ns] for name, stat in stats.items()}


@contextlib.contextmanager
def working_in(folder: Path) -> Iterator[int]:
    """Lock a folder, together with others, while the body of a ``with`` statement works in it.

    Yields:
        The handle, for ``let_go``.

    Raises:
        OSError: the disk refuses.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH)
        yield handle
    finally:
        os.close(handle)


def is_last(handle: int) -> bool:
    """Return whether nobody else works in a folder; what lock ``working_in`` took may be lost."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def let_go(handle: int) -> None:
    """Give the lock of ``working_in`` back before its body ends."""
    fcntl.flock(handle, fcntl.LOCK_UN)


def is_live(folder: Path) -> bool:
    """Return whether a process on this machine works in a folder."""
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return not is_last(handle)
    finally:
        os.close(handle)


def _record(folder: Path) -> Record | None:
    """Return a run's record; None if there is none that holds."""
    if not (folder / RECORD_FILE).is_file():
        return None
    try:
        return read_record(folder)
    except UserError:
        return None


def _saved(folder: Path, after: int) -> list[dict[str, float]]:
    """Return the curves in the newest checkpoint, if it is of a step beyond ``after``."""
    for checkpoint in reversed(training_checkpoints(folder / CHECKPOINTS)):
        if int(checkpoint.name.removeprefix("step-")) <= after:
            break
        # Older ones are removed meanwhile, and a damaged one is not for us to tell.
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            rows: list[dict[str, float]] = json.loads((checkpoint / STATE).read_text())["content"][
                "curves"
            ]
            return rows
    return []


def _curves(folder: Path) -> list[dict[str, float]]:
    table = pd.read_parquet(folder / "curves.parquet")
    # A figure that a step does not have is not a number in the table.
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False)]
    return [{name: v for name, v in row.items() if not math.isnan(v)} for row in rows]


def _joined(prefix: str, maps: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    start = f"{prefix}/" if prefix else ""
    return {f"{start}{key}/{name}": v for key, inner in maps.items() for name, v in inner.items()}


def _finished(record: Record) -> int:
    return int(1000 * datetime.fromisoformat(record["times"]["finished"]).timestamp())


def _changed(file: Path) -> int:
    try:
        return file.stat().st_mtime_ns
    except OSError:
        return 0
