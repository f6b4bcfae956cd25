"""The loop of a run: steps until the budget is spent, with curves, checkpoints and a way back.

The share of the budget that is spent drives the learning rate. Without a budget the share is that
of the steps. Steps end where the budget does, to within half a step on either side.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd
import torch

from genrec_bench.budget import Budget, BudgetKind
from genrec_bench.checkpoints import (
    load_training,
    save_training,
    torch_random_state,
    training_checkpoints,
)
from genrec_bench.errors import UserError
from genrec_bench.ledger import PHASES, TRAINING_PHASES, Cost, Ledger
from genrec_bench.optimization import NotFiniteError, Optimization
from genrec_bench.progress import Progress
from genrec_bench.steps import Stepper
from genrec_bench.tracking import NullTracker
from genrec_bench.workers import Workers

SECONDS_BETWEEN_CHECKPOINTS = 60.0


@dataclass(frozen=True)
class Limit:
    """When training ends.

    Attributes:
        budget: what may be spent, or None.
        steps: how many steps to take if there is no budget.
    """

    budget: Budget | None
    steps: int


def train(
    stepper: Stepper,
    optimization: Optimization,
    ledger: Ledger,
    limit: Limit,
    workers: Workers,
    folder: Path,
    progress: Progress,
    tracker: NullTracker,
) -> pd.DataFrame:
    """Train until the limit, from the last checkpoint if there is one.

    Args:
        stepper: takes the steps.
        optimization: its optimizer, for checkpoints.
        ledger: what the steps charge.
        limit: when to stop.
        workers: agree on when to stop.
        folder: for checkpoints; those of a finished training are removed by the caller.
        progress: shows loss, reward, hit rate and the share of the budget spent.
        tracker: is sent every step's figures.

    Returns:
        The curves: one row for each step.

    Raises:
        UserError: if the budget does not pay for one step, or a loss is not finite.
    """
    curves: list[dict[str, float]] = []
    step = _resume(stepper, optimization, ledger, folder, curves, workers)
    if step:
        progress.say(f"resumed after step {step}")
    else:
        _save(stepper, optimization, ledger, folder, step, curves, workers)
    saved = time.monotonic()
    total = 1.0 if limit.budget else float(limit.steps)
    with progress.bar("training", total) as bar:
        share = _share(ledger, limit, step, workers)
        while _pays_for_another(share, step):
            try:
                figures = stepper.step(step, share)
            except NotFiniteError as error:
                # What the weights are now led here; what was saved before may not.
                kept = training_checkpoints(folder)[-1]
                raise NotFiniteError(f"{error}; the last good checkpoint is {kept}") from None
            step += 1
            share = _share(ledger, limit, step, workers)
            if step == 1 and share > 1.0 and limit.budget is not None:
                raise UserError(
                    f"--budget {limit.budget.text}: too small for one step, which took "
                    f"{share:.3g} times as much; give more, or set a smaller batch"
                )
            figures = {"step": step, "share": min(share, 1.0), **figures, **_spent(ledger, workers)}
            curves.append(figures)
            tracker.log({name: value for name, value in figures.items() if name != "step"}, step)
            bar.update(min(share, 1.0) * total, **_shown(figures))
            if time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS:
                _save(stepper, optimization, ledger, folder, step, curves, workers)
                saved = time.monotonic()
        bar.update(total, **_shown(curves[-1]))
    _save(stepper, optimization, ledger, folder, step, curves, workers)
    return pd.DataFrame(curves)


def _share(ledger: Ledger, limit: Limit, step: int, workers: Workers) -> float:
    """Return the share of the limit that all processes have used together."""
    if limit.budget is None:
        return step / limit.steps
    (share,) = workers.sum([ledger.share(limit.budget)])
    return share


def _pays_for_another(share: float, step: int) -> bool:
    """Return whether another step would end nearer to the budget than stopping does.

    Args:
        share: of the budget that ``step`` steps have spent.
        step: how many steps were taken.
    """
    return step == 0 or 1.0 - share > 0.5 * share / step


def _spent(ledger: Ledger, workers: Workers) -> dict[str, float]:
    kinds = get_args(BudgetKind)
    totals = workers.sum([ledger.total(kind) for kind in kinds])
    return dict(zip(kinds, totals, strict=True))


def _shown(figures: dict[str, float]) -> dict[str, float]:
    """Pick what fits beside a bar."""
    wanted = ("loss", "reward", "HR@1")
    shown = {name: figures[name] for name in wanted if name in figures}
    return shown | {"spent": round(figures["share"], 3)}


def _save(
    stepper: Stepper,
    optimization: Optimization,
    ledger: Ledger,
    folder: Path,
    step: int,
    curves: list[dict[str, float]],
    workers: Workers,
) -> Path:
    """Write a checkpoint; every process's ledger is in it, added up."""
    spent = total_spent(ledger, workers)
    if workers.is_main:
        state = {
            "curves": curves,
            "spent": spent,
            "random": torch_random_state(),
            "stepper": stepper.state(),
        }
        save_training(folder, step, stepper.modules(), optimization.state(), state)
    workers.wait()
    return folder / f"step-{step:08d}"


def total_spent(ledger: Ledger, workers: Workers) -> dict[str, dict[str, float]]:
    """Return the ledger of all processes together: costs add up, and so does memory."""
    # Every process adds up the same phases, also those that it has not entered itself.
    spent = {}
    for phase in PHASES:
        cost = dataclasses.asdict(ledger.spent.get(phase, Cost()))
        summed = zip(cost, workers.sum(cost.values()), strict=True)
        total = {name: type(cost[name])(value) for name, value in summed}
        if any(total.values()):
            spent[phase] = total
    return spent


def _resume(
    stepper: Stepper,
    optimization: Optimization,
    ledger: Ledger,
    folder: Path,
    curves: list[dict[str, float]],
    workers: Workers,
) -> int:
    checkpoints = training_checkpoints(folder)
    if not checkpoints:
        return 0
    tensors, state = load_training(checkpoints[-1], stepper.modules())
    optimization.load(tensors)
    stepper.load(state["stepper"])
    curves.extend(state["curves"])
    torch.set_rng_state(torch.tensor(state["random"], dtype=torch.uint8))
    # The checkpoint holds what all processes have spent: one of them takes it over.
    for phase, cost in state["spent"].items():
        if phase in TRAINING_PHASES and workers.is_main:
            ledger.add(phase, Cost(**cost))
    return int(state["step"])
