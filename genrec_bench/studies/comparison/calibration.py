"""What a step of each row costs, measured before the comparison: one step from the SFT start.

Equal budgets are few steps of one algorithm and many of another, and a tenth of what SFT has cost
moves nothing. Steps, epochs and time are therefore told beforehand, from one step of each row that
is taken in memory and thrown away.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import get_args

import numpy as np
import torch

from genrec_bench.boards.units import with_unit
from genrec_bench.errors import UserError
from genrec_bench.policy.backbones import find_backbone
from genrec_bench.progress import Progress
from genrec_bench.runs.foresight import check_budget
from genrec_bench.runs.jobs import Context, request_of
from genrec_bench.runs.post_training import prepare
from genrec_bench.studies.attempts import attempt
from genrec_bench.studies.comparison.pace import Pace, RowCost, duration
from genrec_bench.studies.comparison.plan import SMALLER_STEPS, Plan, PlanRow, seconds_of_run
from genrec_bench.studies.text_tables import table_text
from genrec_bench.training.budgets import BudgetKind
from genrec_bench.training.evaluate import LOOK_BEAM, evaluate
from genrec_bench.training.ledger import Cost, Ledger
from genrec_bench.training.sft_start import SFTStart, cost_if_trained, sft_start
from genrec_bench.training.supervised_steps import SupervisedStepper

RANKED = 64
"""Validation examples that are ranked to see what that takes; the test split is left alone."""

FIRST = 1 / 8
"""Part of a batch to learn from before the step that is measured: first steps fetch memory."""

MIDDLE = 0.5
"""Share of the budget at which the step is taken: first stages, such as a value's, are over."""

LEAST_RATIO, LEAST_STEPS = 0.5, 50
"""A row with less of SFT's cost, or of steps, is warned of. Runs that are published spend 3 to 11
times SFT's time; at 0.07 times (synthetic) and 0.46 times (Industrial) no row of ours moved."""


@dataclass(frozen=True)
class Calibration:
    """What is known of a comparison's rows before it begins.

    Attributes:
        sft: what the SFT start cost.
        rows: by name; a row that could take no step is missing, as its runs will say.
    """

    sft: Cost
    rows: Mapping[str, RowCost]


@dataclass(frozen=True)
class RowOutlook:
    """What a budget means for a row.

    Attributes:
        ratio: the run's FLOPs as a multiple of the SFT start's; None if that cost nothing.
        steps: that the budget pays for.
        epochs: over the training prompts, or over SFT's sequences.
        step_flops: of one step.
        seconds: of one run, its looks and its evaluation among them.
    """

    name: str
    ratio: float | None
    steps: float
    epochs: float
    step_flops: float
    seconds: float


def announce(
    plan: Plan, context: Context, pace: Pace, known: Calibration | None = None
) -> list[str]:
    """Return what there is to tell of a comparison's rows before it begins.

    Args:
        known: what steps cost, where they were taken already.

    Raises:
        UserError: a budget does not pay for one step of a row.
        StorageError: the disk refuses.
    """
    if known is None:
        known = calibrate(plan, context)
        check_pays(plan, known)
    rows = outlook(plan, known, pace)
    return ["", outlook_text(rows), ""] if rows else []


def check_budgets(plan: Plan, context: Context) -> Calibration | None:
    """Refuse budgets below a step before the plan is told, as far as is known by then.

    Returns:
        What steps cost; None where the SFT start is not there yet, from which they are taken.

    Raises:
        UserError: a budget does not pay for one step of a row, or a row cannot be run.
        StorageError: the disk refuses.
    """
    here = _quietly(context)
    requests = [(row, request_of(row.job(0), here)) for row in plan.rows]
    for row, request in requests:
        check_budget(request, plan.budget)
        if row in plan.sweeps:
            check_budget(request, plan.trial)
    what = (find_backbone(context.backbone), context.dataset, requests[0][1].settings)
    if cost_if_trained(*what, context.data_dir) is None:
        return None
    context.progress.say("taking a step of each row, to know what the budget means")
    known = calibrate(plan, context)
    check_pays(plan, known)
    return known


def calibrate(plan: Plan, context: Context) -> Calibration:
    """Take a step of each row, in memory; the SFT start is trained if it is not in the cache.

    What is tuned is measured with its default hyperparameters.

    Raises:
        UserError: a row cannot be run.
        StorageError: the disk refuses.
    """
    here = _quietly(context)
    settings = request_of(plan.rows[0].job(0), here).settings
    what = (find_backbone(context.backbone), context.dataset, settings)
    start = sft_start(*what, context.data_dir, context.workers, context.progress)
    rows: dict[str, RowCost] = {}
    for row in plan.rows:
        with torch.random.fork_rng(devices=[]):
            found = attempt(partial(_measure, row, start, here), here)
        if isinstance(found, RowCost):
            rows[row.name] = found
    return Calibration(start.cost, rows)


