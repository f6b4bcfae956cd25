"""Texts of items and users as columns of Arrow: some bytes each, where Python's texts take fifty.

They read as tuples do, so that nobody who asks for the title of an item need know of them.
"""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, ClassVar, Self, TypeVar, overload

import numpy as np
import pyarrow as pa

T = TypeVar("T")

AT_ONCE = 65_536
"""Entries that are Python's at one time, where all are visited."""


class _Column(Sequence[T]):
    """Entries that never change."""

    _kind: ClassVar[pa.DataType]
    _what: ClassVar[str]

    def __init__(self, array: pa.Array) -> None:
        """Hold an array of the column's type, or one of nulls, each of which is the empty entry."""
        self.array = array

    @classmethod
    def of(cls, entries: Iterable[T] | pa.Array | pa.ChunkedArray) -> Self:
        """Return entries as a column; a column stays the same.

        Raises:
            ValueError: some are no such entries, or no texts in UTF-8.
        """
        if isinstance(entries, cls):
            return entries
        if isinstance(entries, pa.ChunkedArray):
            entries = entries.combine_chunks()
        if not isinstance(entries, pa.Array):
            entries = tuple(entries)
            if not any(entries):
                return cls.empty(len(entries))
        try:
            array = pa.array(entries, cls._kind)
        except (pa.ArrowException, UnicodeError, TypeError) as error:
            raise ValueError(f"no column of {cls._what}: {error}") from error
        return cls(array)

    @classmethod
    def empty(cls, count: int) -> Self:
        """Return so many empty entries."""
        return cls(pa.nulls(count))

    @staticmethod
    @abstractmethod
    def _read(value: Any) -> Any:
        """Return an entry as Arrow tells it as Python has it."""

    @property
    def nbytes(self) -> int:
        """The bytes that all of it takes."""
        return int(self.array.nbytes)

    def __len__(self) -> int:
        return len(self.array)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Self: ...
    def __getitem__(self, index: int | slice) -> T | Self:
        if isinstance(index, slice):
            chosen = np.arange(len(self))[index]
            return type(self)(self.array.take(pa.array(chosen)))
        place = int(index)
        if not -len(self) <= place < len(self):
            raise IndexError(f"{place} is none of {len(self)} entries")
        entry: T = self._read(self.array[place % len(self)].as_py())
        return entry

    def __iter__(self) -> Iterator[T]:
        for first in range(0, len(self), AT_ONCE):
            yield from map(self._read, self.array.slice(first, AT_ONCE).to_pylist())

    def __bool__(self) -> bool:
        return len(self) > 0

    def __eq__(self, other: object) -> bool:
        if isinstance(other, str) or not isinstance(other, Sequence):
            return NotImplemented
        if isinstance(other, _Column) and self.array.equals(other.array):
            return True
        return len(self) == len(other) and all(
            one == another for one, another in zip(self, other, strict=True)
        )

    def __hash__(self) -> int:
        # That of the tuple to which it is equal.
        return hash(tuple(self))

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self[:3]))
        return f"{type(self).__name__}({len(self):,}: {shown}{', ...' if len(self) > 3 else ''})"

    def __arrow_array__(self, type: pa.DataType | None = None) -> pa.Array:
        """Return what `pa.array` makes of it."""
        whole = self._whole()
        return whole if type is None else whole.cast(type)

    @abstractmethod
    def _whole(self) -> pa.Array:
        """Return the array with empty entries for nulls."""


class Texts(_Column[str]):
    """A column of texts; where all are empty it takes no memory."""

    _kind, _what = pa.large_string(), "texts"

    @staticmethod
    def _read(value: Any) -> str:
        return value or ""

    def _whole(self) -> pa.Array:
        array = self.array.cast(self._kind)
        return array.fill_null("") if array.null_count else array

    def json_pieces(self) -> Iterator[bytes]:
        """Yield the pieces of what `json.dumps` makes of the list of all, without making it."""
        yield b"["
        for first in range(0, len(self), AT_ONCE):
            part = json.dumps([text for text in self[first : first + AT_ONCE]])[1:-1]
            yield (", " if first else "").encode() + part.encode()
        yield b"]"


class TextLists(_Column[tuple[str, ...]]):
    """A column of lists of texts."""

    _kind, _what = pa.large_list(pa.large_string()), "lists of texts"

    @staticmethod
    def _read(value: Any) -> tuple[str, ...]:
        return tuple(value or ())

    def _whole(self) -> pa.Array:
        if self.array.null_count:
            return pa.array(list(self), self._kind)
        return self.array
