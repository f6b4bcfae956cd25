"""A comparison carried out: tuning, runs of the best configurations, controls, and the board.

What is finished stays finished: sweeps are found by what makes them equal, and runs by the hash in
their folders. The same comparison again does only what is missing.
"""

from __future__ import annotations

import json
import math
import re
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from genrec_bench import benchmark_version
from genrec_bench.boards.board import Board
from genrec_bench.boards.units import with_unit
from genrec_bench.errors import UserError
from genrec_bench.policy.backbones import find_backbone
from genrec_bench.runs.jobs import Context, Job, configure, do, find_done, request_of
from genrec_bench.runs.records import read_record
from genrec_bench.runs.registry import source_hash
from genrec_bench.runs.run import leave_failure, records_of
from genrec_bench.storage.files import write_json
from genrec_bench.storage.locks import locked
from genrec_bench.storage.parquet import read_frame
from genrec_bench.studies.attempts import Failure, attempt
from genrec_bench.studies.comparison import calibration
from genrec_bench.studies.comparison.comparison_result import ComparisonResult, ComparisonRun, Tuned
from genrec_bench.studies.comparison.pace import Around, Pace, duration
from genrec_bench.studies.comparison.plan import Plan, PlanRow, plan_text, time_left, total_price
from genrec_bench.studies.comparison.power import outlook_on_power
from genrec_bench.studies.comparison.report import result_values, write_board
from genrec_bench.studies.study_folder import show_study, study_folder
from genrec_bench.studies.sweeps.sweep import AllFailed, sweep
from genrec_bench.studies.sweeps.sweep_request import SweepRequest
from genrec_bench.training.budgets import BudgetKind
from genrec_bench.training.ledger import Cost, of_training
from genrec_bench.training.sft_start import cost_if_trained, evaluate_start, sft_start

FOLDER, LOCK_FILE = "comparisons", "lock"
PLAN_FILE, RESULT_FILE = "plan.json", "result.json"

_OURS = re.compile(r"[A-Z]\w*: ")
"""How the reason begins that a record gives for a mistake of the program: with what was raised."""


def compare(
    plan: Plan, context: Context, pace: Pace, *, storage: str | None, retry_failed: bool
) -> tuple[ComparisonResult, Path, Board]:
    """Do all of a plan that is not done yet, and write the board.

    Args:
        plan: printed with its price before anything else.
        pace: what is known of how fast work goes; learns more.
        storage: where sweeps keep their trials; None for a file of their own.
        retry_failed: whether to try again what failed before.

    Returns:
        What there is, the folder that holds the board, and the board.

    Raises:
        UserError: a row cannot be run, before anything was done; or an equal comparison is at work.
        StorageError: the disk refuses; what is finished stays.
    """
    context.progress.say(plan_text(plan, pace) + "\n")
    # Also refuses words that fit no row, before anything is written.
    folder = folder_of(plan, context)
    with locked(folder / LOCK_FILE) as free:
        if not free:
            raise UserError(f"{folder}: an equal comparison is at work on it; wait for its end")
        write_json(folder / PLAN_FILE, plan.as_dict())
        result = _Comparison(plan, context, pace, storage, retry_failed).results(folder)
        board = write_board(result, folder)
        write_json(folder / RESULT_FILE, result_values(result, folder))
        name, tags = f"compare-{folder.name}", {"kind": "comparison"}
        show_study(context, folder, name, tags, plan.as_dict(), failed=bool(result.failures))
    return result, folder, board


def folder_of(plan: Plan, context: Context) -> Path:
    """Return the comparison's folder: one for all numbers of seeds, so that seeds can be added.

    Raises:
        UserError: a row cannot be run.
    """
    rows = []
    for row in plan.rows:
        entry, algorithm, settings = configure(row.job(0), context)
        code, hyperparameters = source_hash(entry), vars(algorithm.hyperparameters)
        rows.append([row.name, row.control, code, hyperparameters, settings.resolved()])
    what = {
        "backbone": find_backbone(context.backbone).fingerprint,
        "benchmark": benchmark_version(),
        "budgets": [plan.tuning.text, plan.trial.text, plan.budget.text],
        "dataset": context.dataset.fingerprint,
        "rows": sorted(rows, key=json.dumps),
        "sids": context.dataset.sid_fingerprint,
        "sweeps": [plan.sampler, plan.pruner, plan.most_trials],
    }
    return study_folder(context, FOLDER, what)


