"""An ablation carried out: every row's runs, seed by seed, and the figures that come of them.

A run that fails is named in its row, and the others go on. What is finished stays finished: the
same ablation again trains and evaluates only what is missing.
"""

from __future__ import annotations

import dataclasses
import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from genrec_bench.errors import UserError, nearest
from genrec_bench.runs.evaluate_again import Metrics, evaluate_again, with_words
from genrec_bench.runs.jobs import Context, Job, do, find_done, request_of, split_words
from genrec_bench.runs.records import read_record
from genrec_bench.studies.ablations.ablation_file import Ablation, AblationRow, AblationTable
from genrec_bench.studies.attempts import Failure, attempt
from genrec_bench.studies.parallel import Lost, carry_out
from genrec_bench.studies.worker import Task

SPLIT = "test"
"""The split that tables show."""


@dataclass(frozen=True)
class RowFigures:
    """What a row came to.

    Attributes:
        means: by metric's name, over the runs; empty where there is none.
        deviations: by metric's name, sample standard deviation over the runs; empty for less than
            two, and for the SFT start, which is one for all seeds.
        runs: name of each seed's run.
        failures: what went wrong, by seed.
    """

    row: AblationRow
    means: Metrics
    deviations: Metrics
    runs: Mapping[int, str]
    failures: Mapping[int, Failure]


AblationResult = tuple[tuple[AblationTable, tuple[RowFigures, ...]], ...]
"""Each table with the figures of its rows."""


def ablate(ablation: Ablation, seeds: Sequence[int], context: Context) -> AblationResult:
    """Make or find all runs of an ablation, and evaluate their policies as the rows ask for.

    Raises:
        UserError: before the first run if words do not fit, in the file or in the context; after it
            if the file names a metric that records do not have.
    """
    say = context.progress.say
    rows = [row for table in ablation.tables for row in table.rows if not row.sft]
    _check_words(rows, context)
    jobs: dict[str, Job] = {}
    for seed in seeds:
        for row in rows:
            job = _job(ablation, row, seed)
            jobs.setdefault(_identity(job, context), job)
            _identity(with_words(job, row.evaluate), context)
    say(f"runs in all: {len(jobs)}; looking for those that are finished")
    say(f"finished already: {sum(find_done(job, context) is not None for job in jobs.values())}")

    made = _made_by_crew(ablation, seeds, jobs, context)
    runs: dict[str, Path | Failure] = {}
    for number, (identity, job) in enumerate(jobs.items(), start=1):
        say(f"[{number}/{len(jobs)}] {job.label}, seed {job.seed}")
        known = made.get(identity)
        run = attempt(partial(do, job, context), context) if known is None else known
        runs[identity] = run
        _check_metrics(ablation, run)

    tables = []
    for table in ablation.tables:
        figures = {}
        for row in table.rows:
            if not row.sft:
                jobs_of_row = (_job(ablation, row, seed) for seed in seeds)
                tried = [(job, runs[_identity(job, context)]) for job in jobs_of_row]
                figures[row.label] = _trained(table, row, tried, context)
        names = [name for found in figures.values() for name in found.runs.values()]
        for row in table.rows:
            if row.sft:
                # Every run's record has the SFT start; without a run nothing is known of it.
                start: Metrics = {}
                if names:
                    record = read_record(context.output / context.dataset.name / names[0])
                    start = _columns(table, record["sft"][SPLIT])
                figures[row.label] = RowFigures(row, start, {}, {}, {})
        tables.append((table, tuple(figures[row.label] for row in table.rows)))
    return tuple(tables)


