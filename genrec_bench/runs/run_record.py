"""What a run's record says, for runs that ended and for runs that failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

from genrec_bench.runs.environment import commit, hardware, versions
from genrec_bench.runs.record_schema import SPLITS, Record
from genrec_bench.runs.records import complete_record
from genrec_bench.runs.registry import source_hash
from genrec_bench.runs.request import Beginning, Request, configuration_of
from genrec_bench.training.evaluate import Evaluation
from genrec_bench.training.workers import Workers


def record_of(
    request: Request,
    known: Beginning,
    *,
    run_id: str,
    began: datetime,
    spent: Mapping[str, Mapping[str, float]],
    before: Mapping[str, Evaluation],
    after: Mapping[str, Evaluation],
    failure: str,
    workers: Workers,
) -> Record:
    """Put a run's record together.

    Args:
        began: when it was started first.
        spent: by phase of the ledger, all processes together.
        before: what was found of the SFT start, by split.
        after: what was found of the policy, by split; empty for a run that failed.
        failure: why the run is not complete, in one line; empty if it is.
    """
    dataset = request.dataset

    def metrics_of(found: Mapping[str, Evaluation]) -> dict[str, Mapping[str, float]]:
        return {split: found[split].metrics if split in found else {} for split in SPLITS}

    return complete_record(
        {
            "run_id": run_id,
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
            },
            "versions": versions(),
            "commit": commit(),
            "hardware": {**hardware(str(workers.device)), "processes": workers.count},
            "budget": {"limit": request.budget.text if request.budget else None, "spent": spent},
            "sft": metrics_of(before),
            "metrics": metrics_of(after),
            "ceiling": dataset.ceiling,
            "times": {
                "started": began.astimezone(UTC).isoformat(timespec="seconds"),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        }
    )
