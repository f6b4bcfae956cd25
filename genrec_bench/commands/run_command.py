"""``run`` and ``bench`` on the command line. What is slow to import is imported when needed."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from collections.abc import Mapping
from typing import Any

from genrec_bench.runs.jobs import Job, do
from genrec_bench.runs.options import add_context_options, context_of, one_seed

Subparsers = Any


def add_run_parser(subparsers: Subparsers) -> None:
    """Add ``run``."""
    parser = subparsers.add_parser(
        "run",
        help="train an algorithm from the SFT start and evaluate it",
        description="Train an algorithm from the SFT start, evaluate it, and write a record.",
    )
    parser.add_argument("algorithm", metavar="ALGO", help="name, or path of a Python file")
    add_context_options(parser)
    parser.add_argument("--seed", type=one_seed, default=0, metavar="N", help="default: 0")
    parser.add_argument("--json", action="store_true", help="print the record, and nothing else")
    parser.set_defaults(handler=_run)


def add_bench_parser(subparsers: Subparsers) -> None:
    """Add ``bench``."""
    parser = subparsers.add_parser(
        "bench",
        help="measure rollout and update against what transformers does",
        description="Measure rollout and update: speedup over transformers' way and share of peak.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=_bench)


def _run(args: argparse.Namespace) -> int:
    with context_of(args) as context:
        job = Job(args.algorithm, args.algorithm, seed=args.seed)
        path = do(job, context, reuse=False)
    if context.workers.is_main:
        print(path.read_text() if args.json else f"record: {path}")
    return 0


def _bench(args: argparse.Namespace) -> int:
    with contextlib.redirect_stdout(sys.stderr):
        from genrec_bench.studies.speed.bench import bench, render

        result = bench()
    print(json.dumps(result, indent=2) if args.json else render(result))
    return 0


def defaults() -> Mapping[str, Mapping[str, Any]]:
    """Return the default hyperparameters of every algorithm that is found, for boards."""
    import dataclasses

    from genrec_bench.runs.registry import discover

    return {
        entry.name: dataclasses.asdict(entry.algorithm.hyperparameters_class())
        for entry in discover().entries
    }
