"""Progress on stderr: a bar with what matters on a terminal, a line now and then in a log file."""

from __future__ import annotations

import sys
import threading
import time
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

from genrec_bench.errors import told

SECONDS_BETWEEN_LINES = 60.0
"""How long a log file stays silent at most."""

FIRST_MOMENT = 0.5
"""Seconds in which is told what was done before, of which the speed is none."""

ROUNDING = 1e-6
"""A figure nearer to 0 is what rounding left of a sum, as of the rewards of a group that cancel."""

NARROW, WIDE = 60, 100
"""Columns of a terminal from which bars have figures and the time so far, and numbers of pieces."""


class Steps(Protocol):
    """Is told how far a piece of work has come."""

    def advance(self, amount: float) -> None:
        """Take in how much more is done."""

    def update(self, done: float, **figures: float) -> None:
        """Take in how much is done in all, and the figures of now; `step` counts steps."""

    def tell(self) -> None:
        """Have a log file say where the work is, as there is news such as a look."""


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

    def tell(self) -> None:
        """Say nothing: the bar is seen."""


class Log:
    """Lines on one piece of work, for who reads a log file: each minute, and where there is news.

    A thread writes them, as a single step may take longer than that.
    """

    def __init__(self, progress: Progress, title: str, total: float) -> None:
        """Begin; ``total`` is 0 where nobody knows it."""
        self._progress, self._title, self._total = progress, title, total
        self._began = self._moved = self._said = time.monotonic()
        self._done, self._figures = 0.0, dict[str, float]()
        self._first = self._began, 0.0, 0.0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._tell_regularly, daemon=True)
        self._thread.start()

    def advance(self, amount: float) -> None:
        """Take in how much more is done."""
        self.update(self._done + amount, **self._figures)

    def update(self, done: float, **figures: float) -> None:
        """Take in how much is done in all, and the figures of now."""
        self._done, self._figures, self._moved = done, figures, time.monotonic()
        if self._moved - self._began < FIRST_MOMENT:
            self._first = self._moved, done, figures.get("step", 0.0)

    def tell(self) -> None:
        """Write a line."""
        self._said = time.monotonic()
        self._progress.say(f"{self._title}: {', '.join(self._parts(self._said))}")

    def end(self) -> None:
        """Write no more."""
        self._over.set()
        self._thread.join()

    def _parts(self, now: float) -> Iterator[str]:
        yield f"{self._done / self._total:.0%}" if self._total else f"{self._done:,.0f}"
        if "step" in self._figures:
            yield f"step {self._figures['step']:,.0f}"
        yield from (
            f"{name} {_short(value)}"
            for name, value in self._figures.items()
            if name not in ("step", "spent")
        )
        since, done, step = self._first
        took = max(self._moved - since, 1e-9)
        moved, steps = self._done - done, self._figures.get("step", 0.0) - step
        # A share has no speed that says something; the steps that it took have.
        if pieces := steps if "step" in self._figures else moved if self._total > 1 else 0.0:
            speed = pieces / took
            yield f"{speed:.3g}/s" if speed >= 1 else f"{1 / speed:.3g} s each"
        yield f"{duration(now - self._began)} so far"
        if moved > 0 and self._total > self._done:
            left = (self._total - self._done) / moved * took - (now - self._moved)
            yield f"about {duration(max(left, 0.0))} left"
        if now - self._moved >= SECONDS_BETWEEN_LINES:
            yield f"nothing new for {duration(now - self._moved)}"

    def _tell_regularly(self) -> None:
        while True:
            left = self._said + SECONDS_BETWEEN_LINES - time.monotonic()
            if self._over.wait(max(left, 0.0)):
                return
            if time.monotonic() >= self._said + SECONDS_BETWEEN_LINES:
                self.tell()


def shown_figures(figures: Mapping[str, float]) -> str:
    """Write the figures that stand behind a bar."""
    return "  ".join(f"{name} {_short(value)}" for name, value in figures.items() if name != "step")


def _short(value: float) -> str:
    """A figure in four digits; what rounding leaves of a sum that is 0 is written as 0."""
    return "0" if abs(value) < ROUNDING else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Write a time for people: seconds below two minutes, hours above two hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


