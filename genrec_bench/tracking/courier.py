"""The courier: a thread that has the folders in which this process works exported now and then.

Whatever MLflow does, a run hears nothing of it but one line for each outage. A store that does not
answer is asked again after pauses that grow. A run waits for it when it begins and when it ends, as
long as it answers; for one that does not answer about a second, twice in a process.
"""

from __future__ import annotations

import sys
import threading
import time
from pathlib import Path

from genrec_bench.tracking.exporter import Exporter
from genrec_bench.tracking.folder_view import TRACKING_FILE
from genrec_bench.tracking.store import Store, first_line

PAUSE, LONGEST_PAUSE = 5.0, 600.0
"""Seconds between two rounds, and between two tries while a store is away, at most."""

SLOWNESS, LONGEST_SLOW_PAUSE = 10.0, 30.0
"""The pause after a round is at least this many times what it took, but no more seconds."""

PATIENCE, TRIES = 1.0, 2
"""Seconds that a run waits for an answer of a store that is not known to answer; how many times."""

SLOW_PATIENCE, LONGEST_WAIT = 10.0, 60.0
"""The same for one that has answered before; and for all of its answers."""

REST_SECONDS = 3.0
"""How long sending what earlier commands left may take at once."""

LOOK = 0.02
"""Seconds between two looks of a waiting run."""

_couriers: dict[str, Courier] = {}


def courier_of(output: Path) -> Courier:
    """Return the one courier of this process to the store of an output folder."""
    store = Store(output)
    if store.key not in _couriers:
        _couriers[store.key] = Courier(output, store)
    return _couriers[store.key]


class Courier:
    """Sends folders from a thread of its own, which ends with the process.

    Args:
        output: folder of all results; what earlier commands left there is sent, too.
        store: where to.
    """

    def __init__(self, output: Path, store: Store) -> None:
        self._output = output
        self._exporter = Exporter(store)
        self._store = store
        self._folders: list[Path] = []
        self._wake = threading.Event()
        self._asked = self._answered = 0
        self._is_away = self._is_refusal_told = False
        self._owes = True
        self._pause = 0.0
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
        while self._answered < wanted:
            now, asked_at = time.monotonic(), self._store.asked_at
            patience = SLOW_PATIENCE if self._store.answers else PATIENCE
            silent = asked_at is not None and now - max(asked_at, began) > patience
            if silent or now - began > LONGEST_WAIT:
                self._missed("no answer")
                break
            time.sleep(LOOK)
        if self._is_away:
            self._tries = max(self._tries - 1, 0)

    def _work(self) -> None:
        while True:
            self._wake.wait(self._pause if self._folders else None)
            self._wake.clear()
            wanted, began = self._asked, time.monotonic()
            try:
                folders = list(dict.fromkeys(self._folders))
                for folder in folders:
                    found = self._exporter.export(folder, own=True)
                    self._owes |= found == "left"
                if self._owes:
                    self._owes = not self._send_rest()
            except Exception as error:  # MLflow, SQLAlchemy, requests, the file system
                self._missed(first_line(error))
                self._pause = min(max(2 * self._pause, PAUSE), LONGEST_PAUSE)
            else:
                # A round with nothing to send tells nothing of the store.
                self._is_away = self._is_away and not folders
                took = time.monotonic() - began
                self._pause = max(PAUSE, min(SLOWNESS * took, LONGEST_SLOW_PAUSE))
                self._tell_refusals()
            self._answered = wanted

    def _send_rest(self) -> bool:
        """Send what earlier commands left; return whether that was all."""
        until = time.monotonic() + REST_SECONDS
        # What is refused of them is no news of the runs that go on.
        exporter = Exporter(self._store)
        for file in sorted(self._output.rglob(TRACKING_FILE)):
            if time.monotonic() > until:
                return False
            if file.parent not in self._folders:
                try:
                    exporter.export(file.parent)
                except Exception:  # If the store is away, the next round of ours will tell.
                    return False
        return True

    def _missed(self, reason: str) -> None:
        self._owes = True
        if not self._is_away:
            self._is_away = True
            _warn(
                f"MLflow failed ({reason}); the run goes on, and what MLflow missed is sent when "
                "it is back, at the latest by `genrec-bench resend`"
            )

    def _tell_refusals(self) -> None:
        kept, refused = self._exporter.kept, self._exporter.refused
        if kept and not self._is_refusal_told:
            self._is_refusal_told = True
            _warn(
                f"MLflow refused a run ({kept[0]}); the run goes on, and is kept for "
                "`genrec-bench resend`, which sends it once MLflow takes it"
            )
        if refused:
            _warn(f"MLflow refused some of a run ({refused[0]})")
        kept.clear()
        refused.clear()


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr)
