"""The command ``genrec-bench clean``: what can go of earlier runs, and what it would cost."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from genrec_bench.errors import UserError, nearest

UNITS = ("B", "kB", "MB", "GB", "TB")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``clean``."""
    parser.description = (
        "Say what can go of earlier runs, how large it is, and what it would cost to make again; "
        "with --yes remove it. Records, outcomes and curves stay, and all of a run that is at work."
    )
    parser.add_argument(
        "kinds",
        nargs="*",
        metavar="KIND",
        help="leftovers, checkpoints, policies or unfinished; default: the first two, which nobody "
        "will miss",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="results (default: runs)"
    )
    parser.add_argument("--yes", action="store_true", help="remove it; without, nothing is changed")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def execute(args: argparse.Namespace) -> int:
    """Print what can go, or remove it."""
    from genrec_bench.runs.housekeeping import FREE, KINDS, clear, removable

    for kind in args.kinds:
        if kind not in KINDS:
            hint = nearest(kind, KINDS)
            raise UserError(f"clean {kind}: must be one of {', '.join(KINDS)}{hint}")
    kinds = args.kinds or FREE
    found = clear(args.output, kinds) if args.yes else removable(args.output)
    rows = []
    for kind, what in KINDS.items():
        of_kind = [one for one in found if one.kind == kind]
        size, seconds = sum(one.size for one in of_kind), sum(one.seconds for one in of_kind)
        row = {"kind": kind, "chosen": kind in kinds, "number": len(of_kind), "bytes": size}
        rows.append(row | {"seconds": seconds, "what": what})
    if args.json:
        paths = [str(one.path) for one in found if one.kind in kinds]
        print(json.dumps({"removed": args.yes, "kinds": rows, "paths": paths}, indent=2))
        return 0
    from tabulate import tabulate

    cells = [
        [
            f"{row['kind']} *" if row["chosen"] else row["kind"],
            row["number"],
            size_text(int(str(row["bytes"]))),
            time_text(float(str(row["seconds"]))),
            row["what"],
        ]
        for row in rows
        if row["chosen"] or not args.yes
    ]
    heads = ("", "number", "size", "training it took", "")
    print(tabulate(cells, headers=heads, disable_numparse=True))
    chosen = sum(one.size for one in found if one.kind in kinds)
    if args.yes:
        print(f"\nremoved: {size_text(chosen)}")
    else:
        named = " ".join(args.kinds)
        again = f"genrec-bench clean {named}{' ' if named else ''}--yes"
        print(f"\n* {size_text(chosen)} would be removed by `{again}`; nothing was changed")
    return 0


def size_text(size: int) -> str:
    """Write a number of bytes for people."""
    power = 0
    while size >= 1000 ** (power + 1) and power < len(UNITS) - 1:
        power += 1
    return f"{size / 1000**power:.3g} {UNITS[power]}"


def time_text(seconds: float) -> str:
    """Write a time for people; nothing for none."""
    if not seconds:
        return "none"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
