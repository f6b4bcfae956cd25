"""The plan of a comparison: what is tuned, what is run, and what all of it costs.

Nothing is run here. The price is exact in the unit of the budgets, since these are what stops the
work; in time it is a guess, at the rate at which earlier work went.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from genrec_bench.boards.units import with_unit
from genrec_bench.errors import UserError
from genrec_bench.studies.comparison.pace import Pace, duration
from genrec_bench.training.budgets import Budget, BudgetKind, parse_budget

if TYPE_CHECKING:
    from genrec_bench.studies.sweeps.sweep_request import PrunerName, SamplerName

ALGORITHMS = "grpo,ugr,srpo,vstar"
BUDGET = "300Gflop"
SEEDS = 5
"""Defaults: a real comparison on `synthetic` that two idle cores end over a coffee."""

TUNING_SHARE, TRIAL_SHARE = 3.0, 0.5
"""Default budgets of a sweep and of a trial, as shares of the training's: a trial that is too short
favours large learning rates, and tuning that costs far more than training nobody would pay."""


@dataclass(frozen=True)
class Row:
    """A row of the board to be.

    Attributes:
        name: what it is called.
        algorithm: a name, or the path of a Python file.
        assignments: words of ``--set`` that make it what it is.
        control: what it is a control for; empty for an algorithm that is compared, and tuned.
    """

    name: str
    algorithm: str
    assignments: tuple[str, ...] = ()
    control: str = ""


CONTROLS = (
    Row("SFT continued", "sft", control="SFT continued"),
    Row("random reward", "grpo", ("reward=random",), control="random reward"),
)
"""What every algorithm has to beat, beside the SFT start; none of them is tuned."""


@dataclass(frozen=True)
class Plan:
    """A comparison as it was asked for.

    Attributes:
        dataset: its name.
        partial: whether the training set is smaller than the card expects.
        backbone: its name; of a folder the last part.
        tuned: the algorithms, in the order given.
        controls: the untuned rows.
        seeds: of every row.
        tuning: what each algorithm may spend on trials, all together.
        trial: of one trial.
        budget: of the training of each row and seed.
        most_trials: of one algorithm, or None.
        sampler: how a trial's hyperparameters are chosen.
        pruner: which trials are cut short.
        assignments: words of ``--set`` for all.
        examples: number of examples by split, "valid" and "test".
        validations: how often a training is validated.
        validation_examples: on how many examples.
    """

    dataset: str
    partial: bool
    backbone: str
    tuned: tuple[Row, ...]
    controls: tuple[Row, ...]
    seeds: tuple[int, ...]
    tuning: Budget
    trial: Budget
    budget: Budget
    most_trials: int | None
    sampler: SamplerName
    pruner: PrunerName
    assignments: tuple[str, ...]
    examples: Mapping[str, int]
    validations: int
    validation_examples: int

    def __post_init__(self) -> None:
        """Check that the budgets fit each other.

        Raises:
            UserError: their units differ, or a sweep's budget does not pay for one trial.
        """
        for name, other in (("--tuning-budget", self.tuning), ("--trial-budget", self.trial)):
            if other.kind != self.budget.kind:
                raise UserError(
                    f"{name} {other.text} and --budget {self.budget.text}: must be of one unit, "
                    "or no price could be told"
                )
        if self.trial.amount > self.tuning.amount:
            raise UserError(
                f"--trial-budget {self.trial.text}: is more than --tuning-budget "
                f"{self.tuning.text}, which has to pay for at least one trial"
            )

    @property
    def unit(self) -> BudgetKind:
        """What budgets count."""
        return self.budget.kind

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows, those that are tuned first."""
        return (*self.tuned, *self.controls)

    @property
    def cells(self) -> tuple[tuple[str, int], ...]:
        """Names of rows and seeds, seed by seed, so that a board of few seeds is there early."""
        return tuple((row.name, seed) for seed in self.seeds for row in self.rows)

    @property
    def trials(self) -> int:
        """How many trials an algorithm is sure to have; trials that are pruned make room for more.

        A sum of budgets that comes to the tuning budget but for the last bits is within it.
        """
        paid = math.floor(self.tuning.amount / self.trial.amount * (1 + 1e-12))
        return paid if self.most_trials is None else min(paid, self.most_trials)

    def as_dict(self) -> dict[str, Any]:
        """Return the plan and its price as JSON holds them."""
        budgets = {name: getattr(self, name).text for name in ("tuning", "trial", "budget")}
        plain = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(self)
            if field.name not in ("tuned", "controls", *budgets)
        }
        rows = {
            name: [dataclasses.asdict(row) for row in getattr(self, name)]
            for name in ("tuned", "controls")
        }
        price = [dataclasses.asdict(part) | {"total": part.total} for part in price_of(self)]
        return {**plain, **rows, **budgets, "price": price, "total": total_price(self)}


def scaled(budget: Budget, share: float) -> Budget:
    """Return a share of a budget."""
    unit = {"seconds": "s", "flops": "flop", "tokens": "tok"}[budget.kind]
    return parse_budget(f"{budget.amount * share!r}{unit}")


