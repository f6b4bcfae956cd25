"""The command ``genrec-bench bench``: how fast rollout and update are."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bench``."""
    parser.description = (
        "Measure rollout and update: the speedup over plain transformers, and the share of the "
        "machine's peak."
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(args: argparse.Namespace) -> int:
    """Measure, and print the result."""
    with contextlib.redirect_stdout(sys.stderr):
        from genrec_bench.studies.speed.bench import bench, bench_text

        result = bench()
    print(json.dumps(result, indent=2) if args.json else bench_text(result))
    return 0
