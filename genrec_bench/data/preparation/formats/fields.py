"""What every format is read into, and how the fields of a line are checked and cleaned.

Every function raises ``MalformedLine`` with a kind of reason where a field cannot be used.
"""

import html
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from genrec_bench.data.preparation.malformed import Malformed, MalformedLine
from genrec_bench.data.preparation.raw_recipe import Columns

Row = tuple[str, str, int]
"""User, item, time in milliseconds since 1970 in UTC."""

LONGEST_ID = 256
"""Characters."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
LATEST = (datetime(2100, 1, 1, tzinfo=UTC) - EPOCH) // MILLISECOND
"""A time after it is absurd: most likely its unit is not what it was taken for."""

NUMBER = re.compile(r"[+-]?\d+(\.\d*)?([eE][+-]?\d+)?", re.ASCII)
DATE = re.compile(r"\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?(Z|[+-]\d\d:?\d\d)?)?", re.ASCII)

JUNK = ("<span id", ".getTime()")
"""Marks titles of 2018 that are pieces of a page rather than titles."""

NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")
"""Control characters, and halves of characters that no file can hold."""


@dataclass(frozen=True)
class ItemText:
    """What is said of an item, cleaned; categories from the general to the special if in order."""

    title: str
    description: str
    categories: tuple[str, ...]


@dataclass(frozen=True)
class Format:
    """How to read the raw files of a dataset, gzip files and plain ones alike.

    Both readers raise ``UserError`` where a file is missing, not whole, or too much of it is
    malformed, and ``StorageError`` where the disk refuses; while they are iterated, too.

    Attributes:
        interactions: yields user, item and time of each line, in the file's order.
        items: yields each wanted item with its texts. An item that a file has twice is yielded
            again where the second text is better (`best_texts`): the last one counts.
    """

    interactions: Callable[[Path, Malformed, Columns], Iterator[Row]]
    items: Callable[[Path, Container[str], Malformed, Columns], Iterator[tuple[str, ItemText]]]


def usable_id(value: object, name: str) -> str:
    """Return an id as it is; `name` is what its key or column is called."""
    if type(value) is not str:
        raise MalformedLine(f"{name} is not text")
    if len(value) > LONGEST_ID:
        raise MalformedLine(f"{name} is longer than {LONGEST_ID} characters")
    if not value.isprintable():
        raise MalformedLine(f"{name} has characters that cannot be printed")
    if not value.strip():
        raise MalformedLine(f"{name} is empty")
    return value


def whole_seconds(value: object, name: str) -> int:
    """Return the milliseconds of a JSON integer in seconds."""
    return whole_milliseconds(value * 1000 if type(value) is int else value, name)


def whole_milliseconds(value: object, name: str) -> int:
    """Return a JSON integer in milliseconds."""
    if type(value) is not int:
        raise MalformedLine(f"{name} is not an integer")
    return usable_time(value)


def date(value: object, name: str) -> int:
    """Return the milliseconds of a date, with or without a time; in UTC where it says nothing."""
    if type(value) is not str or not DATE.fullmatch(value):
        raise MalformedLine(f"{name} is not a date such as 2018-07-07 or 2018-07-07 22:09:11")
    try:
        when = datetime.fromisoformat(value)
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        return usable_time((when - EPOCH) // MILLISECOND)
    except (ValueError, OverflowError) as error:
        raise MalformedLine(f"{name} is a date that does not exist") from error


def number(text: str, name: str) -> float:
    """Return a number that is not negative, such as a rating."""
    if not NUMBER.fullmatch(text):
        raise MalformedLine(f"{name} is not a number")
    return float(text)


def number_of_seconds(text: str, name: str) -> int:
    """Return the milliseconds of a number in seconds, whole or not, to the nearest."""
    return _milliseconds(text, name, 1000)


def number_of_milliseconds(text: str, name: str) -> int:
    """Return the nearest integer of a number in milliseconds."""
    return _milliseconds(text, name, 1)


def _milliseconds(text: str, name: str, unit: int) -> int:
    if not NUMBER.fullmatch(text):
        raise MalformedLine(f"{name} is not a number")
    time = float(text) * unit  # exact for the whole numbers that are accepted
    return usable_time(round(min(max(time, -1), LATEST + 1)))


def usable_time(milliseconds: int) -> int:
    """Return a time that lies between 1970 and `LATEST`."""
    if milliseconds < 0:
        raise MalformedLine("negative time")
    if milliseconds > LATEST:
        raise MalformedLine("absurd time (wrong unit?)")
    return milliseconds


def clean(text: str) -> str:
    """Return a text in one line: entities of HTML unescaped, runs of whitespace one space."""
    return " ".join(NO_TEXT.sub(" ", html.unescape(text)).split())


def clean_title(value: object, name: str) -> str:
    """Return a title; "" where there is none, or junk in its place."""
    text = clean(_text(value, name))
    return "" if any(mark in text for mark in JUNK) else text


def clean_description(value: object, name: str) -> str:
    """Return a text, or a list of them as one."""
    return clean(" ".join(_texts(value, name)))


def clean_categories(value: object, name: str) -> tuple[str, ...]:
    """Return the categories of a list, or of a list of such paths, each once."""
    return _distinct(_texts(value, name))


def split_categories(text: object, name: str) -> tuple[str, ...]:
    """Return the categories of a text that separates them by commas, each once."""
    return _distinct(part.strip(" []'\"") for part in _text(text, name).split(","))


def best_texts(items: Iterable[tuple[str, ItemText] | None]) -> Iterator[tuple[str, ItemText]]:
    """Yield each item when it is first met, and again with a better text: the last one counts.

    A text with a title is better than one without; else the one whose title, description and
    categories come first in order is, so that the order of lines changes nothing. None stands for
    an item that nobody wants.
    """

    def rank(text: ItemText) -> tuple[bool, str, str, tuple[str, ...]]:
        return (not text.title, text.title, text.description, text.categories)

    best: dict[str, ItemText] = {}
    for found in items:
        if found is None:
            continue
        item, text = found
        if item not in best or rank(text) < rank(best[item]):
            best[item] = text
            yield item, text


def _text(value: object, name: str) -> str:
    if value is None:
        return ""
    if type(value) is not str:
        raise MalformedLine(f"{name} is not text")
    return value


def _texts(value: object, name: str) -> list[str]:
    """Return the texts of a text, of a list, or of a list of lists."""
    if not isinstance(value, list):
        return [_text(value, name)]
    texts: list[str] = []
    for part in value:
        inner = part if isinstance(part, list) else [part]
        texts += [_text(text, name) for text in inner]
    return texts


def _distinct(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(filter(None, map(clean, texts))))
