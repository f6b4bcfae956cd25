"""What earlier commands could not tell MLflow: sent by the next one, or by `genrec-bench resend`.

A run that was cut short by a kill is still running as far as MLflow knows. Its outbox says so: it
has no end, and nobody holds it. It is ended here as its record says, or as `KILLED` at its last
sign of life; the same command given again sets it going again.
"""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from genrec_bench.runs.records import RECORD_FILE
from genrec_bench.tracking.outbox import OUTBOX_FILE, Outbox, open_outbox, unmark_waiting, waiting
from genrec_bench.tracking.parent import is_alive
from genrec_bench.tracking.sender import RunRefused

if TYPE_CHECKING:
    from genrec_bench.tracking.courier import Courier
    from genrec_bench.tracking.sender import Sender

SETTLE_SECONDS = 3.0
"""How long a run that starts may take to send what others left."""

FOREVER = 1e9
"""Seconds; a request that hangs ends by MLflow's own limit."""

Found = Literal["live", "elsewhere", "done", "sent", "left"]


@dataclass
class Tally:
    """What became of the outboxes below a folder.

    Attributes:
        sent: runs of which something was sent, and nothing is left.
        ended: runs that were cut short and are ended now.
        live: runs that are under way; they send for themselves.
        elsewhere: runs that belong to another server.
        left: runs of which something could not be sent.
    """

    sent: int = 0
    ended: int = 0
    live: int = 0
    elsewhere: int = 0
    left: int = 0

    def __add__(self, other: Tally) -> Tally:
        values = [getattr(self, f.name) + getattr(other, f.name) for f in fields(self)]
        return Tally(*values)


def settle(folder: Path, output: Path, sender: Sender, seconds: float) -> Tally:
    """Send what one outbox still holds, and end its run if that is dead.

    Args:
        folder: of the run.
        output: folder of all results.
        sender: sends.
        seconds: how long it may take.

    Raises:
        Exception: whatever MLflow and what it stands on raise; a run that MLflow refuses is left.
    """
    try:
        outbox = open_outbox(folder, sender.to)
    except OSError:
        return Tally()
    if outbox is None:
        return Tally(live=1)
    with outbox:
        if outbox.owner not in (None, sender.to):
            return Tally(elsewhere=1)
        alive = is_alive(folder)
        dead = outbox.is_open and not alive
        if dead:
            _end(outbox)
        asked = bool(outbox.pending)
        # Another run may be taken.
        with contextlib.suppress(RunRefused):
            sender.deliver(outbox, seconds)
        if outbox.pending:
            return Tally(ended=int(dead), left=1)
        if outbox.is_done:
            outbox.shorten()
            unmark_waiting(output, folder)
        return Tally(sent=int(asked), ended=int(dead), live=int(alive))


def settle_waiting(output: Path, courier: Courier) -> None:
    """Send what earlier commands left, in a few seconds and quietly.

    Args:
        output: folder of all results.
        courier: has just reached the server.
    """
    until = time.monotonic() + SETTLE_SECONDS
    with contextlib.suppress(Exception):
        for folder in waiting(output):
            rest = until - time.monotonic()
            if rest <= 0:
                break
            settle(folder, output, courier.sender, rest)
    # What was refused is no news of the run that starts.
    courier.sender.refused.clear()
    courier.sender.kept.clear()


def folders_below(output: Path) -> list[Path]:
    """Return the folders of all runs below an output folder that were ever tracked."""
    found = {file.parent.resolve() for file in output.rglob(OUTBOX_FILE)}
    return sorted(found | {folder.resolve() for folder in waiting(output)})


def _end(outbox: Outbox) -> None:
    """Write down how a run ended whose process did not get to say it."""
    status, state, at = "KILLED", "interrupted", outbox.last_sign
    assert outbox.folder is not None
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        record = json.loads((outbox.folder / RECORD_FILE).read_text())
        finished = datetime.fromisoformat(record["finished"])
        complete = bool(record["complete"])
        at = max(at, int(finished.timestamp() * 1000))
        status, state = ("FINISHED", "complete") if complete else ("FAILED", "failed")
        if RECORD_FILE not in outbox.attached:
            outbox.add("file", at=at, path=RECORD_FILE)
    tags = {"trial_state": state} if outbox.opening.get("parent") else {}
    outbox.add("end", at=at, status=status, tags=tags, only_if_running=True)
