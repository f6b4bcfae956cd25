"""The command ``genrec-bench runs``: what runs there are, finished or not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec_bench.errors import UserError

if TYPE_CHECKING:
    from genrec_bench.runs.housekeeping import RunState


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command of ``runs``."""
    parser.description = "Tell of earlier runs."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "list runs, trials of sweeps too: state, result, size, and what sets a run apart"
    command = commands.add_parser("list", help=text, description=text[0].upper() + text[1:] + ".")
    command.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="results (default: runs)"
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")


def execute(args: argparse.Namespace) -> int:
    """List them."""
    from tabulate import tabulate

    from genrec_bench.commands.clean_command import size_text, time_text
    from genrec_bench.runs.housekeeping import runs_below
    from genrec_bench.training.budgets import shown_budget

    rows = [_row(run, args.output) for run in runs_below(args.output)]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        row["size"], row["policy"] = size_text(row["size"]), size_text(row["policy"])
        row["seconds"] = time_text(row["seconds"])
        for split in ("valid", "test"):
            value = row[f"{split} NDCG@10"]
            row[f"{split} NDCG@10"] = "–" if value is None else f"{value:.4f}"
        row["budget"] = shown_budget(row["budget"])
        row["marks"] = "; ".join(row["marks"])
    print(tabulate(rows, headers="keys", disable_numparse=True) if rows else "no runs")
    if any(row["marks"] for row in rows):
        print("\nmarks: what keeps a run from being compared with whole ones, which have none")
    return 0


def _row(run: RunState, output: Path) -> dict[str, Any]:
    metrics = run.record.get("metrics", {})
    return {
        "run": run.folder.relative_to(output).as_posix(),
        "state": run.state,
        "budget": (run.record.get("budget") or {}).get("limit") or "–",
        "valid NDCG@10": metrics.get("valid", {}).get("NDCG@10"),
        "test NDCG@10": metrics.get("test", {}).get("NDCG@10"),
        "seconds": run.seconds,
        "size": run.size,
        "policy": run.policy,
        "marks": _marks(run),
    }


def _marks(run: RunState) -> list[str]:
    """Return what `marks_of` says of a run with a record, beside its state."""
    from genrec_bench.boards.marks import FAILED, marks_of

    if not run.record or run.state == "damaged":
        return []
    try:
        return [mark for mark in marks_of(run.record) if mark != FAILED]
    except (UserError, LookupError, TypeError, AttributeError):
        return ["its record cannot be read"]
