"""RecBole's atomic files ``.inter``, ``.user`` and ``.item``: names and types, then rows.

A column is called ``name:type``, and the type is one of four: ``token`` (one discrete value, such
as an id), ``token_seq`` (several, such as the words of a title), ``float`` (a number, such as a
time) and ``float_seq`` (several numbers, such as a vector). What separates columns is RecBole's
``field_separator``, a tab if nobody says otherwise; here it is read off the header. What separates
the parts of a sequence is its ``seq_separator``, a blank if nobody says otherwise.

Source: https://recbole.io/docs/user_guide/data/atomic_files.html and
https://recbole.io/docs/user_guide/config/data_settings.html.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from genrec_bench.errors import UserError, nearest

TYPES = ("token", "token_seq", "float", "float_seq")

LONGEST_HEADER = 10_000
"""Characters."""

_COLUMN = re.compile(r"(?P<name>[^\s:,;|]+):(?P<type>[A-Za-z]\w*)")
"""Names of columns hold no separators."""


@dataclass(frozen=True)
class AtomicHeader:
    """The first line of an atomic file.

    Attributes:
        names: of the columns, in their order; types: of each.
        separator: what stands between two columns.
        where: the file, as messages call it.
    """

    names: tuple[str, ...]
    types: tuple[str, ...]
    separator: str
    where: str

    @classmethod
    def of(cls, line: str, where: str) -> AtomicHeader:
        """Read a header; UserError where a column has no type or an unknown one."""
        place = f"{where}, line 1"
        if len(line) > LONGEST_HEADER:
            raise UserError(f"{place}: longer than {LONGEST_HEADER} characters: is it a header?")
        matches = list(_COLUMN.finditer(line))
        if not matches:
            raise UserError(
                f"{place}: no column is called name:type, with the types {', '.join(TYPES)}, as in "
                f"user_id:token; is it an atomic file of RecBole? It begins {line[:60]!r}"
            )
        between = {line[a.end() : b.start()] for a, b in zip(matches, matches[1:], strict=False)}
        if len(between) > 1 or matches[0].start() or line[matches[-1].end() :].strip():
            raise UserError(f"{place}: not every column is called name:type: {line[:80]!r}")
        for match in matches:
            if match["type"] not in TYPES:
                raise UserError(
                    f"{place}: column {match['name']!r} is of the type {match['type']!r}"
                    f"{nearest(match['type'], TYPES)}; RecBole has {', '.join(TYPES)}"
                )
        names = tuple(match["name"] for match in matches)
        types = tuple(match["type"] for match in matches)
        return cls(names, types, between.pop() if between else "\t", where)

    @property
    def told(self) -> str:
        """What was understood, in a few words."""
        columns = ", ".join(map(":".join, zip(self.names, self.types, strict=True)))
        return f"columns {columns}, separated by {self.separator!r}"

    def find(self, name: str, *types: str) -> int:
        """Return a column's place; UserError where it is missing, twice, or of another type."""
        if self.names.count(name) != 1:
            found = "two columns are" if name in self.names else "no column is"
            shown = ", ".join(map(repr, self.names[:10]))
            raise UserError(f"{self.where}, line 1: {found} called {name!r}; there are {shown}")
        place = self.names.index(name)
        self.check_type(place, *types)
        return place

    def check_type(self, place: int, *types: str) -> None:
        """Raise UserError where a column is of another type than these."""
        if self.types[place] not in types:
            raise UserError(
                f"{self.where}, line 1: column {self.names[place]!r} is of the type "
                f"{self.types[place]}, and must be {' or '.join(types)}"
            )

    def split(self, line: str) -> list[str]:
        """Return the fields of a row."""
        return line.split(self.separator)

    def sequence(self, field: str, separator: str = "") -> Sequence[str]:
        """Return the parts of a field that is a sequence, by a separator or what it shows."""
        return split_sequence(field, separator)


def split_sequence(field: str, separator: str = "") -> list[str]:
    """Return the parts of a sequence.

    ``separator`` is RecBole's ``seq_separator``; "" stands for the first of ``|``, ``;`` and ``,``
    that is there, and blanks where none is.
    """
    chosen = separator or next((mark for mark in "|;," if mark in field), " ")
    parts = field.split() if chosen == " " else field.split(chosen)
    return [part.strip() for part in parts if part.strip()]
