"""The rows of a section compared with each other, where their outcomes tell of the same users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from genrec_bench.boards.board import OF_WORLDS, ORDER_BY, RANKED, BoardRow
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.rows import Group, start_evidence, user_values
from genrec_bench.statistics.conclusions import Conclusions, Entrant, conclude


def conclusions(
    rows: Sequence[BoardRow], groups: Sequence[Group], records: Sequence[Evidence]
) -> dict[str, Conclusions]:
    """Compare all rows that have outcomes, by metric."""
    by_name = {one.name: one for one in groups}
    found = {}
    for place, metric in enumerate((*RANKED, *OF_WORLDS)):
        values: dict[str, NDArray[np.float64]] = {}
        for row in rows:
            table = None
            if metric in row.means and row.kind == "start":
                start = start_evidence(records)
                table = user_values([start], metric, "start_") if start else None
            elif metric in row.means:
                table = user_values(by_name[row.name].finished, metric)
            if table is not None and table.shape[1] > 1:
                values[row.name] = table
        # Rows on other examples than most were never comparable; `verify` names their records.
        sizes = Counter(table.shape[1] for table in values.values())
        users = max(sizes, key=lambda size: (sizes[size], size), default=0)
        entrants = {
            row.name: Entrant(values[row.name], row.seeds or (0,), fixed=_has_no_seeds(row))
            for row in rows
            if row.name in values and values[row.name].shape[1] == users
        }
        if entrants:
            # One generator for one track and metric, whatever else is on the board.
            key = int(records[0].record["track_id"], 16)
            generator = np.random.default_rng([key, place])
            found[metric] = conclude(entrants, generator)
    return found


def judged(row: BoardRow, compared: Mapping[str, Conclusions]) -> BoardRow:
    """A row with what the tests say of it."""
    known = {metric: each for metric, each in compared.items() if row.name in each.estimates}
    return replace(
        row,
        estimates={metric: each.estimates[row.name] for metric, each in known.items()},
        ranks={metric: each.ranks[row.name] for metric, each in known.items()},
    )


def about_tests(rows: Sequence[BoardRow]) -> list[str]:
    """Which rows have an interval of users alone, or none."""
    notes = []
    lone = [
        row.name
        for row in rows
        if row.kind != "start" and any(not each.covers_seeds for each in row.estimates.values())
    ]
    if lone:
        notes.append(
            f"One seed only: {', '.join(lone)}. The interval speaks of users alone, not of what "
            "another seed would give, and the row has no rank."
        )
    for row in rows:
        if row.kind == "start" and ORDER_BY in row.means and not row.estimates:
            notes.append("The SFT start has no interval: these records do not keep its outcomes.")
        elif row.kind in ("control", "result") and ORDER_BY in row.means and not row.estimates:
            notes.append(f"{row.name} has no interval: its outcomes are not those of one test set.")
    return notes


def _has_no_seeds(row: BoardRow) -> bool:
    """Whether a row is compared as it stands: the SFT start, and a single list from outside."""
    return row.kind == "start" or (bool(row.outside) and len(row.seeds) == 1)
