"""The courier: a thread that has the folders in which this process works exported now and then.

Whatever MLflow does, a run hears nothing of it but one line for each outage. A store that does not
answer is asked again after pauses that grow. A run waits for it when it begins and when it ends, as
long as it answers; for one that does not answer about a second, twice in a process.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from genrec_bench.tracking.exporter import Exporter
from genrec_bench.tracking.folder_view import TRACKING_FILE
from genrec_bench.tracking.store import URI, Store, first_line

PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""Seconds between two rounds, and between two tries while a store is away, at most."""

PATIENCE, TRIES = 1.0, 2
"""Seconds that a run waits for an answer of a store, and how many times for one that is away."""

SLOWER, LONGEST_PATIENCE, LONGEST_WAIT = 3.0, 10.0, 60.0
"""How often the slowest of its answers fits in that time; its limit, and that of all answers."""

WHAT = {
    "left": "a run, which goes on; `genrec-bench resend` sends it once MLflow takes it",
    "refused": "some of a run, which it will never show",
}
"""What is told of the exporter's counts, once in a process."""

LOOK = 0.02
"""Seconds between two looks of a waiting run."""

_couriers: dict[tuple[Path, str], Courier] = {}


def courier_of(output: Path) -> Courier:
    """Return the one courier of this process to the store of an output folder."""
    key = output, os.environ.get(URI, "")
    if key not in _couriers:
        _couriers[key] = Courier(output)
    return _couriers[key]


class Courier:
    """Sends folders from a thread of its own, which ends with the process.

    Args:
        output: folder of all results; what earlier commands left there is sent, too.

    Attributes:
        store: where to.
    """

    def __init__(self, output: Path) -> None:
        self.store = Store(output)
        self._output = output
        self._exporter = Exporter(self.store)
        self._folders: list[Path] = []
        self._rest: list[Path] | None = None
        self._wake = threading.Event()
        self._asked = self._answered = 0
        self._is_away = False
        self._told: set[str] = set()
        self._tries = TRIES
        self._thread: threading.Thread | None = None

    def follow(self, folder: Path) -> None:
        """Send a folder from now on; wait until MLflow knows it, if it answers."""
        self._folders.append(folder)
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="mlflow", daemon=True)
            self._thread.start()
        self._have_sent()

    def leave(self, folder: Path) -> None:
        """Send a folder for the last time; what MLflow misses now is sent by a later command."""
        self._have_sent()
        self._folders.remove(folder)

    def _have_sent(self) -> None:
        """Wait for a round that begins now, as long as the store answers."""
        self._asked += 1
        wanted, began = self._asked, time.monotonic()
        self._wake.set()
        if self._is_away and not self._tries:
            return
        self._wait_for(wanted, began)
        if self._is_away:
            self._tries = max(self._tries - 1, 0)

    @property
    def patience(self) -> float:
        """Seconds that a run waits for an answer now."""
        # Where a file is locked or damaged, its check has said so before it is asked.
        slowest = LONGEST_PATIENCE if self.store.is_checked else SLOWER * self.store.slowest
        return max(PATIENCE, min(slowest, LONGEST_PATIENCE))

    def _wait_for(self, wanted: int, began: float) -> None:
        while self._answered < wanted:
            now, asked_at = time.monotonic(), self.store.asked_at
            if self.store.is_importing:
                began = now  # That is work of our own.
            silent = asked_at is not None and now - max(asked_at, began) > self.patience
            if silent or now - began > LONGEST_WAIT:
                self._missed("no answer")
                return
            time.sleep(LOOK)

    def _work(self) -> None:
        pause = 0.0
        while True:
            self._wake.wait(pause if self._folders else None)
            self._wake.clear()
            wanted = self._asked
            try:
                folders = list(dict.fromkeys(self._folders))
                self.store.check()
                for folder in folders:
                    self._exporter.export(folder, own=True)
            except Exception as error:  # MLflow, SQLAlchemy, requests, the file system
                self._missed(first_line(error))
                self._answered = wanted
                pause = min(max(2 * pause, PAUSE), LONGEST_PAUSE)
                continue
            # A round with nothing to send tells nothing of the store.
            self._is_away = self._is_away and not folders
            for kind in self._exporter.reasons.keys() - self._told:
                self._told.add(kind)
                _warn(f"MLflow refused {WHAT[kind]} ({self._exporter.reasons[kind]})")
            self._answered = wanted
            if not self._is_away:
                self._send_rest()
            pause = PAUSE

    def _send_rest(self) -> None:
        """Send what earlier commands left, as long as no run of ours waits."""
        # What is refused of them is no news of the runs that go on.
        exporter, until = Exporter(self.store), time.monotonic() + PAUSE
        try:
            if self._rest is None:
                self._rest = sorted(file.parent for file in self._output.rglob(TRACKING_FILE))
            while self._rest and time.monotonic() < until and not self._wake.is_set():
                folder = self._rest.pop()
                if folder not in self._folders:
                    exporter.export(folder)
        except Exception:  # If the store is away, the next round of ours will tell.
            return

    def _missed(self, reason: str) -> None:
        self._rest = None
        if not self._is_away:
            self._is_away = True
            _warn(
                f"MLflow failed ({reason}); the run goes on, and what MLflow missed is sent when "
                "it is back, at the latest by `genrec-bench resend`"
            )


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)
