"""Tables of separated columns, a row a line; a quoted field may run over several lines."""

import csv
from collections import deque
from collections.abc import Callable, Container, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from genrec_bench.data.preparation.formats.fields import (
    ItemText,
    Row,
    best_texts,
    clean,
    clean_title,
    split_categories,
    usable_id,
)
from genrec_bench.data.preparation.lines import Lines
from genrec_bench.data.preparation.malformed import Malformed, MalformedLine
from genrec_bench.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class TableLayout:
    """How a table is written.

    Attributes:
        separator: one character.
        quoted: whether fields may stand in double quotes.
        header: names of the columns where the file has no header; None where its first line is one.
    """

    separator: str = ","
    quoted: bool = True
    header: tuple[str, ...] | None = None


class DelimitedTable:
    """A table that is being read; ``columns`` are the names of its columns.

    Raises:
        UserError: the file cannot be read, or it has no header.
    """

    def __init__(self, path: Path, malformed: Malformed, layout: TableLayout) -> None:
        self.path = path
        self.malformed = malformed
        self.layout = layout
        self._lines = Lines(path, malformed)
        self._fresh = iter(self._lines)
        self._again: deque[tuple[int, bytes]] = deque()
        self._continued = 0
        self.columns = layout.header or self._header()

    def find(self, *names: str) -> int:
        """Return the place of the column of one of these names, the first that there is.

        Raises:
            UserError: there is none, or two have that name.
        """
        for name in names:
            if name in self.columns:
                if self.columns.count(name) > 1:
                    raise UserError(f"{self.path}, line 1: two columns are called {name!r}")
                return self.columns.index(name)
        wanted = " or ".join(map(repr, names))
        shown = ", ".join(map(repr, self.columns[:10]))[:200]
        raise UserError(f"{self.path}, line 1: no column is called {wanted}; there are {shown}")

    def rows(self, parse: Callable[[Sequence[str]], T]) -> Iterator[T]:
        """Yield what each row is parsed to; those that raise ``MalformedLine`` are rejected.

        Where a row that runs over several lines is malformed, its first line is rejected and the
        others are read again, each as a row of its own: a stray quote costs no other row.

        ``parse`` gets as many fields as there are columns.

        Raises:
            UserError: the file cannot be read, or too many lines are malformed.
        """
        width, separator = len(self.columns), self.layout.separator
        quoted = self.layout.quoted
        while (found := self._next()) is not None:
            number, line = found
            taken: list[tuple[int, bytes]] = []
            try:
                text = line.decode()
                if quoted and '"' in text:
                    fields = self._quoted(text, taken)
                else:
                    fields = text.split(separator)
                if len(fields) != width:
                    more = "more" if len(fields) > width else "fewer"
                    raise MalformedLine(f"{more} fields than columns")
                parsed = parse(fields)
            except (MalformedLine, csv.Error, UnicodeDecodeError) as error:
                reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
                self.malformed.reject(self.path, number, reason)
                self._again.extendleft(reversed(taken))
            else:
                self._continued += len(taken)
                yield parsed
        header = self.layout.header is None
        lines = self._lines.number - self._lines.blank - self._continued - header
        self.malformed.end(self.path, lines)

    def _next(self) -> tuple[int, bytes] | None:
        return self._again.popleft() if self._again else next(self._fresh, None)

    def _quoted(self, text: str, taken: list[tuple[int, bytes]]) -> list[str]:
        """Return the fields of a row; `taken` gets the lines that it runs over after its first.

        The csv module gives up where a field grows beyond its limit, and with it this.
        """

        def lines() -> Iterator[str]:
            yield text + "\n"
            while (found := self._next()) is not None:
                taken.append(found)
                yield found[1].decode() + "\n"

        return next(csv.reader(lines(), delimiter=self.layout.separator, strict=True))

    def _header(self) -> tuple[str, ...]:
        found = self._next()
        if found is None:
            raise UserError(f"{self.path} is empty: it has no header")
        number, line = found
        separator = self.layout.separator
        try:
            names = line.decode().split(separator)
            if self.layout.quoted:
                (names,) = csv.reader([line.decode()], delimiter=separator, strict=True)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}, line {number}: not a header: {error}") from error
        return tuple(name.strip() for name in names)


def table_rows(
    table: DelimitedTable, names: tuple[str, str, str], milliseconds: Callable[[str, str], int]
) -> Iterator[Row]:
    """Yield the interactions of a table that was just opened.

    Args:
        names: of the columns of user, item and time.
        milliseconds: makes them of the time and its column's name.

    Raises:
        UserError: a column is missing, or whatever `DelimitedTable.rows` raises.
    """
    user_name, item_name, time_name = names
    user, item, time = map(table.find, names)

    def row(fields: Sequence[str]) -> Row:
        return (
            usable_id(fields[user], user_name),
            usable_id(fields[item], item_name),
            milliseconds(fields[time], time_name),
        )

    return table.rows(row)


def table_items(
    table: DelimitedTable,
    wanted: Container[str],
    id_name: str,
    titles: Sequence[str],
    description_name: str,
    categories: Sequence[str] = (),
) -> Iterator[tuple[str, ItemText]]:
    """Yield the wanted items of a table that was just opened; again where their text is better.

    Args:
        id_name: of the column of ids.
        titles: names that the column of titles may have, the first that there is.
        description_name: of the column of descriptions, which may be missing.
        categories: names that the column of categories may have; it may be missing.

    Raises:
        UserError: a column is missing, or whatever `DelimitedTable.rows` raises.
    """
    place, title = table.find(id_name), table.find(*titles)
    description, genres = (
        next((table.find(name) for name in names if name in table.columns), None)
        for names in ((description_name,), categories)
    )

    def item(fields: Sequence[str]) -> tuple[str, ItemText] | None:
        name = usable_id(fields[place], id_name)
        if name not in wanted:
            return None
        return name, ItemText(
            clean_title(fields[title], "title"),
            "" if description is None else clean(fields[description]),
            () if genres is None else split_categories(fields[genres], "categories"),
        )

    return best_texts(table.rows(item))
