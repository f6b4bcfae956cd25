"""How a board's numbers and names are written in tables of text."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from genrec_bench.boards.board import NONE, BoardRow
from genrec_bench.boards.units import Unit


def amount_text(amount: float | None, unit: Unit) -> str:
    """An amount without its unit."""
    return NONE if amount is None else unit.write(amount)


def number(value: float | None) -> str:
    """A metric."""
    return NONE if value is None else f"{value:.4f}"


def row_name(row: BoardRow, style: str) -> str:
    """A row's name, with a word where it is no result; `style` is that of the table."""
    marks = {"control": " [control]", "failed": " [failed]"}
    name = row.name + marks.get(row.kind, "")
    return escaped(name) if style == "pipe" else name


def escaped(text: str) -> str:
    """A name as a cell of a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def table(headers: Sequence[str], lines: Sequence[Sequence[str]], style: str, left: int = 1) -> str:
    """A table as text: `simple` for a terminal, `pipe` for Markdown.

    Args:
        left: how many columns, from the first on, are words and set left.
    """
    sides = ["left"] * left + ["right"] * (len(headers) - left)
    return tabulate(lines, headers, tablefmt=style, disable_numparse=True, colalign=sides)
