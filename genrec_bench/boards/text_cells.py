"""How a board's numbers and names are written in tables of text."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from genrec_bench.boards.units import Unit

if TYPE_CHECKING:
    from genrec_bench.boards.board import BoardRow
    from genrec_bench.statistics.conclusions import Pair

NONE, MISSED = "–", "missed"
"""What stands where there is no number, and where a target was not reached."""

_BEGINS_FORMULA = ("=", "+", "-", "@")
_NUMBER = r"[-+]?\d*\.?\d+(?:e[-+]?\d+)?"
_NUMBERS = re.compile(f"{_NUMBER}(?: {_NUMBER})*")


def signed(value: float, digits: int = 4) -> str:
    """A difference of two metrics; without the minus of a zero."""
    return f"{round(value, digits) + 0.0:+.{digits}f}"


def amount_text(amount: float | None, unit: Unit) -> str:
    """An amount without its unit."""
    return NONE if amount is None else unit.write(amount)


def number(value: float | None) -> str:
    """A metric."""
    return NONE if value is None else f"{value:.4f}"


def row_name(row: BoardRow, style: str) -> str:
    """A row's name, with a word where it is no result; `style` is that of the table."""
    marks = {"control": " [control]", "failed": " [failed]"}
    name = escaped(row.name) if style == "pipe" else row.name
    return name + (" [outside]" if row.outside else marks.get(row.kind, ""))


def escaped(text: str) -> str:
    """Text as Markdown shows it as it is, in a table's cell too: no link, HTML, heading or list."""
    flat = " ".join(text.split())
    marked = re.sub(r"[\\`*~#\[\]|]", r"\\\g<0>", escape(flat, quote=False))
    return re.sub(r"^[-+](?=[- ]|$)", r"\\\g<0>", marked)


def spreadsheet_text(value: Any) -> Any:
    """A cell of CSV, in one line, that no spreadsheet takes for a formula; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    flat = value if value.isprintable() else " ".join(value.split())
    formula = flat[:1] in _BEGINS_FORMULA and not _NUMBERS.fullmatch(flat)
    return f"'{flat}" if formula else flat


def gain_cells(pair: Pair, star: str = "*") -> tuple[str, str]:
    """A difference, with a star where the two are told apart, and its interval."""
    star = star if pair.distinct else ""
    gain = signed(pair.difference) + star
    low, high = pair.interval.low, pair.interval.high
    return gain, f"{signed(low)} to {signed(high)}" if math.isfinite(low) else NONE


def table(headers: Sequence[str], lines: Sequence[Sequence[str]], style: str, left: int = 1) -> str:
    """A table as text: `simple` for a terminal, `pipe` for Markdown.

    Args:
        left: how many columns, from the first on, are words and set left.
    """
    if style == "pipe":
        headers = [escaped(head) for head in headers]
    sides = ["left"] * left + ["right"] * (len(headers) - left)
    return tabulate(lines, headers, tablefmt=style, disable_numparse=True, colalign=sides)
