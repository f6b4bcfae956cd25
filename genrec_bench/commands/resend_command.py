"""The command `genrec-bench resend`: tells MLflow what it missed while it was away."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from genrec_bench.errors import UserError

NOTES = {
    "ended": "cut short earlier, ended now",
    "live": "under way, left alone",
    "elsewhere": "kept for another server",
    "refused": "entries that MLflow refused",
}
"""What is printed of the exporter's counts where they are not 0."""


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
    from genrec_bench.tracking.exporter import Exporter
    from genrec_bench.tracking.folder_view import TRACKING_FILE
    from genrec_bench.tracking.store import Store, first_line

    output: Path = args.output
    if not output.is_dir():
        raise UserError(f"--output {output}: there is no such folder")
    exporter = Exporter(Store(output))
    place, counts = exporter.store.place, exporter.counts
    folders = sorted(file.parent.resolve() for file in output.rglob(TRACKING_FILE))
    for number, folder in enumerate(folders):
        try:
            exporter.export(folder)
        except Exception as error:  # MLflow, SQLAlchemy, requests, the file system
            raise UserError(
                f"MLflow at {place} failed ({first_line(error)}): {counts['sent']} runs were sent, "
                f"{len(folders) - number} are left; give the command again when it is back"
            ) from None
    if args.json:
        print(json.dumps(counts, indent=2, sort_keys=True))
    else:
        print("sent to {}: {sent} runs, {figures} figures, {files} files".format(place, **counts))
        for kind, text in NOTES.items():
            if counts[kind]:
                print(f"{text}: {counts[kind]}")
    if counts["left"]:
        raise UserError(
            f"MLflow at {place} refused {counts['left']} runs ({exporter.reasons['left']}), which "
            "are kept; restore there what was deleted and give the command again"
        )
    return 0
