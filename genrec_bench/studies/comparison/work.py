"""A comparison carried out: tuning, runs of the best configurations, and controls.

Everything that is finished stays finished: sweeps are found by what makes them equal, and runs by
the hash in their folders. The same comparison again does only what is missing.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from genrec_bench.boards.units import with_unit
from genrec_bench.runs.failed_run import leave_failure, records_of
from genrec_bench.runs.jobs import Context, Job, do, find_done, request_of
from genrec_bench.runs.records import read_record
from genrec_bench.storage.parquet import read_frame
from genrec_bench.studies.ablations.ablate import Failure, attempt
from genrec_bench.studies.comparison.compare import (
    LARGE_STEP,
    Cell,
    Outcome,
    Tuned,
    coarse_note,
    job_of,
)
from genrec_bench.studies.comparison.pace import Pace, duration
from genrec_bench.studies.comparison.plan import (
    Plan,
    Row,
    of_cell,
    of_sweep,
    time_left,
    total_price,
)
from genrec_bench.training.budgets import BudgetKind
from genrec_bench.training.ledger import Cost, of_training

_OURS = re.compile(r"[A-Z]\w*: ")
"""How the reason begins that a record gives for a mistake of the program: with what was raised."""


def carry_out(
    plan: Plan,
    context: Context,
    pace: Pace,
    show: Callable[[Outcome], object],
    *,
    storage: str | None = None,
    retry_failed: bool = False,
) -> Outcome:
    """Do all of a plan that is not done yet.

    Args:
        plan: what to do; its price was told.
        context: what the runs share.
        pace: what is known of how fast it goes; learns more.
        show: is called with what there is after each round of seeds but the last.
        storage: where sweeps keep their trials; None for a file of their own.
        retry_failed: whether to try again what failed before.

    Raises:
        UserError: a row cannot be run, before anything was done.
        StorageError: the disk refuses; what is finished stays.
    """
    return _Work(plan, context, pace, storage, retry_failed).all(show)


class _Work:
    """A comparison on its way."""

    def __init__(
        self, plan: Plan, context: Context, pace: Pace, storage: str | None, retry_failed: bool
    ) -> None:
        self._plan, self._context, self._pace = plan, context, pace
        self._storage, self._retry_failed = storage, retry_failed
        self._tuned: dict[str, Tuned] = {}
        self._cells: dict[tuple[str, int], Cell] = {}
        self._found: dict[tuple[str, int], Path] = {}
        self._said = 0

    def all(self, show: Callable[[Outcome], object]) -> Outcome:
        """Tune, then run seed by seed."""
        plan, say = self._plan, self._context.progress.say
        for row in plan.rows:
            request_of(job_of(row, 0, None), self._context)
        self._start()
        for row in plan.tuned:
            self._tuned[row.name] = self._tune(row)
        for name, seed in plan.cells:
            tuned = self._tuned.get(name)
            # What could not be tuned, tried again or not, has no run to be tried again.
            failed = not self._retry_failed or (tuned is not None and tuned.failure is not None)
            found = find_done(self._job(name, seed), self._context, failed=failed)
            if found is not None:
                self._found[name, seed] = found
        say(f"runs finished already: {len(self._found)} of {len(plan.cells)}")
        for seed in plan.seeds:
            for row in plan.rows:
                self._cells[row.name, seed] = self._cell(row.name, seed)
            if seed != plan.seeds[-1]:
                # A board that cannot be made yet must not keep the runs from being made.
                attempt(lambda: show(self._outcome()), self._context)
        return self._outcome()

    def _outcome(self) -> Outcome:
        return Outcome(self._plan, tuple(self._tuned.values()), tuple(self._cells.values()))

    def _start(self) -> None:
        """Train the SFT start and look at it once; what that took is a first guess at the rest."""
        from genrec_bench.policy.backbones import find_backbone
        from genrec_bench.training.sft_start import evaluate_start, sft_start

        context = self._context
        request = request_of(job_of(self._plan.rows[0], 0, None), context)
        what = (find_backbone(context.backbone), context.dataset, request.settings)
        start = sft_start(*what, context.data_dir, context.workers, context.progress)
        valid = evaluate_start(start, *what, context.workers, context.progress, ("valid",))["valid"]
        self._pace.saw_start(start.cost.get("sft", Cost()))
        self._pace.saw_evaluation(self._plan.examples["valid"], valid.cost.seconds)
        left = time_left(
            self._plan, self._pace, [row.name for row in self._plan.tuned], self._plan.cells
        )
        if left is not None:
            context.progress.say(f"all of it takes about {duration(left)} if nothing is done yet")

    def _tune(self, row: Row) -> Tuned:
        """Return the best configuration of an algorithm, from a sweep or one that is finished."""
        context, began = self._context, time.monotonic()
        self._tell(f"tuning {row.name}")
        tuned = tune(row, self._plan, context, self._storage, self._retry_failed)
        if tuned.failure is not None:
            context.progress.say(f"failed: {tuned.failure.reason}")
        seconds, wall = tuned.bill["seconds"], time.monotonic() - began
        # A sweep that was finished before took no time now, and tells nothing of it.
        seen = of_sweep(self._plan) if wall > seconds else 0
        around = wall - seconds if seen else 0.0
        self._pace.saw(row.name, tuned.bill[self._plan.unit], seconds, seen, around)
        return tuned

    def _job(self, name: str, seed: int) -> Job:
        (row,) = (row for row in self._plan.rows if row.name == name)
        bill = _no_bill(self._plan)
        tuned = self._tuned.get(name)
        job = job_of(row, seed, bill if tuned is None else tuned.bill)
        return job if tuned is None else replace(job, assignments=tuned.words)

    def _cell(self, name: str, seed: int) -> Cell:
        """Make a run, or find it; whatever comes of it leaves a record."""
        job, context = self._job(name, seed), self._context
        self._tell(f"{name}, seed {seed}")
        began = time.monotonic()
        path = self._found.get((name, seed))
        failure: Failure | None = None
        request = request_of(job, context)
        earlier = records_of(request, context.workers, context.progress)
        if path is None:
            tuned = self._tuned.get(name)
            if tuned is not None and tuned.failure is not None:
                failure = tuned.failure
                context.progress.say(f"failed: {failure.reason}")
            else:
                done = attempt(lambda: do(job, context), context)
                if isinstance(done, Failure):
                    failure = done
                    # Its own, with what it spent, and not that of an attempt before it.
                    now = records_of(request, context.workers, context.progress)
                    path = next((record for record in now if record not in earlier), None)
                else:
                    path = done
            if path is None:
                assert failure is not None
                path = leave_failure(request, failure.reason, context.workers, context.progress)
        record, unit = read_record(path), self._plan.unit
        spent = record["budget"]["spent"]
        if failure is None and not record["complete"]:
            failure = Failure(record["failure"], bool(_OURS.match(record["failure"])))
            context.progress.say(f"failed before: {failure.reason}")
        paid, took = (of_training(spent, kind) for kind in (unit, "seconds"))
        others = [read_record(other) for other in earlier if other != path]
        wasted = [of_training(r["budget"]["spent"], unit) for r in others if not r["complete"]]
        step = 0.0
        if record["complete"]:
            step = _size_of_step(path, unit) / self._plan.budget.amount
            if step > LARGE_STEP and name not in self._outcome().coarse:
                context.progress.say(coarse_note(name, step))
            # Of a run that was found the ledger knows; one made now also took time to set up.
            around = max(spent["evaluation"]["seconds"], time.monotonic() - began - took)
            self._pace.saw(name, paid, took, of_cell(self._plan), around)
        return Cell(name, seed, path, paid, failure, math.fsum(wasted), step)

    def _tell(self, what: str) -> None:
        """Say what comes next, what was spent so far, and how long it will take."""
        plan = self._plan
        self._said += 1
        spent = math.fsum(self._outcome().paid.values())
        sweeps = [row.name for row in plan.tuned if row.name not in self._tuned]
        cells = [c for c in plan.cells if c not in self._cells and c not in self._found]
        left = time_left(plan, self._pace, sweeps, cells)
        self._context.progress.say(
            f"[{self._said}/{len(plan.tuned) + len(plan.cells)}] {what}  "
            f"spent {with_unit(spent, plan.unit)} of {with_unit(total_price(plan), plan.unit)}"
            + ("" if left is None else f", about {duration(left)} left")
        )


def tune(row: Row, plan: Plan, context: Context, storage: str | None, retry_failed: bool) -> Tuned:
    """Find an algorithm's best configuration within the tuning budget.

    Args:
        row: of the algorithm.
        plan: says the budgets, and how to search.
        context: what the trials share.
        storage: where the trials are kept; None for a file of the sweep's own.
        retry_failed: whether a sweep whose trials all failed makes more of them, if its budget
            pays for one.

    Raises:
        UserError: a sweep cannot be made of these words.
        StorageError: the disk or the database refuses.
    """
    from genrec_bench.studies.sweeps.sweep import AllFailed, sweep
    from genrec_bench.studies.sweeps.sweep_request import SweepRequest

    request = SweepRequest(
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
    try:
        result = sweep(request, context)
    except AllFailed as error:
        result = error.result
    if result.best is not None:
        return Tuned(row.name, result.words, result.best.value, result.bill, None)
    # Of several reasons the last one is told; trials.csv has all.
    reasons = [trial.reason for trial in result.trials if trial.state in ("failed", "died")]
    last = reasons[-1] if reasons else "all were pruned"
    failure = Failure(f"tuning: no trial came to its end: {last}", bool(_OURS.match(last)))
    return Tuned(row.name, (), None, result.bill, failure)


def _no_bill(plan: Plan) -> dict[str, Any]:
    """Return what a row that was not tuned says of tuning; the limit makes it of the same track."""
    nothing = dict.fromkeys(("seconds", "flops", "tokens", "trials", "failed", "pruned"), 0)
    return {"limit": plan.tuning.text, **nothing, "study": ""}


def _size_of_step(record: Path, unit: BudgetKind) -> float:
    """Return what a whole step of a finished run cost on average."""
    curves = read_frame(record.with_name("curves.parquet"))
    last = curves.iloc[-1]
    return float(last[unit] / curves["part"].sum())
