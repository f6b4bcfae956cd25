"""How a process of this package is started, and what its end is called; imports nothing slow."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import genrec_bench

THREADS, PATH = "OMP_NUM_THREADS", "PYTHONPATH"

SAFE = "PYTHONSAFEPATH"
"""Says to all Pythons that come of a process what the option -P says to one."""


def package_place() -> Path:
    """Return the folder in which this package lies."""
    return Path(genrec_bench.__file__).resolve().parent.parent


def python(environment: dict[str, str]) -> list[str]:
    """Return how to start Python so that it imports this package and nothing of where it stands.

    Args:
        environment: of the process; the package's own place comes first on its path.
    """
    # The package may be found only because this process was started beside it.
    places = [str(package_place()), *environment.get(PATH, "").split(os.pathsep)]
    # An empty place, as a separator too many leaves it, would be the current folder.
    environment[PATH] = os.pathsep.join(filter(None, places))
    # For the processes that libraries start.
    environment[SAFE] = "1"
    return [sys.executable, "-P"]


def ending(code: int) -> str:
    """Say in words how a process ended that should not have."""
    if code >= 0:
        return f"ended with code {code}"
    name = signal.Signals(-code).name
    memory = ", perhaps for lack of memory" if -code == signal.SIGKILL else ""
    return f"was killed by {name}{memory}"
