"""How fast a comparison goes, and how long the rest of it will take."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from genrec_bench.training.budgets import BudgetKind

if TYPE_CHECKING:
    from genrec_bench.training.ledger import Cost


class Pace:
    """How fast the work goes, from what was seen of it."""

    def __init__(self, unit: BudgetKind) -> None:
        self._unit = unit
        self._trained: dict[str, tuple[float, float]] = {}
        self._around = (0.0, 0)
        self._start = (0.0, 0.0)

    def saw_start(self, cost: Cost) -> None:
        """Take in what training the SFT start took: a guess while nothing else is known."""
        if cost.seconds > 0:
            self._start = (float(getattr(cost, self._unit)), cost.seconds)

    def saw_evaluation(self, examples: int, seconds: float) -> None:
        """Take in what work around training took."""
        self._around = (self._around[0] + seconds, self._around[1] + examples)

    def saw(self, name: str, amount: float, seconds: float, examples: int, around: float) -> None:
        """Take in a piece of work.

        Args:
            name: of its row; algorithms differ in what a FLOP takes.
            amount: that training spent, in the budgets' unit.
            examples: how many were ranked to evaluate it.
            around: seconds that everything but training took.
        """
        known = self._trained.get(name, (0.0, 0.0))
        self._trained[name] = (known[0] + amount, known[1] + seconds)
        self.saw_evaluation(examples, around)

    @property
    def knows_evaluation(self) -> bool:
        """Whether it was seen what the work around training takes."""
        return self._around[1] > 0

    def seconds(self, name: str, amount: float, examples: int) -> float | None:
        """Return how long a piece of work will take, or None while there is nothing to go by."""
        rate = self._rate(name)
        if rate is None:
            return None
        around, seen = self._around
        return rate * amount + (around / seen * examples if seen else 0.0)

    def _rate(self, name: str) -> float | None:
        if self._unit == "seconds":
            return 1.0
        amount, seconds = self._trained.get(name, (0.0, 0.0))
        if amount == 0:
            # Of what is most alike: other rows before the SFT start, which never rolled out.
            amount = math.fsum(spent for spent, _ in self._trained.values())
            seconds = math.fsum(took for _, took in self._trained.values())
        if amount == 0:
            amount, seconds = self._start
        return seconds / amount if amount > 0 else None


def duration(seconds: float) -> str:
    """Write a time for people: seconds below two minutes, hours above two hours."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
