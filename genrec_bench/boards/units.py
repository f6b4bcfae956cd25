"""How amounts of what is spent are written on boards, whatever the board is written as."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """How amounts of one kind are written.

    Attributes:
        symbol: of the unit.
        size: how much of what the records hold is one unit.
        digits: behind the point.
    """

    symbol: str
    size: float
    digits: int = 2

    def write(self, amount: float) -> str:
        """An amount without its unit."""
        return f"{amount / self.size:,.{self.digits}f}"


_UNITS = {
    "seconds": (Unit("s", 1.0, 1),),
    "flops": (Unit("PFLOP", 1e15), Unit("TFLOP", 1e12), Unit("GFLOP", 1e9)),
    "tokens": (Unit("Mtok", 1e6), Unit("ktok", 1e3)),
}


def unit_for(cost: str, amounts: Iterable[float]) -> Unit:
    """Choose the unit in which the largest of some amounts has digits before the point.

    Args:
        cost: `seconds`, `flops` or `tokens`.
        amounts: in seconds, floating-point operations or tokens.
    """
    most = max(amounts, default=0.0)
    units = _UNITS[cost]
    return next((unit for unit in units if most >= unit.size), units[-1])
