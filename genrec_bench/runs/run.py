"""A run: the SFT start, the algorithm's training within a budget, evaluation, and the record."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from genrec_bench.data.vectors.embeddings import check_reward_source
from genrec_bench.errors import StorageError, UserError, is_disk_trouble, one_line, storage_errors
from genrec_bench.progress import Progress
from genrec_bench.runs.null_tracker import NullTracker
from genrec_bench.runs.post_training import post_train
from genrec_bench.runs.records import RECORD_FILE, join_outcomes, write_record
from genrec_bench.runs.request import Request, begin, configuration_of, fitting_backbone
from genrec_bench.runs.run_folder import find_finished, run_folder
from genrec_bench.runs.run_record import record_of
from genrec_bench.training.checkpoints import save_policy
from genrec_bench.training.evaluate import Evaluation
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.loop import Pruned, total_spent
from genrec_bench.training.sft_start import evaluate_start
from genrec_bench.training.workers import Workers


@storage_errors()
def run(
    request: Request,
    workers: Workers,
    progress: Progress,
    tracker: NullTracker,
    *,
    reuse: bool = False,
    on_validation: Callable[[float, dict[str, float]], None] | None = None,
) -> Path:
    """Carry a request out, or the rest of it if an earlier run of it was cut short.

    Args:
        reuse: whether an equal run that is finished will do.
        on_validation: is told the share of the budget and the figures of every look at validation
            data; may raise `Pruned`.

    Returns:
        The path of the record.

    Raises:
        UserError: on bad input, a budget below one step, or a loss that is not finite. A run that
            fails leaves a record that says so.
        StorageError: the disk refuses, which leaves no record: the run can go on.
        Pruned: as ``on_validation`` did; there is a record.
    """
    dataset, settings = request.dataset, request.settings
    backbone = fitting_backbone(request)
    if request.algorithm.uses_embeddings:
        check_reward_source(settings.embeddings)
    partial = " (partial)" if dataset.partial else ""
    progress.say(f"{request.entry.name} on {dataset.name}{partial}, backbone {backbone.name}")

    known = begin(request, workers, progress)
    start, track = known.start, known.track
    if reuse:
        finished = find_finished(known.parent, known.digest, workers)
        if finished is not None:
            progress.say(f"found: {finished}")
            return finished
    with run_folder(known, request, workers) as opened:
        folder, run_id, began = opened
        ledger = Ledger(workers.device)
        if workers.is_main:
            ledger.add("sft", start.cost)
        before = evaluate_start(
            start, backbone, dataset, settings, workers, progress, request.splits
        )
        configuration = configuration_of(request)
        tags = {
            "algorithm": request.entry.name,
            "dataset": dataset.name,
            "partial": str(dataset.partial).lower(),
            "seed": str(request.seed),
        }
        if request.control:
            tags["control"] = request.control
        curves: list[dict[str, float]] = []

        def keep(failure: str, after: Mapping[str, Evaluation]) -> Path:
            """Write the record, of a run that failed too: what it spent is spent."""
            spent = total_spent(ledger, workers)
            record = record_of(
                request,
                known,
                run_id=run_id,
                began=began,
                spent=spent,
                before=before,
                after=after,
                failure=failure,
                workers=workers,
            )
            if workers.is_main:
                outcomes = join_outcomes(
                    {split: result.outcomes for split, result in after.items()},
                    {split: before[split].outcomes for split in after},
                )
                write_record(folder, record, outcomes, pd.DataFrame(curves))
            return folder / RECORD_FILE

        with tracker.track(folder, run_id, {**configuration, "track": track}, tags):
            try:
                policy, after = post_train(
                    request,
                    backbone,
                    start,
                    ledger,
                    folder / "checkpoints",
                    curves,
                    on_validation,
                    workers,
                    progress,
                )
            except (StorageError, BrokenPipeError):
                # A closed pipe is like an interruption: it says nothing about the algorithm.
                raise
            except Exception as error:
                if isinstance(error, OSError) and is_disk_trouble(error):
                    raise
                # All processes have to add up their costs, which a failure in only some prevents.
                if workers.count == 1 or isinstance(error, UserError | Pruned):
                    keep(_reason(error), {})
                raise
            progress.say(f"{'SFT start':<12} {_summary(before)}{partial}")
            progress.say(f"{request.entry.name:<12} {_summary(after)}{partial}")
            if workers.is_main:
                save_policy(policy, folder / "policy")
            path = keep("", after)
            if workers.is_main:
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            workers.wait()
    return path


@storage_errors()
def find_equal(
    request: Request, workers: Workers, progress: Progress, *, failed: bool = False
) -> Path | None:
    """Return the record of an equal run that is finished, or None.

    Args:
        failed: whether the record of a run that failed will do, if none succeeded.

    Raises:
        UserError: on bad input.
    """
    known = begin(request, workers, progress)
    return find_finished(known.parent, known.digest, workers, failed=failed)


def _reason(error: Exception) -> str:
    """Say in one line why a run failed; a mistake of the user's speaks for itself."""
    kind = "" if isinstance(error, UserError | Pruned) else f"{type(error).__name__}: "
    return one_line(f"{kind}{error}") or type(error).__name__


def _summary(results: Mapping[str, Evaluation]) -> str:
    """Write the figures that people look for first, of the last split."""
    split = list(results)[-1]
    metrics = results[split].metrics
    names = [name for name in ("HR@1", "HR@10", "NDCG@10", "sid/HR@10") if name in metrics]
    return f"{split} " + "  ".join(f"{name} {metrics[name]:.4f}" for name in names)
