"""The command `genrec-bench resend`: tells MLflow what it missed, or another one all there is."""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genrec_bench.errors import UserError, no_folder, one_line

if TYPE_CHECKING:
    from genrec_bench.tracking.store import Store

NOTES = {
    "ended": "cut short earlier, ended now",
    "live": "under way, left alone",
    "elsewhere": "of another store, which `resend --tracking-uri ADDRESS` sends to this one too",
    "refused": "entries that MLflow refused",
}
"""What is printed of the exporter's counts where they are not 0."""

ADDRESS = re.compile(r"[a-z][a-z0-9+]*://.+|databricks(-uc)?", re.ASCII | re.DOTALL)
"""What MLflow takes for a server or a database; anything else would become a folder."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``resend``."""
    parser.description = (
        "Send to MLflow what earlier commands could not, and end runs that were cut short; with "
        "--tracking-uri, send all runs to a server or a database that need not know them yet."
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="results (default: runs)"
    )
    parser.add_argument(
        "--tracking-uri",
        type=_address,
        metavar="ADDRESS",
        help="send all runs there, those of other stores too, such as http://HOST:5000 or "
        "sqlite:///FILE; default: what belongs to the store that $MLFLOW_TRACKING_URI names, or "
        "to the database in --output",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _address(text: str) -> str:
    if ADDRESS.fullmatch(text):
        return text
    raise argparse.ArgumentTypeError(
        f"{text}: must be an address, such as http://HOST:5000 or sqlite:///FILE"
    )


def execute(args: argparse.Namespace) -> int:
    """Send, and say what was sent."""
    from genrec_bench.tracking.exporter import Exporter
    from genrec_bench.tracking.folder_view import TRACKING_FILE
    from genrec_bench.tracking.store import Store, first_line

    output: Path = args.output
    if not output.is_dir():
        raise UserError(f"--output {output}: {no_folder(output)}")
    store = Store(output, args.tracking_uri)
    exporter = Exporter(store, all_runs=args.tracking_uri is not None)
    place, counts = store.place, exporter.counts
    folders = sorted(file.parent.resolve() for file in output.rglob(TRACKING_FILE))
    if folders:
        _check_answer(store, folders, all_runs=args.tracking_uri is not None)
    for number, folder in enumerate(folders):
        try:
            exporter.export(folder)
        except Exception as error:  # MLflow, SQLAlchemy, requests, the file system
            raise UserError(
                f"MLflow at {place} failed ({first_line(error)}): {counts['sent']} runs were sent, "
                f"{len(folders) - number} are left; give the command again when it is back"
            ) from None
    if args.json:
        print(json.dumps({**counts, "left_out": exporter.left_out}, indent=2, sort_keys=True))
    else:
        print("sent to {}: {sent} runs, {figures} figures, {files} files".format(place, **counts))
        for kind, text in NOTES.items():
            if counts[kind]:
                print(f"{text}: {counts[kind]}")
    if exporter.left_out:
        told = "; ".join(map(one_line, exporter.left_out))
        print(f"left out, as it is no file of a run's own folder: {told}", file=sys.stderr)
    if counts["left"]:
        raise UserError(
            f"MLflow at {place} refused {counts['left']} runs ({exporter.reasons['left']}), which "
            "are kept; restore there what was deleted and give the command again"
        )
    return 0


def _check_answer(store: Store, folders: list[Path], *, all_runs: bool) -> None:
    """Refuse a store that does not answer, before the first run is tried.

    Raises:
        UserError: how many runs wait, and what to do.
    """
    from genrec_bench.tracking.folder_view import read_about
    from genrec_bench.tracking.store import first_line

    try:
        store.check_answer()
    except UserError:
        raise
    except Exception as error:  # MLflow, SQLAlchemy, requests: no class is common to them
        known = [about for about in map(read_about, folders) if about is not None]
        waiting = sum(all_runs or about.to == store.to for about in known)
        others = len(known) - waiting
        more = f" ({others} more belong to another store)" if others else ""
        raise UserError(
            f"MLflow at {store.place} did not answer ({first_line(error)}): nothing was sent, and "
            f"{waiting} {'run waits' if waiting == 1 else 'runs wait'} for it{more}; start it or "
            "mend its address, and give the command again"
        ) from None
