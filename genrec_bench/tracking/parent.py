"""A parent: the run in MLflow under which all trials of a study stand.

Several processes share one, on several machines too: it is known by a token that all of them can
work out, and whoever comes first opens it. Where MLflow is away, a child that is sent later opens
its parent first.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from genrec_bench.tracking.courier import LAST_SECONDS, Courier
from genrec_bench.tracking.outbox import Outbox, mark_waiting, open_outbox, unmark_waiting

ALIVE_FILE = "tracking.alive"
"""Locked, together with others, by each process that works under a parent."""

LOCK_SECONDS = 10.0
"""How long to wait for another process that is telling MLflow of the same parent."""

END_LOCK_SECONDS = 2 * LAST_SECONDS
"""The same for an end, which nobody says again. The other may be sending for as long as a last try
takes, after an import of MLflow."""

STATUS_OF = {
    "complete": "FINISHED",
    "pruned": "KILLED",
    "interrupted": "KILLED",
    "failed": "FAILED",
}
"""How MLflow calls what became of a trial."""

State = Literal["complete", "pruned", "interrupted", "failed"]


class Parent:
    """The run under which trials stand; never raises for what goes wrong with MLflow.

    As a context manager it ends the run however the body ends, unless `close` did: `KILLED` on an
    interruption, `FAILED` otherwise.

    Args:
        output: folder of all results; see `Tracker`.
        dataset: name of the card.
        folder: of the study on this machine; keeps what is to be sent.
        token: the study's name, equal wherever it is worked on, and no other study's.
        warn: told in one line when MLflow fails; prints to stderr by default.
    """

    def __init__(
        self,
        output: Path,
        dataset: str,
        folder: Path,
        token: str,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        self.folder = folder.resolve()
        self._output = output.resolve()
        self._experiment = experiment_name(dataset)
        self._token = _digest(token)
        self._run: str | None = None
        self._alive: int | None = None
        self._courier = Courier(self._output, warn or (lambda line: print(line, file=sys.stderr)))

    @property
    def run_id(self) -> str | None:
        """MLflow's name of the run; None while there is none."""
        return self._run

    def open(
        self,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        known: str | None = None,
    ) -> str | None:
        """Open the run, or go on with the one that is there.

        Args:
            name: shown by MLflow.
            params: the configuration of the study.
            tags: what to search runs by.
            known: MLflow's name of the run, if anyone who shares the study has heard it.

        Returns:
            MLflow's name of the run, for the others to know; None if MLflow is away.
        """
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            if self._alive is None:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._alive = os.open(self.folder / ALIVE_FILE, flags, 0o666)
                fcntl.flock(self._alive, fcntl.LOCK_SH | fcntl.LOCK_NB)

        def opened(outbox: Outbox) -> None:
            if known and outbox.run is None:
                outbox.adopt(known)
            if not outbox.is_open:
                outbox.add(
                    "open",
                    experiment=self._experiment,
                    name=name,
                    params=dict(params),
                    tags=dict(tags),
                    token=self._token,
                    parent=None,
                )

        self._tell(opened)
        self._run = self._run or known
        return self._run

    def end_child(self, child: str, state: State) -> None:
        """End the run of a trial whose process died, here or on another machine.

        Said again, it changes nothing: the run keeps the end that it has.

        Args:
            child: the name that its `Tracker` was given.
            state: what became of it.
        """
        self._tell(
            lambda outbox: outbox.add(
                "end_child",
                experiment=self._experiment,
                token=self.token_of(child),
                status=STATUS_OF[state],
                tags={"trial_state": state},
            ),
            wait=END_LOCK_SECONDS,
        )

    def close(self, status: Literal["FINISHED", "FAILED", "KILLED"] = "FINISHED") -> None:
        """End the run, unless others on this machine work under it; later calls do nothing.

        The last to leave ends it. Of several machines, each ends it when it is done there.
        """
        alive = self._alive
        if alive is None:
            return

        def ended(outbox: Outbox) -> None:
            # Looked at and let go while the outbox is held, so that one of two sees it is the last.
            if outbox.is_open and _is_last(alive):
                outbox.add("end", status=status, tags={})
            fcntl.flock(alive, fcntl.LOCK_UN)

        # Of a run without an end others say that it was killed, so that end need not be waited for.
        wait = LOCK_SECONDS if status == "KILLED" else END_LOCK_SECONDS
        self._tell(ended, wait=wait, last=True)
        os.close(alive)
        self._alive = None

    def token_of(self, child: str) -> str:
        """Return the token of a child's run."""
        return _digest(f"{self._token}/{child}")

    def reference(self, folder: Path) -> dict[str, Any]:
        """Return what a child in ``folder`` writes down to find its parent by."""
        place = os.path.relpath(self.folder, folder)
        return {"run": self._run, "token": self._token, "outbox": place}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        self.close("KILLED" if interrupted else "FAILED")

    def _tell(
        self, say: Callable[[Outbox], None], *, wait: float = LOCK_SECONDS, last: bool = False
    ) -> None:
        """Add to the outbox and send it; held only meanwhile, since others share it."""
        with contextlib.suppress(OSError):
            to = self._courier.sender.to
            outbox = open_outbox(self.folder, to, wait=wait, new=True)
            if outbox is None:
                return
            with outbox:
                # Whoever held it until now may have taken an earlier note back.
                mark_waiting(self._output, self.folder)
                say(outbox)
                self._courier.send(outbox, last=last)
                self._run = outbox.run or self._run
                if outbox.is_done:
                    outbox.shorten()
                    unmark_waiting(self._output, self.folder)


def experiment_name(dataset: str) -> str:
    """Return the experiment in MLflow of a dataset's runs."""
    return f"genrec-bench/{dataset}"


def is_alive(folder: Path) -> bool:
    """Return whether a process on this machine works under the parent of this folder."""
    try:
        handle = os.open(folder / ALIVE_FILE, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _is_last(alive: int) -> bool:
    """Return whether nobody else has locked the file; what lock there was is lost if so."""
    try:
        fcntl.flock(alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _digest(token: str) -> str:
    """Return a token of letters that MLflow's search cannot stumble over."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]
