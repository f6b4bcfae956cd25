"""Files of one JSON object a line."""

import ast
import re
import sys
import warnings
from collections.abc import Callable, Container, Iterator
from pathlib import Path
from typing import TypeGuard, TypeVar

from genrec_bench.data.preparation.formats.fields import ItemText, Row, best_texts, usable_id
from genrec_bench.data.preparation.lines import Lines
from genrec_bench.data.preparation.malformed import Malformed, MalformedLine
from genrec_bench.storage.bounded_json import decode_loosely

T = TypeVar("T")

LONGEST_LITERAL = 256 * 1024
"""Characters of a Python literal; its syntax tree takes hundreds of times as many bytes."""

Parse = Callable[[str], dict[str, object]]
"""Makes the object of a line: `read_object` or `read_loose_object`."""


def json_rows(
    path: Path,
    malformed: Malformed,
    keys: tuple[str, str, str],
    milliseconds: Callable[[object, str], int],
    parse: Parse,
    rating_key: str = "",
) -> Iterator[Row]:
    """Yield the interactions of a file, one a line; ``keys`` are those of user, item and time.

    Those with a rating that is too low are left out.
    """
    user_key, item_key, time_key = keys
    wanted = malformed.ratings.wanted

    def row(line: str) -> Row | None:
        entry = parse(line)
        try:
            user, item, time = entry[user_key], entry[item_key], entry[time_key]
        except KeyError as missing:
            raise MalformedLine(f"missing key {missing}") from missing
        found = (
            usable_id(user, user_key),
            usable_id(item, item_key),
            milliseconds(time, time_key),
        )
        rating = entry.get(rating_key)
        return found if not _is_number(rating) or wanted(float(rating)) else None

    return (found for found in each_line(path, malformed, row) if found is not None)


def _is_number(value: object) -> TypeGuard[float]:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) <= sys.float_info.max


def json_items(
    path: Path,
    wanted: Container[str],
    malformed: Malformed,
    key: str,
    text: Callable[[dict[str, object]], ItemText],
    parse: Parse,
) -> Iterator[tuple[str, ItemText]]:
    """Yield the items of a file that are wanted, one a line.

    A line in braces that names items, but none that is wanted, is passed over before it is parsed:
    nobody learns whether it is malformed in between. An item comes again where its text is better.
    """
    # It starts with a plain piece of text, which is found many times faster than a set of letters.
    named = re.compile(re.escape(key) + r"""["']\s*:\s*(["'])(.*?)\1""").findall

    def item(line: str) -> tuple[str, ItemText] | None:
        names = named(line)
        if names and not any(name in wanted or "\\" in name for _, name in names):
            bare = line.strip()
            if bare[0] == "{" and bare[-1] == "}":
                return None
        entry = parse(line)
        if key not in entry:
            raise MalformedLine(f"missing key {key!r}")
        name = usable_id(entry[key], key)
        return (name, text(entry)) if name in wanted else None

    return best_texts(each_line(path, malformed, item))


def each_line(path: Path, malformed: Malformed, parse: Callable[[str], T]) -> Iterator[T]:
    """Yield what each line is parsed to; lines that raise ``MalformedLine`` are rejected.

    Raises:
        UserError: the file cannot be read, or too many lines are malformed.
    """
    lines = Lines(path, malformed)
    for number, line in lines:
        try:
            parsed = parse(line.decode())
        except MalformedLine as error:
            malformed.reject(path, number, str(error))
        except UnicodeDecodeError:
            malformed.reject(path, number, "not UTF-8")
        else:
            yield parsed
    malformed.end(path, lines.number - lines.blank)


def read_object(line: str) -> dict[str, object]:
    """Return the object of a line of JSON."""
    try:
        entry: object = decode_loosely(line)
    except ValueError as error:
        raise MalformedLine("not JSON") from error
    except RecursionError as error:
        raise MalformedLine("JSON nested too deep") from error
    if not isinstance(entry, dict):
        raise MalformedLine("not a JSON object")
    return entry


def read_literal(text: str) -> object:
    """Return what a Python literal says; ValueError for anything else. Nothing is evaluated."""
    if len(text) > LONGEST_LITERAL:
        raise ValueError("too long")
    try:
        with warnings.catch_warnings():  # Python's, of a backslash that escapes nothing
            warnings.simplefilter("ignore")
            found: object = ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise ValueError(f"no Python literal: {type(error).__name__}") from None
    return found


def read_loose_object(line: str) -> dict[str, object]:
    """Return the object of a line of JSON, or of a Python literal, which is never evaluated."""
    try:
        return read_object(line)
    except MalformedLine as error:
        if not line.lstrip().startswith("{"):
            raise
        if len(line) > LONGEST_LITERAL:
            raise MalformedLine("neither JSON nor a short Python literal") from error
    try:
        entry = read_literal(line)
    except ValueError as error:
        raise MalformedLine("neither JSON nor a Python literal") from error
    if not isinstance(entry, dict):
        raise MalformedLine("neither JSON nor a Python literal")
    return entry
