"""The loop of all training: steps until the limit, with curves, checkpoints, and resumption.

The share of the budget that is spent drives the learning rate. Without a budget the share is that
of the steps. Where what is left pays for less than a step, the last one learns from a part of a
batch, so that runs end at their budget, whatever a step of their algorithm costs.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from torch import Tensor, nn

from genrec_bench.errors import DAMAGE, StorageError, UserError, one_line
from genrec_bench.progress import Progress
from genrec_bench.training.budgets import Budget, BudgetKind
from genrec_bench.training.checkpoints import (
    random_state,
    resume_training,
    save_training,
    set_random_state,
    training_checkpoints,
)
from genrec_bench.training.ledger import PHASES, Cost, Ledger
from genrec_bench.training.optimization import NotFiniteError, Optimization
from genrec_bench.training.supervised_steps import Stepper
from genrec_bench.training.training_state import check_training_state
from genrec_bench.training.workers import Workers

SECONDS_BETWEEN_CHECKPOINTS = 60.0

SMALLEST_PART = 1 / 8
"""The least share of a batch in a step: the gradient of fewer prompts would be mostly noise."""


@dataclass(frozen=True)
class Limit:
    """When training ends.

    Attributes:
        steps: how many steps to take if there is no budget.
        strict: whether the budget must not be exceeded. Every step is then a whole batch, and is
            taken only if the largest step so far would still fit. Otherwise training ends as near
            to the budget as it can, perhaps above it.
    """

    budget: Budget | None
    steps: int
    strict: bool = False


PRUNED = "pruned at "
"""How a `Pruned` begins, and so the reason of a run that was given up."""


class Pruned(Exception):
    """Raised to end a run early, for example when a sweep gives a trial up."""


@dataclass(frozen=True, eq=False)
class Watch:
    """Looks at the policy while it trains, and always at its end.

    Attributes:
        count: looks at equal shares of the limit, and one more at the start; or 0.
        look: is asked with the number of steps taken; its figures go into the curves.
        told: is told the share and the figures of every look but the first; may raise `Pruned`.
        every: how many steps to take between two looks, if ``count`` is 0.
        enough: says whether to stop before the limit.
        modules: saved in checkpoints, beside those of the stepper.
    """

    count: int
    look: Callable[[int], dict[str, float]]
    told: Callable[[float, dict[str, float]], None] | None = None
    every: int = 1
    enough: Callable[[], bool] = lambda: False
    modules: Mapping[str, nn.Module] = field(default_factory=dict)

    def is_due(self, step: int, before: float, share: float) -> bool:
        """Return whether to look after a step that took the spent share from one to the other."""
        if not self.count:
            return step % self.every == 0
        return int(share * self.count) > int(before * self.count)


def train(
    stepper: Stepper,
    optimization: Optimization,
    ledger: Ledger,
    limit: Limit,
    workers: Workers,
    folder: Path,
    progress: Progress,
    watch: Watch | None = None,
    curves: list[dict[str, float]] | None = None,
    title: str = "training",
) -> pd.DataFrame:
    """Train until the limit, from the last checkpoint if there is one.

    Args:
        folder: for checkpoints; those of a finished training are removed by the caller.
        curves: an empty list to be filled, so that the caller has the curves of a training that
            fails too.

    Returns:
        The curves: one row for each step, and one for step 0 if there was a look at the start.

    Raises:
        UserError: if the budget does not pay for one step, or a loss is not finite.
        Pruned: if the watch says so.
    """
    curves = [] if curves is None else curves
    modules = {**stepper.modules(), **(watch.modules if watch else {})}
    checkpoints = _Checkpoints(folder, stepper, modules, optimization, ledger, curves, workers)
    step = checkpoints.resume()
    if step:
        progress.say(f"resumed after step {step} of {title}")
    total = 1.0 if limit.budget else float(limit.steps)
    with progress.bar(title, total) as bar:
        if not step and not curves:
            # What an algorithm did before its first step may have cost some of the budget.
            begun = _share(ledger, limit, 0, workers)
            if (watch is not None and watch.count) or begun:
                looked = watch.look(0) if watch is not None and watch.count else {}
                curves.append({"step": 0, "share": begun, **looked, **spent_of(ledger, workers)})
                bar.update(0.0, **_shown(curves[-1]))
                bar.tell()
            checkpoints.save(step)
        saved = time.monotonic()
        share = _share(ledger, limit, step, workers)
        reserve = _largest_step(curves, limit)
        smallest = max(SMALLEST_PART, 1 / stepper.batch)
        part = _next_part(limit, share, *_like_the_last(curves), reserve, smallest)
        bar.update(min(share, 1.0) * total, **(_shown(curves[-1]) if curves else {"step": step}))
        while part and not (watch is not None and watch.enough()):
            try:
                figures = stepper.step(step, share, part)
            except NotFiniteError as error:
                # The present weights led to this; those of the last checkpoint may be good.
                kept = training_checkpoints(folder)[-1]
                progress.say(f"the last good checkpoint: {kept}")
                # Records repeat the message, and must not tell where folders of this machine are.
                raise NotFiniteError(f"{error}; the last good one is {kept.name}") from None
            step += 1
            before, share = share, _share(ledger, limit, step, workers)
            if step == 1 and share > 1.0 and limit.budget is not None:
                raise UserError(
                    f"{limit.budget.option} {limit.budget.shown}: too small for one step, which "
                    f"took {share:.3g} times as much; give more, or set a smaller batch"
                )
            figures = {
                "step": step,
                "share": min(share, 1.0),
                **figures,
                **spent_of(ledger, workers),
            }
            curves.append(figures)
            reserve = _largest_step(curves, limit)
            part = _next_part(limit, share, *_like_the_last(curves), reserve, smallest)
            bar.update(min(share, 1.0) * total, **_shown(figures))
            if watch is not None and (watch.is_due(step, before, share) or not part):
                figures |= watch.look(step)
                bar.update(min(share, 1.0) * total, **_shown(figures))
                bar.tell()
                if watch.told is not None:
                    watch.told(share, figures)
            # All processes save at once: each adds its costs to the checkpoint's ledger.
            if workers.agree(time.monotonic() - saved > SECONDS_BETWEEN_CHECKPOINTS):
                checkpoints.save(step)
                saved = time.monotonic()
        bar.update(total, **_shown(curves[-1]))
    checkpoints.save(step)
    return pd.DataFrame(curves)


def _largest_step(curves: list[dict[str, float]], limit: Limit) -> float | None:
    """Return the share of the largest step so far; None if it is not to be reserved."""
    if not limit.strict or limit.budget is None:
        return None
    spent = [0.0, *(figures[limit.budget.kind] for figures in curves)]
    largest = max((after - before for before, after in pairwise(spent)), default=0.0)
    return largest / limit.budget.amount


def _share(ledger: Ledger, limit: Limit, step: int, workers: Workers) -> float:
    """Return the share of the limit that all processes have used together."""
    if limit.budget is None:
        return step / limit.steps
    (share,) = workers.sum([ledger.share(limit.budget)])
    return share


def _like_the_last(curves: list[dict[str, float]]) -> tuple[float, float]:
    """Return how many batches the last steps learned from, and the share spent before them.

    These are the last steps of one kind. Batches are whole ones, and parts of them.
    """
    parts, before = [], 0.0
    for figures in reversed(curves):
        # Row 0 is no step.
        if not figures["step"] or _kind(figures) != _kind(curves[-1]):
            before = figures["share"]
            break
        # Older checkpoints have no parts: their steps took whole batches.
        parts.append(figures.get("part", 1.0))
    return math.fsum(parts), before


def _kind(figures: dict[str, float]) -> tuple[float, float]:
    """Return what tells apart steps that train the heads alone, learn from targets, and others."""
    return figures.get("heads_only", 0.0), figures.get("supervised", 0.0)


def _next_part(
    limit: Limit,
    share: float,
    taken: float,
    before: float,
    reserve: float | None,
    smallest: float,
) -> float:
    """Return the part of a whole batch to learn from next, or 0 to stop.

    Args:
        share: of the limit that is spent.
        taken: whole batches that were learned from, and parts of them, in the last steps of a kind.
        before: the share that was spent before these steps.
        reserve: the share that must be left for a step that is strictly within the budget.
        smallest: part of a batch, which is taken if that ends nearer to the budget than none.
    """
    if taken == 0:
        return 1.0
    if limit.budget is None:
        return float(share < 1.0)
    if reserve is not None:
        return float(1.0 - share >= reserve)
    # By the average cost of a batch so far, since steps differ in what a prompt costs.
    left = (1.0 - share) / ((share - before) / taken)
    return 0.0 if left < smallest / 2 else min(max(left, smallest), 1.0)


def spent_of(ledger: Ledger, workers: Workers) -> dict[str, float]:
    """Return what all processes have spent of each kind of budget."""
    kinds = get_args(BudgetKind)
    totals = workers.sum([ledger.total(kind) for kind in kinds])
    return dict(zip(kinds, totals, strict=True))


def _shown(figures: dict[str, float]) -> dict[str, float]:
    """Pick what fits beside a bar, or into a line of a log file."""
    wanted = ("step", "loss", "reward", "HR@1", "valid/NDCG@10")
    shown = {name: figures[name] for name in wanted if name in figures}
    return shown | {"spent": round(figures["share"], 3)}


MEMORY = "algorithm/"
"""How the names of an algorithm's tensors begin among the optimizer's."""


@dataclass(frozen=True, eq=False)
class _Checkpoints:
    """Writes all that a training has come to, and reads it back."""

    folder: Path
    stepper: Stepper
    modules: Mapping[str, nn.Module]
    optimization: Optimization
    ledger: Ledger
    curves: list[dict[str, float]]
    workers: Workers

    def save(self, step: int) -> None:
        """Write a checkpoint; every process's ledger is in it, added up."""
        spent = total_spent(self.ledger, self.workers)
        if self.workers.is_main:
            tensors = self.optimization.state()
            tensors |= {MEMORY + name: value for name, value in self.stepper.memory().items()}
            state = {
                "curves": self.curves,
                "spent": spent,
                "random": random_state(self.workers.device),
                "stepper": self.stepper.state(),
            }
            save_training(self.folder, step, self.modules, tensors, state)
        self.workers.wait()

    def resume(self) -> int:
        """Take the last checkpoint up, and return its step; 0 if there is none, to begin."""
        found = resume_training(self.folder, self.modules, self.workers)
        if found is None:
            self.stepper.begin()
            return 0
        tensors, state = found
        kept = {name: tensors.pop(name) for name in [*tensors] if name.startswith(MEMORY)}
        self.stepper.remember({name.removeprefix(MEMORY): kept[name] for name in kept})
        try:
            return self._take_up(tensors, check_training_state(state, "its state"))
        except (StorageError, *DAMAGE, RuntimeError) as error:
            raise StorageError(
                f"{self.folder}: its last checkpoint is of other work ({one_line(error)}); delete "
                "the folder to start anew"
            ) from None

    def _take_up(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> int:
        self.optimization.load(tensors)
        self.stepper.load(state["stepper"])
        self.curves.extend(state["curves"])
        set_random_state(state["random"], self.workers.device)
        # The checkpoint holds the costs of all processes together, so only one takes them over.
        for phase, cost in state["spent"].items():
            # What was charged before the training began, as the SFT start, is not charged again.
            if self.workers.is_main and phase not in self.ledger.spent:
                self.ledger.add(phase, Cost(**cost))
        return int(state["step"])


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
