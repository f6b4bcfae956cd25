"""Progress on stderr: a bar with what matters on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as RichProgress


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
            text = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
            self._shown.update(self._task, completed=done, figures=text)


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
    def bar(self, title: str, total: float) -> Iterator[Bar]:
        """Show a piece of work while it lasts; a `total` of 1 is for what is done in shares."""
        if not self._bars:
            yield Bar(None, TaskID(0))
            return
        columns = (
            TextColumn("{task.description:>14}"),
            BarColumn(bar_width=24),
            # A share of a budget has no number to count to.
            TaskProgressColumn() if total <= 1 else MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
        )
        with RichProgress(*columns, console=self._console, transient=True) as shown:
            yield Bar(shown, shown.add_task(title, total=total, figures=""))
