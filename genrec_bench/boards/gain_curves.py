"""Gain over the SFT start by list length: who sharpens, and who broadens.

A policy may put more targets on top and lose others from the end of its list. Tables at one length
hide that. The ranks that records keep tell it at every length up to the beam width: an example is a
hit at K if its rank, counted from 0, is below K.

Shapes: S seeds, U test users, K list lengths.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from genrec_bench.boards.board import BoardRow, GainCurve
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.rows import Group, start_evidence, user_values
from genrec_bench.statistics.resampling import draw_seeds, estimate_from, resample_users

LONGEST = 50
"""The longest list that is looked at; shorter where the beam is narrower."""

RESAMPLES = 2_000
"""Fewer than for the tests: a band is looked at, and decides nothing."""


def with_gain_curves(
    rows: Sequence[BoardRow], groups: Mapping[str, Group], records: Sequence[Evidence]
) -> list[BoardRow]:
    """Give each row its gain in HR@K over the SFT start, on the same users, for all K.

    Rows whose outcomes are not of the start's users, and all where nobody kept the start's, stay
    without.

    Args:
        groups: by name of their rows.
        records: of the section, oldest first.
    """
    start = start_evidence(records)
    names = [row.name for row in rows if row.name in groups and row.means]
    if start is None or not names:
        return list(rows)
    runs = [start, *(one for name in names for one in groups[name].finished)]
    longest = min(LONGEST, *(int(beam) for one in runs if (beam := _beam(one)) is not None))
    cutoffs = range(1, longest + 1)
    before = [user_values([start], f"HR@{k}", "start_") for k in cutoffs]
    tables = {}
    for name in names:
        after = [user_values(groups[name].finished, f"HR@{k}") for k in cutoffs]
        # Hits [S, U] less hits [1, U], for each K.
        pairs = [
            (a, b) for a, b in zip(after, before, strict=True) if a is not None and b is not None
        ]
        if len(pairs) == longest and all(a.shape[1] == b.shape[1] > 1 for a, b in pairs):
            tables[name] = np.stack([a - b for a, b in pairs])
    if not tables:
        return list(rows)
    generator = np.random.default_rng([int(records[0].record["track_id"], 16), longest])
    profiles = np.concatenate([table.mean(axis=1) for table in tables.values()])
    resampled = resample_users(profiles, generator, RESAMPLES)
    draws = {
        size: draw_seeds(size, generator, RESAMPLES)
        for size in sorted({table.shape[1] for table in tables.values()})
    }
    curves: dict[str, GainCurve] = {}
    for place, (name, table) in enumerate(tables.items()):
        errors = resampled[place * longest : (place + 1) * longest]
        found = [
            estimate_from(values, error, draws[table.shape[1]])
            for values, error in zip(table, errors, strict=True)
        ]
        curves[name] = tuple(
            (k, each.mean, each.interval.low, each.interval.high)
            for k, each in zip(cutoffs, found, strict=True)
        )
    return [replace(row, gains_at=curves.get(row.name, ())) for row in rows]


def sharpening(rows: Sequence[BoardRow]) -> list[str]:
    """Sentences: which rows gain at the top and lose at the end of the list, and the other way."""
    found: dict[str, list[str]] = {"sharpen": [], "broaden": []}
    longest = 0
    for row in rows:
        if len(row.gains_at) > 1:
            (_, _, low, high), (longest, _, last_low, last_high) = row.gains_at[0], row.gains_at[-1]
            if low > 0 > last_high:
                found["sharpen"].append(row.name)
            elif high < 0 < last_low:
                found["broaden"].append(row.name)
    words = {
        "sharpen": f"Sharper: more hits at 1 and fewer at {longest} than the SFT start",
        "broaden": f"Broader: fewer hits at 1 and more at {longest} than the SFT start",
    }
    return [
        f"{words[what]}, by 95% intervals without correction: {', '.join(names)}."
        for what, names in found.items()
        if names
    ]


def beam_note(rows: Sequence[BoardRow]) -> str:
    """Where the figure ends, and what shows more; empty where nothing is drawn or nothing lacks."""
    longest = max((row.gains_at[-1][0] for row in rows if row.gains_at), default=LONGEST)
    if longest >= LONGEST:
        return ""
    return (
        f"It ends at K = {longest}, the beam width of these runs; runs with `--set "
        f"beam_width={LONGEST}`, which are a track of their own, show K up to {LONGEST}."
    )


def _beam(one: Evidence) -> int | None:
    """The beam width of a run's evaluation, as it says."""
    beam = one.record["configuration"]["settings"].get("beam_width")
    return beam if isinstance(beam, int) else None
