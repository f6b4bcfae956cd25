"""The comparisons of a section that were declared before anything was run.

Three rows of a section have a part: the SFT start, from which all runs begin; the control, SFT
continued for the same budget; and the baseline. Each row is compared with the start, which says
whether training moved it at all; and with control and baseline, which says whether its idea did.
These are two families of comparisons, each corrected for itself. All pairs are a third, which asks
everything and sees less.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from genrec_bench.boards.board import BoardRow, Part

if TYPE_CHECKING:
    from genrec_bench.statistics.conclusions import Pair


def parts_of(rows: Sequence[BoardRow], baseline: str) -> dict[Part, str]:
    """Names of the rows that have a part, by part; lacks those that nobody has.

    What continues SFT is known by its ledger: it makes updates and no rollouts. A row that was
    declared a control comes before others; of several rows alike the first in order of name counts.

    Args:
        baseline: name of the row that is the baseline; empty where it was not run.
    """
    found: dict[Part, str] = {}
    by_name = sorted(rows, key=lambda row: (row.kind != "control", row.name))
    for row in by_name:
        if row.kind == "start":
            found.setdefault("start", row.name)
        elif row.kind in ("control", "result"):
            if "update" in row.phases and "rollout" not in row.phases:
                found.setdefault("control", row.name)
            if row.name == baseline:
                found.setdefault("baseline", row.name)
    return found


def declared(
    rows: Sequence[BoardRow], parts: Mapping[Part, str]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Names of the rows to be compared: with the start; with control and with baseline."""
    return against([row.name for row in rows if row.kind in ("control", "result")], parts)


def against(
    names: Sequence[str], parts: Mapping[Part, str]
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Names of some rows and what each is compared with: the start; control and baseline."""
    with_start = [(name, parts["start"]) for name in names if "start" in parts]
    with_others: list[tuple[str, str]] = []
    for part in ("control", "baseline"):
        if part in parts:
            other = parts[part]
            with_others += [
                (name, other)
                for name in names
                # The baseline is compared with the control already.
                if name != other and (other, name) not in with_others
            ]
    return with_start, with_others


def find_pair(pairs: Sequence[Pair], first: str, second: str) -> Pair | None:
    """The comparison of two rows in this order, if it is among these and was tested."""
    known = (pair for pair in pairs if (pair.first, pair.second) == (first, second))
    return next((pair for pair in known if pair.parts is not None), None)
