"""Plain tables: CSV with a header, whose columns the card names."""

from collections.abc import Callable, Container, Iterator, Mapping
from pathlib import Path

from genrec_bench.data.preparation.formats.delimited import (
    DelimitedTable,
    TableLayout,
    table_items,
    table_rows,
)
from genrec_bench.data.preparation.formats.fields import (
    ItemText,
    Row,
    date,
    number_of_milliseconds,
    number_of_seconds,
)
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns

MILLISECONDS: Mapping[str, Callable[[str, str], int]] = {
    "s": number_of_seconds,
    "ms": number_of_milliseconds,
    "iso": date,
}


def interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a table of interactions."""
    table = DelimitedTable(path, malformed, TableLayout(columns.separator))
    names = (columns.user, columns.item, columns.time)
    return table_rows(table, names, MILLISECONDS[columns.time_unit])


def items(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield the items of a table of items."""
    table = DelimitedTable(path, malformed, TableLayout(columns.separator))
    return table_items(table, wanted, columns.item, (columns.title,), columns.description)