class Bars:
    """A bar for all jobs, and below it one for whatever each process is at."""

    def __init__(self, jobs: Steps, shown: RichProgress | None = None) -> None:
        """Show the work, or leave it to the processes' own lines if `shown` is None."""
        self._jobs, self._shown = jobs, shown
        self._lines: dict[int, TaskID] = {}

    @property
    def shown(self) -> bool:
        """Whether anybody sees bars."""
        return self._shown is not None

    def advance(self) -> None:
        """Tell that a job has ended."""
        self._jobs.advance(1)
        self._jobs.tell()

    def begin(self, worker: int, title: str, total: float) -> None:
        """Tell what a process begins; it has a line of its own."""
        if self._shown is not None:
            self.end(worker)
            title = f"{worker}: {title}"
            self._lines[worker] = self._shown.add_task(title, total=total or None, figures="")

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
    """Where a run reports to the person who waits for it.

    Attributes:
        quiet: whether nothing is said.
        logged: whether a log file is told of long work now and then.
    """

    def __init__(self, *, quiet: bool = False, logged: bool = True, label: str = "") -> None:
        """Write to stderr, unless told to be quiet; ``label`` begins all lines."""
        # A display moves the cursor by its own commands.
        self._console = Console(file=getattr(sys.stderr, "untold", sys.stderr))
        self.quiet, self.logged, self._label = quiet, logged, label
        self._bars = not quiet and sys.stderr.isatty()
        self._said: set[str] = set()

    def say(self, line: str) -> None:
        """Print one line."""
        if not self.quiet:
            # In one piece: threads that tell what processes say would else share lines.
            # Told here too: while bars are shown, the display writes it.
            sys.stderr.write(told(f"{self._label}{line}\n"))
            sys.stderr.flush()

    def say_once(self, line: str) -> None:
        """Print a line, unless it was printed before."""
        if line not in self._said:
            self._said.add(line)
            self.say(line)

    @contextmanager
    def bar(self, title: str, total: float) -> Iterator[Steps]:
        """Show a piece of work while it lasts; a `total` of 1 is for what is done in shares."""
        if self._bars:
            with self._shown(pieces=total > 1) as shown:
                yield Bar(shown, shown.add_task(title, total=total or None, figures=""))
        elif self.quiet or not self.logged or sys.stderr.isatty():
            yield Bar(None, TaskID(0))
        else:
            log = Log(self, title, total)
            try:
                yield log
            finally:
                log.end()

    @contextmanager
    def bars_of_jobs(self, title: str, total: int) -> Iterator[Bars]:
        """Show work that several processes do: one bar for all of it, and one for each of them.

        Meanwhile ``bar`` shows nothing on a terminal.
        """
        if not self._bars:
            with self.bar(title, total) as jobs:
                yield Bars(jobs)
            return
        with self._shown() as shown:
            self._bars = False
            try:
                yield Bars(Bar(shown, shown.add_task(title, total=total, figures="")), shown)
            finally:
                self._bars = True

    def _shown(self, *, pieces: bool = False) -> RichProgress:
        """Return a display; in a narrow terminal all but bar, share and time left make room."""
        width = self._console.width
        title = Column(no_wrap=True, overflow="ellipsis", max_width=max(6, width // 4))
        figures = Column(no_wrap=True, overflow="ellipsis", ratio=1)
        columns: list[ProgressColumn] = [
            TextColumn(
                "{task.description:>14}" if width >= NARROW else "{task.description}",
                table_column=title,
            ),
            BarColumn(bar_width=max(4, min(24, width // 4))),
            TaskProgressColumn(),
            TimeRemainingColumn(),
        ]
        if width >= NARROW:
            columns.insert(3, TimeElapsedColumn())
            columns.append(TextColumn("{task.fields[figures]}", table_column=figures))
        if width >= WIDE and pieces:
            columns.insert(2, MofNCompleteColumn())
        return RichProgress(*columns, console=self._console, transient=True, expand=width >= NARROW)
