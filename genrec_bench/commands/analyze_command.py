"""The command ``genrec-bench analyze``: one analysis, its table on the terminal, its files written.

The words after KIND are read when the analysis is known, so that no other is loaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from genrec_bench import benchmark_version
from genrec_bench.runs.jobs import Context, split_words
from genrec_bench.runs.options import add_context_options, context_of
from genrec_bench.storage.digests import json_digest
from genrec_bench.studies.analyses import Analysis, Result, find, names, to_json, to_markdown, write
from genrec_bench.tracking.tracker import Tracker

FOLDER = "analyses"
"""Beside the runs of a dataset."""

DIGEST_LENGTH = 16
"""Hexadecimal digits in a folder's name."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add KIND, and whatever follows it."""
    parser.description = (
        "Make the runs that an analysis needs, or find those that are finished, and write its "
        "table and figure. `genrec-bench analyze KIND --help` lists the options of one kind."
    )
    parser.set_defaults(parser_class=type(parser))
    parser.add_argument("kind", metavar="KIND", help=", ".join(names()))
    rest = parser.add_argument("options", nargs=argparse.REMAINDER, help="of this kind")
    # There may be none; argparse would name them beside a KIND that is missing.
    rest.required = False


def execute(args: argparse.Namespace) -> int:
    """Run an analysis, or what is missing of it, and print its table."""
    analysis = find(args.kind)
    parser = args.parser_class(
        prog=f"genrec-bench analyze {analysis.name}", description=analysis.help
    )
    add_context_options(parser)
    shared = set(vars(parser.parse_args([])))
    analysis.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    chosen = parser.parse_args(args.options)
    own = {k: v for k, v in vars(chosen).items() if k not in shared and k != "json"}
    with context_of(chosen, Tracker) as context:
        result = analysis.run(context, chosen)
        partial_ = " (partial)" if context.dataset.partial else ""
        title = f"{analysis.name} on {context.dataset.name}{partial_}"
        if context.workers.is_main:
            folder = _keep(analysis, result, context, title, _request(analysis, context, own))
            context.progress.say(f"written: {folder}")
    if context.workers.is_main:
        shown = [f"# {title}", to_markdown(result.table), *result.notes]
        print(to_json(result) if chosen.json else "\n\n".join(shown))
    return 0


def _request(analysis: Analysis, context: Context, options: dict[str, Any]) -> dict[str, Any]:
    """Return all that makes two analyses equal, whatever the folders."""
    backbone = Path(context.backbone)
    return {
        "backbone": backbone.resolve().name if backbone.is_dir() else context.backbone,
        "benchmark": benchmark_version(),
        "budget": context.budget.text if context.budget else None,
        "dataset": context.dataset.name,
        "fingerprints": {
            "dataset": context.dataset.fingerprint,
            "sids": context.dataset.sid_fingerprint,
        },
        "kind": analysis.name,
        "options": options,
        "set": split_words(context.assignments),
    }


def _keep(
    analysis: Analysis, result: Result, context: Context, title: str, request: dict[str, Any]
) -> Path:
    """Write the files and log them; return their folder."""
    from genrec_bench.runs.records import read_record

    name = f"{analysis.name}-{json_digest(request)[:DIGEST_LENGTH]}"
    folder = context.output / context.dataset.name / FOLDER / name
    used = [read_record(path) for path in result.records]
    description = {
        "request": request,
        "records": [
            {key: record[key] for key in ("run_id", "algorithm", "seed", "track_id")}
            for record in used
        ],
        "notes": result.notes,
    }
    write(result, folder, title=title, description=description)
    tags = {
        "kind": "analysis",
        "analysis": analysis.name,
        "dataset": context.dataset.name,
        "partial": str(context.dataset.partial).lower(),
    }
    with context.tracker.track(folder, name, request, tags):
        pass  # What MLflow gets of it is there.
    return folder
