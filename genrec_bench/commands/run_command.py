"""The command ``genrec-bench run``: one algorithm trained, evaluated and recorded."""

from __future__ import annotations

import argparse
import sys

from genrec_bench.runs.options import add_algorithm, add_context_options, context_of, one_seed
from genrec_bench.tracking.tracker import Tracker


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``run``."""
    parser.description = "Train an algorithm from the SFT start, evaluate it, and write a record."
    add_algorithm(parser)
    add_context_options(parser)
    parser.add_argument("--seed", type=one_seed, default=0, metavar="N", help="default: 0")
    parser.add_argument("--json", action="store_true", help="print the record, and nothing else")


def execute(args: argparse.Namespace) -> int:
    """Run it, and print where the record is, what was seen, and what to do next."""
    from genrec_bench.boards.closing import closing
    from genrec_bench.boards.evidence import read_evidence
    from genrec_bench.runs.jobs import Job, do

    job = Job(args.algorithm, args.algorithm, seed=args.seed)
    with context_of(args, Tracker, [job]) as context:
        path = do(job, context, reuse=False)
    if context.workers.is_main:
        print(path.read_text() if args.json else f"record: {path}", flush=True)
        for line in closing(read_evidence(path), args.algorithm, args.dataset):
            print(line, file=sys.stderr)
    return 0
