"""SIDs as others spell them, read as zero-based codes; what was understood is told.

One SID may be a list with a code a level, of numbers (``[12, 3, 4]``) or of tokens
(``["<a_12>", "<b_3>"]``), or a text: ``<a_12><b_3>``, ``<|sid_0_12|><|sid_1_3|>``,
``<|sid_begin|><s_a_12><s_b_3><|sid_end|>``, ``[12, 3]``, ``12-3``, ``a12_b3``. The last number of a
token is the code. What stands before it names the level: a letter from a on, a number from 0 or 1
on, or a word that is the same on all levels. A number by itself is a SID of one level.

Over all items, codes may count from 1, or go on from level to level (0 to 255, then 256 to 511):
both are the same SIDs as those that count from 0 on each level.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.sids.sid_recipe import MOST_CODES, MOST_LEVELS
from genrec_bench.errors import UserError

SPELLINGS = "[12, 3], '<a_12><b_3>', '<|sid_0_12|><|sid_1_3|>', '12-3' or 'a_12 b_3'"

_BRACKETED = re.compile(r"<[^<>]*>")
_MARKER = re.compile(r"<\|?[a-z_]*(begin|start|end|bos|eos)[a-z_]*\|?>", re.IGNORECASE)
"""Begins or ends a SID, and says nothing of it."""
_MARK = r"(?:[A-Za-z]+(?:[_-][A-Za-z]+)*[_:-]?)?(?:\d{1,2}[_:-])?"
"""What names a level: a word, its number, or both."""
_TOKEN = re.compile(rf"<?\|?(?P<mark>{_MARK})(?P<code>\d+)\|?>?")
_MARKED = re.compile(rf"(?=[A-Za-z]){_MARK}\d+")
_SEPARATOR = re.compile(r"\s*[,;|/_-]\s*|\s+")
_NUMBER = re.compile("0|[1-9][0-9]{0,8}")
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


LONGEST = 2000
"""Characters of a SID: some dozens for each level that there can be."""


@dataclass(frozen=True)
class SpelledSIDs:
    """SIDs that were read, and what was understood.

    Attributes:
        codes: [num_items, L] zero-based.
        notes: one line each; the first shows a SID as it stands in the file, and its codes.
    """

    codes: NDArray[np.int32]
    notes: tuple[str, ...]


def parse_sid(value: object, num_levels: int, where: str) -> tuple[int, ...]:
    """Return the codes of one SID in any spelling, as they stand there.

    Args:
        num_levels: L; 0 for any number.

    Raises:
        UserError: it cannot be read, or has not that many levels; begins with ``where``.
    """
    pairs = [_mark_and_code(token, where) for token in _tokens(value, where)]
    _check_levels([mark for mark, _ in pairs], value, where)
    codes = [code for _, code in pairs]
    if not codes:
        raise UserError(f"{where}: the SID is empty; it must be like {SPELLINGS}")
    if num_levels and len(codes) != num_levels:
        raise UserError(f"{where}: SID has {len(codes)} levels, not {num_levels}")
    return tuple(codes)


def spelled_sids(
    spelled: Iterable[tuple[str, object]], codes_per_level: Sequence[int], num_levels: int = 0
) -> SpelledSIDs:
    """Read the SIDs of all items, in their order, each with the place where it stands.

    Args:
        codes_per_level: those of the card, by which codes that go on from level to level are told.
        num_levels: L; 0 for that of the first SID.

    Raises:
        UserError: a SID cannot be read, or has another number of levels than the first.
    """
    rows: list[tuple[int, ...]] = []
    first: object = None
    for where, value in spelled:
        found = parse_sid(value, num_levels, where)
        if not rows:
            first, num_levels = value, len(found)
        rows.append(found)
    codes, shifts = zero_based(np.array(rows, dtype=np.int64), codes_per_level)
    example = f"SIDs are read so: {_shown(first)} has the codes {', '.join(map(str, codes[0]))}"
    return SpelledSIDs(codes, (example, *shifts))


def zero_based(
    codes: NDArray[np.int64], codes_per_level: Sequence[int]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return codes that count from 0 on each level, and what was taken off to get them.

    Codes of a file that uses no code 0 on any level, and all up to a number of the card, count from
    1. Where each level begins above all codes of the level before, they go on from level to level.

    Args:
        codes: [n, L].
        codes_per_level: those of the card; used where there are L of them.
    """
    least, most = codes.min(axis=0), codes.max(axis=0)
    declared = codes_per_level if len(codes_per_level) == codes.shape[1] else ()
    taken = np.zeros(codes.shape[1], dtype=np.int64)
    notes: tuple[str, ...] = ()
    if codes.shape[1] > 1 and (least[1:] > most[:-1]).all():
        size = _stride(least, most, declared)
        taken = least if size is None else np.arange(codes.shape[1]) * size + (least[0] > 0)
        if size is not None and (taken > least).any():
            taken = np.arange(codes.shape[1]) * size
        ranges = ", ".join(f"{low} to {high}" for low, high in zip(least, most, strict=True))
        begins = ", ".join(map(str, taken))
        notes = (f"codes go on from level to level ({ranges}): {begins} is taken off the levels",)
    elif declared and (least > 0).all() and (most - np.array(declared)).max() == 0:
        taken[:] = 1
        notes = ("codes count from 1: 1 is taken off each",)
    return (codes - taken).astype(np.int32), notes


