"""The command ``genrec-bench baseline``: systems of the field trained here, for the board."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from genrec_bench.commands.score_command import seconds, told
from genrec_bench.errors import UserError
from genrec_bench.runs.hosted_models import (
    COUNTS,
    HOSTED,
    arguments_of,
    check_baseline,
    check_cornac,
)
from genrec_bench.runs.options import (
    DATASET,
    add_data_dir_option,
    add_seeds_options,
    whole_number,
)
from genrec_bench.storage.folders import check_writable

SEEDS = 3
"""How many a trained baseline is run on, where nobody says."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``baseline``."""
    parser.description = (
        "Run a baseline on a dataset, and keep its lists as a record. It stands on the dataset's "
        "board among the outside systems, beside our rows; docs/outside.md says which there are."
    )
    parser.add_argument("name", metavar="BASELINE", help=", ".join((*COUNTS, *HOSTED)))
    parser.add_argument("--dataset", required=True, metavar="NAME", help=f"such as {DATASET}")
    add_seeds_options(parser, None, SEEDS)
    tuning = parser.add_argument_group("tuning on validation data, of what is trained")
    tuning.add_argument(
        "--trials", type=whole_number(1), metavar="N", help="sets of hyperparameters; default: 8"
    )
    tuning.add_argument(
        "--tuning-seconds",
        type=seconds,
        metavar="N",
        help="of all trials; the first is made in any case; default: 1800",
    )
    tuning.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="key=value",
        help="arguments of cornac's model that are not tuned, such as n_epochs=30",
    )
    parser.add_argument(
        "--keep-lists", action="store_true", help="keep the lists beside the record, by names"
    )
    add_data_dir_option(parser)
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="default: runs"
    )


def execute(args: argparse.Namespace) -> int:
    """Run it and tell what came out."""
    check_baseline(args.name)
    fixed: dict[str, Any] = {}
    if args.name in COUNTS:
        _refuse_training(args)
    else:
        check_cornac(args.name)
        fixed = arguments_of(args.name, args.set)
    check_writable(args.output, f"--output {args.output}")
    from genrec_bench.data.dataset_store import data_directory
    from genrec_bench.data.obtain import obtain
    from genrec_bench.progress import Progress
    from genrec_bench.runs.baselines import (
        TRIALS,
        TUNING_SECONDS,
        Asked,
        run_counted,
        run_trained,
    )
    from genrec_bench.storage.secrets import told_words

    progress = Progress()
    data_dir = data_directory(None if args.data_dir is None else str(args.data_dir))
    dataset = obtain(args.dataset, data_dir, progress)
    shared: dict[str, Any] = {"keep_lists": args.keep_lists, "command": told_words(args.typed)}
    if args.name in COUNTS:
        paths = [run_counted(args.name, dataset, args.output, progress, **shared)]
    else:
        asked = Asked(
            seeds=args.seeds or tuple(range(SEEDS)),
            trials=args.trials or TRIALS,
            seconds=TUNING_SECONDS if args.tuning_seconds is None else args.tuning_seconds,
            fixed=fixed,
        )
        paths = run_trained(args.name, asked, dataset, data_dir, args.output, progress, **shared)
    print("\n".join(map(told, paths)))
    return 0


def _refuse_training(args: argparse.Namespace) -> None:
    """Refuse what is asked of training where there is none."""
    given = {"--seeds": args.seeds, "--trials": args.trials, "--set": args.set}
    given["--tuning-seconds"] = args.tuning_seconds
    for option, value in given.items():
        if value:
            raise UserError(f"{option}: {args.name} is made of counts, without seeds or tuning")
