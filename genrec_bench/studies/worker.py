"""A process that carries out jobs for another one: what it is sent, and how it answers.

`START` is the program of such a process; its argument is the descriptor of a connection. What is
slow to import is imported once, and many jobs are then done. The process that started it may be
gone at any moment: the connection then breaks, and this process ends too. Processes on a cluster
use the same functions, and no connection.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import pickle
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Literal

from genrec_bench.errors import StorageError, UserError
from genrec_bench.progress import Progress, Steps
from genrec_bench.storage.python_files import foreign_ends

if TYPE_CHECKING:
    from genrec_bench.runs.jobs import Context

START = "import sys; from genrec_bench.studies.worker import main; sys.exit(main())"

OWN = ("workers", "progress", "crew")
"""What a process does not take over of a context: it has its own."""

BETWEEN_SIGNS = 0.2
"""Seconds between two messages on how far a job has come."""

SECONDS_TO_END = 10.0
"""How long a process that was left alone may take to close what is open."""

Tell = Callable[[tuple[Any, ...]], None]


@dataclass(frozen=True)
class Task:
    """A job for any process.

    Attributes:
        label: what to call it when telling of it; no two have the same.
        work: does it, with a context of the process's own. It must be known by its name there: a
            function of a module, a `partial` of one, or an object whose class is.
        after: labels of those that must have ended before it begins.
    """

    label: str
    work: Callable[[Context], Any]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Died:
    """The process that was at a job is gone; why."""

    reason: str


@dataclass(frozen=True)
class Answer:
    """What came of a job in another process.

    Attributes:
        kind: "done", or what was raised: "storage" and "user" for errors of these names, else
            "broken".
        value: what the job returned, or the message; of a broken program the traceback.
    """

    kind: Literal["done", "storage", "user", "broken"]
    value: Any


def packed(context: Context) -> bytes:
    """Return what another process needs of a context, and where it stands."""
    names = [field.name for field in dataclasses.fields(context) if field.name not in OWN]
    shared = {name: getattr(context, name) for name in names}
    own = os.getcwd(), context.progress.logged, shared
    return pickle.dumps(own, protocol=pickle.HIGHEST_PROTOCOL)


def unpacked(content: bytes, progress: Progress) -> Context:
    """Return the context of a process that carries out jobs for another one.

    It tells of long work in a log file if the other one does. Relative paths mean the same as
    there: the process goes to the same folder.
    """
    from genrec_bench.runs.jobs import Context
    from genrec_bench.runs.options import quieten
    from genrec_bench.training.workers import Workers

    folder, progress.logged, shared = pickle.loads(content)
    os.chdir(folder)
    quieten()
    return Context(**shared, workers=Workers(), progress=progress)


def answer(work: Callable[[Context], Any], context: Context) -> Answer:
    """Carry a job out, whatever it comes to."""
    try:
        with contextlib.redirect_stdout(sys.stderr), foreign_ends():
            value = work(context)
        pickle.dumps(value)
        return Answer("done", value)
    except StorageError as error:
        return Answer("storage", str(error))
    except UserError as error:
        return Answer("user", str(error))
    except Exception:
        return Answer("broken", traceback.format_exc())


@functools.lru_cache(maxsize=1)
def _known(content: bytes) -> Context:
    return unpacked(content, Progress())


def answer_packed(work: bytes, content: bytes, label: str) -> Answer:
    """Carry a job out that came as bytes; a process that does several opens the context once."""
    from genrec_bench.training.workers import Workers

    context = _known(content)
    # A process may have been lent another device meanwhile.
    progress = Progress(logged=context.progress.logged, label=f"[{label}] ")
    context = dataclasses.replace(context, workers=Workers(), progress=progress)
    return answer(pickle.loads(work), context)


class ToldProgress(Progress):
    """Tells another process how far a job has come; lines go to stderr, which that one reads."""

    def __init__(self, tell: Tell) -> None:
        """Tell by a function that takes messages."""
        super().__init__()
        self._tell = tell

    @contextlib.contextmanager
    def bar(self, title: str, total: float) -> Iterator[Steps]:
        """Have the other process show a piece of work while it lasts."""
        self._tell(("begin", title, total))
        try:
            yield _ToldSteps(self._tell)
        finally:
            self._tell(("end",))


class _ToldSteps:
    """Tells how far a piece of work has come, not too often."""

    def __init__(self, tell: Tell) -> None:
        self._tell, self._done, self._told = tell, 0.0, 0.0

    def advance(self, amount: float) -> None:
        self.update(self._done + amount)

    def update(self, done: float, **figures: float) -> None:
        self._done, now = done, time.monotonic()
        if now - self._told > BETWEEN_SIGNS:
            self._told = now
            self._tell(("update", done, figures))

    def tell(self) -> None:
        """Say nothing: the other process shows a bar."""


def main() -> int:
    """Do jobs until there are no more."""
    # Whoever started this process decides what an interruption means for it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _interrupt)
    line = Connection(int(sys.argv[1]))
    jobs: queue.Queue[bytes] = queue.Queue()
    threading.Thread(target=_listen, args=(line, jobs), daemon=True).start()
    try:
        # An inherited stdout would mix what jobs print with the results of the command.
        os.dup2(2, 1)
        shows, content = pickle.loads(jobs.get())
        progress = ToldProgress(line.send) if shows else Progress()
        context = unpacked(content, progress)
        while job := jobs.get():
            line.send(("answer", answer(pickle.loads(job), context)))
    except (KeyboardInterrupt, BrokenPipeError):
        return 130
    return 0


def _listen(line: Connection, jobs: queue.Queue[bytes]) -> None:
    """Take in jobs; an empty one is the last. End the process if nobody is there any more."""
    with contextlib.suppress(EOFError, OSError):
        while job := line.recv_bytes():
            jobs.put(job)
        jobs.put(b"")
        return
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_END)
    os._exit(1)


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
