"""The command `genrec-bench data`: list, show, import and verify datasets."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec_bench.cards import load_card
from genrec_bench.data_report import (
    describe,
    format_description,
    format_imported,
    format_list,
    list_datasets,
    verify,
)
from genrec_bench.errors import UserError
from genrec_bench.importers import READERS, import_dataset
from genrec_bench.store import (
    data_directory,
    differing_sources,
    load_dataset,
    read_manifest,
    save_dataset,
)

if TYPE_CHECKING:
    # argparse's own class is generic in the type checker's eyes only.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_data_parser(subparsers: "Subparsers") -> None:
    """Add `data` and its four commands; each sets `handler`, a function of the arguments."""
    data = subparsers.add_parser("data", help="list, show, import or verify datasets")
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    command = _add(commands, "list", "every dataset card, and whether it is prepared")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(handler=_list)

    command = _add(commands, "show", "counts, SID collisions, history lengths, duplicates")
    command.add_argument("name", metavar="NAME", help="the dataset")
    command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    command.set_defaults(handler=_show)

    command = _add(commands, "import", "prepare a dataset from files that others publish")
    command.add_argument("layout", metavar="LAYOUT", help=" or ".join(READERS))
    command.add_argument("directory", metavar="DIR", help="the folder that holds the files")
    command.add_argument(
        "--as", dest="name", metavar="NAME", required=True, help="the dataset they are"
    )
    command.set_defaults(handler=_import)

    command = _add(commands, "verify", "compare the prepared files with their checksums")
    command.add_argument("name", metavar="NAME", help="the dataset")
    command.set_defaults(handler=_verify)


def _add(commands: "Subparsers", name: str, text: str) -> argparse.ArgumentParser:
    command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
    command.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of prepared datasets (default: $GENREC_BENCH_DATA, else a cache folder)",
    )
    return command


def _list(args: argparse.Namespace) -> int:
    rows = list_datasets(data_directory(args.data_dir))
    print(_json(rows) if args.json else format_list(rows))
    return 0


def _show(args: argparse.Namespace) -> int:
    data_dir = data_directory(args.data_dir)
    report = describe(load_dataset(args.name, data_dir), read_manifest(args.name, data_dir))
    print(_json(report) if args.json else format_description(report))
    return 0


def _import(args: argparse.Namespace) -> int:
    card = load_card(args.name)
    dataset, sources = import_dataset(args.layout, Path(args.directory), card)
    folder = save_dataset(dataset, data_directory(args.data_dir), sources)
    print(format_imported(dataset, card, differing_sources(card, sources)))
    print(f"written to {folder}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    problems = verify(args.name, data_directory(args.data_dir))
    if problems:
        raise UserError("; ".join(problems))
    print(f"{args.name}: files and contents are as they were prepared")
    return 0


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True)