def _stride(
    least: NDArray[np.int64], most: NDArray[np.int64], declared: Sequence[int]
) -> int | None:
    """Return the codes of a level where each level goes on after as many; None if none fits."""
    places = np.arange(len(least))
    power = 1 << int(most[0]).bit_length()
    for size in (*declared[:1], power, int(least[1] - least[0])):
        if (least >= places * size).all() and (most < (places + 1) * size + (least[0] > 0)).all():
            return int(size)
    return None


def _tokens(value: object, where: str) -> Sequence[object]:
    """Return a SID level by level."""
    if isinstance(value, bool) or value is None:
        raise UserError(f"{where}: {value!r} is no SID; it must be like {SPELLINGS}")
    if any(isinstance(part, str) and len(part) > LONGEST for part in _parts(value)):
        raise UserError(
            f"{where}: a SID of more than {LONGEST} characters; it must be like {SPELLINGS}"
        )
    if isinstance(value, list | tuple | np.ndarray):
        return [token for token in value if not _is_marker(token)]
    if isinstance(value, str):
        text = value.strip()
        if "<" in text:
            return _bracketed(text)
        inner = text[1:-1].strip() if text[:1] + text[-1:] in ("[]", "()") else text
        parts = [part.strip("'\"") for part in _SEPARATOR.split(inner)] if inner else []
        separators = {found.strip() for found in _SEPARATOR.findall(inner)}
        if all(_NUMBER.fullmatch(part) for part in parts) and len(separators) <= 1:
            return parts
        rest = _MARKED.sub("", inner)
        return [text] if _SEPARATOR.sub("", rest).strip("'\"") else _MARKED.findall(inner)
    return [value]


def _parts(value: object) -> Iterable[object]:
    return value if isinstance(value, list | tuple | np.ndarray) else (value,)


def _bracketed(text: str) -> list[str]:
    tokens = [token for token in _BRACKETED.findall(text) if not _is_marker(token)]
    between = _BRACKETED.sub("", text).strip("[]()'\"")
    return [text] if re.sub(r"[\s,;'\"-]", "", between) else tokens


def _is_marker(token: object) -> bool:
    return isinstance(token, str) and _MARKER.fullmatch(token) is not None


def _mark_and_code(token: object, where: str) -> tuple[str, int]:
    """Return what a token says of its level, "" for nothing, and its code."""
    if isinstance(token, float | np.floating) and float(token).is_integer():
        token = int(token)
    if isinstance(token, int | np.integer) and not isinstance(token, bool):
        mark, code = "", int(token)
        if code < 0:
            raise UserError(f"{where}: SID code {code} is negative")
    else:
        match = _TOKEN.fullmatch(token.strip()) if isinstance(token, str) else None
        if match is None or not _NUMBER.fullmatch(match["code"]):
            raise UserError(
                f"{where}: SID token {token!r} is not of the form '<a_12>'; "
                f"a SID must be like {SPELLINGS}"
            )
        mark, code = match["mark"].rstrip("_:-"), int(match["code"])
    if code >= MOST_CODES:
        raise UserError(f"{where}: SID token {token!r}: codes must be below {MOST_CODES}")
    return mark, code


def _check_levels(marks: Sequence[str], value: object, where: str) -> None:
    """Raise UserError where the tokens of a SID say that they are of other levels, or too many."""
    if len(marks) > MOST_LEVELS:
        raise UserError(f"{where}: SID has {len(marks)} levels, more than {MOST_LEVELS}")
    if any(marks) and not all(marks):
        raise UserError(f"{where}: SID {_shown(value)}: some tokens name their level, some do not")
    numbers = [re.search(r"\d+$", mark) for mark in marks]
    start = int(numbers[0][0]) if marks and numbers[0] else 0
    for level, (mark, number) in enumerate(zip(marks, numbers, strict=True)):
        last = re.split("[_-]", mark.lower())[-1]
        if number and (start not in (0, 1) or int(number[0]) != start + level):
            raise UserError(f"{where}: SID {_shown(value)} has {mark!r} in place {level + 1}")
        if len(last) == 1 and last.isalpha() and last != _LETTERS[level]:
            belongs = f"stands where level {_LETTERS[level]!r} belongs"
            token = value[level] if isinstance(value, list | tuple) else mark
            raise UserError(f"{where}: SID token {token!r} {belongs}")


def _shown(value: object) -> str:
    return str(value.tolist() if isinstance(value, np.ndarray) else value)[:80]
