"""The folder of a run: found again after it was cut short, and locked while it runs."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from genrec_bench.runs.records import RECORD_FILE, new_run_id
from genrec_bench.runs.request import Beginning, Request
from genrec_bench.storage.files import read_json, write_atomically
from genrec_bench.storage.folders import remove, remove_leftovers
from genrec_bench.storage.locks import try_lock
from genrec_bench.training.checkpoints import STATE, training_checkpoints
from genrec_bench.training.workers import Workers

RUN_FILE = "run.json"
CHECKPOINTS = "checkpoints"


def find_finished(
    parent: Path, digest: str, workers: Workers, *, failed: bool = False
) -> Path | None:
    """Return the record of the first finished run of this digest, or None; see `run.find_equal`."""
    found: str | None = None
    for folder in folders_of(parent, digest) if workers.is_main else ():
        if not (folder / RECORD_FILE).exists():
            continue
        complete = bool(read_json(folder / RECORD_FILE).get("complete"))
        if complete or failed:
            found = folder.name
        if complete:
            with contextlib.ExitStack() as stack:
                if try_lock(folder / RUN_FILE, stack):
                    _tidy(folder)
            break
    chosen = workers.agree(found)
    return None if chosen is None else parent / chosen / RECORD_FILE


def folders_of(parent: Path, digest: str) -> list[Path]:
    """Return the folders of all runs of this digest, the first started first.

    They are finished, failed, or cut short. Their names tell seconds only, and are alike where
    two runs of a script begin in one.
    """
    found = []
    for file in parent.glob(f"*/{RUN_FILE}"):
        content = read_json(file)
        if content.get("request") == digest:
            found.append((str(content.get("started")), file.parent))
    return [folder for _, folder in sorted(found)]


@contextlib.contextmanager
def run_folder(
    known: Beginning, request: Request, workers: Workers
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
            for file in sorted(parent.glob(f"*/{RUN_FILE}")):
                content = read_json(file)
                # Locked before looking for a record: the run may end at this moment.
                if content.get("request") != digest or not try_lock(file, stack):
                    continue
                _tidy(file.parent)
                if not (file.parent / RECORD_FILE).exists():
                    found = (file.parent.name, content["started"])
                    break
            if found is None:
                started = datetime.now(UTC)
                run_id = new_run_id(request.entry.name, request.seed, started)
                file = parent / run_id / RUN_FILE
                content = {"request": digest, "started": started.isoformat()}
                # Locked before it has the name by which an equal run would find it.
                unseen = file.with_name(f".{RUN_FILE}")
                write_atomically(unseen, json.dumps(content).encode())
                try_lock(unseen, stack)
                unseen.replace(file)
                found = (run_id, started.isoformat())
        chosen = workers.agree(found)
        assert chosen is not None
        yield parent / chosen[0], chosen[0], datetime.fromisoformat(chosen[1])


def last_spent(folder: Path) -> tuple[dict[str, dict[str, float]], list[dict[str, float]]]:
    """Return what a run's last checkpoint knows: the ledger by phase, and the curves' rows.

    Both are empty without a checkpoint.

    Raises:
        StorageError: the checkpoint cannot be read.
    """
    for checkpoint in training_checkpoints(folder / CHECKPOINTS)[-1:]:
        content = read_json(checkpoint / STATE).get("content", {})
        return content.get("spent", {}), content.get("curves", [])
    return {}, []


def _tidy(folder: Path) -> None:
    """Clear away what a killed process left in a folder whose lock is ours."""
    remove_leftovers(folder)
    record = folder / RECORD_FILE
    if record.exists() and read_json(record).get("complete"):
        # The run was killed after writing its record. A failed run keeps its checkpoints.
        remove(folder / CHECKPOINTS)
