"""The options that `diversity` and `correlation` share; nothing slow is imported for them."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from functools import partial

from genrec_bench.runs.options import one_seed


def add_query_options(parser: argparse.ArgumentParser, size: str) -> None:
    """Add the number of candidates, of queries, and the seed of the training.

    Args:
        parser: of an analysis.
        size: what there are ``--size`` of.
    """
    parser.add_argument(
        "--size", type=at_least(2), default=64, metavar="N", help=f"{size}; default: 64"
    )
    parser.add_argument(
        "--examples",
        type=at_least(0),
        default=1000,
        metavar="N",
        help="test examples, the same ones for all; 0: all; default: 1000",
    )
    parser.add_argument(
        "--seed", type=one_seed, default=0, metavar="N", help="of the training; default: 0"
    )


def at_least(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers that are not smaller, for argparse."""
    return partial(_whole, least=least)


def _whole(text: str, least: int) -> int:
    if not (text.isascii() and text.isdecimal()) or int(text) < least:
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number of at least {least}")
    return int(text)
