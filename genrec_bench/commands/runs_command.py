"""The command ``genrec-bench runs``: what runs there are, finished or not."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from genrec_bench.runs.housekeeping import RunState


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command of ``runs``."""
    parser.description = "Tell of earlier runs."
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "list runs, trials of sweeps among them: state, result, size"
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
    print(tabulate(rows, headers="keys", disable_numparse=True) if rows else "no runs")
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
    }
