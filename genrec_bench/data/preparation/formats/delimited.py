"""Tables of separated columns, a row a line; a quoted field may run over several lines.

Two formats are such tables and nothing else: ``csv``, with a header whose columns the card names,
and RecBole's atomic files ``.inter`` and ``.item``, separated by tabs, where a column is called
``name:type``; types are not asked, and times are in seconds
(https://recbole.io/docs/user_guide/data/atomic_files.html).
"""

import csv
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from genrec_bench.data.preparation.formats.fields import (
    ItemText,
    Row,
    best_texts,
    clean,
    clean_title,
    date,
    number_of_milliseconds,
    number_of_seconds,
    split_categories,
    usable_id,
)
from genrec_bench.data.preparation.lines import Lines
from genrec_bench.data.preparation.malformed import Malformed, MalformedLine
from genrec_bench.data.preparation.raw_recipe import Columns
from genrec_bench.errors import UserError

T = TypeVar("T")

MILLISECONDS: Mapping[str, Callable[[str, str], int]] = {
    "s": number_of_seconds,
    "ms": number_of_milliseconds,
    "iso": date,
}
"""How to read a time, by the unit on the card."""

RECBOLE_TITLES = ("title", "item_name", "movie_title", "business_name", "name")
RECBOLE_CATEGORIES = ("categories", "category", "genre", "class")


class DelimitedTable:
    """A table that is being read; ``columns`` are the names of its columns."""

    def __init__(
        self,
        path: Path,
        malformed: Malformed,
        separator: str = ",",
        *,
        quoted: bool = True,
        header: tuple[str, ...] | None = None,
    ) -> None:
        """Open a table.

        Args:
            separator: one character.
            quoted: whether fields may stand in double quotes.
            header: names of the columns of a file without a header; None if its first line is one.

        Raises:
            UserError: the file cannot be read, or it has no header.
        """
        self.path = path
        self.malformed = malformed
        self._separator = separator
        self._quotes = quoted
        self._headless = header is not None
        self._lines = Lines(path, malformed)
        self._fresh = iter(self._lines)
        self._again: deque[tuple[int, bytes]] = deque()
        self._continued = 0
        self.columns = header or self._header()

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
        width, separator, quoted = len(self.columns), self._separator, self._quotes
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
        lines = self._lines.number - self._lines.blank - self._continued
        self.malformed.end(self.path, lines if self._headless else lines - 1)

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

        return next(csv.reader(lines(), delimiter=self._separator, strict=True))

    def _header(self) -> tuple[str, ...]:
        found = self._next()
        if found is None:
            raise UserError(f"{self.path} is empty: it has no header")
        number, line = found
        try:
            names = line.decode().split(self._separator)
            if self._quotes:
                (names,) = csv.reader([line.decode()], delimiter=self._separator, strict=True)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}, line {number}: not a header: {error}") from error
        return tuple(name.strip() for name in names)


def table_rows(
    table: DelimitedTable, names: tuple[str, str, str], milliseconds: Callable[[str, str], int]
) -> Iterator[Row]:
    """Yield the interactions of a table that was just opened; raises like `DelimitedTable`.

    ``names`` are those of the columns of user, item and time.
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

    Of several names for a column the first that there is counts. The columns of descriptions and
    categories may be missing. Raises like `DelimitedTable`.
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


def csv_interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a plain table of interactions."""
    names = (columns.user, columns.item, columns.time)
    table = DelimitedTable(path, malformed, columns.separator)
    return table_rows(table, names, MILLISECONDS[columns.time_unit])


def csv_items(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield the items of a plain table of items."""
    table = DelimitedTable(path, malformed, columns.separator)
    return table_items(table, wanted, columns.item, (columns.title,), columns.description)


def recbole_interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield the rows of an ``.inter`` file."""
    table = _atomic(path, malformed)
    return table_rows(table, ("user_id", "item_id", "timestamp"), number_of_seconds)


def recbole_items(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield the items of an ``.item`` file."""
    names = ("item_id", RECBOLE_TITLES, "description", RECBOLE_CATEGORIES)
    return table_items(_atomic(path, malformed), wanted, *names)


def _atomic(path: Path, malformed: Malformed) -> DelimitedTable:
    table = DelimitedTable(path, malformed, "\t", quoted=False)
    table.columns = tuple(column.split(":", 1)[0] for column in table.columns)
    return table
