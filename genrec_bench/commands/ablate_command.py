"""The command ``genrec-bench ablate``: a paper's ablation as one piece of work."""

from __future__ import annotations

import argparse
import dataclasses
import json

from genrec_bench import benchmark_version
from genrec_bench.runs.jobs import Job
from genrec_bench.runs.options import (
    add_context_options,
    add_crew_options,
    add_seeds_options,
    context_of,
)
from genrec_bench.studies.ablations.ablation_file import ablation_names, load_ablation
from genrec_bench.tracking.tracker import Tracker

FOLDER = "ablations"
"""Beside the runs of a dataset."""

SEEDS = 3
"""Of each row by default: the fewest whose spread says something."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``ablate``."""
    parser.description = (
        "Run the rows of a paper's ablation and print our tables beside the published ones. The "
        "same command again goes on where it was cut short."
    )
    parser.add_argument(
        "name", metavar="NAME", help=f"{', '.join(ablation_names())}, or a file: ./mine.yaml"
    )
    add_context_options(parser)
    add_crew_options(parser, "runs")
    add_seeds_options(parser, SEEDS, SEEDS)
    parser.add_argument(
        "--tables", metavar="T,T,...", help="the paper's numbers of the tables wanted; default: all"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")


def execute(args: argparse.Namespace) -> int:
    """Run the ablation, or the rest of it, and print its tables."""
    name, ablation = load_ablation(args.name)
    if args.tables is not None:
        ablation = ablation.only([table.strip() for table in args.tables.split(",")])
    rows = [row for table in ablation.tables for row in table.rows if not row.sft]
    jobs = [Job(row.label, row.algorithm or ablation.algorithm, row.set) for row in rows]
    with context_of(args, Tracker, jobs) as context:
        from genrec_bench.policy.backbones import backbone_name
        from genrec_bench.studies.ablations.ablate import ablate
        from genrec_bench.studies.ablations.ablation_tables import (
            Measured,
            ablation_csv,
            ablation_text,
            ablation_values,
        )
        from genrec_bench.studies.attempts import exit_code
        from genrec_bench.studies.study_folder import study_folder, write_study

        measured = Measured(
            dataset=context.dataset.name,
            partial=context.dataset.partial,
            backbone=backbone_name(context.backbone),
            budget=context.budget.text if context.budget else None,
            seeds=args.seeds,
            assignments=context.assignments,
            preset=context.preset.name if context.preset else "",
        )
        context.progress.say(f"ablation {name} on {measured.title}")
        result = ablate(ablation, args.seeds, context)
        code = exit_code(
            failure for _, rows in result for row in rows for failure in row.failures.values()
        )
        if context.workers.is_main:
            parameters = dataclasses.asdict(measured)
            request = {
                "ablation": dataclasses.asdict(ablation),
                "benchmark": benchmark_version(),
                "fingerprints": [context.dataset.fingerprint, context.dataset.sid_fingerprint],
                "measured": parameters,
                **({"preset": context.preset.sha256} if context.preset else {}),
            }
            folder = study_folder(context, FOLDER, request, name)
            contents = {
                "table.md": ablation_text(ablation, result, measured, "pipe").encode(),
                "table.csv": ablation_csv(result).encode(),
            }
            write_study(context, folder, contents, "ablation", name, parameters, failed=bool(code))
            context.progress.say(f"written: {folder}")
    if context.workers.is_main:
        if args.json:
            values = ablation_values(ablation, result, measured)
            print(json.dumps(values, indent=2, ensure_ascii=False))
        else:
            print(ablation_text(ablation, result, measured, "simple"), end="")
    return code
