"""The record of a run that could not even begin, so that its place on a board is no gap."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from genrec_bench.backbones import find_backbone, prompt_name
from genrec_bench.progress import Progress
from genrec_bench.records import RECORD_FILE, join_outcomes, write_record
from genrec_bench.request import Request, digest_of, track_of
from genrec_bench.run_folder import run_folder
from genrec_bench.run_record import record_of
from genrec_bench.sft_start import evaluate_start, sft_start
from genrec_bench.workers import Workers


def leave_failure(request: Request, reason: str, workers: Workers, progress: Progress) -> Path:
    """Write a record that says why a run is not there, beside those of the runs that are.

    Args:
        request: what should have been run.
        reason: in one line.
        workers: the main one writes.
        progress: shows it.

    Returns:
        The path of the record.

    Raises:
        StorageError: the disk refuses.
    """
    dataset, settings = request.dataset, request.settings
    backbone = find_backbone(request.backbone)
    start = sft_start(backbone, dataset, settings, request.data_dir, workers, progress)
    track = track_of(request, start, prompt_name(backbone, settings), workers)
    before = evaluate_start(start, backbone, dataset, settings, workers, progress, request.splits)
    parent, digest = request.output / dataset.name, digest_of(request, track)
    with run_folder(parent, digest, request.entry.name, request.seed, workers) as opened:
        folder, run_id, began = opened
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
        if workers.is_main:
            write_record(folder, record, join_outcomes({}), pd.DataFrame())
        workers.wait()
        return folder / RECORD_FILE
