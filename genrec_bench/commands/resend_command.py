"""The command `genrec-bench resend`: tells MLflow what it missed while it was away."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from genrec_bench.errors import UserError

if TYPE_CHECKING:
    from genrec_bench.tracking.resend import Tally
    from genrec_bench.tracking.sender import Sender


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``resend``."""
    parser.description = (
        "Send to MLflow what earlier commands could not, and end runs that were cut short."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="results (default: runs)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(args: argparse.Namespace) -> int:
    """Send, and say what was sent."""
    from genrec_bench.tracking.resend import FOREVER, Tally, folders_below, settle
    from genrec_bench.tracking.sender import Sender, first_line

    output: Path = args.output
    if not output.is_dir():
        raise UserError(f"--output {output}: there is no such folder")
    sender = Sender(output)
    folders = folders_below(output)
    tally = Tally()
    for number, folder in enumerate(folders):
        try:
            tally += settle(folder, output.resolve(), sender, FOREVER)
        except Exception as error:  # MLflow, SQLAlchemy, requests, the file system
            rest = len(folders) - number
            raise UserError(
                f"MLflow at {sender.place} failed ({first_line(error)}): {tally.sent} runs were "
                f"sent, {rest} are left; give the command again when it is back"
            ) from None
    figures = {"figures": sender.figures, "files": sender.files, "refused": len(sender.refused)}
    if args.json:
        print(json.dumps(asdict(tally) | figures, indent=2, sort_keys=True))
    else:
        _print(tally, sender)
    if tally.left:
        raise UserError(
            f"MLflow at {sender.place} refused {tally.left} runs ({sender.kept[0]}), which are "
            "kept; restore there what was deleted and give the command again"
        )
    return 0


def _print(tally: Tally, sender: Sender) -> None:
    print(
        f"sent to {sender.place}: {tally.sent} runs, {sender.figures} figures, {sender.files} files"
    )
    notes = {
        "cut short earlier, ended now": tally.ended,
        "under way, left alone": tally.live,
        "kept for another server": tally.elsewhere,
        "entries that MLflow refused": len(sender.refused),
    }
    for text, count in notes.items():
        if count:
            print(f"{text}: {count}")