def make_rows(names: Sequence[str], algorithms: Sequence[str]) -> tuple[tuple[Row, ...], ...]:
    """Return the rows that are tuned, and the controls that run beside them.

    Args:
        names: of the algorithms, in the order given.
        algorithms: how each was given, a name or a path.

    Raises:
        UserError: two have one name.
    """
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"--algorithms: {name} is given twice")
    tuned = tuple(Row(name, given) for name, given in zip(names, algorithms, strict=True))
    # SFT that is tuned is a stronger control than SFT that is not.
    controls = tuple(row for row in CONTROLS if row.assignments or row.algorithm not in names)
    return tuned, controls


@dataclass(frozen=True)
class Part:
    """A line of the price.

    Attributes:
        what: is bought, in words.
        count: how often.
        each: what one costs, in the budgets' unit.
    """

    what: str
    count: int
    each: float

    @property
    def total(self) -> float:
        """What all of them cost."""
        return self.count * self.each


def price_of(plan: Plan) -> tuple[Part, ...]:
    """Return what the plan costs, in the budgets' unit."""
    seeds = len(plan.seeds)
    return (
        Part("tuning", len(plan.tuned), plan.tuning.amount),
        Part("training", len(plan.tuned) * seeds, plan.budget.amount),
        Part("controls", len(plan.controls) * seeds, plan.budget.amount),
    )


def total_price(plan: Plan) -> float:
    """Return what all parts of the plan cost together, in the budgets' unit."""
    return math.fsum(part.total for part in price_of(plan))


def of_sweep(plan: Plan) -> int:
    """Return how many examples a sweep ranks, with as many trials as its budget is sure to pay for.

    More trials than these are pruned ones, which are not evaluated to the end.
    """
    return plan.trials * (plan.examples["valid"] + _looked_at(plan))


def of_cell(plan: Plan) -> int:
    """Return how many examples a run ranks, to be validated and at its end."""
    return sum(plan.examples.values()) + _looked_at(plan)


def _looked_at(plan: Plan) -> int:
    """Return how many examples a training ranks on its way, once at its start."""
    return (plan.validations + 1) * plan.validation_examples if plan.validations else 0


def time_of(plan: Plan, pace: Pace) -> float | None:
    """Return how many seconds the whole plan will take, or None if nothing is known of that."""
    return time_left(plan, pace, [row.name for row in plan.tuned], plan.cells)


def time_left(
    plan: Plan, pace: Pace, sweeps: Sequence[str], cells: Sequence[tuple[str, int]]
) -> float | None:
    """Return how many seconds some of the plan's work will take, or None if nothing is known.

    Args:
        plan: whose work it is.
        pace: what is known.
        sweeps: names of the rows that are still to be tuned.
        cells: names of rows and seeds that are still to be run.
    """
    parts = [pace.seconds(name, plan.tuning.amount, of_sweep(plan)) for name in sweeps]
    parts += [pace.seconds(name, plan.budget.amount, of_cell(plan)) for name, _ in cells]
    known = [part for part in parts if part is not None]
    return math.fsum(known) if len(known) == len(parts) else None


def render(plan: Plan, pace: Pace) -> str:
    """Return the plan and its price as text for a terminal."""
    from tabulate import tabulate

    title = f"{plan.dataset}{' (partial)' if plan.partial else ''}, backbone {plan.backbone}"
    what = {
        "tuning": "sweeps: " + ", ".join(row.name for row in plan.tuned),
        "training": f"best configurations x {len(plan.seeds)} seeds",
        "controls": f"{', '.join(row.name for row in plan.controls)} x {len(plan.seeds)} seeds",
    }
    lines = [
        [
            part.what,
            what[part.what],
            part.count,
            with_unit(part.each, plan.unit),
            with_unit(part.total, plan.unit),
        ]
        for part in price_of(plan)
        if part.count
    ]
    lines.append(["in all", "", "", "", with_unit(total_price(plan), plan.unit)])
    table = tabulate(
        lines,
        ["", "what", "how many", "each", "together"],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", "left", "right", "right", "right"),
    )
    trials = f"A sweep: trials of {plan.trial.text}, {plan.trials} or more"
    if plan.most_trials is not None and plan.trials == plan.most_trials:
        trials = f"A sweep: {plan.trials} trials of {plan.trial.text}"
    valid, test = plan.examples["valid"], plan.examples["test"]
    ranked = len(plan.tuned) * of_sweep(plan) + len(plan.cells) * of_cell(plan)
    notes = [
        f"{trials}; {plan.sampler} chooses, pruning: {plan.pruner}; the best by NDCG@10 on valid.",
        "The SFT start is trained once if it is not there yet; it counts against no budget.",
        "The last step of a run learns from as many prompts as the rest of the budget pays for.",
        f"Not on the bill: each training is validated {plan.validations} times on "
        f"{plan.validation_examples} examples; a trial ranks {valid} of valid at its end, a run "
        f"these and {test} of test, once. About {ranked} rankings in all.",
    ]
    guess = time_of(plan, pace)
    if guess is not None:
        more = "" if pace.knows_evaluation else ", and what evaluation takes"
        notes.append(f"Time: about {duration(guess)}{more}.")
    else:
        notes.append("Time: can be told when the SFT start is trained.")
    return f"Comparison on {title}\n\n{table}\n\n" + "\n".join(notes)
