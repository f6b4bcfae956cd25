"""The command ``genrec-bench data``: prepare, import, list, show and verify datasets."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genrec_bench.errors import UserError
from genrec_bench.runs.options import add_data_dir_option, do_second_word
from genrec_bench.storage.folders import check_writable


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the five commands of ``data``."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, act: Callable[[argparse.Namespace], int], text: str) -> Any:
        command = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        add_data_dir_option(command)
        command.set_defaults(act=act)
        return command

    def add_replace(command: Any) -> None:
        what = "replace another dataset that is there under this name"
        command.add_argument("--replace", action="store_true", help=what)

    command = add("list", _list, "list every dataset card, and whether it is prepared")
    command.add_argument("--json", action="store_true", help="print JSON instead of a table")

    command = add("show", _show, "count users, items, SID collisions, histories and leaks")
    command.add_argument("name", metavar="NAME", help="the dataset")
    command.add_argument("--json", action="store_true", help="print JSON instead of tables")

    command = add("prepare", _prepare, "make a dataset from its raw files; fetch those it lacks")
    command.add_argument("name", metavar="NAME", help="the dataset")
    command.add_argument(
        "--reviews", type=Path, metavar="FILE", help="the interactions, instead of fetching them"
    )
    command.add_argument(
        "--metadata", type=Path, metavar="FILE", help="the items' texts, instead of fetching them"
    )
    command.add_argument(
        "--accept-counts",
        action="store_true",
        help="go on where the numbers of users, items or interactions differ from the card's",
    )
    add_replace(command)
    command.add_argument("--json", action="store_true", help="print JSON instead of tables")

    command = add("import", _import, "take a dataset from prepared files that others publish")
    command.add_argument(
        "layout",
        metavar="LAYOUT",
        help="minionerec, mimigenrec, lcrec, s3rec, bert4rec or recbole",
    )
    command.add_argument("directory", metavar="DIR", help="the folder that holds the files")
    command.add_argument(
        "--as", dest="name", metavar="NAME", required=True, help="the name of its card"
    )
    command.add_argument(
        "--category",
        default="",
        metavar="WORD",
        help="what the names of the files begin with; default: the card's",
    )
    add_replace(command)

    command = add("verify", _verify, "compare the prepared files with their checksums")
    command.add_argument("name", metavar="NAME", help="the dataset")


execute = do_second_word


def _list(args: argparse.Namespace) -> int:
    from genrec_bench.data.data_report import format_list, list_datasets

    rows = list_datasets(args.data_dir)
    print(_json(rows) if args.json else format_list(rows))
    return 0


def _show(args: argparse.Namespace) -> int:
    from genrec_bench.data.data_report import describe_dataset, format_description
    from genrec_bench.data.dataset_store import dataset_of, load_contents, read_manifest, split_name
    from genrec_bench.data.sids.sid_store import labels

    data_dir, (base, label) = args.data_dir, split_name(args.name)
    contents = load_contents(base, data_dir)
    card = contents.card
    wanted = label or (card.sids.label(card.codes_per_level) if card.sids else "")
    made = bool(label) or contents.sids is not None or wanted in labels(base, data_dir)
    dataset = dataset_of(contents, label, data_dir) if made else None
    report = describe_dataset(contents, dataset, read_manifest(base, data_dir))
    print(_json(report) if args.json else format_description(report))
    return 0


def _prepare(args: argparse.Namespace) -> int:
    from genrec_bench.data.cards import load_card
    from genrec_bench.data.dataset_store import read_manifest
    from genrec_bench.data.obtain import prepare_dataset
    from genrec_bench.data.preparation.prepare import format_report
    from genrec_bench.progress import Progress

    report = prepare_dataset(
        load_card(args.name),
        args.data_dir,
        Progress(logged=not args.json),
        interactions=args.reviews,
        items=args.metadata,
        accept_counts=args.accept_counts,
        replace=args.replace,
    )
    if report is None:
        kept = read_manifest(args.name, args.data_dir)["report"]
        there = f"{args.name} is there already, made of these files; --replace makes it anew"
        print(_json(kept) if args.json else f"{there}\nit is in {args.data_dir / args.name}")
    elif args.json:
        print(_json(asdict(report)))
    else:
        print(format_report(report))
        print(f"\nwritten to {args.data_dir / args.name}")
        print(f"SIDs come with the first run, or now: genrec-bench sids build {args.name}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from genrec_bench.data.cards import load_card
    from genrec_bench.data.data_report import format_imported
    from genrec_bench.data.dataset_store import differing_sources, save_contents
    from genrec_bench.data.importers import import_contents
    from genrec_bench.data.standing import dataset_stands, refuse_replacing
    from genrec_bench.progress import Progress

    card = load_card(args.name)
    directory = Path(args.directory)
    check_writable(args.data_dir, f"cannot write to {args.data_dir} (--data-dir)")
    contents, sources = import_contents(args.layout, directory, card, args.category)
    where, folder = (card, args.data_dir), args.data_dir / card.name
    if not args.replace:
        if dataset_stands(*where, sources, "imported", args.layout, contents):
            print(f"{card.name} is there already, imported from these files: {folder}")
            return 0
        refuse_replacing(*where, Progress(), f"What {directory} holds", sources)
    save_contents(contents, args.data_dir, sources)
    print(format_imported(contents, differing_sources(card, sources)))
    print(f"written to {folder}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from genrec_bench.data.data_report import verify_data

    problems = verify_data(args.name, args.data_dir)
    if problems:
        raise UserError("; ".join(problems))
    print(f"{args.name}: files and contents are as they were prepared")
    return 0


def _json(value: Any) -> str:
    return json.dumps(value, indent=2, sort_keys=True)
