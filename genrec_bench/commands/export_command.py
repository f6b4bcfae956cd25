"""The command ``genrec-bench export``: a dataset's split for programs of others."""

from __future__ import annotations

import argparse
from pathlib import Path

from genrec_bench.runs.options import DATASET, add_data_dir_option


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``export``."""
    parser.description = (
        "Write a dataset's training, validation and test examples for a program of others, so that "
        "any system can be trained on the same data and rank for the same users. Its lists come "
        "back by `genrec-bench score`."
    )
    parser.add_argument("folder", type=Path, metavar="DIR", help="a new folder")
    parser.add_argument("--dataset", required=True, metavar="NAME", help=f"such as {DATASET}")
    parser.add_argument(
        "--to", required=True, metavar="recbole|cornac|csv|minionerec", help="whose layout"
    )
    add_data_dir_option(parser)


def execute(args: argparse.Namespace) -> int:
    """Write the files."""
    from genrec_bench.data.exports import check_target, export_dataset
    from genrec_bench.storage.folders import check_writable

    check_target(args.to, args.folder)
    check_writable(args.folder, str(args.folder))
    from genrec_bench.data.dataset_store import data_directory
    from genrec_bench.data.obtain import obtain
    from genrec_bench.progress import Progress

    data_dir = data_directory(None if args.data_dir is None else str(args.data_dir))
    dataset = obtain(args.dataset, data_dir, Progress())
    for path in export_dataset(dataset, args.to, args.folder):
        print(path)
    return 0
