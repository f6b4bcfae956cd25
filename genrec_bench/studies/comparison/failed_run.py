"""The record of a run that could not even begin, so that its place on a board is no gap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from genrec_bench.errors import StorageError
from genrec_bench.policy.backbones import find_backbone, prompt_name
from genrec_bench.progress import Progress
from genrec_bench.runs.records import RECORD_FILE, join_outcomes, write_record
from genrec_bench.runs.request import Request, digest_of, track_of
from genrec_bench.runs.run_folder import CHECKPOINTS, folders_of, run_folder
from genrec_bench.runs.run_record import record_of
from genrec_bench.training.sft_start import SFTStart, evaluate_start, sft_start
from genrec_bench.training.workers import Workers


def records_of(request: Request, workers: Workers, progress: Progress) -> list[Path]:
    """Return the records of all runs equal to this one, of failed ones too.

    Args:
        request: says what is equal to it.
        workers: train the SFT start, if there is none yet.
        progress: shows that.
    """
    digest = _begin(request, workers, progress)[2]
    folders = folders_of(request.output / request.dataset.name, digest)
    found = [folder / RECORD_FILE for folder in folders]
    return [record for record in found if record.exists()]


def leave_failure(request: Request, reason: str, workers: Workers, progress: Progress) -> Path:
    """Write a record that says why a run never began, beside those of the runs that did.

    Args:
        request: what should have been run.
        reason: in one line.
        workers: this process, which is alone.
        progress: shows it.

    Returns:
        The path of the record.

    Raises:
        StorageError: the disk refuses, or the run did begin: it is not for others to say what it
            had cost.
    """
    dataset, settings = request.dataset, request.settings
    backbone = find_backbone(request.backbone)
    start, track, digest = _begin(request, workers, progress)
    before = evaluate_start(start, backbone, dataset, settings, workers, progress, request.splits)
    parent = request.output / dataset.name
    with run_folder(parent, digest, request.entry.name, request.seed, workers) as opened:
        folder, run_id, began = opened
        if (folder / CHECKPOINTS).exists():
            raise StorageError(
                f"{folder}: the run left no record: {reason}; the same command again goes on"
            )
        record = record_of(
            request,
            run_id=run_id,
            start=start,
            track=track,
            began=began,
            spent={},
            before=before,
            after={},
            failure=reason,
            workers=workers,
        )
        write_record(folder, record, join_outcomes({}), pd.DataFrame())
        return folder / RECORD_FILE


def _begin(
    request: Request, workers: Workers, progress: Progress
) -> tuple[SFTStart, dict[str, Any], str]:
    """Return the SFT start, the track, and the hash of all that makes two runs equal."""
    backbone, settings = find_backbone(request.backbone), request.settings
    start = sft_start(backbone, request.dataset, settings, request.data_dir, workers, progress)
    track = track_of(request, start, prompt_name(backbone, settings.prompt), workers)
    return start, track, digest_of(request, track)