def first_pace(plan: Plan, context: Context) -> Pace:
    """Return what is known before the work begins: the SFT start's rate, if it is trained."""
    pace = Pace(plan.unit)
    settings = configure(plan.rows[0].job(0), context)[2]
    backbone = find_backbone(context.backbone)
    cost = cost_if_trained(backbone, context.dataset, settings, context.data_dir)
    pace.saw_start(cost or Cost())
    return pace


class _Comparison:
    """A comparison on its way."""

    def __init__(
        self, plan: Plan, context: Context, pace: Pace, storage: str | None, retry_failed: bool
    ) -> None:
        self._plan, self._context, self._pace = plan, context, pace
        self._storage, self._retry_failed = storage, retry_failed
        self._tuned: dict[str, Tuned] = {}
        self._runs: dict[tuple[str, int], ComparisonRun] = {}
        self._found: dict[tuple[str, int], Path] = {}
        self._said = 0

    def results(self, folder: Path) -> ComparisonResult:
        """Tune, then run seed by seed; write a board after each round of seeds but the last."""
        plan, say = self._plan, self._context.progress.say
        for row in plan.rows:
            request_of(row.job(0), self._context)
        self._start()
        for row in plan.tuned:
            self._tuned[row.name] = self._tune(row)
        for name, seed in plan.runs:
            tuned = self._tuned.get(name)
            # What could not be tuned, tried again or not, has no run to be tried again.
            failed = not self._retry_failed or (tuned is not None and tuned.failure is not None)
            found = find_done(self._job(name, seed), self._context, failed=failed)
            if found is not None:
                self._found[name, seed] = found
        say(f"runs finished already: {len(self._found)} of {len(plan.runs)}")
        for seed in plan.seeds:
            for row in plan.rows:
                self._runs[row.name, seed] = self._run(row.name, seed)
            if seed != plan.seeds[-1]:
                # A board that cannot be made yet must not keep the runs from being made.
                attempt(lambda: write_board(self._result(), folder), self._context)
        return self._result()

    def _result(self) -> ComparisonResult:
        return ComparisonResult(self._plan, tuple(self._tuned.values()), tuple(self._runs.values()))

    def _start(self) -> None:
        """Train the SFT start and rank with it once, which gives a first guess at the rest."""
        context, plan = self._context, self._plan
        settings = request_of(plan.rows[0].job(0), context).settings
        what = (find_backbone(context.backbone), context.dataset, settings)
        start = sft_start(*what, context.data_dir, context.workers, context.progress)
        valid = evaluate_start(start, *what, context.workers, context.progress, ("valid",))["valid"]
        self._pace.saw_start(start.cost)
        self._pace.saw_evaluation(plan.examples["valid"], valid.cost.seconds)
        for line in calibration.announce(plan, context, self._pace):
            context.progress.say(line)
        context.progress.say(outlook_on_power(plan, context))
        left = time_left(plan, self._pace)
        if left is not None:
            context.progress.say(f"all of it takes about {duration(left)} if nothing is done yet")

    def _tune(self, row: PlanRow) -> Tuned:
        """Return the best configuration of an algorithm, from a sweep or one that is finished."""
        began = time.monotonic()
        self._tell(f"{'tuning' if self._plan.trials else 'defaults of'} {row.name}")
        tuned = tune(row, self._plan, self._context, self._storage, self._retry_failed)
        if tuned.failure is not None:
            self._context.progress.say(f"failed: {tuned.failure.reason}")
        seconds, wall = tuned.bill["seconds"], time.monotonic() - began
        # A sweep that was finished before took no time now, and its bill tells nothing of today.
        seen = self._plan.around_sweep if wall > seconds else Around(0)
        around = wall - seconds if seen.examples else 0.0
        self._pace.saw(row.name, tuned.bill[self._plan.unit], seconds, seen, around)
        return tuned

    def _job(self, name: str, seed: int) -> Job:
        (row,) = (row for row in self._plan.rows if row.name == name)
        tuned = self._tuned.get(name)
        if not self._plan.trials:
            return row.job(seed)
        if tuned is None:
            return row.job(seed, _no_bill(self._plan))
        return replace(row.job(seed, tuned.bill), assignments=tuned.words)

    def _run(self, name: str, seed: int) -> ComparisonRun:
        """Make a run, or find it; whatever comes of it leaves a record."""
        job, context, unit = self._job(name, seed), self._context, self._plan.unit
        self._tell(f"{name}, seed {seed}")
        began = time.monotonic()
        path: Path | Failure | None = self._found.get((name, seed))
        request = request_of(job, context)
        earlier = records_of(request, context.workers, context.progress)
        failure: Failure | None = None
        if path is None:
            path = self._make(job)
        if isinstance(path, Failure):
            failure = path
            # Its own record, with what it spent, and not that of an attempt before it.
            now = records_of(request, context.workers, context.progress)
            path = next((record for record in now if record not in earlier), None)
            if path is None:
                path = leave_failure(request, failure.reason, context.workers, context.progress)
        record = read_record(path)
        spent = record["budget"]["spent"]
        if failure is None and not record["complete"]:
            failure = Failure(record["failure"], bool(_OURS.match(record["failure"])))
            context.progress.say(f"failed before: {failure.reason}")
        paid, took = (of_training(spent, kind) for kind in (unit, "seconds"))
        others = [read_record(other) for other in earlier if other != path]
        wasted = [of_training(r["budget"]["spent"], unit) for r in others if not r["complete"]]
        step = _size_of_step(path, unit) / self._plan.budget.amount if record["complete"] else 0.0
        run = ComparisonRun(name, seed, path, paid, failure, math.fsum(wasted), step)
        if record["complete"]:
            known = self._result().coarse
            coarse = replace(self._result(), runs=(run,)).coarse
            if name in coarse and name not in known:
                context.progress.say(coarse[name])
            # Of a run that was found the ledger knows; one made now also took time to set up.
            around = max(spent["evaluation"]["seconds"], time.monotonic() - began - took)
            self._pace.saw(name, paid, took, self._plan.around_run, around)
        return run

    def _make(self, job: Job) -> Path | Failure:
        """Make a run, unless tuning has failed."""
        tuned = self._tuned.get(job.label)
        if tuned is not None and tuned.failure is not None:
            self._context.progress.say(f"failed: {tuned.failure.reason}")
            return tuned.failure
        return attempt(lambda: do(job, self._context), self._context)

    def _tell(self, what: str) -> None:
        """Say what comes next, what was spent so far, and how long it will take."""
        plan = self._plan
        self._said += 1
        spent = math.fsum(self._result().paid.values())
        sweeps = [row.name for row in plan.sweeps if row.name not in self._tuned]
        runs = [run for run in plan.runs if run not in self._runs and run not in self._found]
        left = time_left(plan, self._pace, sweeps, runs)
        self._context.progress.say(
            f"[{self._said}/{len(plan.tuned) + len(plan.runs)}] {what}  "
            f"spent {with_unit(spent, plan.unit)} of {with_unit(total_price(plan), plan.unit)}"
            + ("" if left is None else f", about {duration(left)} left")
        )


def tune(
    row: PlanRow, plan: Plan, context: Context, storage: str | None, retry_failed: bool
) -> Tuned:
    """Find an algorithm's best configuration within the tuning budget; with no trial, its defaults.

    Args:
        storage: where the trials are kept; None for a file of the sweep's own.
        retry_failed: whether a sweep whose trials all failed makes more of them, if its budget
            pays for one.

    Raises:
        UserError: a sweep cannot be made of these words.
        StorageError: the disk or the database refuses.
    """
    if not plan.trials:
        return Tuned(row.name, row.assignments, None, _no_bill(plan), None)
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


def _no_bill(plan: Plan) -> Mapping[str, Any]:
    """Return what a row that was not tuned says of tuning; the limit makes it of the same track."""
    nothing = dict.fromkeys(("seconds", "flops", "tokens", "trials", "failed", "pruned"), 0)
    return {"limit": plan.tuning.text, **nothing, "study": ""}


def _size_of_step(record: Path, unit: BudgetKind) -> float:
    """Return what a whole step of a finished run cost on average."""
    curves = read_frame(record.with_name("curves.parquet"))
    last = curves.iloc[-1]
    return float(last[unit] / curves["part"].sum())
