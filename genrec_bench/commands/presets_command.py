"""The command ``genrec-bench presets``: the papers' own settings, and what they need."""

from __future__ import annotations

import argparse
import dataclasses
import json
from typing import TYPE_CHECKING

from genrec_bench.runs.options import DATASET, add_data_dir_option, completed
from genrec_bench.runs.preset_files import Preset, load_preset, preset_names

if TYPE_CHECKING:
    from genrec_bench.runs.run_needs import Needs


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``presets``."""
    parser.description = (
        "List the presets, or print one with what it needs in memory and time on a dataset."
    )
    name = parser.add_argument("name", nargs="?", metavar="NAME|FILE", help="a preset")
    completed(name, preset_names)
    parser.add_argument("--dataset", default=DATASET, metavar="NAME", help=f"default: {DATASET}")
    add_data_dir_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON")


def execute(args: argparse.Namespace) -> int:
    """Print the list, or one."""
    if args.name is None:
        presets = [load_preset(name) for name in preset_names()]
        plain = [_plain(one) for one in presets]
        print(json.dumps(plain, indent=2) if args.json else _list(presets))
        return 0
    preset = load_preset(args.name)
    needs = _needs(args, preset)
    if args.json:
        print(json.dumps({**_plain(preset), "needs": dataclasses.asdict(needs)}, indent=2))
    else:
        print(f"{preset.text}\n{needs}")
    return 0


def _needs(args: argparse.Namespace, preset: Preset) -> Needs:
    from genrec_bench.data.dataset_store import data_directory
    from genrec_bench.data.obtain import obtain
    from genrec_bench.progress import Progress
    from genrec_bench.runs.options import quieten
    from genrec_bench.runs.preset_needs import needs_of

    quieten()
    dataset = obtain(args.dataset, data_directory(args.data_dir), Progress())
    return needs_of(preset, dataset)


def _plain(preset: Preset) -> dict[str, object]:
    return {"name": preset.name, "sha256": preset.sha256, **dataclasses.asdict(preset.says)}


def _list(presets: list[Preset]) -> str:
    from tabulate import tabulate

    rows = [(one.name, one.says.algorithm, one.says.backbone, one.says.title) for one in presets]
    return tabulate(rows, headers=("preset", "algorithm", "backbone", ""))
