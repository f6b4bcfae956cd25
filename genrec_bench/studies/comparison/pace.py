"""How fast a comparison goes, and how long the rest of it will take."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from genrec_bench.progress import duration as duration
from genrec_bench.training.budgets import BudgetKind

if TYPE_CHECKING:
    from genrec_bench.training.ledger import Cost


@dataclass(frozen=True)
class RowCost:
    """What the parts of a row's runs cost.

    Attributes:
        step: seconds, FLOPs and tokens of one step that count against a budget.
        epoch: share of the training prompts, or sequences, that a step visits.
        setup: seconds until the first step.
        look: seconds to rank an example while training.
        ranking: seconds to rank an example at a run's end.
    """

    step: Mapping[BudgetKind, float]
    epoch: float
    setup: float
    look: float
    ranking: float

    def around(self, work: Around) -> float:
        """Return the seconds of what is done around training."""
        at_end = work.examples - work.looked
        return work.runs * self.setup + work.looked * self.look + at_end * self.ranking


@dataclass(frozen=True)
class Around:
    """What is done around training: how many runs are set up, and how many examples are ranked.

    Attributes:
        examples: all of them.
        looked: those of looks at validation data, which are cheaper.
    """

    examples: int
    looked: int = 0
    runs: int = 0


class Pace:
    """How fast the work goes, from what was seen of it."""

    def __init__(self, unit: BudgetKind) -> None:
        self._unit = unit
        self._measured: dict[str, RowCost] = {}
        self._expected = (0.0, 0.0)
        self._trained: dict[str, tuple[float, float]] = {}
        self._around = (0.0, 0)
        self._start = (0.0, 0.0)

    def saw_start(self, cost: Cost) -> None:
        """Take in what training the SFT start took: a guess while nothing else is known."""
        if cost.seconds > 0:
            self._start = (float(getattr(cost, self._unit)), cost.seconds)

    def saw_rows(self, rows: Mapping[str, RowCost]) -> None:
        """Take in what the parts of the rows' runs cost, by name of the row."""
        self._measured |= rows

    def saw_evaluation(self, examples: int, seconds: float) -> None:
        """Take in what work around training took."""
        self._around = (self._around[0] + seconds, self._around[1] + examples)

    def saw(self, name: str, amount: float, seconds: float, work: Around, around: float) -> None:
        """Take in a piece of work.

        Args:
            name: of its row; algorithms differ in what a FLOP takes.
            amount: that training spent, in the budgets' unit.
            work: that was done around it.
            around: seconds that everything but training took.
        """
        known = self._trained.get(name, (0.0, 0.0))
        self._trained[name] = (known[0] + amount, known[1] + seconds)
        self.saw_evaluation(work.examples, around)
        if name in self._measured and work.examples:
            told = self._measured[name].around(work)
            self._expected = (self._expected[0] + around, self._expected[1] + told)

    @property
    def knows_start(self) -> bool:
        """Whether the SFT start is trained, as far as is known here."""
        return self._start[1] > 0

    @property
    def knows_evaluation(self) -> bool:
        """Whether it was seen what the work around training takes."""
        return self._around[1] > 0 or self.knows_rows

    @property
    def knows_rows(self) -> bool:
        """Whether a step of the rows was measured, or their work was seen."""
        return bool(self._measured or self._trained)

    def seconds(self, name: str, amount: float, work: Around) -> float | None:
        """Return how long a piece of work will take, or None while there is nothing to go by."""
        rate = self._rate(name)
        if rate is None:
            return None
        if name in self._measured:
            took, told = self._expected
            # What was measured once is set right by what the work then took.
            drift = took / told if told else 1.0
            return rate * amount + self._measured[name].around(work) * drift
        around, seen = self._around
        return rate * amount + (around / seen * work.examples if seen else 0.0)

    def _rate(self, name: str) -> float | None:
        if self._unit == "seconds":
            return 1.0
        amount, seconds = self._trained.get(name, (0.0, 0.0))
        if amount == 0 and name in self._measured:
            step = self._measured[name].step
            amount, seconds = step[self._unit], step["seconds"]
        if amount == 0:
            # Of what is most alike: other rows before the SFT start, which never rolled out.
            amount = math.fsum(spent for spent, _ in self._trained.values())
            seconds = math.fsum(took for _, took in self._trained.values())
        if amount == 0:
            amount, seconds = self._start
        return seconds / amount if amount > 0 else None
