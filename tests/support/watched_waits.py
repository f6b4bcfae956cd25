"""Counts waits and their limits: a busy machine makes seconds longer, and waits not more."""

from collections.abc import Callable

import pytest

from genrec_bench.storage.in_time import in_time
from genrec_bench.tracking.courier import Courier


def waits_for_mlflow(patch: pytest.MonkeyPatch) -> list[float]:
    """Return a list that gets, for each wait of a run, how many seconds it would have waited."""
    waits: list[float] = []
    wait_for = Courier._wait_for

    def noted(courier: Courier, wanted: int, began: float) -> None:
        wait_for(courier, wanted, began)
        waits.append(courier.patience)

    patch.setattr(Courier, "_wait_for", noted)
    return waits


def asked_in_time(patch: pytest.MonkeyPatch, module: str) -> list[float]:
    """Return a list that gets how many seconds a module gives each time to what it asks."""
    asked: list[float] = []

    def noted(ask: Callable[[], object], patience: float) -> object:
        asked.append(patience)
        return in_time(ask, patience)

    patch.setattr(f"{module}.in_time", noted)
    return asked
