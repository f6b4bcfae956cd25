"""Runs as parts of a larger piece of work: an ablation, an analysis, or a single ``run``.

A ``Job`` is one run as the command line would name it; a ``Context`` is what all jobs of a piece of
work share. A finished equal run is found again and one that was cut short goes on, so a piece of
work can be stopped at any time and given again. What is slow to import is imported when needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec_bench.errors import UserError, nearest
from genrec_bench.progress import Progress
from genrec_bench.runs.run_tracker import NullTracker
from genrec_bench.training.budgets import AnyBudget, Budget, SFTMultiple

if TYPE_CHECKING:
    from genrec_bench.data.dataset import Dataset
    from genrec_bench.policy.policy import Policy
    from genrec_bench.runs.preset_files import Preset
    from genrec_bench.runs.registry import Entry
    from genrec_bench.runs.request import Request
    from genrec_bench.training.base_algorithm import Algorithm
    from genrec_bench.training.hyperparameters import Value
    from genrec_bench.training.settings import Settings
    from genrec_bench.training.workers import Workers


@dataclass(frozen=True)
class Job:
    """One run, in the words of the command line.

    Attributes:
        label: what to call it when telling of it.
        algorithm: a name, or the path of a Python file.
        assignments: words of ``--set``: hyperparameters and settings, ``key=value``.
        control: what it is a control for, in words; empty if it is none.
        tuning: what was spent to find its hyperparameters, for the record; see ``Request``.
        budget: of its training, in place of the context's; None for that one.
    """

    label: str
    algorithm: str
    assignments: tuple[str, ...] = ()
    seed: int = 0
    control: str = ""
    tuning: Mapping[str, Any] | None = None
    budget: AnyBudget | None = None


@dataclass(frozen=True)
class Crew:
    """The processes that carry out independent jobs.

    Attributes:
        count: how many jobs at once; 0 for as many as a cluster has room for.
        cluster: address of a Ray cluster, ``ray`` for the one that this machine is part of; empty
            for processes of this machine.
    """

    count: int = 1
    cluster: str = ""

    @property
    def alone(self) -> bool:
        """Whether all is done in this process, one job after the other."""
        return self.count == 1 and not self.cluster

    def check(self, budget: AnyBudget | None) -> None:
        """Make sure that what is done elsewhere can be found here.

        Raises:
            UserError: on a cluster and a budget in seconds, which belongs to one machine.
        """
        if self.cluster and budget is not None and budget.kind == "seconds":
            raise UserError(
                f"--on {self.cluster}: a budget in seconds is worth what the machine makes of it; "
                "give FLOPs, tokens, or a multiple of SFT's cost"
            )


@dataclass(frozen=True, eq=False)
class Context:
    """What all jobs of a piece of work share.

    Attributes:
        backbone: name, path or hub name.
        budget: of the training of each job that has none of its own, or None for the number of
            steps of the settings.
        assignments: words of ``--set`` for every job; a job's own word for the same key wins.
        data_dir: holds the cache of SFT starts.
        tracker: is told of all folders, by the main process.
        crew: who carries out jobs that are independent of each other.
        preset: a paper's settings, for what no word says.
        command: the words that asked for it, for records; see `told_words`.
    """

    dataset: Dataset
    backbone: str
    budget: AnyBudget | None
    assignments: tuple[str, ...]
    data_dir: Path
    output: Path
    workers: Workers
    progress: Progress
    tracker: NullTracker
    crew: Crew = Crew()
    command: tuple[str, ...] = ()
    preset: Preset | None = None


def split_words(assignments: Sequence[str]) -> dict[str, str]:
    """Read ``key=value`` words.

    Raises:
        UserError: on a word that is none, or a key that is given twice.
    """
    texts: dict[str, str] = {}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: must be key=value, in one word")
        if name in texts:
            raise UserError(f"--set {name}: given twice")
        texts[name] = text
    return texts


def words_of(values: Mapping[str, Value]) -> tuple[str, ...]:
    """Return words of ``--set`` for values by name."""
    return tuple(f"{name}={_word(value)}" for name, value in values.items())


def _word(value: Value) -> str:
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def configure(job: Job, context: Context) -> tuple[Entry, Algorithm, Settings]:
    """Find a job's algorithm, and sort the words into its hyperparameters and the settings.

    Raises:
        UserError: on an algorithm that cannot be used, a word that names neither, or choices that
            exclude each other.
    """
    return configured(job, context.assignments, context.preset)


_OPTIONS = ("backbone", "budget", "data-dir", "dataset", "output", "preset", "seed", "seeds")
"""What is said by an option of its own, and is looked for among the settings."""

_FORMER = {"dtype": "set precision=fp32, bf16-mixed, or bf16 for weights that are not trained"}
"""Settings of earlier versions, and what is asked for in their place."""


def configured(
    job: Job, assignments: Sequence[str], preset: Preset | None = None
) -> tuple[Entry, Algorithm, Settings]:
    """Do as `configure`, for a job among others that share words of ``--set``; reads no data."""
    from genrec_bench.runs.preset_files import LENGTHS
    from genrec_bench.runs.refusals import check_choices
    from genrec_bench.runs.registry import find
    from genrec_bench.storage.python_files import guarded
    from genrec_bench.training.hyperparameters import from_words
    from genrec_bench.training.settings import SETTING_NAMES, Settings

    entry = find(job.algorithm, SETTING_NAMES)
    hyperparameters_class = entry.algorithm.hyperparameters_class
    names = [field.name for field in dataclasses.fields(hyperparameters_class)]
    texts = split_words(assignments) | split_words(job.assignments)
    for name in texts:
        if name not in names and name not in SETTING_NAMES:
            option = name.replace("_", "-")
            hint = nearest(name, [*names, *SETTING_NAMES])
            hint = f"; it is an option: --{option}" if option in _OPTIONS else hint
            hint = f"; {_FORMER[name]}" if name in _FORMER else hint
            raise UserError(
                f"--set {name}: neither a hyperparameter of {entry.name} nor a setting{hint}"
            )
    if all(name in texts for name in LENGTHS):
        raise UserError(f"--set {' '.join(f'{name}={texts[name]}' for name in LENGTHS)}: give one")
    if preset is not None:
        preset.check(entry.name, names)
        texts = preset.words(entry.name, texts) | texts
    hyperparameters = from_words(hyperparameters_class, {k: texts[k] for k in texts if k in names})
    settings = from_words(Settings, {k: texts[k] for k in texts if k not in names})
    algorithm = guarded(lambda: entry.algorithm(hyperparameters), f"{entry.name}: ", None)
    check_choices(entry.name, algorithm, settings)
    return entry, algorithm, settings


def request_of(job: Job, context: Context) -> Request:
    """Return a job's request, with all checks that need no training.

    Raises:
        UserError: as ``configure``; and if a step is too small for the processes, a split is
            empty, the backbone cannot be had, or a folder cannot be written.
    """
    from genrec_bench.data.vectors.embeddings import check_reward_source, resolve_source
    from genrec_bench.policy.backbone_files import check_backbone
    from genrec_bench.runs.foresight import foresee
    from genrec_bench.runs.request import Request, feedback_of
    from genrec_bench.training.own_metrics import load_metrics
    from genrec_bench.training.sft_tasks import check_words

    entry, algorithm, settings = configure(job, context)
    check_backbone(context.backbone, settings.prompt)
    check_words(context.dataset, context.backbone, settings)
    feedback_of(settings, context.dataset)
    if algorithm.uses_embeddings:
        check_reward_source(settings.embeddings, context.data_dir, context.dataset)
        resolve_source(context.dataset, settings.embeddings)
    if settings.prompts_per_step < context.workers.count:
        raise UserError(
            f"prompts_per_step={settings.prompts_per_step}: must be at least "
            f"{context.workers.count}, one for each process"
        )
    for split, examples in context.dataset.splits.items():
        if not len(examples):
            raise UserError(f"dataset {context.dataset.name}: its {split} split has no examples")
    try:
        context.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--output {context.output}: cannot be a folder: {reason}") from None
    budget = context.budget if job.budget is None else job.budget
    if budget is None:
        settings = settings.of_length(len(context.dataset.train))
    own = load_metrics(Path(settings.metrics)) if settings.metrics else None
    if own is not None:
        own.try_out(context.dataset, settings.beam_width)
    request = Request(
        entry=entry,
        algorithm=algorithm,
        dataset=context.dataset,
        backbone=context.backbone,
        settings=settings,
        budget=budget,
        seed=job.seed,
        data_dir=context.data_dir,
        output=context.output,
        control=job.control,
        tuning=job.tuning,
        own=own,
        command=context.command,
        preset=context.preset,
    )
    foresee(request, context.workers.device, context.progress)
    return request


def exact_budget(budget: AnyBudget, job: Job, context: Context) -> Budget:
    """Return a budget as what it comes to; for a multiple of SFT's cost the SFT start is trained.

    Args:
        job: its settings are those of the SFT start.

    Raises:
        UserError: as ``request_of``, and if the SFT start cost nothing.
    """
    if not isinstance(budget, SFTMultiple):
        return budget
    from genrec_bench.policy.backbones import find_backbone
    from genrec_bench.training.sft_start import sft_start

    settings = request_of(job, context).settings
    what = (find_backbone(context.backbone), context.dataset, settings)
    start = sft_start(*what, context.data_dir, context.workers, context.progress)
    return budget.exact(start.cost.flops)


def do(job: Job, context: Context, *, reuse: bool = True) -> Path:
    """Run a job, and return the path of its record.

    A run that was cut short goes on, and with ``reuse`` an equal run that is finished will do.
    Without, whoever has told of the record says so by `run_folder.saw`.

    Raises:
        UserError: as ``request_of`` and ``run.run``.
    """
    from genrec_bench.runs.run import run
    from genrec_bench.runs.run_folder import saw

    request = request_of(job, context)
    record = run(request, context.workers, context.progress, context.tracker, reuse=reuse)
    if reuse and context.workers.is_main:
        saw(record)  # Who asks so once more will find it.
    return record


def find_done(job: Job, context: Context, *, failed: bool = False) -> Path | None:
    """Return the record of an equal run that is finished, or None; see ``run.find_equal``.

    The SFT start is trained if there is none yet: what makes two runs equal includes its weights.

    Raises:
        UserError: as ``do``.
    """
    from genrec_bench.runs.run import find_equal
    from genrec_bench.runs.run_folder import saw

    request = request_of(job, context)
    found = find_equal(request, context.workers, context.progress, failed=failed)
    if found is not None and context.workers.is_main:
        context.tracker.settle(found.parent)
        saw(found)  # Whoever was killed before telling of it told it to this piece of work.
    return found


def load_policy(record: Path, job: Job, context: Context) -> tuple[Policy, Algorithm]:
    """Return the trained policy of a finished run, without a meter.

    Args:
        job: the run's; words that change inference alone may differ.

    Returns:
        The policy in evaluation mode, heads filled, and the algorithm as ``job`` configures it.

    Raises:
        UserError: if the saved policy is missing, damaged, or does not fit.
    """
    from genrec_bench.runs.policy_folder import FOLDER

    _, algorithm, settings = configure(job, context)
    folder = record.parent / FOLDER
    if not folder.is_dir():
        raise UserError(f"{folder}: is missing; delete {record.parent} to run it again")
    policy = _open_policy(folder, settings, context, algorithm)
    return policy, algorithm


def start_policy(context: Context, job: Job) -> Policy:
    """Return a job's SFT start, trained now if it is not in the cache.

    The policy is in evaluation mode and has no meter.
    """
    from genrec_bench.policy.backbones import find_backbone
    from genrec_bench.training.sft_start import sft_start

    settings = request_of(job, context).settings
    start = sft_start(
        find_backbone(context.backbone),
        context.dataset,
        settings,
        context.data_dir,
        context.workers,
        context.progress,
    )
    return _open_policy(start.folder / "policy", settings, context, None)


def _open_policy(
    folder: Path, settings: Settings, context: Context, algorithm: Algorithm | None
) -> Policy:
    import torch

    from genrec_bench.policy.backbones import find_backbone, make_policy
    from genrec_bench.runs.stored_adapters import fill_policy, weights_below
    from genrec_bench.training.memory import load_memory

    backbone = find_backbone(context.backbone)
    embeddings = None
    if algorithm is not None and algorithm.uses_embeddings:
        from genrec_bench.runs.post_training import device_embeddings

        embeddings = device_embeddings(context.dataset, settings, context.data_dir, context.workers)
    # Heads are drawn at random before they are loaded; the caller's random numbers stay the same.
    with torch.random.fork_rng(devices=[]):
        policy = make_policy(
            backbone,
            context.dataset,
            settings,
            context.workers.device,
            weights=weights_below(folder, context.data_dir),
            tokens=algorithm.tokens if algorithm else (),
            heads=algorithm.heads if algorithm else None,
            embeddings=embeddings,
        )
        fill_policy(policy, folder)
        if algorithm is not None:
            load_memory(algorithm, folder, context.workers.device)
    policy.eval()
    return policy
