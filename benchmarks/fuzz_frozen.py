"""A process in which nothing is drawn by the system, timed or asked of the machine.

What `fuzz.py` changes is made in it: every build of the good files is the same then, and so are
the inputs of a seed. Digits of weights and figures may still differ between kinds of processors.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime, timedelta, tzinfo
from types import SimpleNamespace
from typing import Any
from unittest import mock

MOMENT = datetime.fromisoformat("2026-01-02T03:04:05+00:00")
HARDWARE = {"cpu": "Some processor", "cores": 2, "memory_bytes": 8 * 2**30, "device": "cpu"}

_seconds = itertools.count()


class Clock(datetime):
    """Goes on by a second whenever it is read."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        """Return the next second."""
        moment = MOMENT + timedelta(seconds=next(_seconds))
        return moment.astimezone(tz) if tz else moment.replace(tzinfo=None)


@contextmanager
def frozen() -> Iterator[None]:
    """Have fixed ids, times, memory, versions, commit and hardware in the body."""
    import optuna.storages._rdb.storage as optuna_storage

    import genrec_bench
    from genrec_bench.runs import environment, request, run, run_folder
    from genrec_bench.studies.sweeps import sweep
    from genrec_bench.training.ledger import Ledger

    global _seconds
    _seconds, ticks = itertools.count(), itertools.count()
    ledger_init = Ledger.__init__

    def metered(ledger: Ledger, device: Any, clock: Any = None) -> None:
        ledger_init(ledger, device, lambda: next(ticks) / 64)
        told = SimpleNamespace(memory_info=lambda: SimpleNamespace(rss=2**28))
        vars(ledger)["_process"] = told

    with ExitStack() as stack:

        def put(*args: Any) -> None:
            stack.enter_context(mock.patch.object(*args))

        # Of this the standard library's UUIDs are made.
        stack.enter_context(mock.patch("os.urandom", random.Random(0).randbytes))
        for module in (run, run_folder, optuna_storage):
            put(module, "datetime", Clock)
        put(time, "time", lambda: (MOMENT + timedelta(seconds=next(_seconds))).timestamp())
        put(Ledger, "__init__", metered)
        for module in (request, run, sweep):
            put(module, "hardware", lambda device: dict(HARDWARE))
        versions = {name: "1.2.3" for name in environment.versions()}
        put(run, "versions", lambda: {**versions, "genrec_bench": genrec_bench.__version__})
        put(run, "commit", lambda: "0" * 40)
        yield
