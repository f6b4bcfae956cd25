"""What the fields of files may hold, for schemas that `validation.checked` reads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from genrec_bench.storage.validation import Must, between

LARGEST = 1e30
"""Of a figure: what is added to or squared stays a number."""

_SHA256 = re.compile("[0-9a-f]{64}")
_FIGURE = re.compile(r"[^\W\d][\w/+.-]{0,79}(?:@[1-9][0-9]{0,8})?")


def longest(characters: int) -> Must:
    """Return the condition to be a text that is not longer."""
    return Must(lambda text: len(text) <= characters, f"text of at most {characters} characters")


Line = Annotated[str, longest(4096)]
Word = Annotated[str, longest(256)]


def is_number(value: object) -> bool:
    """Return whether a plain value is a number, nan and infinities included."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_scalar(value: object) -> bool:
    number = isinstance(value, bool | int | float | None) and abs(value or 0) <= LARGEST
    return number or (isinstance(value, str) and len(value) <= 4096)


def _is_scalar_or_several(value: object) -> bool:
    if isinstance(value, dict):
        return len(value) <= 256 and all(map(_is_scalar, value.values()))
    return _is_scalar(value)


def _is_scalar_or_many(value: object) -> bool:
    return all(map(_is_scalar, value)) if isinstance(value, list) else _is_scalar_or_several(value)


def _is_moment(text: str) -> bool:
    try:
        # Moments without a zone cannot be compared with others.
        return datetime.fromisoformat(text).astimezone(UTC).tzinfo is not None
    except (ValueError, OverflowError):
        return False


Scalar = Annotated[Any, Must(_is_scalar, "a number, a text, true, false or null")]
Scalars = Mapping[Word, Scalar]
Fact = Annotated[Any, Must(_is_scalar_or_several, "a number, a text, or some of these by name")]
Facts = Annotated[Any, Must(_is_scalar_or_many, "a number, a text, or some of these")]
Number = Annotated[Any, Must(is_number, "a number")]
Sha256 = Annotated[str, Must(_SHA256.fullmatch, "64 hexadecimal digits")]
Count = Annotated[int, between(0, 10**9)]
Amount = Annotated[float, between(0, LARGEST)]
Figure = Annotated[str, Must(_FIGURE.fullmatch, "a metric's name, such as HR@10")]
Figures = Mapping[Figure, Annotated[float, between(-LARGEST, LARGEST)]]
Moment = Annotated[Word, Must(_is_moment, "a moment such as 2026-11-27T16:24:00+00:00")]
