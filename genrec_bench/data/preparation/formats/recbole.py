"""RecBole's atomic files: ``.inter`` and ``.item``, separated by tabs.

A column is called ``name:type``; types are not asked. Times are in seconds.

Source: https://recbole.io/docs/user_guide/data/atomic_files.html.
"""

from collections.abc import Container, Iterator
from pathlib import Path

from genrec_bench.data.preparation.formats.delimited import (
    DelimitedTable,
    TableLayout,
    table_items,
    table_rows,
)
from genrec_bench.data.preparation.formats.fields import ItemText, Row, number_of_seconds
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns

LAYOUT = TableLayout(separator="\t", quoted=False)
TITLES = ("title", "item_name", "movie_title", "business_name", "name")
CATEGORIES = ("categories", "category", "genre", "class")


def interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield the rows of an ``.inter`` file."""
    names = ("user_id", "item_id", "timestamp")
    return table_rows(_table(path, malformed), names, number_of_seconds)


def items(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield the rows of an ``.item`` file."""
    table = _table(path, malformed)
    return table_items(table, wanted, "item_id", TITLES, "description", CATEGORIES)


def _table(path: Path, malformed: Malformed) -> DelimitedTable:
    table = DelimitedTable(path, malformed, LAYOUT)
    table.columns = tuple(column.split(":", 1)[0] for column in table.columns)
    return table
