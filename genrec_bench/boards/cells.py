"""Tables of a board's page: cells that can be sorted, and how numbers are written in them."""

from collections.abc import Sequence
from dataclasses import dataclass

from genrec_bench.boards.markup import Markup, element, fragment
from genrec_bench.boards.units import Unit

NONE = "–"
"""Where there is no number."""

UNIT_NAMES = {"seconds": "Device time", "flops": "FLOPs", "tokens": "Tokens"}
"""What the costs are called."""


@dataclass(frozen=True)
class Column:
    """A column's head.

    Attributes:
        title: what the column holds.
        detail: a second, smaller line.
        hint: more words, shown when the pointer rests on the title.
        below: a drawing below the title, such as an axis.
        text: whether the column holds words, which are set left and sorted from A to Z at first.
    """

    title: str
    detail: str = ""
    hint: str | None = None
    below: Markup | None = None
    text: bool = False


@dataclass(frozen=True)
class Cell:
    """One cell.

    Attributes:
        content: what is shown.
        sort: by what the column is sorted; None where there is nothing to sort by, which stays last
            in any order. A number is written here in full, whatever its content is rounded to.
        hint: more words, shown when the pointer rests on the cell.
        classes: of the cell.
    """

    content: str
    sort: float | str | None = None
    hint: str | None = None
    classes: str | None = None


@dataclass(frozen=True)
class Line:
    """One line of a table; its first cell names it.

    Attributes:
        cells: as many as there are columns.
        classes: of the line.
    """

    cells: Sequence[Cell]
    classes: str | None = None


def amount_cell(unit: Unit, amount: float | None) -> Cell:
    """An amount without its unit as a cell; None is no amount."""
    return Cell(NONE) if amount is None else Cell(unit.write(amount), amount)


def figure(value: float) -> str:
    """A metric."""
    return f"{value:.4f}"


def signed(value: float) -> str:
    """A difference of two metrics, with its sign; minus is a minus, not a hyphen."""
    return f"{value:+.4f}".replace("-", "−")


def span(low: str, high: str) -> str:
    """From one number to another."""
    return f"{low} to {high}"


def p_value(value: float) -> Cell:
    """A probability under the null hypothesis."""
    return Cell("< 0.001" if value < 0.001 else f"{value:.3f}", value)


def table(label: str, columns: Sequence[Column], lines: Sequence[Line]) -> Markup:
    """A table that the page's script makes sortable, in a box that scrolls sideways by itself.

    Args:
        label: what it shows, for those who don't see where it stands.
        columns: the first one names the lines.
        lines: in the order in which they are shown at first.
    """
    body = [
        element("tr", *(_cell(cell, i == 0) for i, cell in enumerate(line.cells)), class_=classes)
        for line in lines
        for classes in [line.classes]
    ]
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", *(_head(column) for column in columns))),
            element("tbody", *body),
            class_="sortable",
        ),
        class_="box",
        tabindex=0,
        role="region",
        aria_label=label,
    )


def details(summary: str, *children: str, classes: str | None = None) -> Markup:
    """Something that a reader may open."""
    return element("details", element("summary", summary), *children, class_=classes)


def beside(text: str, drawing: Markup) -> Markup:
    """A number and its drawing, which lie below those of the other lines."""
    return element("div", element("span", text), drawing, class_="beside")


def small(text: str) -> Markup:
    """A second line of a cell."""
    return element("small", text)


def _head(column: Column) -> Markup:
    parts = [element("span", column.title, class_="title", title=column.hint)]
    if column.detail:
        parts.append(small(column.detail))
    if column.below is not None:
        parts.append(column.below)
    return element(
        "th",
        *parts,
        scope="col",
        class_="text" if column.text else None,
        data_sort="text" if column.text else "number",
    )


def _cell(cell: Cell, names: bool) -> Markup:
    sort = cell.sort
    shown = None if sort is None else sort if isinstance(sort, str) else repr(float(sort))
    # The line's name sticks to the edge of the box; without a wrapper its width can't be bounded.
    content = element("div", cell.content) if names else fragment(cell.content)
    attributes = {"class_": cell.classes, "title": cell.hint, "data_sort": shown}
    if names:
        return element("th", content, scope="row", **attributes)
    return element("td", content, **attributes)
