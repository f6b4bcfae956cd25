"""The options that `diversity` and `correlation` share; nothing slow is imported for them."""

from __future__ import annotations

import argparse

from genrec_bench.runs.options import one_seed, whole_number


def add_query_options(parser: argparse.ArgumentParser, size: str) -> None:
    """Add the number of candidates, of queries, and the seed of the training.

    Args:
        parser: of an analysis.
        size: what there are ``--size`` of.
    """
    parser.add_argument(
        "--size", type=whole_number(2), default=64, metavar="N", help=f"{size}; default: 64"
    )
    parser.add_argument(
        "--examples",
        type=whole_number(0),
        default=1000,
        metavar="N",
        help="number of test examples, the same ones for all policies; 0: all; default: 1000",
    )
    parser.add_argument(
        "--seed", type=one_seed, default=0, metavar="N", help="of the training; default: 0"
    )
