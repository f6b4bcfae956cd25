"""Independent jobs of a study, carried out by several processes at once.

Whatever a job comes to lies in the folders of its runs, as when it is done in this process. So a
study has its jobs done here first, in any order, and then goes its own way from the beginning: it
finds all finished. What is interrupted goes on in the same manner.

A process that dies takes one job with it. Another takes that up, from its last checkpoint; a job
that several processes have died of is lost, and the study goes on without it. Who the processes
are is the matter of `processes` (this machine) and `ray_cluster`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from genrec_bench.errors import StorageError, UserError
from genrec_bench.runs.jobs import Context, Job, do
from genrec_bench.studies.worker import Answer, Died, Task

MOST_DEATHS = 3
"""Of how many processes a job may be the end, until it is lost."""


@dataclass(frozen=True)
class Lost:
    """What became of a job that several processes died of; why."""

    reason: str


class JobsBroken(Exception):
    """A program failed in another process; the message is the traceback from there."""


class Engine(Protocol):
    """Processes that take jobs."""

    @property
    def free(self) -> int:
        """How many more jobs it takes now."""

    def start(self, task: Task) -> None:
        """Have a process begin a job."""

    def wait(self) -> tuple[Task, Answer | Died]:
        """Wait until a job ends or its process does; there must be one."""


def carry_out(
    tasks: Sequence[Task],
    context: Context,
    ended: Callable[[str, Any], None] = lambda label, value: None,
) -> dict[str, Any]:
    """Have the context's crew do jobs, each after those that it waits for.

    Args:
        tasks: in the order in which they are begun, as far as they need not wait; each comes after
            those that it waits for.
        ended: is told the label of each job that has ended, and its value, in this process.

    Returns:
        By label what each job returned, or `Lost`, as are those that wait for one that is lost.

    Raises:
        UserError: a job raised it, or a StorageError; the other jobs are stopped.
        JobsBroken: the same for whatever else a job raised.
    """
    values: dict[str, Any] = {}
    deaths = dict.fromkeys((task.label for task in tasks), 0)
    if not tasks:
        return values
    waiting, running = list(tasks), 0
    progress = context.progress
    with engine_of(context, len(tasks)) as (engine, advance):
        news: list[str] = []
        while True:
            ready = [task for task in waiting if all(label in values for label in task.after)]
            for task in ready[: engine.free]:
                waiting.remove(task)
                engine.start(task)
                running += 1
            # Those who wait for work come first.
            for label in news:
                ended(label, values[label])
                advance()
            if not running:
                assert not waiting, f"{waiting[0].label} waits for what never comes"
                return values
            news = []
            task, came = engine.wait()
            running -= 1
            if isinstance(came, Answer):
                values[task.label] = value_of(came)
                news = [task.label]
                continue
            deaths[task.label] += 1
            if deaths[task.label] < MOST_DEATHS:
                progress.say(f"{task.label}: {came.reason}; another process goes on with it")
                waiting.insert(0, task)
                continue
            reason = f"{MOST_DEATHS} processes died of it, the last one: {came.reason}"
            progress.say(f"failed: {task.label}: {reason}")
            news = _lose(task, waiting)
            values |= dict.fromkeys(news, Lost(reason))


def _lose(task: Task, waiting: list[Task]) -> list[str]:
    """Take the jobs that wait for a lost one away; return the labels of all that are lost."""
    lost = [task.label]
    for other in tuple(waiting):
        if not set(lost).isdisjoint(other.after):
            waiting.remove(other)
            lost.append(other.label)
    return lost


def value_of(came: Answer) -> Any:
    """Return what a job returned, or raise what it raised."""
    if came.kind == "done":
        return came.value
    if came.kind == "broken":
        raise JobsBroken(f"in another process:\n{came.value}")
    raise {"storage": StorageError, "user": UserError}[came.kind](came.value)


def do_all(jobs: Sequence[Job], context: Context) -> list[Path]:
    """Run jobs, or find equal runs that are finished; return the paths of their records.

    Raises:
        UserError: as ``jobs.do``, and if processes died of a run.
    """
    if context.crew.alone:
        return [do(job, context) for job in jobs]
    labels = [f"{number}/{len(jobs)} {job.label}" for number, job in enumerate(jobs, start=1)]
    labels = [f"{label}, seed {job.seed}" for label, job in zip(labels, jobs, strict=True)]
    pairs = zip(labels, jobs, strict=True)
    values = carry_out([Task(label, partial(do, job)) for label, job in pairs], context)
    for label in labels:
        if isinstance(values[label], Lost):
            raise UserError(f"{label}: {values[label].reason}")
    return [values[label] for label in labels]


@contextlib.contextmanager
def engine_of(context: Context, jobs: int) -> Iterator[tuple[Engine, Callable[[], None]]]:
    """Start the context's crew; yields it, and what is to be told when a job has ended."""
    crew = context.crew
    with context.progress.bars_of_jobs("jobs", jobs) as bars, contextlib.ExitStack() as stack:
        engine: Engine
        if crew.cluster:
            from genrec_bench.studies.ray_cluster import RayCluster

            engine = stack.enter_context(RayCluster(crew, context))
        else:
            from genrec_bench.studies.processes import Processes

            engine = stack.enter_context(Processes(min(crew.count, jobs), context, bars))
        yield engine, bars.advance
