"""The command ``genrec-bench bench``: how fast rollout and update are."""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
from typing import Any

from genrec_bench.errors import UserError
from genrec_bench.runs.options import whole_number

PRECISIONS = ("fp32", "bf16-mixed")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bench``."""
    parser.description = (
        "Measure rollout and update: the speedup over plain transformers, and the share of the "
        "machine's peak; or how they grow with the catalog, or what they take at the shape of a "
        "language model."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument(
        "--sids",
        metavar="N,N,...",
        help="how rollout, update, memory and start-up grow with the catalog, such as "
        "1e4,1e5,1e6,1e7",
    )
    what.add_argument(
        "--backbone",
        metavar="CONFIG",
        help="a step at a shape with random weights: a name such as Qwen/Qwen2.5-0.5B, a "
        "config.json, or a folder that holds one",
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, help="of --backbone; default: as runs on this device"
    )
    parser.add_argument(
        "--prompts",
        type=whole_number(1, 4096),
        metavar="N",
        help="of a step of --backbone; default: 64, and 4 on a CPU",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(args: argparse.Namespace) -> int:
    """Measure, and print the result."""
    for option in ("precision", "prompts"):
        if getattr(args, option) is not None and args.backbone is None:
            raise UserError(f"--{option}: is of --backbone; name a shape too")
    with contextlib.redirect_stdout(sys.stderr):
        result, text = _measured(args)
    print(json.dumps(result, indent=2) if args.json else text)
    return 0


def _measured(args: argparse.Namespace) -> tuple[dict[str, Any], str]:
    if args.sids is not None:
        from genrec_bench.studies.speed.catalog_sizes import (
            bench_catalogs,
            catalogs_text,
            read_sizes,
        )

        result = bench_catalogs(read_sizes(args.sids))
        return result, catalogs_text(result)
    if args.backbone is not None:
        from genrec_bench.runs.options import quieten
        from genrec_bench.studies.speed.backbone_bench import backbone_text, bench_backbone

        quieten()
        result = bench_backbone(args.backbone, precision=args.precision, prompts=args.prompts)
        return result, backbone_text(result)
    from genrec_bench.studies.speed.bench import bench, bench_text

    result = bench()
    return result, bench_text(result)
