"""The runs of `regime`: which there are, what they are configured as, and how they are made."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from genrec_bench.errors import UserError, nearest
from genrec_bench.policy.backbones import find_backbone
from genrec_bench.runs.jobs import Context, Job, configure, do, split_words, start_policy
from genrec_bench.runs.registry import find
from genrec_bench.studies.analyses import check_free
from genrec_bench.studies.analyses._regime_options import USUAL, Words, variant_name
from genrec_bench.studies.attempts import Failure, attempt
from genrec_bench.studies.comparison.plan import control_row
from genrec_bench.studies.parallel import Lost, carry_out
from genrec_bench.studies.worker import Task
from genrec_bench.training.budgets import SFTMultiple
from genrec_bench.training.settings import SETTING_NAMES, Settings
from genrec_bench.training.sft_start import SFTStart, evaluate_start, sft_start, steps_taken
from genrec_bench.training.sft_training import sequences_of_epoch

CONTROL = "sft"
"""The control's algorithm."""

UNENDED = 10_000
"""Validations without gain that end the SFT of a stop: more than there are."""


@dataclass(frozen=True)
class Cell:
    """Runs that differ by their seeds alone.

    Attributes:
        stop: share of the whole SFT.
        times: the budget as a multiple of the whole SFT's cost.
        variant: words of ``--set``, for the algorithm as it is none; None for the control.
    """

    stop: float
    times: float
    variant: Words | None


@dataclass(frozen=True)
class Grid:
    """What was asked for.

    Attributes:
        algorithm: a name, or the path of a Python file.
        stops: ascending.
        budgets: ascending.
        variants: the panels of the map.
        seeds: of each cell.
        words: of ``--set``, for all runs that know them.
        control: what the control's runs are called.
    """

    algorithm: str
    stops: tuple[float, ...]
    budgets: tuple[float, ...]
    variants: tuple[Words, ...]
    seeds: tuple[int, ...]
    words: Mapping[str, str]
    control: str

    @property
    def cells(self) -> tuple[Cell, ...]:
        """All cells, those with long runs first: short ones fill up what processes have left."""
        return tuple(
            Cell(stop, times, variant)
            for times in reversed(self.budgets)
            for stop in self.stops
            for variant in (None, *self.variants)
        )

    @property
    def price(self) -> float:
        """Of all runs, as a multiple of the whole SFT's cost."""
        return len(self.seeds) * sum(cell.times for cell in self.cells)

    @property
    def whole(self) -> Job:
        """A run from the whole SFT start."""
        return Job("SFT", self.algorithm, words_of(self.words))

    def name(self, cell: Cell) -> str:
        """What to call a cell; no two have the same."""
        who = self.control if cell.variant is None else variant_name(cell.variant)
        return f"{who}, SFT x {cell.stop:g}, budget {cell.times:g}xsft"

    def job(self, cell: Cell, seed: int, whole: Whole) -> Job:
        """Return a cell's run on a seed."""
        words = dict(self.words)
        if cell.variant is None:
            known = {*_hyperparameters(CONTROL), *SETTING_NAMES}
            words = {key: text for key, text in words.items() if key in known}
        words |= whole.settings_at(cell.stop)
        return Job(
            self.name(cell),
            CONTROL if cell.variant is None else self.algorithm,
            words_of(words | split_words(cell.variant or ())),
            seed,
            self.control if cell.variant is None else "",
            budget=SFTMultiple(cell.times, f"{cell.times:g}xsft", "--budgets").exact(whole.flops),
        )


@dataclass(frozen=True)
class Whole:
    """The whole SFT start: what it cost without validation, and how many epochs it took."""

    flops: float
    epochs: float

    def settings_at(self, stop: float) -> dict[str, str]:
        """Return the settings of a start that costs a share of this one; none for all of it."""
        if stop == 1:
            return {}
        return {"sft_epochs": repr(stop * self.epochs), "sft_patience": str(UNENDED)}


