"""The command `genrec-bench data`: prepare, import, list, show and verify datasets."""

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec_bench.data.cards import load_card
from genrec_bench.data.data_report import (
    describe,
    format_description,
    format_imported,
    format_list,
    list_datasets,
    verify,
)
from genrec_bench.data.dataset_store import (
    data_directory,
    differing_sources,
    load_contents,
    load_dataset,
    read_manifest,
    save_contents,
    split_name,
)
from genrec_bench.data.importers import READERS, import_contents
from genrec_bench.data.obtain import prepare_dataset
from genrec_bench.data.sids.sid_store import labels
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress

if TYPE_CHECKING:
    # argparse's own class is generic in the type checker's eyes only.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]


def add_data_parser(subparsers: "Subparsers") -> None:
    """Add `data` and its four commands; each sets `handler`, a function of the arguments."""
    data = subparsers.add_parser("data", help="prepare, import, list, show or verify datasets")
    commands = data.add_subparsers(dest="data_command", required=True, metavar="COMMAND")

    command = _add(commands, "list", "every dataset card, and whether it is prepared")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")
    command.set_defaults(handler=_list)

    command = _add(commands, "show", "counts, SID collisions, history lengths, leaks")
    command.add_argument("name", metavar="NAME", help="the dataset")
    command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    command.set_defaults(handler=_show)

    command = _add(commands, "prepare", "make a dataset from its raw files, fetched if need be")
    command.add_argument("name", metavar="NAME", help="the dataset")
    command.add_argument(
        "--reviews", metavar="FILE", help="the interactions, instead of fetching them"
    )
    command.add_argument(
        "--metadata", metavar="FILE", help="the items' texts, instead of fetching them"
    )
    command.add_argument(
        "--accept-counts", action="store_true", help="also if counts are not those of the card"
    )
    command.add_argument("--json", action="store_true", help="print JSON instead of tables")
    command.set_defaults(handler=_prepare)

    command = _add(commands, "import", "take a dataset from prepared files that others publish")
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
    base, label = split_name(args.name)
    contents = load_contents(base, data_dir)
    card = contents.card
    wanted = label or (card.sids.label(card.codes_per_level) if card.sids else "")
    made = bool(label) or contents.sids is not None or wanted in labels(base, data_dir)
    dataset = load_dataset(args.name, data_dir) if made else None
    report = describe(contents, dataset, read_manifest(base, data_dir))
    print(_json(report) if args.json else format_description(report))
    return 0


def _prepare(args: argparse.Namespace) -> int:
    from genrec_bench.data.preparation.prepare import format_report

    interactions, items = (None if f is None else Path(f) for f in (args.reviews, args.metadata))
    prepared, folder = prepare_dataset(
        load_card(args.name),
        data_directory(args.data_dir),
        Progress(),
        interactions=interactions,
        items=items,
        accept_counts=args.accept_counts,
    )
    if args.json:
        print(_json(prepared.report.as_dict()))
    else:
        print(format_report(prepared.report))
        print(f"\nwritten to {folder}")
        print(f"SIDs come with the first run, or now: genrec-bench sids build {args.name}")
    return 0


def _import(args: argparse.Namespace) -> int:
    card = load_card(args.name)
    contents, sources = import_contents(args.layout, Path(args.directory), card)
    folder = save_contents(contents, data_directory(args.data_dir), sources)
    print(format_imported(contents.dataset(), card, differing_sources(card, sources)))
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
