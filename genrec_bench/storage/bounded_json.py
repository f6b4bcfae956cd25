"""JSON that others may have written or machines damaged: read within bounds.

Whatever reads JSON in this package reads it here. Python's own reader takes numbers that no float
and no column can hold, a key twice, halves of characters that no file can hold, and trees so deep
that whoever walks through them fails.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from genrec_bench.errors import UserError, one_line

MOST_BYTES = 2**30
"""Of a file: the largest that are published have some hundred million."""

MOST_DEPTH = 64
"""Lists and objects within each other."""

WHOLE = range(-(2**63), 2**63)
"""Whole numbers that a column can hold."""

_PIECE = 2**20
_LONGEST = len(str(WHOLE[0]))
_ESCAPED = re.compile(r"\\u(?:[dD][89a-fA-F]|0000)")
_NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""NUL, and halves of characters (surrogates)."""
_TOO_DEEP = f"lists or objects are nested more than {MOST_DEPTH} deep"


def load_json(file: Path, *, most: int = MOST_BYTES, constants: bool = False) -> Any:
    """Read a file; see `decode_json`.

    Raises:
        OSError: it is missing, or the disk refuses.
        ValueError: it is larger than ``most`` bytes, no plain file, or not such JSON.
    """
    # Devices and pipes may never end; what is missing is told by opening it.
    if file.exists() and not file.is_file():
        raise ValueError("is not a file")
    with file.open("rb") as opened:
        content = read_at_most(opened, most + 1)
    return decode_json(content, most=most, constants=constants)


def read_at_most(opened: IO[bytes], most: int) -> bytes:
    """Read a file to its end, or so many bytes of it; no memory is asked for that it does not fill.

    Python's own ``read(most)`` asks for all of it first.
    """
    pieces: list[bytes] = []
    while most and (piece := opened.read(min(most, _PIECE))):
        pieces.append(piece)
        most -= len(piece)
    return b"".join(pieces)


def parse_json(content: str | bytes, where: str) -> Any:
    """Return what a text says; see `decode_json`.

    Raises:
        UserError: it is not such JSON; begins with ``where``, which may name a line already.
    """
    try:
        return decode_json(content)
    except ValueError as error:
        told = str(error)
        if ", line" in where:
            raise UserError(f"{where}: {told.removeprefix('line 1: ')}") from None
        raise UserError(f"{where}, {told}") from None


def decode_json(content: str | bytes, *, most: int = MOST_BYTES, constants: bool = False) -> Any:
    """Return what a text in UTF-8 says: of bounded size and depth, with finite numbers.

    Whole numbers have at most 64 bits, no key stands twice in an object, and texts can be written
    to a file and used as a name: they hold neither NUL nor halves of characters.

    Args:
        most: bytes or characters.
        constants: whether ``NaN`` and ``Infinity`` are numbers, as in what Python writes.

    Raises:
        ValueError: it is none of that; one line that begins with the place, such as ``line 3:``.
    """
    if len(content) > most:
        raise ValueError(f"line 1: malformed JSON: longer than {most:,} bytes")
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1  # type: ignore[arg-type]
        raise ValueError(f"line {line}: not UTF-8 ({error.reason})") from None
    try:
        value = _decoder(text, constants).decode(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"line {error.lineno}: malformed JSON: {error.msg}") from None
    except RecursionError:
        raise _wrong(text, _too_deep(text), _TOO_DEEP) from None
    if text.count("[") + text.count("{") > MOST_DEPTH and _is_deep(value):
        raise _wrong(text, _too_deep(text), _TOO_DEEP)
    # Pairs of halves are characters, and a backslash may be meant as one.
    escaped = _ESCAPED.search(text)
    if escaped is not None and (odd := oddity(value, constants=constants)):
        raise _wrong(text, escaped.start(), odd)
    return value


def decode_loosely(line: str) -> Any:
    """Return what a line of a raw file says, whose fields are checked and cleaned one by one.

    Published files repeat keys, and have ``NaN`` and halves of characters. Whole numbers have as
    many digits as Python reads.

    Raises:
        ValueError: it is no JSON.
        RecursionError: it is nested deeper than Python reads.
    """
    return _LOOSE(line)


_LOOSE = json.JSONDecoder().decode


def oddity(value: object, *, constants: bool = False) -> str:
    """Return what `decode_json` refuses in plain values, as for YAML; "" for nothing."""
    if _is_deep(value):
        return _TOO_DEEP
    for one in _leaves(value):
        if isinstance(one, int) and one not in WHOLE:
            return "a whole number has more than 64 bits"
        if isinstance(one, float) and not (constants or math.isfinite(one)):
            return f"{one} is no finite number"
        if isinstance(one, str) and (found := _NO_TEXT.search(one)):
            what = "NUL" if found.group() == "\0" else "half of a character"
            return f"{what} in a text, {ascii(one)[:40]}"
    return ""


def _decoder(text: str, constants: bool) -> json.JSONDecoder:
    def whole(digits: str) -> int:
        if len(digits) > _LONGEST or (number := int(digits)) not in WHOLE:
            raise _wrong(text, text.find(digits), f"{digits[:24]} has more than 64 bits")
        return number

    def finite(digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            raise _wrong(text, text.find(digits), f"{digits[:24]} is too large a number")
        return number

    def constant(name: str) -> float:
        raise _wrong(text, text.find(name), f"{name} is no number")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        content = dict(pairs)
        if len(content) < len(pairs):
            key = Counter(key for key, _ in pairs).most_common(1)[0][0]
            raise _wrong(text, text.rfind(json.dumps(key)), f"key {key!r} stands twice")
        return content

    refuse: Callable[[str], float] | None = None if constants else constant
    return json.JSONDecoder(
        parse_int=whole, parse_float=finite, parse_constant=refuse, object_pairs_hook=unique
    )


def _wrong(text: str, place: int, what: str) -> ValueError:
    line = text.count("\n", 0, max(place, 0)) + 1
    return ValueError(f"line {line}: malformed JSON: {one_line(what)}")


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one)
            if isinstance(inner, dict | list)
        ]
    return bool(level)


def _too_deep(text: str) -> int:
    """Return where a text becomes too deep."""
    depth = 0
    for found in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text):
        sign = found.group()[0]
        depth += (sign in "[{") - (sign in "]}")
        if depth > MOST_DEPTH:
            return found.start()
    return 0


def _leaves(value: object) -> Iterator[object]:
    """All keys, and all values that hold no others."""
    left = [value]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            left += [*one, *one.values()]
        elif isinstance(one, list):
            left += one
        else:
            yield one
