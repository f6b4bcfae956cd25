"""The plan of a comparison: what is tuned, what is run, and what all of it costs.

Nothing is run here. The price is exact in the unit of the budgets, since the work stops where they
are spent. The time is a guess, at the rate at which earlier work went.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genrec_bench.boards.units import with_unit
from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Context, Job, configure, split_words
from genrec_bench.studies.comparison.pace import Around, Pace, duration
from genrec_bench.studies.sweeps.sweep_request import PrunerName, SamplerName
from genrec_bench.studies.text_tables import table_text
from genrec_bench.training.budgets import Budget, BudgetKind, parse_exact

SMALLER_STEPS = "fewer prompts_per_step (or a smaller sft_batch, for what makes no rollouts)"
"""What makes the steps of a row cheaper."""


@dataclass(frozen=True)
class PlanRow:
    """A row of the board that the comparison makes.

    Attributes:
        algorithm: a name, or the path of a Python file.
        assignments: words of ``--set`` that make it what it is.
        control: what it is a control for; empty for an algorithm that is compared, and tuned.
    """

    name: str
    algorithm: str
    assignments: tuple[str, ...] = ()
    control: str = ""

    def job(self, seed: int) -> Job:
        """Return its run on a seed, which has no budget of its own yet."""
        return Job(self.name, self.algorithm, self.assignments, seed, self.control)


@dataclass(frozen=True)
class Plan:
    """A comparison as it was asked for.

    Attributes:
        partial: whether the training set is smaller than the card expects.
        backbone: its name; of a folder the last part.
        tuned: the algorithms, in the order given.
        controls: the untuned rows.
        seeds: of every row.
        tuning: what each algorithm may spend on trials, all together.
        trial: of one trial.
        budget: of the training of each row and seed.
        most_trials: of one algorithm, or None; with 0 all keep their default hyperparameters.
        assignments: words of ``--set`` for all.
        preset: name of the preset for all else; empty without one.
        examples: number of examples by split, "valid" and "test".
        validations: how often a training is validated.
        validation_examples: on how many examples.

    Raises:
        UserError: the budgets' units differ, or that of tuning does not pay for one trial.
    """

    dataset: str
    partial: bool
    backbone: str
    tuned: tuple[PlanRow, ...]
    controls: tuple[PlanRow, ...]
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
    preset: str = ""

    def __post_init__(self) -> None:
        """Check that the budgets fit each other."""
        for name, other in (("--tuning-budget", self.tuning), ("--trial-budget", self.trial)):
            if other.kind != self.budget.kind:
                raise UserError(
                    f"{name} {other.shown} and --budget {self.budget.shown}: must be of one unit, "
                    "or no price could be told"
                )
        if self.trial.amount > self.tuning.amount:
            raise UserError(
                f"--trial-budget {self.trial.shown}: is more than --tuning-budget "
                f"{self.tuning.shown}, which has to pay for at least one trial"
            )

    @property
    def unit(self) -> BudgetKind:
        """What budgets count."""
        return self.budget.kind

    @property
    def rows(self) -> tuple[PlanRow, ...]:
        """All rows, those that are tuned first."""
        return (*self.tuned, *self.controls)

    @property
    def sweeps(self) -> tuple[PlanRow, ...]:
        """The rows that a sweep is made for."""
        return self.tuned if self.trials else ()

    @property
    def runs(self) -> tuple[tuple[str, int], ...]:
        """Names of rows and seeds, seed by seed, so that a board of few seeds is there early."""
        return tuple((row.name, seed) for seed in self.seeds for row in self.rows)

    @property
    def trials(self) -> int:
        """How many trials an algorithm is sure to have; trials that are pruned make room for more.

        A sum of budgets that comes to the tuning budget but for the last bits is within it.
        """
        paid = math.floor(self.tuning.amount / self.trial.amount * (1 + 1e-12))
        return paid if self.most_trials is None else min(paid, self.most_trials)

    @property
    def around_sweep(self) -> Around:
        """What a sweep does around training with `trials`; a further trial ends early."""
        looked = self._looks
        each = self.examples["valid"] + looked
        return Around(self.trials * each, self.trials * looked, self.trials)

    @property
    def around_run(self) -> Around:
        """What a run does around training, on its way and at its end."""
        looked = self._looks
        return Around(sum(self.examples.values()) + looked, looked, 1)

    @property
    def _looks(self) -> int:
        """How many examples a training ranks on its way, once at its start."""
        return (self.validations + 1) * self.validation_examples if self.validations else 0

    def as_dict(self) -> dict[str, Any]:
        """Return the plan and its price as JSON holds them."""
        plain = dataclasses.asdict(self)
        plain |= {name: getattr(self, name).text for name in ("tuning", "trial", "budget")}
        price = [dataclasses.asdict(part) | {"total": part.total} for part in price_of(self)]
        return {**plain, "price": price, "total": total_price(self)}


def scaled(budget: Budget, share: float, option: str) -> Budget:
    """Return a share of a budget, as if it had been given by ``option``."""
    unit = {"seconds": "s", "flops": "flop", "tokens": "tok"}[budget.kind]
    return parse_exact(f"{budget.amount * share!r}{unit}", option)


def control_job(text: str) -> Job:
    """Read an algorithm with words of ``--set`` behind colons, ``grpo:reward=random``."""
    algorithm, *words = text.split(":")
    return Job(text, algorithm, tuple(words))


def control_row(text: str, context: Context) -> PlanRow:
    """Read a control: an algorithm with words of ``--set`` behind colons, ``grpo:reward=random``.

    Raises:
        UserError: there is no such algorithm, or it does not know these words.
    """
    from genrec_bench.training.base_algorithm import Algorithm

    job = control_job(text)
    algorithm, words = job.algorithm, job.assignments
    entry, made, _ = configure(job, context)
    if words:
        name = ", ".join(f"{value} {key}" for key, value in split_words(words).items())
    else:
        # What learns from targets by SFT's own loss does once more what made the SFT start.
        again = not made.on_policy and type(made).target_loss is Algorithm.target_loss
        name = f"{entry.name.upper()} continued" if again else f"{entry.name} untuned"
    return PlanRow(name, algorithm, words, control=name)


def make_rows(
    names: Sequence[str], algorithms: Sequence[str], controls: Sequence[PlanRow]
) -> tuple[tuple[PlanRow, ...], tuple[PlanRow, ...]]:
    """Return the rows that are tuned, and the controls that run beside them.

    Args:
        names: of the algorithms, in the order given.
        algorithms: how each was given, a name or a path.
        controls: a control that is tuned too, being one of the algorithms, is left out: tuned, it
            is a stronger one.

    Raises:
        UserError: two rows have one name.
    """
    tuned = tuple(PlanRow(name, given) for name, given in zip(names, algorithms, strict=True))
    controls = tuple(row for row in controls if row.assignments or row.algorithm not in names)
    for option, rows in (("--algorithms", tuned), ("--controls", controls)):
        given = [row.name for row in rows]
        for name in given:
            if given.count(name) > 1:
                raise UserError(f"{option}: {name} is given twice")
    return tuned, controls


@dataclass(frozen=True)
class PriceLine:
    """A part of the price: what is bought, how often, and what one costs in the budgets' unit."""

    what: str
    count: int
    each: float

    @property
    def total(self) -> float:
        """What all of them cost."""
        return self.count * self.each


