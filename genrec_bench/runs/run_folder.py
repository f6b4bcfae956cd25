"""The folder of a run: found again after it was cut short, and locked while it runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from genrec_bench.errors import UserError
from genrec_bench.progress import Progress
from genrec_bench.runs.record_schema import Record
from genrec_bench.runs.records import RECORD_FILE, new_run_id, read_record
from genrec_bench.runs.request import Beginning, Request
from genrec_bench.storage.field_kinds import Moment
from genrec_bench.storage.files import read_json, write_atomically
from genrec_bench.storage.folders import remove, remove_leftovers
from genrec_bench.storage.locks import try_lock
from genrec_bench.storage.validation import validated
from genrec_bench.training.checkpoints import STATE, training_checkpoints
from genrec_bench.training.training_state import check_training_state
from genrec_bench.training.workers import Workers

RUN_FILE = "run.json"

UNSEEN = ".unseen"
"""In the folder of a run that has ended, until whoever asked for it was told so."""

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class _Started:
    """What a run's file says: what it is a run of, and when it was started first."""

    request: str
    started: Moment


def find_finished(
    parent: Path,
    digest: str,
    workers: Workers,
    progress: Progress,
    *,
    failed: bool = False,
    unseen: bool = False,
) -> Path | None:
    """Return the record of the first finished run of this digest, or None; see `run.find_equal`.

    With ``unseen``, only of a run that was killed when all was done but to say so.
    """
    found: str | None = None
    for folder, record in records_below(parent, digest, progress) if workers.is_main else ():
        if unseen and not (folder / UNSEEN).exists():
            continue
        complete = record["complete"]
        with contextlib.ExitStack() as stack:
            free = complete and try_lock(folder / RUN_FILE, stack)
            if free:
                _tidy(folder)
        if unseen and not free:
            continue  # Its process is about to say so, or it failed and may be tried again.
        if complete or failed:
            found = folder.name
        if complete:
            break
    chosen = workers.agree(found)
    return None if chosen is None else parent / chosen / RECORD_FILE


def records_below(parent: Path, digest: str, progress: Progress) -> Iterator[tuple[Path, Record]]:
    """Yield folder and record of all runs of this digest that ended, the first started first.

    Those whose record does not hold are told of and passed over, as if they had never been.
    """
    for _, folder in _folders_of(parent, digest, progress):
        if (folder / RECORD_FILE).exists():
            try:
                yield folder, read_record(folder)
            except UserError as error:
                progress.say_once(f"passed over: {error}")


def _folders_of(parent: Path, digest: str, progress: Progress) -> list[tuple[str, Path]]:
    """Return start and folder of all runs of this digest, the first started first.

    They are finished, failed, or cut short. Their names tell seconds only, and are alike where
    two runs of a script begin in one. A folder whose file cannot be read is none of them.
    """
    found = []
    for file in parent.glob(f"*/{RUN_FILE}"):
        try:
            content = validated(_Started, read_json(file), str(file))
        except UserError as error:
            progress.say_once(f"passed over: {error}")
        else:
            if content.request == digest:
                found.append((content.started, file.parent))
    return sorted(found)


@contextlib.contextmanager
def run_folder(
    known: Beginning, request: Request, workers: Workers, progress: Progress
) -> Iterator[tuple[Path, str, datetime]]:
    """Open a run's folder: that of an equal run which was cut short, or a new one.

    The folder is locked while the run lasts, so that two equal runs at once get one each.

    Yields:
        The folder, the run's name, and when it was started first.
    """
    with contextlib.ExitStack() as stack:
        parent, digest = known.parent, known.digest
        found: tuple[str, str] | None = None
        if workers.is_main:
            for began, folder in _folders_of(parent, digest, progress):
                # Locked before looking for a record: the run may end at this moment.
                if try_lock(folder / RUN_FILE, stack):
                    _tidy(folder)
                    if not (folder / RECORD_FILE).exists():
                        found = (folder.name, began)
                        break
            if found is None:
                started = datetime.now(UTC)
                run_id = new_run_id(request.entry.name, request.seed, started)
                file = parent / run_id / RUN_FILE
                content = {"request": digest, "started": started.isoformat()}
                # Locked before it has the name by which an equal run would find it.
                hidden = file.with_name(f".{RUN_FILE}")
                write_atomically(hidden, json.dumps(content).encode())
                try_lock(hidden, stack)
                hidden.replace(file)
                found = (run_id, started.isoformat())
        chosen = workers.agree(found)
        assert chosen is not None
        yield parent / chosen[0], chosen[0], datetime.fromisoformat(chosen[1])


def end_unseen(folder: Path) -> None:
    """Note that a run is about to end; its record is written next."""
    write_atomically(folder / UNSEEN, b"")


def saw(record: Path) -> None:
    """Note that whoever asked for a run was told of its record: to ask again is another run."""
    remove(record.parent / UNSEEN)


def last_spent(folder: Path) -> tuple[dict[str, dict[str, float]], list[dict[str, float]]]:
    """Return what a run's last checkpoint knows: the ledger by phase, and the curves' rows.

    Both are empty without a checkpoint.

    Raises:
        StorageError: the checkpoint cannot be read.
    """
    for checkpoint in training_checkpoints(folder / CHECKPOINTS)[-1:]:
        whole = read_json(checkpoint / STATE, constants=True)
        content = check_training_state(whole.get("content"), checkpoint / STATE)
        return content["spent"], content["curves"]
    return {}, []


def _tidy(folder: Path) -> None:
    """Clear away what a killed process left in a folder whose lock is ours."""
    remove_leftovers(folder)
    # A damaged record is named by who reads it; nothing of its run is cleared away.
    with contextlib.suppress(UserError):
        if (folder / RECORD_FILE).exists() and read_record(folder)["complete"]:
            # The run was killed after writing its record. A failed run keeps its checkpoints.
            remove(folder / CHECKPOINTS)
