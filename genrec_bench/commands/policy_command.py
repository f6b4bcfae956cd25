"""The command ``genrec-bench policy``: trained policies in a form that stands alone."""

from __future__ import annotations

import argparse
from pathlib import Path

from genrec_bench.runs.options import add_data_dir_option


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the command of ``policy``."""
    parser.description = (
        "Runs that trained adapters (lora_rank) keep these, and not the whole model: it takes the "
        "SFT start to use them."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    text = "merge an adapter into the weights of its SFT start: a folder that transformers reads"
    command = commands.add_parser("merge", help=text, description=text[0].upper() + text[1:] + ".")
    command.add_argument(
        "policy", type=Path, metavar="RECORD", help="a run's record or folder, or a policy's folder"
    )
    command.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder")
    add_data_dir_option(command)


def execute(args: argparse.Namespace) -> int:
    """Merge."""
    from genrec_bench.runs.opened_policy import open_policy, policy_path
    from genrec_bench.runs.options import quieten
    from genrec_bench.runs.stored_adapters import check_mergeable, write_merged

    check_mergeable(policy_path(args.policy), args.to)
    quieten()
    opened = open_policy(args.policy, tell=lambda line: None, data_dir=args.data_dir)
    write_merged(opened, args.to)
    print(f"written: {args.to}")
    return 0
