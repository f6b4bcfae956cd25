"""What a run's record says, for runs that ended and for runs that failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from genrec_bench.runs.environment import commit, hardware, versions
from genrec_bench.runs.record_schema import Record
from genrec_bench.runs.records import build_record
from genrec_bench.runs.registry import source_hash
from genrec_bench.runs.request import Request, configuration_of
from genrec_bench.training.evaluate import Evaluation
from genrec_bench.training.sft_start import SFTStart
from genrec_bench.training.workers import Workers


def record_of(
    request: Request,
    *,
    run_id: str,
    start: SFTStart,
    track: Mapping[str, Any],
    began: datetime,
    spent: Mapping[str, Mapping[str, float]],
    before: Mapping[str, Evaluation],
    after: Mapping[str, Evaluation],
    failure: str,
    workers: Workers,
) -> Record:
    """Put a run's record together.

    Args:
        request: what was asked for.
        run_id: name of the run.
        start: that it began with.
        track: see ``request.track_of``.
        began: when it was started first.
        spent: by phase of the ledger, all processes together.
        before: what was found of the SFT start, by split.
        after: what was found of the policy, by split; empty for a run that failed.
        failure: why the run is not complete, in one line; empty if it is.
        workers: what it ran on.
    """
    dataset = request.dataset
    return build_record(
        run_id=run_id,
        algorithm=request.entry.name,
        dataset=dataset.name,
        seed=request.seed,
        complete=not failure,
        failure=failure,
        control=request.control,
        splits=request.splits,
        tuning=request.tuning,
        partial=dataset.partial,
        track=track,
        **configuration_of(request),
        fingerprints={
            "dataset": dataset.fingerprint,
            "sids": dataset.sid_fingerprint,
            "sft": start.fingerprint,
            "algorithm": source_hash(request.entry),
        },
        versions=versions(),
        commit=commit(),
        hardware={**hardware(str(workers.device)), "processes": workers.count},
        budget_limit=request.budget.text if request.budget else None,
        spent=spent,
        sft={split: result.metrics for split, result in before.items()},
        metrics={split: result.metrics for split, result in after.items()},
        ceiling=dataset.ceiling,
        started=began,
        finished=datetime.now(UTC),
    )
