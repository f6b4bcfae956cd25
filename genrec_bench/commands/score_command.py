"""The command ``genrec-bench score``: ranked lists of other systems become records."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path

from genrec_bench.errors import UserError, no_file
from genrec_bench.runs.options import DATASET, add_data_dir_option, one_seed


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``score``."""
    parser.description = (
        "Evaluate the ranked lists that any system made for the test examples of a dataset, by the "
        "metrics of our own runs, and keep what came out as a record. The system stands on the "
        "dataset's board in a section of outside systems. docs/outside.md has the formats; "
        "`genrec-bench export` writes the split that the system learns from."
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help=".csv, .jsonl or .parquet with example, rank, and item or sid; or TREC's layout in "
        ".trec, .run or .txt",
    )
    parser.add_argument("--dataset", required=True, metavar="NAME", help=f"such as {DATASET}")
    parser.add_argument(
        "--as", dest="label", required=True, metavar="LABEL", help="what the system is called"
    )
    parser.add_argument(
        "--seed", type=one_seed, default=0, metavar="S", help="of its training; default: 0"
    )
    declared = parser.add_argument_group("what is declared of it, and not checked")
    declared.add_argument("--backbone", default="", metavar="TEXT", help="what kind of model it is")
    declared.add_argument(
        "--training-seconds", type=seconds, metavar="N", help="of this run, tuning apart"
    )
    declared.add_argument("--tuning-seconds", type=seconds, metavar="N", help="of all trials")
    declared.add_argument("--hardware", default="", metavar="TEXT", help="of these seconds")
    declared.add_argument(
        "--notes", default="", metavar="TEXT", help="code, paper, settings: what a reader asks"
    )
    parser.add_argument(
        "--keep-lists", action="store_true", help="keep the lists beside the record, by names"
    )
    add_data_dir_option(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="default: runs"
    )
    parser.add_argument("--json", action="store_true", help="print the record")


def execute(args: argparse.Namespace) -> int:
    """Read the file, evaluate its lists, write the record."""
    from genrec_bench.runs.external import Declared, check_label, keep_external
    from genrec_bench.runs.run_files import read_run_file
    from genrec_bench.storage.folders import check_writable

    check_label(args.label)
    if not args.file.is_file():
        raise UserError(f"{args.file}: {no_file(Path(args.file))}")
    check_writable(args.output, f"--output {args.output}")
    from genrec_bench.data.dataset_store import data_directory
    from genrec_bench.data.obtain import obtain
    from genrec_bench.progress import Progress
    from genrec_bench.storage.digests import file_sha256
    from genrec_bench.storage.secrets import told_words

    data_dir = data_directory(None if args.data_dir is None else str(args.data_dir))
    dataset = obtain(args.dataset, data_dir, Progress(logged=not args.json))
    found = read_run_file(args.file, dataset)
    path, earlier = keep_external(
        found,
        Declared(
            label=args.label,
            seed=args.seed,
            backbone=args.backbone,
            training_seconds=args.training_seconds,
            tuning_seconds=args.tuning_seconds,
            hardware=args.hardware,
            notes=args.notes,
        ),
        dataset,
        args.output,
        file=args.file.name,
        sha256=file_sha256(args.file),
        keep_lists=args.keep_lists,
        command=told_words(args.typed),
    )
    for note in found.notes:
        print(f"{args.file}: {note}", file=sys.stderr)
    if earlier:
        print("found: the same file was scored before, and declared the same", file=sys.stderr)
    print(path.read_text() if args.json else told(path))
    print(f"next: genrec-bench leaderboard {args.dataset}", file=sys.stderr)
    return 0


def told(path: Path) -> str:
    """The first figures of an outside system's record, and where it is."""
    from genrec_bench.runs.record_schema import SHOWN
    from genrec_bench.runs.records import read_record

    figures = read_record(path)["metrics"]["test"]
    shown = "  ".join(f"{name} {figures[name]:.4f}" for name in SHOWN if name in figures)
    return f"test {shown}\nrecord: {path}"


def seconds(text: str) -> float:
    """Read an amount of seconds."""
    try:
        amount = float(text)
    except ValueError:
        amount = math.nan
    if not (0 <= amount < math.inf):
        raise argparse.ArgumentTypeError(f"{text}: must be a number of seconds, such as 610")
    return amount
