"""The command ``genrec-bench diff``: where two records differ."""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genrec_bench.runs.record_diff import Difference
    from genrec_bench.runs.record_schema import Record

LONGEST = 36
"""Characters of a value in the table; ``--json`` has all."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``diff``."""
    parser.description = (
        "Say whether two records may be compared, and show where they differ: in settings, data, "
        "code, machine, results and costs. What is not shown is equal."
    )
    for name in ("first", "second"):
        parser.add_argument(name, type=Path, metavar="RECORD", help="a record or its run's folder")
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def execute(args: argparse.Namespace) -> int:
    """Print the differences."""
    from genrec_bench.boards.marks import comparability
    from genrec_bench.runs.record_diff import differences, examples_apart
    from genrec_bench.runs.records import read_record

    first, second = read_record(args.first), read_record(args.second)
    found = differences(first, second)
    if args.json:
        apart = examples_apart(first, second)
        told: dict[str, Any] = {
            "differences": [dataclasses.asdict(one) for one in found],
            "comparability": comparability(first, second),
            "same_track": first["track_id"] == second["track_id"],
            "examples": None if apart is None else dict(zip(("apart", "of"), apart, strict=True)),
        }
        print(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        # What the figures are worth stands before them.
        parts = [comparability(first, second), *tables(found), *outcome(first, second)]
        print("\n\n".join(parts))
    return 0


def tables(found: Sequence[Difference]) -> list[str]:
    """Return a table for each section in which something differs."""
    from tabulate import tabulate

    texts = []
    for section in dict.fromkeys(one.section for one in found):
        rows = [
            (
                one.key,
                _short(one.first),
                _short(one.second),
                "" if one.change is None else f"{one.change:+.4g}",
            )
            for one in found
            if one.section == section
        ]
        heads = (section, "first", "second", "")
        texts.append(tabulate(rows, headers=heads, disable_numparse=True))
    return texts


def outcome(first: Record, second: Record) -> list[str]:
    """Say in a sentence whether the two came out alike, where that can be said."""
    from genrec_bench.runs.record_diff import examples_apart

    lines = []
    apart = examples_apart(first, second)
    if apart is not None:
        many, of = apart
        if many:
            lines.append(f"The targets of {many} of {of} test examples stand in another place.")
        else:
            lines.append("The target of every test example stands in the same place.")
    return lines


def _short(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.6g}"
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
