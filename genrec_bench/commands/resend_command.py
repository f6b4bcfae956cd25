"""The command `genrec-bench resend`: tells MLflow what it missed while it was away."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from genrec_bench.errors import UserError

if TYPE_CHECKING:
    from genrec_bench.tracking.exporter import Exporter

OUTCOMES = ("sent", "ended", "live", "elsewhere", "left")


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
    place = exporter.store.place
    folders = sorted(file.parent.resolve() for file in output.rglob(TRACKING_FILE))
    tally = Counter(dict.fromkeys(OUTCOMES, 0))
    for number, folder in enumerate(folders):
        try:
            found = exporter.export(folder, verify=True)
        except Exception as error:  # MLflow, SQLAlchemy, requests, the file system
            raise UserError(
                f"MLflow at {place} failed ({first_line(error)}): {tally['sent']} runs were sent, "
                f"{len(folders) - number} are left; give the command again when it is back"
            ) from None
        # A run that was cut short is sent, too.
        tally.update({"ended", "sent"} if found == "ended" else {found} - {"done"})
    figures = {
        "figures": exporter.figures,
        "files": exporter.files,
        "refused": len(exporter.refused),
    }
    if args.json:
        print(json.dumps(tally | figures, indent=2, sort_keys=True))
    else:
        _print(tally, exporter)
    if tally["left"]:
        raise UserError(
            f"MLflow at {place} refused {tally['left']} runs ({exporter.kept[0]}), which are kept; "
            "restore there what was deleted and give the command again"
        )
    return 0


def _print(tally: Counter[str], exporter: Exporter) -> None:
    print(
        f"sent to {exporter.store.place}: {tally['sent']} runs, {exporter.figures} figures, "
        f"{exporter.files} files"
    )
    notes = {
        "cut short earlier, ended now": tally["ended"],
        "under way, left alone": tally["live"],
        "kept for another server": tally["elsewhere"],
        "entries that MLflow refused": len(exporter.refused),
    }
    for text, count in notes.items():
        if count:
            print(f"{text}: {count}")