def _made_by_crew(
    ablation: Ablation, seeds: Sequence[int], jobs: Mapping[str, Job], context: Context
) -> dict[str, Path | Failure]:
    """Have several processes make the runs, and evaluate them as the rows ask for.

    Returns:
        By identity what became of each run; nothing if there is but this process.
    """
    if context.crew.alone:
        return {}
    labels = {
        identity: f"{job.label}, seed {job.seed} ({number} of {len(jobs)})"
        for number, (identity, job) in enumerate(jobs.items(), start=1)
    }
    asked: dict[str, list[tuple[str, ...]]] = {identity: [] for identity in jobs}
    for table in ablation.tables:
        for row, seed in ((row, seed) for row in table.rows if not row.sft for seed in seeds):
            job = _job(ablation, row, seed)
            identity = _identity(job, context)
            if _identity(with_words(job, row.evaluate), context) != identity:
                asked[identity].append(row.evaluate)
    identities = {label: identity for identity, label in labels.items()}
    tasks = [
        Task(labels[identity], partial(_make, job, asked[identity]))
        for identity, job in jobs.items()
        if asked[identity] or find_done(job, context) is None
    ]
    values = carry_out(tasks, context, lambda _, run: _check_metrics(ablation, run))
    return {
        identities[label]: Failure(run.reason, broken=True) if isinstance(run, Lost) else run
        for label, run in values.items()
    }


def _make(job: Job, asked: Sequence[Sequence[str]], context: Context) -> Path | Failure:
    """Make a run, and evaluate its policy with each of several words; both are found again."""
    run = attempt(partial(do, job, context), context)
    if isinstance(run, Path):
        for words in asked:
            attempt(partial(evaluate_again, run, job, words, SPLIT, context), context)
    return run


def _check_metrics(ablation: Ablation, run: object) -> None:
    """Refuse a misspelt metric as soon as there is a run: it should not wait for the others."""
    if isinstance(run, Path):
        for table in ablation.tables:
            _columns(table, read_record(run)["metrics"][SPLIT])


def _check_words(rows: Sequence[AblationRow], context: Context) -> None:
    """Refuse words for all rows that would be replaced in some."""
    theirs = {word.partition("=")[0] for row in rows for word in (*row.set, *row.evaluate)}
    for key in split_words(context.assignments):
        if key in theirs:
            raise UserError(f"--set {key}: the ablation's rows set it themselves; leave it out")


def _job(ablation: Ablation, row: AblationRow, seed: int) -> Job:
    return Job(row.label, row.algorithm or ablation.algorithm, row.set, seed)


def _identity(job: Job, context: Context) -> str:
    """Return what is equal for two jobs if they are the same run."""
    request = request_of(job, context)
    what = [
        request.entry.origin,
        dataclasses.asdict(request.algorithm.hyperparameters),
        request.settings.resolved(),
        request.seed,
    ]
    return json.dumps(what, sort_keys=True)


def _trained(
    table: AblationTable,
    row: AblationRow,
    tried: Sequence[tuple[Job, Path | Failure]],
    context: Context,
) -> RowFigures:
    """Return the figures of a row whose seeds' runs ended, or did not."""
    columns: list[Metrics] = []
    runs: dict[int, str] = {}
    failures: dict[int, Failure] = {}
    for job, run in tried:
        found: Metrics | Failure
        if isinstance(run, Failure):
            found = run
        else:
            found = attempt(partial(_evaluated, table, row, job, run, context), context)
            runs |= {} if isinstance(found, Failure) else {job.seed: run.parent.name}
        if isinstance(found, Failure):
            failures[job.seed] = found
        else:
            columns.append(found)
    names = [metric.name for metric in table.metrics] if columns else []
    by_name = {name: [found[name] for found in columns] for name in names}
    return RowFigures(
        row,
        {name: statistics.fmean(values) for name, values in by_name.items()},
        {name: statistics.stdev(values) for name, values in by_name.items() if len(values) > 1},
        runs,
        failures,
    )


def _evaluated(
    table: AblationTable, row: AblationRow, job: Job, record: Path, context: Context
) -> Metrics:
    """Return the columns of one run, evaluated as the row asks for."""
    if _identity(with_words(job, row.evaluate), context) == _identity(job, context):
        return _columns(table, read_record(record)["metrics"][SPLIT])
    return _columns(table, evaluate_again(record, job, row.evaluate, SPLIT, context))


def _columns(table: AblationTable, metrics: Metrics) -> Metrics:
    """Return a table's columns by name.

    Raises:
        UserError: a metric is not there.
    """
    for metric in table.metrics:
        for key in metric.mean:
            if key not in metrics:
                raise UserError(
                    f"table {table.name}: there is no metric {key!r} in the records"
                    f"{nearest(key, metrics)}"
                )
    return {m.name: statistics.fmean(metrics[key] for key in m.mean) for m in table.metrics}
