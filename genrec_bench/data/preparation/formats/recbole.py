"""RecBole's atomic files: ``.inter`` and ``.item``, separated by tabs.

A column is called ``name:type``; types are not asked. Times are in seconds.

Source: https://recbole.io/docs/user_guide/data/atomic_files.html.
"""

from collections.abc import Container, Iterator, Sequence
from pathlib import Path

from genrec_bench.data.preparation.formats.delimited import Layout, Table, table_rows
from genrec_bench.data.preparation.formats.fields import (
    ItemText,
    Row,
    best_texts,
    clean,
    clean_title,
    number_of_seconds,
    split_categories,
    usable_id,
)
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns

LAYOUT = Layout(separator="\t", quoted=False)
TITLES = ("title", "item_name", "movie_title", "business_name", "name")
CATEGORIES = ("categories", "category", "genre", "class")


def interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield the rows of an ``.inter`` file."""
    table = _table(path, malformed)
    return table_rows(table, ("user_id", "item_id", "timestamp"), number_of_seconds)


def items(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield the rows of an ``.item`` file; the same one again where a better text comes."""
    table = _table(path, malformed)
    id_place, title = table.find("item_id"), table.find(*TITLES)
    description = table.find("description") if table.has("description") else None
    genres = next((table.find(name) for name in CATEGORIES if table.has(name)), None)

    def item(fields: Sequence[str]) -> tuple[str, ItemText] | None:
        name = usable_id(fields[id_place], "item_id")
        if name not in wanted:
            return None
        return name, ItemText(
            clean_title(fields[title], "title"),
            "" if description is None else clean(fields[description]),
            () if genres is None else split_categories(fields[genres], "categories"),
        )

    return best_texts(table.rows(item))


def _table(path: Path, malformed: Malformed) -> Table:
    table = Table(path, malformed, LAYOUT)
    table.columns = tuple(column.split(":", 1)[0] for column in table.columns)
    return table
