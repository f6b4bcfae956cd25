"""The command ``genrec-bench baseline``: systems of the field trained here, for the board."""

from __future__ import annotations

import argparse
from pathlib import Path

from genrec_bench.runs.options import DATASET, add_data_dir_option


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``baseline``."""
    parser.description = (
        "Run a baseline on a dataset, and keep its lists as a record. It stands on the dataset's "
        "board among the outside systems, beside our rows; docs/outside.md says which there are."
    )
    parser.add_argument("name", metavar="BASELINE", help="popularity or last-item-successors")
    parser.add_argument("--dataset", required=True, metavar="NAME", help=f"such as {DATASET}")
    parser.add_argument(
        "--keep-lists", action="store_true", help="keep the lists beside the record, by names"
    )
    add_data_dir_option(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="default: runs"
    )


def execute(args: argparse.Namespace) -> int:
    """Run it and tell what came out."""
    from genrec_bench.runs.baselines import COUNTED, check_baseline, run_counted
    from genrec_bench.storage.folders import check_writable

    check_baseline(args.name, list(COUNTED))
    check_writable(args.output, f"--output {args.output}")
    from genrec_bench.commands.score_command import told
    from genrec_bench.data.dataset_store import data_directory
    from genrec_bench.data.obtain import obtain
    from genrec_bench.progress import Progress
    from genrec_bench.storage.secrets import told_words

    progress = Progress()
    data_dir = data_directory(None if args.data_dir is None else str(args.data_dir))
    dataset = obtain(args.dataset, data_dir, progress)
    path = run_counted(
        args.name,
        dataset,
        args.output,
        progress,
        keep_lists=args.keep_lists,
        command=told_words(args.typed),
    )
    print(told(path))
    return 0
