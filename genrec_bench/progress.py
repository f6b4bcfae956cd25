"""Progress on stderr: a bar with what matters on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    ProgressColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress
from rich.table import Column


class Steps(Protocol):
    """Is told how far a piece of work has come."""

    def advance(self, amount: float) -> None:
        """Take in how much more is done."""

    def update(self, done: float, **figures: float) -> None:
        """Take in how much is done in all, and the figures of now."""


class Bar:
    """A bar for one piece of work."""

    def __init__(self, shown: RichProgress | None, task: TaskID) -> None:
        """Show the work, or nothing if `shown` is None."""
        self._shown = shown
        self._task = task

    def advance(self, amount: float) -> None:
        """Tell how much more is done."""
        if self._shown is not None:
            self._shown.advance(self._task, amount)

    def update(self, done: float, **figures: float) -> None:
        """Tell how much is done in all, and the figures of now."""
        if self._shown is not None:
            self._shown.update(self._task, completed=done, figures=shown_figures(figures))


def shown_figures(figures: Mapping[str, float]) -> str:
    """Write the figures that stand behind a bar."""
    return "  ".join(f"{name} {value:.4g}" for name, value in figures.items())


class Bars:
    """A bar for all jobs, and below it one for whatever each process is at."""

    def __init__(self, shown: RichProgress | None, jobs: TaskID) -> None:
        """Show the work, or nothing if `shown` is None."""
        self._shown, self._jobs = shown, jobs
        self._lines: dict[int, TaskID] = {}

    @property
    def shown(self) -> bool:
        """Whether anybody sees them."""
        return self._shown is not None

    def advance(self) -> None:
        """Tell that a job has ended."""
        if self._shown is not None:
            self._shown.advance(self._jobs, 1)

    def begin(self, worker: int, title: str, total: float) -> None:
        """Tell what a process begins; it has a line of its own."""
        if self._shown is not None:
            self.end(worker)
            title = f"{worker}: {title}"
            self._lines[worker] = self._shown.add_task(title, total=total, figures="")

    def update(self, worker: int, done: float, figures: Mapping[str, float]) -> None:
        """Tell how far a process has come with it."""
        if self._shown is not None and worker in self._lines:
            text = shown_figures(figures)
            self._shown.update(self._lines[worker], completed=done, figures=text)

    def end(self, worker: int) -> None:
        """Tell that a process is through with it."""
        if self._shown is not None and worker in self._lines:
            self._shown.remove_task(self._lines.pop(worker))


class Progress:
    """Where a run reports to the person who waits for it."""

    def __init__(self, *, quiet: bool = False) -> None:
        """Write to stderr, unless told to be quiet."""
        self._console = Console(stderr=True)
        self._quiet = quiet
        self._bars = not quiet and sys.stderr.isatty()

    def say(self, line: str) -> None:
        """Print one line."""
        if not self._quiet:
            print(line, file=sys.stderr, flush=True)

    @contextmanager
    def bar(self, title: str, total: float) -> Iterator[Steps]:
        """Show a piece of work while it lasts; a `total` of 1 is for what is done in shares."""
        if not self._bars:
            yield Bar(None, TaskID(0))
            return
        # A share of a budget has no number to count to.
        with self._shown(TaskProgressColumn() if total <= 1 else MofNCompleteColumn()) as shown:
            yield Bar(shown, shown.add_task(title, total=total, figures=""))

    @contextmanager
    def bars_of_jobs(self, title: str, total: int) -> Iterator[Bars]:
        """Show work that several processes do: one bar for all of it, and one for each of them.

        Meanwhile ``bar`` shows nothing.
        """
        if not self._bars:
            yield Bars(None, TaskID(0))
            return
        with self._shown(TaskProgressColumn()) as shown:
            self._bars = False
            try:
                yield Bars(shown, shown.add_task(title, total=total, figures=""))
            finally:
                self._bars = True

    def _shown(self, amount: ProgressColumn) -> RichProgress:
        columns = (
            TextColumn("{task.description:>14}", table_column=Column(no_wrap=True)),
            BarColumn(bar_width=24),
            amount,
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            # In a narrow terminal figures make room, and not the bars.
            TextColumn(
                "{task.fields[figures]}",
                table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1),
            ),
        )
        return RichProgress(*columns, console=self._console, transient=True, expand=True)
