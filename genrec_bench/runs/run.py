"""A run: the SFT start, the algorithm's training within a budget, evaluation, and the record."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from genrec_bench.errors import StorageError, UserError, is_disk_trouble, one_line, storage_errors
from genrec_bench.progress import Progress
from genrec_bench.runs.environment import commit, hardware, versions
from genrec_bench.runs.kept_lists import lists_bytes
from genrec_bench.runs.policy_folder import FOLDER, write_policy_folder
from genrec_bench.runs.post_training import post_train
from genrec_bench.runs.record_schema import SPLITS, Record
from genrec_bench.runs.records import RECORD_FILE, complete_record, join_outcomes, write_record
from genrec_bench.runs.registry import source_hash
from genrec_bench.runs.request import (
    Beginning,
    Request,
    begin,
    configuration_of,
    fitting_backbone,
    texts_of,
)
from genrec_bench.runs.run_folder import (
    CHECKPOINTS,
    end_unseen,
    find_finished,
    last_spent,
    records_below,
    run_folder,
)
from genrec_bench.runs.run_needs import run_needs
from genrec_bench.runs.run_tracker import NullTracker, shown_name
from genrec_bench.storage.python_files import foreign_end
from genrec_bench.training.collapse import remarks
from genrec_bench.training.evaluate import Evaluation
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.loop import Pruned, total_spent
from genrec_bench.training.sft_start import evaluate_start, told_cost
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

    Whoever has told of the record says so by `run_folder.saw`.

    Args:
        reuse: whether an equal run that is finished will do; one whose record nobody was told of
            always does.
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
    partial = " (partial)" if dataset.partial else ""
    progress.say(f"{request.entry.name} on {dataset.name}{partial}, backbone {backbone.name}")
    if workers.is_main:
        trained = told_cost(backbone, dataset, settings, request.data_dir)
        if told := run_needs(request, workers.device, trained).in_short:
            progress.say(told)

    known = begin(request, workers, progress)
    start = known.start
    finished = find_finished(known.parent, known.digest, workers, progress, unseen=not reuse)
    if finished is not None:
        progress.say(f"found: {finished}")
        if workers.is_main:
            tracker.settle(finished.parent)
        return finished
    with run_folder(known, request, workers, progress) as opened:
        folder, run_id, _ = opened
        ledger = Ledger(workers.device)
        if workers.is_main:
            ledger.add("sft", start.cost)
        before = evaluate_start(
            start, backbone, dataset, settings, workers, progress, request.splits, request.own
        )
        tags = {
            "algorithm": request.entry.name,
            "dataset": dataset.name,
            "partial": str(dataset.partial).lower(),
            "seed": str(request.seed),
            "run_id": run_id,
        }
        if request.preset is not None:
            tags["preset"] = request.preset.name
        if request.control:
            tags["control"] = request.control
        curves: list[dict[str, float]] = []

        def keep(failure: str, after: Mapping[str, Evaluation]) -> Path:
            """Write the record, of a run that failed too: what it spent is spent."""
            spent = total_spent(ledger, workers)
            record = _record(request, known, opened, spent, before, after, failure, workers)
            if workers.is_main:
                outcomes = join_outcomes(
                    {split: result.outcomes for split, result in after.items()},
                    {split: before[split].outcomes for split in after},
                )
                lists = None
                if after and settings.keep_lists:
                    lists = lists_bytes(after, dataset, settings), dataset.catalog.num_items
                write_record(folder, record, outcomes, pd.DataFrame(curves), lists)
            return folder / RECORD_FILE

        params = {**configuration_of(request), "track": known.track}
        name = shown_name(request.entry.name, request.seed, request.control)
        with tracker.track(folder, name, params, tags):
            try:
                policy, adapter, after = post_train(
                    request,
                    backbone,
                    start,
                    known.budget,
                    ledger,
                    folder / CHECKPOINTS,
                    curves,
                    on_validation,
                    workers,
                    progress,
                )
            except (StorageError, BrokenPipeError):
                # A closed pipe is like an interruption: it says nothing about the algorithm.
                raise
            except BaseException as error:
                # An algorithm that exits does not end the program, a comparison perhaps.
                end = foreign_end(error)
                if end is None and not isinstance(error, Exception):
                    raise
                if isinstance(error, OSError) and is_disk_trouble(error):
                    raise
                # All processes have to add up their costs, which a failure in only some prevents.
                if workers.count == 1 or isinstance(error, UserError | Pruned):
                    keep(end or _reason(error), {})
                if end is not None:
                    raise UserError(end) from None
                raise
            progress.say(f"{'SFT start':<12} {_summary(before)}{partial}")
            progress.say(f"{request.entry.name:<12} {_summary(after)}{partial}")
            for line in remarks(pd.DataFrame(curves)):
                progress.say(line)
            if workers.is_main:
                place = folder / FOLDER
                write_policy_folder(policy, request, known, before, after, place, adapter)
            if workers.is_main:
                end_unseen(folder)
            path = keep("", after)
            if workers.is_main:
                shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)
            workers.wait()
    return path


@storage_errors()
def find_equal(
    request: Request, workers: Workers, progress: Progress, *, failed: bool = False
) -> Path | None:
    """Return the record of an equal run that is finished, or None.

    With ``failed`` the record of a run that failed will do, if none succeeded.

    Raises:
        UserError: on bad input.
    """
    known = begin(request, workers, progress)
    return find_finished(known.parent, known.digest, workers, progress, failed=failed)


def records_of(request: Request, workers: Workers, progress: Progress) -> list[Path]:
    """Return the records of all runs equal to this one, of failed ones too."""
    known = begin(request, workers, progress)
    below = records_below(known.parent, known.digest, progress)
    return [folder / RECORD_FILE for folder, _ in below]


def leave_failure(
    request: Request, reason: str, workers: Workers, progress: Progress, *, lost: bool = False
) -> Path:
    """Write a failed record for a run that never began, so that boards show it with its reason.

    Args:
        lost: the run may have begun, and its processes died of it: it had cost what its last
            checkpoint says.

    Returns:
        The path of the record.

    Raises:
        StorageError: the disk refuses, or the run did begin: it is not for others to say what it
            had cost.
    """
    known = begin(request, workers, progress)
    dataset, settings = request.dataset, request.settings
    before = evaluate_start(
        known.start, known.backbone, dataset, settings, workers, progress, request.splits
    )
    with run_folder(known, request, workers, progress) as opened:
        folder = opened[0]
        spent, curves = last_spent(folder)
        if (folder / CHECKPOINTS).exists() and not lost:
            raise StorageError(
                f"{folder}: the run left no record: {reason}; the same command again goes on"
            )
        record = _record(request, known, opened, spent, before, {}, reason, workers)
        return write_record(folder, record, join_outcomes({}), pd.DataFrame(curves))


def _record(
    request: Request,
    known: Beginning,
    opened: tuple[Path, str, datetime],
    spent: Mapping[str, Mapping[str, float]],
    before: Mapping[str, Evaluation],
    after: Mapping[str, Evaluation],
    failure: str,
    workers: Workers,
) -> Record:
    """Put a run's record together.

    Args:
        opened: as ``run_folder`` yields it.
        spent: by phase of the ledger, all processes together.
        before: what was found of the SFT start, by split.
        after: what was found of the policy, by split; empty for a run that failed.
        failure: why the run is not complete, in one line; empty if it is.
    """
    dataset, texts = request.dataset, texts_of(request)
    _, run_id, began = opened

    def metrics_of(found: Mapping[str, Evaluation]) -> dict[str, Mapping[str, float]]:
        return {split: found[split].metrics if split in found else {} for split in SPLITS}

    return complete_record(
        {
            "run_id": run_id,
            "command": request.command,
            "algorithm": request.entry.name,
            "dataset": dataset.name,
            "seed": request.seed,
            "complete": not failure,
            "failure": failure,
            "control": request.control,
            "splits": request.splits,
            "tuning": request.tuning,
            # The training set is smaller than the card expects.
            "partial": dataset.partial,
            "track": known.track,
            "configuration": configuration_of(request),
            "fingerprints": {
                "dataset": dataset.fingerprint,
                "sids": dataset.sid_fingerprint,
                "sft": known.start.fingerprint,
                "algorithm": source_hash(request.entry),
                # What item embeddings were made of, where the algorithm reads any of texts.
                **({"texts": texts} if texts else {}),
            },
            "versions": versions(),
            "commit": commit(),
            "hardware": {**hardware(str(workers.device)), "processes": workers.count},
            "budget": {"limit": known.budget.text if known.budget else None, "spent": spent},
            # K of the metrics; the beam may leave out the last.
            "cutoffs": request.settings.cutoffs,
            **_own_metrics(request),
            **_preset(request),
            # Said of what is evaluated as it begins, and so leaves its budget unspent.
            **({} if request.algorithm.trains else {"trained": False}),
            "sft": metrics_of(before),
            "metrics": metrics_of(after),
            "ceiling": dataset.ceiling,
            "times": {
                "started": began.astimezone(UTC).isoformat(timespec="seconds"),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        }
    )


def _own_metrics(request: Request) -> dict[str, Any]:
    """The key of a record that says by what file its metrics of one's own were computed."""
    own = request.own
    if own is None:
        return {}
    told = {"file": own.file.name, "sha256": own.sha256, "figures": list(own.functions)}
    return {"own_metrics": told}


def _preset(request: Request) -> dict[str, Any]:
    """The key of a record that says by which preset its run was asked for."""
    preset = request.preset
    return {"preset": {"name": preset.name, "sha256": preset.sha256}} if preset else {}


def _reason(error: BaseException) -> str:
    """Say in one line why a run failed; a mistake of the user's speaks for itself."""
    kind = "" if isinstance(error, UserError | Pruned) else f"{type(error).__name__}: "
    return one_line(f"{kind}{error}") or type(error).__name__


def _summary(results: Mapping[str, Evaluation]) -> str:
    """Write the figures that people look for first, of the last split."""
    split = list(results)[-1]
    metrics = results[split].metrics
    names = [name for name in ("HR@1", "HR@10", "NDCG@10", "sid/HR@10") if name in metrics]
    return f"{split} " + "  ".join(f"{name} {metrics[name]:.4f}" for name in names)