def make_grid(
    algorithm: str,
    stops: Sequence[float],
    budgets: Sequence[float],
    variants: tuple[Words, ...] | None,
    seeds: tuple[int, ...],
    context: Context,
) -> Grid:
    """Return the grid that the options ask for.

    Args:
        variants: None for the usual ones, or for the algorithm as it is if it has no ``beta``.

    Raises:
        UserError: there is no such algorithm, words do not fit it, or ``--set`` chooses what the
            variants do.
    """
    bare, words = replace(context, assignments=()), split_words(context.assignments)
    known = _hyperparameters(algorithm)
    if variants is None:
        variants = USUAL if "beta" in known else ((),)
    chosen = {key for variant in variants for key in split_words(variant)}
    for key in sorted(chosen - known):
        raise UserError(
            f"--variants {key}: is no hyperparameter of {algorithm}{nearest(key, known)}"
        )
    check_free(context, *chosen)
    for variant in variants:
        configure(Job("", algorithm, (*words_of(words), *variant)), bare)
    return Grid(
        algorithm,
        tuple(sorted(stops)),
        tuple(sorted(budgets)),
        variants,
        seeds,
        words,
        control_row(CONTROL, bare).control,
    )


def words_of(texts: Mapping[str, str]) -> tuple[str, ...]:
    """Return words of ``--set``."""
    return tuple(f"{key}={text}" for key, text in texts.items())


def _hyperparameters(algorithm: str) -> set[str]:
    entry = find(algorithm, SETTING_NAMES)
    return {field.name for field in dataclasses.fields(entry.algorithm.hyperparameters_class)}


def whole_start(grid: Grid, context: Context) -> Whole:
    """Train the whole SFT start if it is not there, and say what it took."""
    start, settings = _start(grid.whole, context)
    if not start.cost.flops:
        raise UserError("SFT cost nothing here, so that it has no shares: set sft_epochs above 0")
    prompts = start_policy(context, grid.whole).prompt_format
    sequences = sequences_of_epoch(prompts, context.dataset, settings)
    taken = steps_taken(start) * settings.sft_batch / sequences
    # A last step goes a little beyond the epochs that were asked for.
    return Whole(start.cost.flops, min(settings.sft_epochs, taken))


def _start(job: Job, context: Context) -> tuple[SFTStart, Settings]:
    """Return a job's SFT start, trained and evaluated now if that is not in the cache."""
    settings = configure(job, context)[2]
    what = (find_backbone(context.backbone), context.dataset, settings)
    start = sft_start(*what, context.data_dir, context.workers, context.progress)
    evaluate_start(start, *what, context.workers, context.progress)
    return start, settings


def _prepare(job: Job, context: Context) -> None:
    _start(job, context)


def _make(job: Job, context: Context) -> Path | Failure:
    return attempt(partial(do, job, context), context)


def carried_out(
    jobs: Mapping[tuple[Cell, int], Job], context: Context
) -> dict[tuple[Cell, int], Path | Failure]:
    """Do the jobs, each after its SFT start; one that fails does not keep the others from it."""
    starts: dict[float, Task] = {}
    labels: dict[tuple[Cell, int], str] = {}
    tasks: list[Task] = []
    for number, (key, job) in enumerate(jobs.items(), start=1):
        stop = key[0].stop
        # Processes would otherwise wait for each other, with their devices, for one to train it.
        if stop not in starts:
            starts[stop] = Task(f"SFT x {stop:g}", partial(_prepare, job))
        labels[key] = f"{number}/{len(jobs)} {job.label}, seed {job.seed}"
        tasks.append(Task(labels[key], partial(_make, job), (starts[stop].label,)))
    tasks = [*starts.values(), *tasks]
    values: dict[str, object] = {}
    if context.crew.alone:
        for task in tasks:
            context.progress.say(task.label)
            values[task.label] = task.work(context)
    else:
        values = carry_out(tasks, context)
    found: dict[tuple[Cell, int], Path | Failure] = {}
    for key, label in labels.items():
        run = values[label]
        if isinstance(run, Lost):
            run = Failure(run.reason, broken=True)
        assert isinstance(run, Path | Failure)
        found[key] = run
    return found