def price_of(plan: Plan) -> tuple[PriceLine, ...]:
    """Return what the plan costs, in the budgets' unit."""
    seeds = len(plan.seeds)
    return (
        PriceLine("tuning", len(plan.sweeps), plan.tuning.amount),
        PriceLine("training", len(plan.tuned) * seeds, plan.budget.amount),
        PriceLine("controls", len(plan.controls) * seeds, plan.budget.amount),
    )


def total_price(plan: Plan) -> float:
    """Return what all parts of the plan cost together, in the budgets' unit."""
    return math.fsum(part.total for part in price_of(plan))


def time_left(
    plan: Plan,
    pace: Pace,
    sweeps: Sequence[str] | None = None,
    runs: Sequence[tuple[str, int]] | None = None,
) -> float | None:
    """Return how many seconds some of the plan's work will take, or None if nothing is known.

    Args:
        sweeps: names of the rows that are still to be tuned; None for all of them.
        runs: names of rows and seeds that are still to be run; None for all of them.
    """
    names = [row.name for row in plan.sweeps] if sweeps is None else sweeps
    parts = [pace.seconds(name, plan.tuning.amount, plan.around_sweep) for name in names]
    parts += [seconds_of_run(plan, pace, name) for name, _ in (plan.runs if runs is None else runs)]
    known = [part for part in parts if part is not None]
    return math.fsum(known) if len(known) == len(parts) else None


