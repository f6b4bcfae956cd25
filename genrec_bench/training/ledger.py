"""What a run has spent, phase by phase: seconds, tokens, FLOPs, peak memory.

The clock follows the rules of AlgoPerf: the device is synchronised before every reading, and
evaluation is metered apart, so that looking at an algorithm does not cost it anything.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated

import psutil
import torch

from genrec_bench.storage.field_kinds import Amount
from genrec_bench.storage.validation import between
from genrec_bench.training.budgets import Budget, BudgetKind

Whole = Annotated[int, between(0, 2**63 - 1)]

TRAINING_PHASES = ("rollout", "reference", "update", "value", "tuning")
"""The phases that count against a budget."""

PHASES = ("sft", *TRAINING_PHASES, "evaluation")
"""All phases, in the order in which they are reported."""


def of_training(spent: Mapping[str, Mapping[str, float]], kind: str) -> float:
    """Return the part of a record's costs, by phase and kind, that counts against a budget."""
    return math.fsum(spent[phase][kind] for phase in TRAINING_PHASES if phase in spent)


@dataclass(frozen=True)
class Cost:
    """What one phase has cost.

    Attributes:
        tokens: sent through the backbone.
        flops: floating-point operations of the matrix products (see `genrec_bench.policy.flops`).
        peak_memory_bytes: the most memory seen; see `Ledger` for what that means on each device.
    """

    seconds: Amount = 0.0
    tokens: Whole = 0
    flops: Amount = 0.0
    peak_memory_bytes: Whole = 0

    def __post_init__(self) -> None:
        # Without a loop, since every charge comes through here; written so that nan is refused.
        if not (
            self.seconds >= 0
            and self.tokens >= 0
            and self.flops >= 0
            and self.peak_memory_bytes >= 0
        ):
            raise ValueError(f"a cost is a number that is never negative: {self}")

    def __add__(self, other: "Cost") -> "Cost":
        """Add two costs; of the two peaks of memory the higher one stays."""
        return Cost(
            seconds=self.seconds + other.seconds,
            tokens=self.tokens + other.tokens,
            flops=self.flops + other.flops,
            peak_memory_bytes=max(self.peak_memory_bytes, other.peak_memory_bytes),
        )


class Ledger:
    """Meters the phases of a run on one device, in one process.

    Time is exclusive: while an inner phase is open, the outer one's clock stands still, so that the
    seconds of all phases add up to the time for which any phase was open. The same holds of peak
    memory where the device reports one (CUDA, XPU): it is the most that was allocated while the
    phase was the innermost one. To that end the ledger resets the device's peak statistics at each
    change of phase; whoever else resets them makes the ledger's peaks too low.

    Devices that report no peak give an approximation: the memory in use when the phase ends, which
    is the allocated memory on MPS and the resident set of the whole process on a CPU.

    Args:
        device: where the work is done; synchronised before each reading of the clock.
        clock: gives the time in seconds; only differences matter.
    """

    def __init__(
        self, device: torch.device, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._device = device
        self._clock = clock
        self._process = psutil.Process()
        self._costs: dict[str, Cost] = {}
        self._open: list[str] = []
        self._last_reading = 0.0

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Meter the body of a ``with`` statement as one phase; phases may nest.

        Whatever is done to evaluate is evaluation, phases inside of it too. A body that raises is
        charged for the time it took.

        Raises:
            ValueError: there is no phase of that name.
        """
        _check_name(name)
        if "evaluation" in self._open:
            name = "evaluation"
        self._read_clock()
        self._open.append(name)
        try:
            yield
        finally:
            try:
                self._read_clock(closing=True)
            finally:
                self._open.pop()

    def charge(self, *, tokens: int, flops: float) -> None:
        """Charge work to the innermost open phase.

        Raises:
            RuntimeError: no phase is open; work outside of any phase would go unmetered.
            ValueError: an amount is negative or not a number.
        """
        if not self._open:
            raise RuntimeError("work was done outside of any phase of the ledger")
        self.add(self._open[-1], Cost(tokens=tokens, flops=flops))

    def add(self, phase: str, cost: Cost) -> None:
        """Add a cost that was metered elsewhere, such as that of a cached SFT stage.

        Raises:
            ValueError: there is no phase of that name.
        """
        _check_name(phase)
        self._costs[phase] = self._costs.get(phase, Cost()) + cost

    def take_back(self, spent: Mapping[str, Cost]) -> None:
        """Let tokens and FLOPs be what they were when ``spent`` was read; time stays as it is.

        For work that came to nothing, by no fault of who is charged for it.
        """
        for phase, cost in self._costs.items():
            then = spent.get(phase, Cost())
            self._costs[phase] = replace(cost, tokens=then.tokens, flops=then.flops)

    @property
    def spent(self) -> Mapping[str, Cost]:
        """The cost of each phase that has been entered, in the order of `PHASES`.

        Seconds are those up to the last opening or closing of a phase.
        """
        return MappingProxyType({name: self._costs[name] for name in PHASES if name in self._costs})

    def total(self, kind: BudgetKind) -> float:
        """Return what the phases that count against a budget have spent."""
        return float(sum(getattr(self._costs.get(name, Cost()), kind) for name in TRAINING_PHASES))

    def share(self, budget: Budget) -> float:
        """Return the spent share of a budget: 0 at the start, 1 and more when it is used up."""
        return self.total(budget.kind) / budget.amount

    def _read_clock(self, closing: bool = False) -> None:
        """Charge all that happened since the last reading to the innermost open phase."""
        peak = 0
        if self._device.type in ("cuda", "xpu"):
            backend = torch.get_device_module(self._device)
            backend.synchronize(self._device)
            peak = backend.max_memory_allocated(self._device)
            backend.reset_peak_memory_stats(self._device)
        elif self._device.type == "mps":
            torch.mps.synchronize()
        now = self._clock()
        if closing and self._device.type == "mps":
            peak = torch.mps.current_allocated_memory()
        elif closing and self._device.type == "cpu":
            peak = int(self._process.memory_info().rss)
        if self._open:
            cost = Cost(seconds=now - self._last_reading, peak_memory_bytes=peak)
            self.add(self._open[-1], cost)
        self._last_reading = now


def _check_name(name: str) -> None:
    if name not in PHASES:
        raise ValueError(f"the ledger has no phase {name!r}; it has {', '.join(PHASES)}")
