"""Plain tables: CSV with a header, whose columns the card names."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path

from genrec_bench.data.preparation.formats.delimited import Layout, Table, table_rows
from genrec_bench.data.preparation.formats.fields import (
    ItemText,
    Row,
    best_texts,
    clean,
    clean_title,
    date,
    number_of_milliseconds,
    number_of_seconds,
    usable_id,
)
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.raw_recipe import Columns

MILLISECONDS: Mapping[str, Callable[[str, str], int]] = {
    "s": number_of_seconds,
    "ms": number_of_milliseconds,
    "iso": date,
}


def interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a table."""
    table = _table(path, malformed, columns)
    names = (columns.user, columns.item, columns.time)
    return table_rows(table, names, MILLISECONDS[columns.time_unit])


def items(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield the items of a table; the same one again where a better text comes."""
    table = _table(path, malformed, columns)
    id_place, title = table.find(columns.item), table.find(columns.title)
    described = table.has(columns.description)
    description = table.find(columns.description) if described else None

    def item(fields: Sequence[str]) -> tuple[str, ItemText] | None:
        name = usable_id(fields[id_place], columns.item)
        if name not in wanted:
            return None
        text = "" if description is None else clean(fields[description])
        return name, ItemText(clean_title(fields[title], columns.title), text, ())

    return best_texts(table.rows(item))


def _table(path: Path, malformed: Malformed, columns: Columns) -> Table:
    return Table(path, malformed, Layout(columns.separator))
