"""Outside systems on a board: a section of their own, beside our rows on the same test users.

What they cost is what their makers declare, if anything. So they enter no track of ours, and no
comparison of ours changes by them: our rows are shown once more in their section, without costs,
and only there are the two compared, paired by user.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from genrec_bench.boards.board import ORDER_BY, BoardRow, Section
from genrec_bench.boards.compared import about_tests, conclusions, judged
from genrec_bench.boards.declared import against
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.gain_curves import with_gain_curves
from genrec_bench.boards.rows import Defaults, Group, ceiling_row, group, make_row
from genrec_bench.runs.record_schema import EXTERNAL
from genrec_bench.statistics.conclusions import family

OUTSIDE = "outside"
"""What a row of an outside system is marked with."""

UNDECLARED = "not said"


@dataclass(frozen=True)
class Beside:
    """A section of our own runs, and the records that it was made of, oldest first."""

    section: Section
    records: Sequence[Evidence]


def is_outside(one: Evidence) -> bool:
    """Whether a record is of an outside system."""
    return one.record.get("kind") == EXTERNAL


def outside_section(
    records: Sequence[Evidence], ours: Sequence[Beside], defaults: Defaults, folder: Path
) -> Section:
    """Make the section of outside systems.

    Args:
        records: of outside systems on one dataset, oldest first.
        ours: our sections, of which the first on the same test examples is shown beside.
        defaults: as those that the names of our rows were made with.
        folder: that links are relative to.
    """
    last = records[-1].record
    beside = next((one for one in ours if _same_users(one.section, last)), None)
    section = beside.section if beside else None
    known = [_plain(row) for row in section.rows] if section else []
    known = [row for row in known if row.kind in ("start", "control", "result")]
    groups = [_renamed(one, [row.name for row in known]) for one in group(records, {})]
    rows = [_row(one, folder) for one in groups]
    theirs = beside.records if beside else ()
    our_groups = group(theirs, defaults)
    compared = conclusions([*known, *rows], [*our_groups, *groups], theirs or records)
    if theirs:
        rows = with_gain_curves(rows, {one.name: one for one in groups}, theirs)
    starts = [row for row in known if row.kind == "start"]
    ranked = [*(row for row in known if row.kind != "start"), *rows]
    ranked.sort(key=lambda row: (-row.means.get(ORDER_BY, -1.0), row.name))
    shown = [judged(row, compared) for row in (*starts, *ranked)]
    parts = dict(section.parts) if section else {}
    with_start, with_others = against([row.name for row in rows], parts)
    notes = [f"Ordered by {ORDER_BY}. {_beside_what(section)}", *about_tests(shown)]
    if lone := [row.name for row in rows if len(row.seeds) == 1]:
        notes.append(
            f"One list each: {', '.join(lone)}. They are compared as these lists stand; what "
            "another seed of their training would give is not in their intervals."
        )
    return Section(
        benchmark=last["benchmark"],
        track_id=last["track_id"],
        track=last["track"],
        partial=any(one.record["partial"] for one in records),
        num_records=len(records),
        unit="seconds",
        rows=(*shown, *ceiling_row(records, folder)),
        pairs={metric: each.pairs for metric, each in compared.items()},
        smallest_difference={
            metric: each.smallest_difference for metric, each in compared.items() if each.pairs
        },
        target_values={},
        notes=tuple(notes),
        parts=parts,
        gains={metric: family(each.pairs, with_start) for metric, each in compared.items()},
        declared={metric: family(each.pairs, with_others) for metric, each in compared.items()},
        outside=True,
    )


def _same_users(section: Section, outside: Mapping[str, object]) -> bool:
    """Whether our section was judged on all test examples of the dataset, by the same version."""
    track = outside["track"]
    assert isinstance(track, Mapping), "records are checked when they are read"
    return (
        section.benchmark == outside["benchmark"]
        and section.track.get("dataset") == track["dataset"]
        and not section.track.get("test_examples")
    )


def _plain(row: BoardRow) -> BoardRow:
    """One of our rows without what its own section says: costs, targets, curves, failures."""
    return replace(
        row, spent={}, phases={}, tuning=None, targets={}, curve=(), failures={}, lost={}
    )


def _renamed(one: Group, taken: Sequence[str]) -> Group:
    """A row under a name that none of ours has."""
    return replace(one, name=f"{one.name} ({OUTSIDE})") if one.name in taken else one


def _row(one: Group, folder: Path) -> BoardRow:
    row = make_row(one, "seconds", {}, folder)
    return replace(row, spent={}, phases={}, outside=_declared(one))


def _declared(one: Group) -> dict[str, str]:
    """What is declared of a row's runs, by what a table calls it."""
    told = [each.record[EXTERNAL] for each in one.finished]
    return {
        "made by": _words([each["source"] for each in told]),
        "backbone": _words([each["backbone"] for each in told]),
        "training, s": _seconds([each["training_seconds"] for each in told]),
        "tuning, s": _seconds([each["tuning_seconds"] for each in told]),
        "on": _words([each["hardware"] for each in told]),
        "ranked": _words([f"{each['ranked']}s" for each in told]),
        "notes": _words([each["notes"] for each in told], ""),
    }


def _words(texts: Sequence[str], none: str = UNDECLARED) -> str:
    return "; ".join(dict.fromkeys(filter(None, texts))) or none


def _seconds(amounts: Sequence[float | None]) -> str:
    """The mean over runs, where all say it."""
    known = [amount for amount in amounts if amount is not None]
    return f"{sum(known) / len(known):.4g}" if len(known) == len(amounts) else UNDECLARED


def _beside_what(section: Section | None) -> str:
    if section is None:
        return "No runs of ours on these test examples stand beside."
    return (
        f"Rows without the mark are those of track {section.track_id}, where their cost stands. "
        "Whether an outside system learned from the same training set, only its maker knows."
    )
