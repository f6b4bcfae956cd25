"""The pieces of a comparison: an algorithm's tuning, and a run. Any process can carry one out.

What a piece comes to is found again in the folders of its sweep or its run.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from genrec_bench.runs.jobs import Context, Job, do, find_done
from genrec_bench.studies.attempts import Failure, attempt
from genrec_bench.studies.comparison.comparison_result import Tuned
from genrec_bench.studies.comparison.plan import Plan, PlanRow
from genrec_bench.studies.sweeps.sweep import AllFailed, SweepWorker, sweep
from genrec_bench.studies.sweeps.sweep_request import SweepRequest

OURS = re.compile(r"[A-Z]\w*: ")
"""How the reason begins that a record gives for a mistake of the program: with what was raised."""


@dataclass(frozen=True)
class Piece:
    """A piece of a comparison, for a process of its own.

    Attributes:
        storage: where the trials are kept; None for a file of the sweep's own.
        retry_failed: whether to try again what failed before.
        name: of the row.
        seed: of the run; None for the row's tuning.
    """

    plan: Plan
    storage: str | None
    retry_failed: bool
    name: str
    seed: int | None = None

    @property
    def label(self) -> str:
        """What to call it."""
        return label_of(self.name, self.seed)

    def __call__(self, context: Context) -> None:
        """Carry it out, after the tuning if it is a run."""
        plan, storage, retry = self.plan, self.storage, self.retry_failed
        row = row_of(plan, self.name)
        if self.seed is None:
            tune(row, plan, context, storage, retry)
            return
        tuned = None if row.control else tune(row, plan, context, storage, False)
        if tuned is not None and tuned.failure is not None:
            return
        job = job_of(row, self.seed, plan, tuned)
        if find_done(job, context, failed=not retry) is None:
            attempt(lambda: do(job, context), context)


def label_of(name: str, seed: int | None) -> str:
    """Return what to call a row's run on a seed, or its tuning."""
    return f"tuning {name}" if seed is None else f"{name}, seed {seed}"


def row_of(plan: Plan, name: str) -> PlanRow:
    """Return a row of a plan."""
    (row,) = (row for row in plan.rows if row.name == name)
    return row


def job_of(row: PlanRow, seed: int, plan: Plan, tuned: Tuned | None) -> Job:
    """Return a row's run on a seed within the plan's budget, as tuned; None for a row that is not.

    The budget is the plan's whatever the context has: a user need not give one.
    """
    job = replace(row.job(seed), budget=plan.budget)
    if not plan.trials:
        return job
    if tuned is None:
        return replace(job, tuning=_no_bill(plan))
    return replace(job, tuning=tuned.bill, assignments=tuned.words)


def _no_bill(plan: Plan) -> Mapping[str, Any]:
    """Return what a row that was not tuned says of tuning; the limit makes it of the same track."""
    nothing = dict.fromkeys(("seconds", "flops", "tokens", "trials", "failed", "pruned"), 0)
    return {"limit": plan.tuning.text, **nothing, "study": ""}


def tune(
    row: PlanRow,
    plan: Plan,
    context: Context,
    storage: str | None,
    retry_failed: bool,
    *,
    lost: Failure | None = None,
) -> Tuned:
    """Find an algorithm's best configuration within the tuning budget; with no trial, its defaults.

    Args:
        storage: where the trials are kept; None for a file of the sweep's own.
        retry_failed: whether a sweep whose trials all failed makes more of them, if its budget
            pays for one.
        lost: why the sweep is not to be gone on with; then its trials are in vain.

    Raises:
        UserError: a sweep cannot be made of these words.
        StorageError: the disk or the database refuses.
    """
    if not plan.trials:
        return Tuned(row.name, row.assignments, None, _no_bill(plan), None)
    request = _sweep_request(row, plan, storage, retry_failed)
    if lost is not None:
        return Tuned(row.name, (), None, SweepWorker(request, context).result().bill, lost)
    try:
        result = sweep(request, context)
    except AllFailed as error:
        result = error.result
    if result.best is not None:
        return Tuned(row.name, result.words, result.best.value, result.bill, None)
    # Of several reasons the last one is told; trials.csv has all.
    reasons = [trial.reason for trial in result.trials if trial.state in ("failed", "died")]
    last = reasons[-1] if reasons else "all were pruned"
    failure = Failure(f"tuning: no trial came to its end: {last}", bool(OURS.match(last)))
    return Tuned(row.name, (), None, result.bill, failure)


def is_tuned(
    row: PlanRow, plan: Plan, context: Context, storage: str | None, retry_failed: bool
) -> bool:
    """Return whether a row's sweep is finished, so that ``tune`` has nothing to do.

    Raises:
        UserError: as ``tune``.
    """
    if not plan.trials:
        return True
    request = _sweep_request(row, plan, storage, retry_failed)
    result = SweepWorker(request, context).result()
    return result.finished and (result.best is not None or not retry_failed)


def _sweep_request(
    row: PlanRow, plan: Plan, storage: str | None, retry_failed: bool
) -> SweepRequest:
    return SweepRequest(
        algorithm=row.algorithm,
        total=plan.tuning,
        trial=plan.trial,
        assignments=row.assignments,
        most=plan.most_trials,
        storage=storage,
        sampler=plan.sampler,
        pruner=plan.pruner,
        retry_failed=retry_failed,
    )
