"""Processes of this machine that carry out jobs; threads and GPUs are shared out among them."""

from __future__ import annotations

import functools
import os
import pickle
import subprocess
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from typing import IO, Any

import torch

from genrec_bench.progress import Bars
from genrec_bench.runs.jobs import Context
from genrec_bench.studies.worker import START, Answer, Died, Task, packed
from genrec_bench.training.child_processes import THREADS, ending, python

DEVICES = "CUDA_VISIBLE_DEVICES"

SECONDS_TO_END = 30.0
"""How long processes have to close what is open, when they are not needed any more."""


@dataclass
class _Member:
    """One process."""

    number: int
    process: subprocess.Popen[str]
    line: Connection
    echo: threading.Thread
    task: Task | None = None


@dataclass
class Processes:
    """Processes that are started when they are first needed and do many jobs each.

    Used in a ``with`` statement, at the end of which they end; at its end by an exception they are
    told to stop at once.

    Attributes:
        count: of jobs at once.
        bars: shows what each process is at.
    """

    count: int
    context: Context
    bars: Bars
    _members: list[_Member] = field(default_factory=list)

    def __post_init__(self) -> None:
        # With budgets in seconds the number of threads is part of what is compared: this process
        # must look for the runs that the others make.
        self._threads = share_threads(self.context.crew.count)
        self._devices = visible_devices() if self.context.workers.device.type == "cuda" else []
        self._first = pickle.dumps((self.bars.shown, packed(self.context)))

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        for member in self._members:
            if kind is not None:
                member.process.terminate()
                continue
            try:
                member.line.send_bytes(b"")
            except OSError:
                # It has died without work; nothing is lost.
                continue
        for member in self._members:
            self._bury(member)

    @property
    def free(self) -> int:
        """How many more jobs there are hands for."""
        return self.count - sum(member.task is not None for member in self._members)

    def start(self, task: Task) -> None:
        """Give a job to a process, a new one if all are at work."""
        member = next((each for each in self._members if each.task is None), None)
        member = member or self._begin()
        member.task = task
        self.context.progress.say(f"[worker {member.number}] {task.label}")
        try:
            member.line.send_bytes(pickle.dumps(task.work))
        except OSError:
            # It is dead, which `wait` will find.
            return

    def wait(self) -> tuple[Task, Answer | Died]:
        """Wait until a job ends, or its process does; show meanwhile what all are at."""
        while True:
            lines = {member.line: member for member in self._members}
            for line in wait(list(lines)):
                assert isinstance(line, Connection)
                member = lines[line]
                try:
                    news = line.recv()
                except (EOFError, OSError):
                    self._members.remove(member)
                    code, task = self._bury(member), member.task
                    if task is not None:
                        return task, Died(f"worker {member.number} {ending(code)}")
                    continue
                task = member.task
                if news[0] == "answer" and task is not None:
                    member.task = None
                    return task, news[1]
                self._show(member.number, news)

    def _show(self, number: int, news: tuple[Any, ...]) -> None:
        match news:
            case ("begin", title, total):
                self.bars.begin(number, title, total)
            case ("update", done, figures):
                self.bars.update(number, done, figures)
            case _:
                self.bars.end(number)

    def _begin(self) -> _Member:
        """Start a process."""
        taken = {member.number for member in self._members}
        number = next(n for n in range(1, self.count + 1) if n not in taken)
        environment = dict(os.environ)
        environment[THREADS] = str(self._threads)
        if self._devices:
            environment[DEVICES] = self._devices[(number - 1) % len(self._devices)]
        ours, theirs = Pipe()
        process = subprocess.Popen(
            [*python(environment), "-c", START, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            text=True,
            errors="replace",
            env=environment,
        )
        # Held here too, it would not break when the process dies.
        theirs.close()
        assert process.stderr is not None
        echo = threading.Thread(
            target=repeat, args=(number, process.stderr, self.context.progress.say), daemon=True
        )
        echo.start()
        member = _Member(number, process, ours, echo)
        self._members.append(member)
        try:
            ours.send_bytes(self._first)
        except OSError:
            return member
        return member

    def _bury(self, member: _Member) -> int:
        """Wait for a process that is to end, and return its exit code."""
        self.bars.end(member.number)
        try:
            code = member.process.wait(timeout=SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            member.process.kill()
            code = member.process.wait()
        member.line.close()
        member.echo.join(timeout=SECONDS_TO_END)
        if member.process.stderr is not None:
            member.process.stderr.close()
        return code


@functools.cache
def _all_threads() -> int:
    return torch.get_num_threads()


def share_threads(count: int) -> int:
    """Set and return the number of threads for each of some processes on this machine.

    ``OMP_NUM_THREADS`` in the environment says what it is for each.
    """
    threads = max(1, _all_threads() // count)
    if THREADS in os.environ:
        threads = torch.get_num_threads()
    torch.set_num_threads(threads)
    return threads


def visible_devices() -> list[str]:
    """Return the GPUs that this process may use, as ``CUDA_VISIBLE_DEVICES`` names them."""
    named = os.environ.get(DEVICES)
    if named is None:
        return [str(index) for index in range(torch.cuda.device_count())]
    return [name.strip() for name in named.split(",") if name.strip()]


def repeat(number: int, lines: IO[str], say: Callable[[str], None]) -> None:
    """Print the lines of a process under its number."""
    for line in lines:
        say(f"[worker {number}] {line.rstrip()}")
