"""The one table of units: how amounts of what is spent are written for people."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Unit:
    """How amounts of one kind are written.

    Attributes:
        size: how much of what the records hold is one unit.
        digits: behind the point.
        of_columns: whether a board's columns may be in this unit.
    """

    symbol: str
    size: float
    digits: int = 2
    of_columns: bool = True

    def write(self, amount: float) -> str:
        """An amount without its unit."""
        return f"{amount / self.size:,.{self.digits}f}"


_UNITS = {
    "seconds": (Unit("s", 1.0, 1),),
    "flops": (
        Unit("PFLOP", 1e15),
        Unit("TFLOP", 1e12),
        Unit("GFLOP", 1e9),
        Unit("MFLOP", 1e6, of_columns=False),
        Unit("FLOP", 1.0, of_columns=False),
    ),
    "tokens": (
        Unit("Gtok", 1e9, of_columns=False),
        Unit("Mtok", 1e6),
        Unit("ktok", 1e3),
        Unit("tok", 1.0, of_columns=False),
    ),
}


def unit_for(cost: str, amounts: Iterable[float]) -> Unit:
    """Choose a column's unit, in which the largest of some amounts has digits before the point.

    Args:
        cost: `seconds`, `flops` or `tokens`.
        amounts: in seconds, floating-point operations or tokens.
    """
    most = max(amounts, default=0.0)
    units = [unit for unit in _UNITS[cost] if unit.of_columns]
    return next((unit for unit in units if most >= unit.size), units[-1])


def with_unit(value: float, cost: str) -> str:
    """An amount with its own unit, in four digits."""
    units = _UNITS[cost]
    unit = next((unit for unit in units if value >= unit.size), units[-1])
    return f"{value / unit.size:.4g} {unit.symbol}"
