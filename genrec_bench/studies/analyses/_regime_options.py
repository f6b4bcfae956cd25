"""The options of `regime`: the axes of its grid."""

from __future__ import annotations

import argparse
from functools import partial

from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import split_words
from genrec_bench.runs.options import add_seeds_options

Words = tuple[str, ...]
"""Of ``--set``."""

STOPS = (0.25, 0.5, 1.0)
"""Shares of the whole SFT start's cost."""

BUDGETS = (0.5, 1.0, 2.0, 4.0)
"""Of RL, and of SFT continued: multiples of the whole SFT start's cost."""

BETA_ON = 0.04
"""With which runs on Industrial kept HR@10 that fell without a divergence, and did not dip on
their way; published runs have 0.001 to 0.12."""

USUAL = (("beta=0",), (f"beta={BETA_ON!r}",))
"""Variants of an algorithm that has a ``beta``, if no others are asked for."""

SEEDS = 3
"""One has no intervals."""

DEFAULTS = "defaults"
"""What a variant is called that is the algorithm as it is."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the axes of the grid, and the seeds."""
    parser.add_argument("--algorithm", default="grpo", metavar="NAME|FILE.py", help="default: grpo")
    parser.add_argument(
        "--stops",
        type=partial(_numbers, most=1.0, unit=""),
        default=STOPS,
        metavar="S,S",
        help="SFT starts, as shares of what the whole one costs; default: 0.25,0.5,1",
    )
    parser.add_argument(
        "--budgets",
        type=partial(_numbers, most=1e3, unit="xsft"),
        default=BUDGETS,
        metavar="B,B",
        help="of each run, in multiples of what the whole SFT start cost; default: 0.5,1,2,4",
    )
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument(
        "--betas",
        dest="variants",
        type=_betas,
        metavar="B,B",
        help=f"short for --variants beta=B,beta=B; default, where there is a beta: 0,{BETA_ON:g}",
    )
    forms.add_argument(
        "--variants",
        type=_variants,
        metavar="key=value[:key=value...],...",
        help="forms of the algorithm to draw side by side; `defaults` is it as it is",
    )
    add_seeds_options(parser, SEEDS, SEEDS)
    parser.add_argument(
        "--over",
        choices=("control", "start"),
        default="control",
        help="what the figure and the words show the gain over: SFT continued, or the SFT start; "
        "the table has both; default: control",
    )


def variant_name(variant: Words) -> str:
    """What to call a variant; no two have the same."""
    return " ".join(variant) or DEFAULTS


def _numbers(text: str, most: float, unit: str = "") -> tuple[float, ...]:
    """Read different numbers above 0, separated by commas, with their unit or without."""
    try:
        found = tuple(float(part.strip().removesuffix(unit)) for part in text.split(","))
    except ValueError:
        found = ()
    apart = {f"{one:g}" for one in found}
    if not found or len(apart) < len(found) or not all(0 < one <= most for one in found):
        raise argparse.ArgumentTypeError(
            f"{text}: must be different numbers above 0, up to {most:g}, such as 0.5,1"
        )
    return found


def _betas(text: str) -> tuple[Words, ...]:
    """Read values of ``beta`` as variants."""
    return _variants(",".join(f"beta={part.strip()}" for part in text.split(",")))


def _variants(text: str) -> tuple[Words, ...]:
    """Read different variants: words with colons between them, or the algorithm as it is."""
    parts = [part.strip() for part in text.split(",")]
    found = [() if part == DEFAULTS else tuple(part.split(":")) for part in parts]
    try:
        keys = [split_words(variant) for variant in found]
    except UserError:
        keys = []
    if not keys or any("" in each or "" in each.values() for each in keys):
        raise argparse.ArgumentTypeError(f"{text}: must be key=value[:key=value...],...")
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text}: a variant is given twice")
    return tuple(found)
