"""The command ``genrec-bench analyze``: one analysis, its table on the terminal, its files written.

The words after KIND are read when the analysis is known, so that no other is loaded.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from genrec_bench import benchmark_version
from genrec_bench.runs.jobs import Context, split_words
from genrec_bench.runs.options import add_context_options, add_crew_options, context_of
from genrec_bench.studies.analyses import (
    Analysis,
    Result,
    analysis_files,
    analysis_names,
    find_analysis,
    markdown_table,
    rows_and_notes,
)
from genrec_bench.tracking.tracker import Tracker

FOLDER = "analyses"
"""Beside the runs of a dataset."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add KIND, and whatever follows it."""
    parser.description = (
        "Make the runs that an analysis needs, or find those that are finished, and write its "
        "table and figure. `genrec-bench analyze KIND --help` lists the options of one kind."
    )
    parser.set_defaults(parser_class=type(parser))
    parser.add_argument("kind", metavar="KIND", help=", ".join(analysis_names()))
    rest = parser.add_argument("options", nargs=argparse.REMAINDER, help="of this kind")
    # There may be none; argparse would name them beside a KIND that is missing.
    rest.required = False


def execute(args: argparse.Namespace) -> int:
    """Run an analysis, or what is missing of it, and print its table."""
    analysis = find_analysis(args.kind)
    parser = args.parser_class(
        prog=f"genrec-bench analyze {analysis.name}", description=analysis.help
    )
    add_context_options(parser, budget=analysis.one_budget)
    add_crew_options(parser, "runs")
    shared = set(vars(parser.parse_args([])))
    analysis.add_options(parser)
    parser.add_argument("--json", action="store_true", help="print the table as JSON")
    if analysis.plan is not None:
        parser.add_argument("--plan", action="store_true", help="print runs and price, and stop")
    chosen = parser.parse_args(args.options)
    own = {k: v for k, v in vars(chosen).items() if k not in (*shared, "json", "plan")}
    with context_of(chosen, Tracker) as context:
        if analysis.plan is not None and chosen.plan:
            text, code = analysis.plan(context, chosen), 0
        else:
            text, code = _executed(analysis, context, chosen, own)
    if context.workers.is_main:
        print(text)
    return code


def _executed(
    analysis: Analysis, context: Context, chosen: argparse.Namespace, own: dict[str, Any]
) -> tuple[str, int]:
    """Run an analysis and write its files; return what to print, and the exit code."""
    from genrec_bench.studies.attempts import exit_code

    result = analysis.run(context, chosen)
    partial_ = " (partial)" if context.dataset.partial else ""
    title = f"{analysis.name} on {context.dataset.name}{partial_}"
    if context.workers.is_main:
        folder = _write(analysis, result, context, title, own)
        context.progress.say(f"written: {folder}")
    shown = [f"# {title}", markdown_table(result.table), *result.notes]
    text = rows_and_notes(result) if chosen.json else "\n\n".join(shown)
    return text, exit_code(result.failures)


def _write(
    analysis: Analysis, result: Result, context: Context, title: str, options: dict[str, Any]
) -> Path:
    """Write the files into the folder of what was asked for, and return it."""
    from genrec_bench.policy.backbones import backbone_name
    from genrec_bench.runs.records import read_record
    from genrec_bench.studies.study_folder import study_folder, write_study

    dataset = context.dataset
    request = {
        "backbone": backbone_name(context.backbone),
        "benchmark": benchmark_version(),
        "budget": context.budget.text if context.budget else None,
        "dataset": dataset.name,
        "fingerprints": {"dataset": dataset.fingerprint, "sids": dataset.sid_fingerprint},
        "kind": analysis.name,
        "options": options,
        "set": split_words(context.assignments),
        **({"preset": context.preset.sha256} if context.preset else {}),
    }
    used = [read_record(path) for path in result.records]
    description = {
        "request": request,
        "records": [
            {key: record[key] for key in ("run_id", "algorithm", "seed", "track_id")}
            for record in used
        ],
        "notes": result.notes,
    }
    folder = study_folder(context, FOLDER, request, analysis.name)
    contents = analysis_files(result, title, description)
    write_study(context, folder, contents, "analysis", analysis.name, request)
    return folder
