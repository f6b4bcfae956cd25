"""Tracks of one board that differ in a single thing, which their readers should know of.

Runs of two machines often miss each other by the SFT start alone: each machine trained its own, and
the two differ by rounding. Nothing else would tell why there are two tables.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from genrec_bench.boards.board import Section
from genrec_bench.boards.rows import abbreviate
from genrec_bench.boards.tables import fact

OTHER_STARTS = (
    " Each was trained for itself, and even starts of the same settings differ by rounding on two "
    "machines. `genrec-bench sft export` and `sft import` give both one start."
)


def with_nearly_equal_tracks(sections: Sequence[Section]) -> list[Section]:
    """The same sections; those of one version that differ in one thing say so in a note."""
    return [
        replace(
            one,
            notes=(
                *one.notes,
                *(
                    _note(one, other, differing[0])
                    for other in sections
                    if other is not one
                    and other.benchmark == one.benchmark
                    and len(differing := differing_keys(one, other)) == 1
                ),
            ),
        )
        for one in sections
    ]


def differing_keys(one: Section, other: Section) -> list[str]:
    """What two tracks do not have in common."""
    keys = sorted(one.track.keys() | other.track.keys())
    return [key for key in keys if one.track.get(key) != other.track.get(key)]


def _note(one: Section, other: Section, key: str) -> str:
    values = [section.track.get(key) for section in (one, other)]
    here, there = (abbreviate(fact(value)) for value in values)
    if here == there:  # Budgets that differ behind the digits that are shown.
        here, there = map(str, values)
    said = (
        f"Track {other.track_id} differs from this one only in `{key}`: {there} there, {here} here."
    )
    return said + (OTHER_STARTS if key == "sft" else "")
