"""The command `genrec-bench sft`: list, export and import SFT starts, to share a board."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec_bench import benchmark_version
from genrec_bench.errors import UserError, nearest
from genrec_bench.runs.options import add_data_dir_option, do_second_word

if TYPE_CHECKING:
    from genrec_bench.training.sft_sharing import Shared


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the three commands of ``sft``."""
    parser.description = (
        "SFT starts are trained by the first run that needs them. Runs meet on a board only if "
        "they begin at the same weights, so machines that share a board share the start."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    listed = commands.add_parser("list", help="the starts that are trained here")
    exported = commands.add_parser("export", help="write a start into one file")
    exported.add_argument(
        "name",
        metavar="NAME|WEIGHTS",
        help="the dataset, the first digits of the weights' hash, or the start as `list` names it",
    )
    exported.add_argument("--to", type=Path, required=True, metavar="FILE", help="a new file")
    imported = commands.add_parser("import", help="take a start from such a file")
    imported.add_argument("file", type=Path, metavar="FILE")
    imported.add_argument(
        "--replace",
        action="store_true",
        help="if there is another start of the same configuration",
    )
    for command, act in ((listed, _list), (exported, _export), (imported, _import)):
        add_data_dir_option(command)
        command.set_defaults(act=act)
    listed.add_argument("--json", action="store_true", help="print JSON instead of a table")


execute = do_second_word


def _list(args: argparse.Namespace) -> int:
    from tabulate import tabulate

    from genrec_bench.boards.units import with_unit
    from genrec_bench.training.sft_sharing import shared_starts

    found, wrong = shared_starts(args.data_dir)
    if args.json:
        told = [{"dataset": one.dataset, "folder": str(one.folder), **one.content} for one in found]
        print(json.dumps({"starts": told, "damaged": wrong}, indent=2))
        return 0
    lines = [
        {
            "start": one.folder.name,
            "weights": one.weights[:8],
            "version": one.content["key"]["benchmark"],
            "cost": with_unit(one.flops, "flops"),
            "prompt": one.content["key"]["prompt"],
            "settings": _settings(one, found),
        }
        for one in found
    ]
    print(tabulate(lines, headers="keys", disable_numparse=True) if lines else _none(args.data_dir))
    for line in wrong:
        print(f"damaged: {line}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from genrec_bench.training.sft_sharing import export_start, shared_starts

    found, _ = shared_starts(args.data_dir)
    named = [one for one in found if one.dataset == args.name]
    named = named or [one for one in found if one.weights.startswith(args.name)]
    named = named or [one for one in found if one.folder.name == args.name]
    if not named:
        names = sorted({one.dataset for one in found})
        there = (
            f"{args.data_dir} has those of {', '.join(names)}" if names else _none(args.data_dir)
        )
        raise UserError(f"no SFT start of {args.name!r}{nearest(args.name, names)}; {there}")
    # Only this version's can be imported by the same version.
    named = [
        one for one in named if one.content["key"]["benchmark"] == benchmark_version()
    ] or named
    if len(named) > 1:
        all_weights = [one.weights for one in named]
        # Starts of several settings have the same weights where nothing was trained.
        which = ", ".join(
            one.weights[:8] if all_weights.count(one.weights) == 1 else one.folder.name
            for one in named
        )
        raise UserError(f"{args.name!r} has several starts: name one of {which}; see `sft list`")
    export_start(named[0], args.to)
    size = args.to.stat().st_size / 1e6
    print(f"written: {args.to}, {size:.1f} MB; weights {named[0].weights[:8]}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from genrec_bench.training.sft_sharing import import_start

    start, new = import_start(args.file, args.data_dir, replace=args.replace)
    done = "imported" if new else "was here already"
    print(f"{done}: the start of {start.dataset}, weights {start.weights[:8]}, in {start.folder}")
    other = _other_data(start, args.data_dir)
    if other:
        print(f"note: {other}; runs here take it once they are the same")
    return 0


def _other_data(start: Shared, data_dir: Path) -> str:
    """In what this machine's dataset is another one; empty where it is the same or not there."""
    from genrec_bench.data.dataset_store import is_prepared, load_dataset, split_name

    if not is_prepared(split_name(start.dataset)[0], data_dir):
        return ""
    try:
        dataset = load_dataset(start.dataset, data_dir)
    except UserError as error:
        return str(error)
    ours = {"dataset": dataset.fingerprint, "sids": dataset.sid_fingerprint}
    words = {"dataset": "data", "sids": "SIDs"}
    differing = [words[key] for key in ours if ours[key] != start.content["key"][key]]
    return f"{' and '.join(differing)} of {start.dataset} differ here" if differing else ""


def _settings(one: Shared, others: list[Shared]) -> str:
    """The settings in which a start differs from any other of its dataset."""
    own: dict[str, Any] = one.content["key"]["settings"]
    same = [each.content["key"]["settings"] for each in others if each.dataset == one.dataset]
    apart = {key for each in same for key in own if each.get(key) != own[key]}
    return ", ".join(f"{key}={own[key]}" for key in sorted(apart))


def _none(data_dir: Path) -> str:
    return f"none is trained in {data_dir}; the first run of a dataset trains its start"
