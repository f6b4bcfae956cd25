"""Tables of a board's page: lines of cells that can be sorted, and how numbers are written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from genrec_bench.boards.board import NONE, BoardRow, Link
from genrec_bench.boards.charts import SeriesStyle
from genrec_bench.boards.units import Unit

UNIT_NAMES = {"seconds": "Device time", "flops": "FLOPs", "tokens": "Tokens"}
"""What the costs are called."""


@dataclass(frozen=True)
class Column:
    """A column's head.

    Attributes:
        detail: a second, smaller line.
        hint: more words, shown when the pointer rests on the title.
        below: a drawing below the title, such as an axis.
        text: whether the column holds words, which are set left and sorted from A to Z at first.
    """

    title: str
    detail: str = ""
    hint: str | None = None
    below: Markup = Markup()
    text: bool = False


ALGORITHM = Column("Algorithm", text=True)


@dataclass(frozen=True)
class PageCell:
    """One cell.

    Attributes:
        text: what is shown.
        sort: by what the column is sorted; None where there is nothing to sort by, which stays last
            in any order. A number is written here in full, whatever `text` is rounded to.
        small: a second, smaller line, of the classes `small_classes`.
        drawing: beside the text, below those of the other lines.
        hint: more words, shown when the pointer rests on the cell.
        links: records, in place of the second line.
    """

    text: str
    sort: float | str | None = None
    small: str = ""
    drawing: Markup = Markup()
    hint: str | None = None
    classes: str | None = None
    small_classes: str | None = None
    links: Sequence[Link] = ()

    @property
    def sort_key(self) -> str | None:
        """What the page's script reads."""
        return self.sort if isinstance(self.sort, str | None) else repr(float(self.sort))


@dataclass(frozen=True)
class PageLine:
    """One line of a table.

    Attributes:
        name: of the line, and what it is sorted by.
        cells: one for each column but the first, which holds the name.
        row: that the line is about; None if it is none of a board's rows. The next two are its.
        style: how it looks everywhere in its section; None if it goes without a swatch.
        failures: which of its seeds failed, and why.
    """

    name: str
    cells: Sequence[PageCell]
    row: BoardRow | None = None
    style: SeriesStyle | None = None
    failures: Sequence[str] = ()
    classes: str | None = None
    name_classes: str | None = None

    @property
    def swatch(self) -> Markup:
        """A piece of the row's curve."""
        return self.style.swatch if self.style else Markup()

    @property
    def tag(self) -> str:
        """What is written beside the name of a row that is no plain result."""
        return "" if self.row is None or self.row.kind == "result" else self.row.kind


@dataclass(frozen=True)
class PageTable:
    """A table of the page.

    Attributes:
        label: what it shows, for those who don't see where it stands.
        columns: the first one names the lines.
        lines: in the order in which they are shown at first.
    """

    label: str
    columns: Sequence[Column]
    lines: Sequence[PageLine]


def styled(rows: Sequence[BoardRow]) -> list[tuple[BoardRow, SeriesStyle | None]]:
    """Each row and its style: results and controls are counted apart, other rows have none."""
    counts = {"result": -1, "control": 0}
    found: list[tuple[BoardRow, SeriesStyle | None]] = []
    for row in rows:
        style = None
        if row.kind in counts:
            counts[row.kind] += 1
            style = SeriesStyle(counts[row.kind], row.kind == "control")
        found.append((row, style))
    return found


def row_line(
    row: BoardRow, style: SeriesStyle | None, cells: Sequence[PageCell], **more: Any
) -> PageLine:
    """The line of a board's row."""
    return PageLine(row.name, cells, row, style, classes=f"kind-{row.kind}", **more)


def amount_cell(unit: Unit, amount: float | None) -> PageCell:
    """An amount without its unit as a cell; None is no amount."""
    return PageCell(NONE) if amount is None else PageCell(unit.write(amount), amount)


def figure(value: float) -> str:
    """A metric."""
    return f"{value:.4f}"


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign; minus is a minus, not a hyphen."""
    return f"{value:+.{digits}f}".replace("-", "−")


def span(low: str, high: str) -> str:
    """From one number to another."""
    return f"{low} to {high}"


def p_value(value: float) -> PageCell:
    """A probability under the null hypothesis."""
    return PageCell("< 0.001" if value < 0.001 else f"{value:.3f}", value)
