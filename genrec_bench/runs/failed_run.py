"""The record of a run that could not even begin, so that its place on a board is no gap."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from genrec_bench.errors import StorageError
from genrec_bench.progress import Progress
from genrec_bench.runs.records import RECORD_FILE, join_outcomes, write_record
from genrec_bench.runs.request import Request, begin
from genrec_bench.runs.run_folder import CHECKPOINTS, folders_of, run_folder
from genrec_bench.runs.run_record import record_of
from genrec_bench.training.sft_start import evaluate_start
from genrec_bench.training.workers import Workers


def records_of(request: Request, workers: Workers, progress: Progress) -> list[Path]:
    """Return the records of all runs equal to this one, of failed ones too."""
    known = begin(request, workers, progress)
    folders = folders_of(known.parent, known.digest)
    found = [folder / RECORD_FILE for folder in folders]
    return [record for record in found if record.exists()]


def leave_failure(request: Request, reason: str, workers: Workers, progress: Progress) -> Path:
    """Write a record that says why a run never began, beside those of the runs that did.

    Args:
        reason: in one line.

    Returns:
        The path of the record.

    Raises:
        StorageError: the disk refuses, or the run did begin: it is not for others to say what it
            had cost.
    """
    known = begin(request, workers, progress)
    before = evaluate_start(
        known.start,
        known.backbone,
        request.dataset,
        request.settings,
        workers,
        progress,
        request.splits,
    )
    with run_folder(known, request, workers) as opened:
        folder, run_id, began = opened
        if (folder / CHECKPOINTS).exists():
            raise StorageError(
                f"{folder}: the run left no record: {reason}; the same command again goes on"
            )
        record = record_of(
            request,
            known,
            run_id=run_id,
            began=began,
            spent={},
            before=before,
            after={},
            failure=reason,
            workers=workers,
        )
        write_record(folder, record, join_outcomes({}), pd.DataFrame())
        return folder / RECORD_FILE
