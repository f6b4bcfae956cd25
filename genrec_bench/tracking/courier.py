"""The courier: sends outboxes while a run goes on, and takes its time while MLflow is away.

Whatever MLflow does, a caller hears nothing of it but one line for each outage. A server that does
not answer is asked again after pauses that grow, by all trackers of the process together, so that a
sweep of many short trials does not wait for it once per trial.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genrec_bench.tracking.outbox import Outbox
from genrec_bench.tracking.sender import RunRefused, Sender, first_line

FLUSH_SECONDS = 5.0
"""Figures are sent at most this often, and a server is asked again no sooner after a failure."""

LONGEST_PAUSE = 600.0
"""Seconds between two tries while a server is away, at most."""

SLOWNESS, LONGEST_FLUSH = 10.0, 30.0
"""The pause after sending is at least this many times what sending took, but no more seconds."""

SEND_SECONDS, LAST_SECONDS = 3.0, 30.0
"""How long sending may go on at once: in the middle of a run, and at its end."""


@dataclass
class _Weather:
    """How it stands with a server.

    Attributes:
        pause: seconds until it is asked again; doubled by each failure.
        next_try: when, on the monotonic clock.
        is_bad: whether the last try failed.
        refusal_told: whether a warning has said that it does not take a run.
    """

    pause: float = 0.0
    next_try: float = 0.0
    is_bad: bool = False
    refusal_told: bool = False


_weather: dict[str, _Weather] = {}


class Courier:
    """Sends outboxes to MLflow, never raising for what goes wrong there.

    Args:
        output: folder of all results; see `Sender`.
        warn: told in one line when MLflow fails, once for each outage.
    """

    def __init__(self, output: Path, warn: Callable[[str], None]) -> None:
        self._sender = Sender(output)
        self._warn = warn
        self._state = _weather.setdefault(self._sender.key, _Weather())
        self._next_flush = 0.0
        self._patience = 0.0

    @property
    def sender(self) -> Sender:
        """What sends."""
        return self._sender

    def is_due(self) -> bool:
        """Return whether it is time to send again."""
        return time.monotonic() >= max(self._next_flush, self._state.next_try)

    def send(self, outbox: Outbox, *, last: bool = False) -> bool:
        """Send what an outbox holds, as far as a few seconds go.

        Args:
            outbox: opened for this courier's server.
            last: whether this is the last chance of the run; asks a server that is away, too.

        Returns:
            Whether all was sent.
        """
        state = self._state
        if state.is_bad and not last and time.monotonic() < state.next_try:
            return False
        began = time.monotonic()
        try:
            self._sender.deliver(outbox, LAST_SECONDS if last else SEND_SECONDS)
        except RunRefused as error:
            self._refused(error)
            return False
        except Exception as error:  # MLflow, SQLAlchemy, requests, the file system
            if not state.is_bad:
                self._warn(
                    f"warning: MLflow failed ({first_line(error)}); the run goes on, and what "
                    "MLflow missed is sent when it is back, at the latest by `genrec-bench resend`"
                )
            state.is_bad = True
            state.pause = min(max(2 * state.pause, FLUSH_SECONDS), LONGEST_PAUSE)
            state.next_try = time.monotonic() + state.pause
            return False
        state.is_bad, state.pause, state.next_try = False, 0.0, 0.0
        now = time.monotonic()
        self._next_flush = now + max(FLUSH_SECONDS, min(SLOWNESS * (now - began), LONGEST_FLUSH))
        if self._sender.refused:
            self._warn(f"warning: MLflow refused some of a run ({self._sender.refused[0]})")
            self._sender.refused.clear()
        return not outbox.pending

    def _refused(self, error: RunRefused) -> None:
        """Put one run off; the server is there, and may take others."""
        state = self._state
        if not state.refusal_told:
            self._warn(
                f"warning: MLflow refused a run ({error}); the run goes on, and is kept for "
                "`genrec-bench resend`, which sends it once MLflow takes it"
            )
        state.refusal_told = True
        state.is_bad, state.pause, state.next_try = False, 0.0, 0.0
        self._patience = min(max(2 * self._patience, FLUSH_SECONDS), LONGEST_PAUSE)
        self._next_flush = time.monotonic() + self._patience