def _quietly(context: Context) -> Context:
    """Return a context in which nothing is said and, but for the SFT start, nothing written."""
    return replace(context, output=context.data_dir, progress=Progress(quiet=True))


def _measure(row: PlanRow, start: SFTStart, context: Context) -> RowCost | None:
    """Take a row's step, and rank some validation examples, as a look does and as its end does.

    Of what is not trained there is nothing to measure.
    """
    request = request_of(row.job(0), context)
    if not request.algorithm.trains:
        return None
    dataset, settings, workers = request.dataset, request.settings, context.workers
    began = time.monotonic()
    ledger = Ledger(workers.device)
    backbone = find_backbone(context.backbone)
    policy, _, stepper = prepare(request, backbone, start, ledger, workers)
    stepper.begin()
    setup = time.monotonic() - began
    stepper.step(0, MIDDLE, FIRST)
    before, drawn = _spent(ledger), stepper.state().get("refilled", 0)
    stepper.step(1, MIDDLE)
    step = {kind: amount - before[kind] for kind, amount in _spent(ledger).items()}
    if isinstance(stepper, SupervisedStepper):
        epoch = stepper.batch / len(stepper)
    else:
        seen = stepper.batch + stepper.state()["refilled"] - drawn
        epoch = seen / len(dataset.train)
    count = min(RANKED, len(dataset.valid))
    some, width = dataset.valid.subset(np.arange(count)), settings.beam_width
    rank = partial(evaluate, policy, some, dataset.catalog, workers, progress=context.progress)
    seconds = [0.0]
    for beam, sampling in ((min(width, LOOK_BEAM), None), (width, settings)):
        with ledger.phase("evaluation"):
            rank(beam, title="valid", algorithm=request.algorithm, sampling=sampling)
        seconds.append(ledger.spent["evaluation"].seconds)
    look, ranking = ((after - before) / count for before, after in pairwise(seconds))
    return RowCost(step, epoch, setup, look, ranking)


def _spent(ledger: Ledger) -> dict[BudgetKind, float]:
    return {kind: ledger.total(kind) for kind in get_args(BudgetKind)}


def check_pays(plan: Plan, known: Calibration) -> None:
    """Refuse budgets that do not pay for one step of a row; of those in seconds nothing is known.

    Raises:
        UserError: naming the row, and what its step costs.
    """
    if plan.unit == "seconds":
        return
    tuned = {row.name for row in plan.tuned} if plan.trials else set()
    for name, row in known.rows.items():
        for budget in [plan.budget, *([plan.trial] if name in tuned else [])]:
            if budget.amount < row.step[plan.unit]:
                raise UserError(
                    f"{budget.option} {budget.shown}: is less than one step of {name}, which takes "
                    f"{with_unit(row.step[plan.unit], plan.unit)}; give more, or set "
                    f"{SMALLER_STEPS}"
                )


def outlook(plan: Plan, known: Calibration, pace: Pace) -> list[RowOutlook]:
    """Return what the budget means for each row that could take a step, in the plan's order.

    Args:
        pace: is told what is known, and then knows how long a run takes.
    """
    pace.saw_rows(known.rows)
    rows = []
    for row in plan.rows:
        cost = known.rows.get(row.name)
        seconds = seconds_of_run(plan, pace, row.name)
        if cost is None or seconds is None:
            continue
        steps = plan.budget.amount / cost.step[plan.unit]
        flops = cost.step["flops"]
        ratio = steps * flops / known.sft.flops if known.sft.flops else None
        rows.append(RowOutlook(row.name, ratio, steps, steps * cost.epoch, flops, seconds))
    return rows


def outlook_text(rows: list[RowOutlook]) -> str:
    """Return the rows as a table for a terminal, and a warning for those that will hardly move."""
    cells = [
        [
            row.name,
            "-" if row.ratio is None else f"{row.ratio:.2g}x",
            f"{row.steps:.0f}",
            f"{row.epochs:.2g}",
            with_unit(row.step_flops, "flops"),
            duration(row.seconds),
        ]
        for row in rows
    ]
    heads = ["a run of", "SFT's cost", "steps", "epochs", "a step", "time, evaluation in it"]
    lines = [table_text(heads, cells, "simple"), ""]
    lines += [f"warning: {row.name}: {reason}" for row in rows for reason in _too_little(row)]
    return "\n".join(lines).rstrip()


def _too_little(row: RowOutlook) -> list[str]:
    reasons = []
    if row.ratio is not None and row.ratio < LEAST_RATIO:
        reasons.append(f"{row.ratio:.2g} times what SFT cost")
    if row.steps < LEAST_STEPS:
        reasons.append(f"{row.steps:.0f} steps")
    return [f"{' and '.join(reasons)}: will hardly move; give more budget"] if reasons else []