def seconds_of_run(plan: Plan, pace: Pace, name: str) -> float | None:
    """Return how long one run of a row will take, or None if nothing is known."""
    return pace.seconds(name, plan.budget.amount, plan.around_run)


def plan_text(plan: Plan, pace: Pace) -> str:
    """Return the plan and its price as text for a terminal."""
    title = f"{plan.dataset}{' (partial)' if plan.partial else ''}, backbone {plan.backbone}"
    title += f", preset {plan.preset}" if plan.preset else ""
    of_each = "best configurations" if plan.sweeps else ", ".join(row.name for row in plan.tuned)
    what = {
        "tuning": "sweeps: " + ", ".join(row.name for row in plan.tuned),
        "training": f"{of_each} x {len(plan.seeds)} seeds",
        "controls": f"{', '.join(row.name for row in plan.controls)} x {len(plan.seeds)} seeds",
    }
    lines: list[list[object]] = [
        [part.what, what[part.what], part.count]
        + [with_unit(value, plan.unit) for value in (part.each, part.total)]
        for part in price_of(plan)
        if part.count
    ]
    lines.append(["in all", "", "", "", with_unit(total_price(plan), plan.unit)])
    table = table_text(["", "what", "how many", "each", "together"], lines, "simple", "llrrr")
    trials = f"A sweep: trials of {plan.trial.shown}, {plan.trials} or more"
    if plan.most_trials is not None and plan.trials == plan.most_trials:
        trials = f"A sweep: {plan.trials} trials of {plan.trial.shown}"
    valid, test = plan.examples["valid"], plan.examples["test"]
    ranked = len(plan.sweeps) * plan.around_sweep.examples
    ranked += len(plan.runs) * plan.around_run.examples
    notes = [
        f"{trials}; sampler: {plan.sampler}, pruner: {plan.pruner}; the best is that of the "
        "highest NDCG@10 on the validation split."
        if plan.sweeps
        else "Nothing is tuned: every algorithm has its default hyperparameters"
        + (f", or those of the preset {plan.preset}." if plan.preset else "."),
        "The SFT start is trained once if it is not there yet; it counts against no budget.",
        "The last step of a run learns from as many prompts as the rest of the budget pays for.",
        f"Not counted: each training is validated {plan.validations} times on "
        f"{plan.validation_examples} examples; "
        + (f"a trial ranks the {valid} validation examples at its end, " if plan.trials else "")
        + f"a run ranks {valid} validation and {test} test examples once. About {ranked} rankings "
        "in all.",
    ]
    guess = time_left(plan, pace)
    if guess is not None and not (pace.knows_rows or plan.unit == "seconds"):
        notes.append("Time: told once a step of each row was taken.")
    elif guess is not None:
        more = "" if pace.knows_evaluation else ", and what evaluation takes"
        notes.append(f"Time: about {duration(guess)}{more}.")
    else:
        notes.append("Time: not known before the SFT start is trained.")
    return f"Comparison on {title}\n\n{table}\n\n" + "\n".join(notes)


def more_text(plan: Plan, full: Plan, pace: Pace) -> str:
    """Say what a full comparison has that a quick one lacks, and what it costs."""
    more = []
    if full.sweeps and not plan.sweeps:
        trial = with_unit(full.trial.amount, full.unit)
        more.append(f"tuning of every algorithm ({full.trials} trials of {trial} each, or more)")
    if full.budget != plan.budget:
        more.append(f"{full.budget.amount / plan.budget.amount:.3g} times the budget for every run")
    if len(full.seeds) > len(plan.seeds):
        more.append(f"{len(full.seeds)} seeds a row instead of {len(plan.seeds)}")
    missing = [row.name for row in full.controls if row not in plan.controls]
    if missing:
        more.append(f"the control{'s' if len(missing) > 1 else ''} {', '.join(missing)}")
    guess = time_left(full, pace)
    took = "" if guess is None else f", about {duration(guess)} here"
    cost = f"{with_unit(total_price(full), full.unit)}{took}"
    added = f"adds {'; '.join(more)}" if more else "is the same"
    return f"The full comparison, without --quick, {added}. It costs {cost}."
