"""The command ``genrec-bench recommend``: a trained policy put to use."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from genrec_bench.errors import UserError
from genrec_bench.runs.options import add_data_dir_option, whole_number


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``recommend``."""
    parser.description = (
        "Recommend items by a run's policy, to one history or to all of a file. Candidates are "
        "found and ranked as in the run's evaluation."
    )
    parser.add_argument(
        "policy", type=Path, metavar="RECORD", help="a run's record or folder, or a policy's folder"
    )
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--history",
        metavar="ITEM,ITEM,...",
        help="names of items as in items.parquet, oldest first",
    )
    given.add_argument(
        "--input",
        type=Path,
        metavar="FILE",
        help="histories: .csv, .jsonl or .parquet with the column `history`, and perhaps `user`",
    )
    parser.add_argument(
        "--k", type=whole_number(1), default=10, metavar="K", help="items to recommend; default: 10"
    )
    parser.add_argument(
        "--exclude-seen", action="store_true", help="leave out items of the history itself"
    )
    parser.add_argument(
        "--skip-unknown",
        action="store_true",
        help="leave unknown items out of histories instead of refusing them",
    )
    parser.add_argument(
        "--algorithm",
        metavar="ALGO",
        help="name or file of the algorithm, if it ranks in its own way and is none of those here",
    )
    add_data_dir_option(parser)
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write there, .csv, .jsonl or .parquet"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def execute(args: argparse.Namespace) -> int:
    """Recommend, and print or write what came out."""
    from genrec_bench.storage.row_files import check_ending, write_rows

    if args.out is not None:
        check_ending(args.out, "--out")
    if args.input is not None:
        check_ending(args.input, "--input")
        if args.out is None:
            raise UserError("--input: goes with --out FILE, .csv, .jsonl or .parquet")
    from genrec_bench.progress import Progress
    from genrec_bench.runs.histories import read_histories
    from genrec_bench.runs.opened_policy import open_policy
    from genrec_bench.runs.options import quieten

    progress = Progress()
    if args.input is not None:
        users, histories = read_histories(args.input)
    else:
        users, histories = None, [_listed(args.history)]
    quieten()
    policy = open_policy(
        args.policy, algorithm=args.algorithm, tell=progress.say, data_dir=args.data_dir
    )
    found = policy.recommend_many(
        histories,
        args.k,
        exclude_seen=args.exclude_seen,
        unknown="skip" if args.skip_unknown else "refuse",
        progress=progress,
    )
    if args.input is None:
        found = found.drop(columns="row")
    elif users is not None:
        found.insert(1, "user", [users[row] for row in found["row"]])
    if args.out is not None:
        earlier = " (in place of an earlier file)" if args.out.exists() else ""
        write_rows(args.out, found)
        print(f"written: {args.out}{earlier}", file=sys.stderr)
    elif args.json:
        print(found.to_json(orient="records", indent=2, force_ascii=False))
    else:
        from tabulate import tabulate

        # As text: names of items that are digits would be written as numbers.
        cells = found.assign(log_prob=found["log_prob"].map("{:.4f}".format)).to_dict("list")
        print(tabulate(cells, headers="keys", disable_numparse=True))
    return 0


def _listed(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
