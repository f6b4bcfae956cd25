"""A comparison carried out: tuning, runs of the best configurations, controls, and the board.

What is finished stays finished: sweeps are found by what makes them equal, and runs by the hash in
their folders. The same comparison again does only what is missing.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import replace
from pathlib import Path

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
from genrec_bench.studies.comparison.pieces import (
    OURS,
    Piece,
    is_tuned,
    job_of,
    label_of,
    row_of,
    tune,
)
from genrec_bench.studies.comparison.plan import Plan, PlanRow, plan_text, time_left, total_price
from genrec_bench.studies.comparison.power import outlook_on_power
from genrec_bench.studies.comparison.report import result_values, write_board
from genrec_bench.studies.parallel import Lost, carry_out
from genrec_bench.studies.study_folder import show_study, study_folder
from genrec_bench.studies.worker import Task
from genrec_bench.training.budgets import BudgetKind
from genrec_bench.training.ledger import Cost, of_training
from genrec_bench.training.sft_start import cost_if_trained, evaluate_start, sft_start

FOLDER, LOCK_FILE = "comparisons", "lock"
PLAN_FILE, RESULT_FILE = "plan.json", "result.json"


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
    known = calibration.check_budgets(plan, context)
    context.progress.say(plan_text(plan, pace) + "\n")
    # Also refuses words that fit no row, before anything is written.
    folder = folder_of(plan, context)
    with locked(folder / LOCK_FILE) as free:
        if not free:
            raise UserError(f"{folder}: an equal comparison is at work on it; wait for its end")
        write_json(folder / PLAN_FILE, plan.as_dict())
        result = _Comparison(plan, context, pace, storage, retry_failed).results(folder, known)
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
        self._lost: dict[str, Failure] = {}
        self._said = 0

    def results(
        self, folder: Path, known: calibration.Calibration | None = None
    ) -> ComparisonResult:
        """Tune, then run seed by seed; write a board after each round of seeds but the last.

        Args:
            known: what a step of each row costs; None: it is found out.
        """
        plan, say = self._plan, self._context.progress.say
        for row in plan.rows:
            request_of(row.job(0), self._context)
        self._start(known)
        alone = self._context.crew.alone
        for row in plan.tuned:
            if alone or is_tuned(row, plan, self._context, self._storage, self._retry_failed):
                self._tuned[row.name] = self._tune(row)
        for name, seed in plan.runs:
            self._find(name, seed)
        say(f"runs finished already: {len(self._found)} of {len(plan.runs)}")
        if not alone:
            self._have_done(folder)
        for seed in plan.seeds:
            for row in plan.rows:
                if (row.name, seed) not in self._runs:
                    self._take_run(row.name, seed, folder)
        return self._result()

    def _find(self, name: str, seed: int) -> None:
        """Look for a finished run; there is none of a row that is not tuned yet."""
        tuned = self._tuned.get(name)
        if tuned is None and not row_of(self._plan, name).control:
            return
        # What could not be tuned, tried again or not, has no run to be tried again.
        failed = not self._retry_failed or (tuned is not None and tuned.failure is not None)
        found = find_done(self._job(name, seed), self._context, failed=failed)
        if found is not None:
            self._found[name, seed] = found

    def _take_run(self, name: str, seed: int, folder: Path) -> None:
        """Make a run, or find it; write a board if it ends a round of seeds but the last."""
        self._runs[name, seed] = self._run(name, seed)
        of_round = [row for row in self._plan.rows if (row.name, seed) in self._runs]
        if len(of_round) == len(self._plan.rows) and seed != self._plan.seeds[-1]:
            # A board that cannot be made yet must not keep the runs from being made.
            attempt(lambda: write_board(self._result(), folder), self._context)

    def _have_done(self, folder: Path) -> None:
        """Have several processes tune and run what is missing, and take it in piece by piece."""
        for run in self._found:
            self._take_run(*run, folder)
        known = (self._plan, self._storage, self._retry_failed)
        sweeps = [Piece(*known, row.name) for row in self._plan.tuned]
        sweeps = [piece for piece in sweeps if piece.name not in self._tuned]
        runs = [Piece(*known, *run) for run in self._plan.runs if run not in self._runs]
        pieces = {piece.label: piece for piece in (*sweeps, *runs)}
        waits = {piece.name: (piece.label,) for piece in sweeps}
        tasks = [Task(piece.label, piece) for piece in sweeps]
        tasks += [Task(piece.label, piece, waits.get(piece.name, ())) for piece in runs]
        # They try again what failed before; what fails now is not tried once more.
        self._retry_failed = False

        def take_in(label: str, value: object) -> None:
            piece = pieces[label]
            if isinstance(value, Lost):
                self._lost[label] = Failure(value.reason, broken=True)
            if piece.seed is None:
                self._tuned[piece.name] = self._tune(row_of(self._plan, piece.name))
                return
            if label not in self._lost:
                self._find(piece.name, piece.seed)
            self._take_run(piece.name, piece.seed, folder)

        carry_out(tasks, self._context, take_in)

    def _result(self) -> ComparisonResult:
        """Return what there is, in the plan's order."""
        tuned = [self._tuned[row.name] for row in self._plan.tuned if row.name in self._tuned]
        runs = [self._runs[run] for run in self._plan.runs if run in self._runs]
        return ComparisonResult(self._plan, tuple(tuned), tuple(runs))

    def _start(self, known: calibration.Calibration | None) -> None:
        """Train the SFT start and rank with it once, which gives a first guess at the rest."""
        context, plan = self._context, self._plan
        settings = request_of(plan.rows[0].job(0), context).settings
        what = (find_backbone(context.backbone), context.dataset, settings)
        start = sft_start(*what, context.data_dir, context.workers, context.progress)
        valid = evaluate_start(start, *what, context.workers, context.progress, ("valid",))["valid"]
        self._pace.saw_start(start.cost)
        self._pace.saw_evaluation(plan.examples["valid"], valid.cost.seconds)
        for line in calibration.announce(plan, context, self._pace, known):
            context.progress.say(line)
        context.progress.say(outlook_on_power(plan, context))
        left = self._shared_out(time_left(plan, self._pace))
        if left is not None:
            context.progress.say(f"all of it takes about {duration(left)} if nothing is done yet")

    def _tune(self, row: PlanRow) -> Tuned:
        """Return the best configuration of an algorithm, from a sweep or one that is finished."""
        began = time.monotonic()
        self._tell(f"{'tuning' if self._plan.trials else 'defaults of'} {row.name}")
        what = (row, self._plan, self._context, self._storage, self._retry_failed)
        lost = self._lost.get(label_of(row.name, None))
        tuned = tune(*what) if lost is None else tune(*what, lost=lost)
        if tuned.failure is not None:
            self._context.progress.say(f"failed: {tuned.failure.reason}")
        seconds, wall = tuned.bill["seconds"], time.monotonic() - began
        # A sweep that was finished before took no time now, and its bill tells nothing of today.
        seen = self._plan.around_sweep if wall > seconds else Around(0)
        around = wall - seconds if seen.examples else 0.0
        self._pace.saw(row.name, tuned.bill[self._plan.unit], seconds, seen, around)
        return tuned

    def _job(self, name: str, seed: int) -> Job:
        return job_of(row_of(self._plan, name), seed, self._plan, self._tuned.get(name))

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
            path = self._lost.get(label_of(name, seed)) or self._make(job)
        if isinstance(path, Failure):
            failure = path
            # Its own record, with what it spent, and not that of an attempt before it.
            now = records_of(request, context.workers, context.progress)
            path = next((record for record in now if record not in earlier), None)
            if path is None:
                what = (request, failure.reason, context.workers, context.progress)
                path = leave_failure(*what, lost=label_of(name, seed) in self._lost)
        record = read_record(path)
        spent = record["budget"]["spent"]
        if failure is None and not record["complete"]:
            failure = Failure(record["failure"], bool(OURS.match(record["failure"])))
            context.progress.say(f"failed before: {failure.reason}")
        paid, took = (of_training(spent, kind) for kind in (unit, "seconds"))
        others = [read_record(other) for other in earlier if other != path]
        wasted = [of_training(r["budget"]["spent"], unit) for r in others if not r["complete"]]
        step = _size_of_step(path, unit) / self._plan.budget.amount if record["complete"] else 0.0
        run = ComparisonRun(name, seed, path, paid, failure, math.fsum(wasted), step)
        if record["complete"]:
            # Rows of unequal budgets must never meet on a board.
            assert record["budget"]["limit"] == self._plan.budget.text, record["budget"]["limit"]
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

    def _shared_out(self, seconds: float | None) -> float | None:
        """Return what work takes that this process would need some time for; None: not known."""
        # How much room a cluster has is not known.
        hands = self._context.crew.count
        return seconds / hands if seconds is not None and hands else None

    def _tell(self, what: str) -> None:
        """Say what comes next, what was spent so far, and how long it will take."""
        plan = self._plan
        self._said += 1
        spent = math.fsum(self._result().paid.values())
        sweeps = [row.name for row in plan.sweeps if row.name not in self._tuned]
        runs = [run for run in plan.runs if run not in self._runs and run not in self._found]
        left = self._shared_out(time_left(plan, self._pace, sweeps, runs))
        self._context.progress.say(
            f"[{self._said}/{len(plan.tuned) + len(plan.runs)}] {what}  "
            f"spent {with_unit(spent, plan.unit)} of {with_unit(total_price(plan), plan.unit)}"
            + ("" if left is None else f", about {duration(left)} left")
        )


def _size_of_step(record: Path, unit: BudgetKind) -> float:
    """Return what a whole step of a finished run cost on average; 0 if it took none."""
    curves = read_frame(record.with_name("curves.parquet"))
    # What is not trained has row 0 alone, which is no step.
    steps = float(curves["part"].sum()) if "part" in curves else 0.0
    return float(curves.iloc[-1][unit]) / steps if steps else 0.0
