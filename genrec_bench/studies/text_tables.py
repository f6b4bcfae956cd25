"""Tables as text: for a terminal, as Markdown, and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from typing import Literal

from tabulate import tabulate

from genrec_bench.boards.text_cells import escaped, spreadsheet_text

Style = Literal["simple", "pipe"]
"""For a terminal, or Markdown."""


def table_text(
    headers: Sequence[str], rows: Iterable[Sequence[object]], style: Style, align: str = ""
) -> str:
    """Return a table whose cells are shown as they are.

    Args:
        rows: a cell for each column.
        align: "l" or "r" for each column; the first one is left and the others right by default.
    """
    sides = {"l": "left", "r": "right"}
    if style == "pipe":
        rows = [[escaped(str(cell)) for cell in row] for row in rows]
    return tabulate(
        rows,
        headers,
        tablefmt=style,
        disable_numparse=True,
        colalign=[sides[side] for side in align or "l" + "r" * (len(headers) - 1)],
    )


def csv_text(headers: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table as CSV; None is an empty cell, and no text is a formula to a spreadsheet."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(headers)
    writer.writerows([spreadsheet_text(cell) for cell in row] for row in rows)
    return text.getvalue()
