"""Tables of separated columns, a row a line; a quoted field may run over several lines.

Two formats are such tables and nothing else: ``csv``, with a header whose columns the card names,
and RecBole's atomic files ``.inter`` and ``.item`` (`atomic`), with types, and times in seconds
unless the card says otherwise.
"""

import csv
from collections import deque
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from genrec_bench.data.preparation.formats.atomic import AtomicHeader, split_sequence
from genrec_bench.data.preparation.formats.fields import (
    ItemText,
    Row,
    best_texts,
    clean,
    clean_title,
    date,
    number,
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

SEPARATORS = ("::", ";", "\t", "|", ",")
"""What stands between the columns of most tables, looked for where nothing was cut."""

RECBOLE_NAMES = {"user": "user_id", "item": "item_id", "time": "timestamp"}
"""RecBole's own names of columns."""
RECBOLE_TITLES = ("title", "item_name", "movie_title", "business_name", "name")
RECBOLE_CATEGORIES = ("categories", "category", "genre", "class")


class DelimitedTable:
    """A table that is being read; ``columns`` are the names of its columns.

    ``separator`` stands between them; whoever changes it does so before the first row. ``remedy``
    ends what is said of a column that is not there.
    """

    remedy = ""

    def __init__(
        self,
        path: Path,
        malformed: Malformed,
        separator: str = ",",
        *,
        quoted: bool = True,
        header: tuple[str, ...] | None = None,
        fallback: str = "",
    ) -> None:
        """Open a table.

        Args:
            separator: one character; of several, only if nothing is quoted.
            quoted: whether fields may stand in double quotes.
            header: names of the columns of a file without a header; None if its first line is one.
            fallback: the encoding of lines that are not UTF-8; "" rejects them.

        Raises:
            UserError: the file cannot be read, or it has no header.
        """
        self.path = path
        self.malformed = malformed
        self.separator = separator
        self._quotes = quoted
        self._fallback = fallback
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
        raise UserError(
            f"{self.path}, line 1: no column is called {wanted}; there are {shown}{self.remedy}"
        )

    def rows(self, parse: Callable[[Sequence[str]], T]) -> Iterator[T]:
        """Yield what each row is parsed to; those that raise ``MalformedLine`` are rejected.

        Where a row that runs over several lines is malformed, its first line is rejected and the
        others are read again, each as a row of its own: a stray quote costs no other row.

        ``parse`` gets as many fields as there are columns.

        Raises:
            UserError: the file cannot be read, or too many lines are malformed.
        """
        width, separator, quoted = len(self.columns), self.separator, self._quotes
        while (found := self._next()) is not None:
            number, line = found
            taken: list[tuple[int, bytes]] = []
            try:
                text = self._decoded(line)
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

    def _decoded(self, line: bytes) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError:
            if not self._fallback:
                raise
            return line.decode(self._fallback)

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

        return next(csv.reader(lines(), delimiter=self.separator, strict=True))

    def _header(self) -> tuple[str, ...]:
        found = self._next()
        if found is None:
            raise UserError(f"{self.path} is empty: it has no header")
        number, line = found
        try:
            names = line.decode().split(self.separator)
            if self._quotes:
                (names,) = csv.reader([line.decode()], delimiter=self.separator, strict=True)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UserError(f"{self.path}, line {number}: not a header: {error}") from error
        return tuple(name.strip() for name in names)


def table_rows(
    table: DelimitedTable,
    names: tuple[str, str, str],
    milliseconds: Callable[[str, str], int],
    rating_name: str = "",
) -> Iterator[Row]:
    """Yield the interactions of a table that was just opened; raises like `DelimitedTable`.

    ``names`` are those of the columns of user, item and time. Rows with a rating that is too low
    are left out, where there is a column of that name.
    """
    user_name, item_name, time_name = names
    user, item, time = map(table.find, names)
    rating = table.find(rating_name) if rating_name in table.columns else None
    wanted = table.malformed.ratings.wanted

    def row(fields: Sequence[str]) -> Row | None:
        found = (
            usable_id(fields[user], user_name),
            usable_id(fields[item], item_name),
            milliseconds(fields[time], time_name),
        )
        if rating is None or not fields[rating].strip():
            return found
        return found if wanted(number(fields[rating].strip(), rating_name)) else None

    return (found for found in table.rows(row) if found is not None)


def table_items(
    table: DelimitedTable,
    wanted: Container[str],
    id_name: str,
    titles: Sequence[str],
    description_name: str,
    categories: Sequence[str] = (),
    *,
    text: Callable[[str, str], str] = lambda field, _: field,
    split: Callable[[str, str], Sequence[str]] = split_categories,
) -> Iterator[tuple[str, ItemText]]:
    """Yield the wanted items of a table that was just opened; again where their text is better.

    Of several names for a column the first that there is counts. The columns of descriptions and
    categories may be missing. ``text`` makes a text of a field, ``split`` categories; both are told
    the column's name. Raises like `DelimitedTable`.
    """
    place, title, columns = table.find(id_name), table.find(*titles), table.columns
    description, genres = (
        next((table.find(name) for name in names if name in table.columns), None)
        for names in ((description_name,), categories)
    )

    def item(fields: Sequence[str]) -> tuple[str, ItemText] | None:
        name = usable_id(fields[place], id_name)
        if name not in wanted:
            return None
        return name, ItemText(
            clean_title(text(fields[title], columns[title]), "title"),
            "" if description is None else clean(text(fields[description], columns[description])),
            () if genres is None else tuple(split(fields[genres], columns[genres])),
        )

    return best_texts(table.rows(item))


def csv_interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield the rows of a plain table of interactions."""
    names = (columns.user, columns.item, columns.time)
    table = _plain(path, malformed, columns)
    if columns.rating:
        table.find(columns.rating)
    return table_rows(table, names, MILLISECONDS[columns.time_unit], columns.rating)


def csv_items(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield the items of a plain table of items."""
    table = _plain(path, malformed, columns)
    return table_items(table, wanted, columns.item, (columns.title,), columns.description)


def _plain(path: Path, malformed: Malformed, columns: Columns) -> DelimitedTable:
    quoted = len(columns.separator) == 1
    table = DelimitedTable(path, malformed, columns.separator, quoted=quoted)
    header = table.columns[0]
    other = next((mark for mark in SEPARATORS if len(table.columns) == 1 and mark in header), "")
    if other:
        raise UserError(
            f"{path}, line 1: {header[:60]!r} is one column where {columns.separator!r} separates "
            f"them; the card says what does, under raw: `columns: {{separator: {other!r}}}`"
        )
    table.remedy = "; the card says what they are called, under raw: `columns: {user: NAME, ...}`"
    return table


def recbole_interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
    """Yield the rows of an ``.inter`` file."""
    table, header = _atomic(path, malformed)
    user, item, time = (
        RECBOLE_NAMES[usual] if getattr(columns, usual) == usual else getattr(columns, usual)
        for usual in RECBOLE_NAMES
    )
    header.find(user, "token")
    header.find(item, "token")
    header.find(time, "float", "token")
    unit = MILLISECONDS[columns.time_unit]
    return table_rows(table, (user, item, time), unit, columns.rating or "rating")


def recbole_items(
    path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
) -> Iterator[tuple[str, ItemText]]:
    """Yield the items of an ``.item`` file."""
    table, header = _atomic(path, malformed)
    item = RECBOLE_NAMES["item"] if columns.item == "item" else columns.item
    if item not in header.names and "user_id" in header.names:
        raise UserError(f"{path} tells of users ({header.told}); nothing of it is needed")
    header.find(item, "token")
    for name in (*RECBOLE_TITLES, "description", *RECBOLE_CATEGORIES):
        if name in header.names:
            header.find(name, "token", "token_seq")
    separator = columns.sequence_separator
    sequences = {
        name for name, kind in zip(header.names, header.types, strict=True) if kind == "token_seq"
    }

    def texts(field: str, name: str) -> str:
        """Return a text; its words may be separated by something else than blanks."""
        return field.replace(separator, " ") if separator and name in sequences else field

    def categories(field: str, name: str) -> Sequence[str]:
        # Lists as Python writes them are what RecBole's own conversions of Amazon have.
        if name not in sequences or (not separator and field[:1] in ("[", "'", '"')):
            return split_categories(field, name)
        return tuple(dict.fromkeys(map(clean, split_sequence(field, separator))))

    names = (item, RECBOLE_TITLES, "description", RECBOLE_CATEGORIES)
    return table_items(table, wanted, *names, text=texts, split=categories)


def _atomic(path: Path, malformed: Malformed) -> tuple[DelimitedTable, AtomicHeader]:
    """Open an atomic file, whose header tells what separates its columns."""
    table = DelimitedTable(path, malformed, "\n", quoted=False)
    header = AtomicHeader.of(table.columns[0], str(path))
    table.columns, table.separator = header.names, header.separator
    return table, header
