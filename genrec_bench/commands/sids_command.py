"""The command ``genrec-bench sids``: build, import, list and show SIDs of a dataset."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from genrec_bench.data.cards import MARK, Card, card_names, load_card
from genrec_bench.data.sids.sid_recipe import (
    COLLISIONS,
    METHODS,
    MOST_CODES,
    MOST_LEVELS,
    SIDRecipe,
    reads_as_recipe,
)
from genrec_bench.errors import UserError, no_file
from genrec_bench.runs.options import add_data_dir_option, do_second_word, one_seed, whole_number
from genrec_bench.storage.folders import at_home, check_writable


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the four commands of ``sids``."""
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, act: Callable[[argparse.Namespace], int], text: str) -> Any:
        brief = text.split(".")[0]
        command = commands.add_parser(name, help=brief[0].lower() + brief[1:], description=text)
        add_data_dir_option(command)
        command.add_argument("--json", action="store_true", help="print JSON instead of tables")
        command.set_defaults(act=act)
        return command

    command = add(
        "build",
        _build,
        "Make SIDs for the items of a dataset. They are then chosen with --dataset NAME@LABEL; "
        "those of the card's recipe are what NAME alone means, where its files bring none.",
    )
    command.add_argument("name", metavar="NAME", help="the dataset; prepared now if it is not yet")
    command.add_argument("--method", choices=METHODS, help="default: the card's")
    command.add_argument(
        "--levels", type=whole_number(1, MOST_LEVELS), metavar="L", help="default: the card's"
    )
    command.add_argument(
        "--codes",
        type=whole_number(1, MOST_CODES),
        metavar="K",
        help="of each level; default: the card's",
    )
    command.add_argument(
        "--embeddings",
        metavar="SOURCE",
        help="what is quantized: text, collaborative, a sentence-transformers model, or FILE.npy "
        "with one row for each item; default: the card's",
    )
    command.add_argument(
        "--collisions",
        choices=COLLISIONS,
        help="of items that share a SID: keep them so, move them to free codes of the last level, "
        "or add a level (as GREAM) or a code (as TIGER); default: the card's",
    )
    command.add_argument("--seed", type=one_seed, metavar="N", help="default: the card's, else 0")
    command.add_argument(
        "--as", dest="label", metavar="LABEL", help="label; default: from the options"
    )
    command.add_argument("--replace", action="store_true", help="replace other SIDs of that label")

    command = add(
        "import",
        _import,
        "Take SIDs that others made as they are. They may be JSON as of MiniOneRec and LC-Rec, a "
        "table, or an array, and be spelled in many ways; what was understood is printed.",
    )
    command.add_argument("name", metavar="NAME", help="the dataset")
    command.add_argument(
        "file",
        metavar="FILE",
        help="item names to SIDs, as *.index.json; or a table, or an array of codes",
    )
    command.add_argument(
        "--as", dest="label", metavar="LABEL", required=True, help="label of these SIDs"
    )
    command.add_argument("--replace", action="store_true", help="replace other SIDs of that label")

    command = add("list", _list, "The SIDs that were made or imported, by dataset.")

    command = add("show", _show, "What the SIDs of a dataset are worth.")
    command.add_argument("name", metavar="NAME[@LABEL]", help="the dataset")


execute = do_second_word


def recipe_of(args: argparse.Namespace, card: Card, has_titles: bool) -> SIDRecipe:
    """Return the recipe that the options ask for, the card's where they say nothing.

    Args:
        card: one without a recipe is quantized by residual k-means.
        has_titles: whether items have texts, which are then what is quantized by default.
    """
    usual = card.sids or SIDRecipe("rq-kmeans", "text" if has_titles else "collaborative")
    embeddings = usual.embeddings if args.embeddings is None else args.embeddings
    if embeddings.endswith(".npy"):  # as on a card
        embeddings = str(at_home(embeddings, "--embeddings").resolve())
    if args.embeddings is None and embeddings == "text" and not has_titles:
        # The card's texts come with its raw files; what was imported may have none.
        embeddings = "collaborative"
    return SIDRecipe(
        method=args.method or usual.method,
        embeddings=embeddings,
        collisions=args.collisions or usual.collisions,
        seed=usual.seed if args.seed is None else args.seed,
    )


def codes_of(args: argparse.Namespace, card: Card) -> tuple[int, ...]:
    """Return the codes per level that the options ask for, the card's where they say nothing."""
    usual = card.codes_per_level
    if args.codes is args.levels is None:
        return usual
    return (args.codes or usual[0],) * (args.levels or len(usual))


def _build(args: argparse.Namespace) -> int:
    from genrec_bench.data.agreement import agreements
    from genrec_bench.data.obtain import obtain_contents
    from genrec_bench.data.sids.build import VECTORS, build_sids
    from genrec_bench.data.sids.sid_quality import format_quality
    from genrec_bench.data.sids.sid_store import sids_folder
    from genrec_bench.data.sightings import code_lines
    from genrec_bench.data.vectors.item_vectors import SOURCES, check_source
    from genrec_bench.progress import Progress

    card, data_dir = load_card(args.name), args.data_dir
    progress = Progress(logged=not args.json)
    # A mistyped option should not wait for a download.
    codes_per_level = codes_of(args, card)
    if args.label is not None:
        sids_folder(card.name, args.label, data_dir)
        possible = (recipe_of(args, card, texts) for texts in (True, False))
        if args.label not in [recipe.label(codes_per_level) for recipe in possible]:
            _refuse_label_of(card, args.label)
            _refuse_recipe(args.label)
    check_writable(data_dir, f"cannot write to {data_dir} (--data-dir)")
    check_source(recipe_of(args, card, True).embeddings, data_dir / VECTORS)
    contents = obtain_contents(args.name, data_dir, progress)
    texts = any(title.strip() for title in contents.titles)
    # What was prepared has the texts of the card, and a run would ask for them too.
    recipe = recipe_of(args, card, texts or contents.sids is None)
    label = recipe.label(codes_per_level) if args.label is None else args.label
    if (recipe, codes_per_level) != (card.sids, card.codes_per_level):
        _refuse_label_of(card, label)
    if label != recipe.label(codes_per_level):
        _refuse_recipe(label)
    where = (label, data_dir, progress)
    sids, quality, folder = build_sids(
        contents, recipe, codes_per_level, *where, replace=args.replace
    )
    name = f"{args.name}{MARK}{label}"
    lines = code_lines(sids.codes, sids.codes_per_level)
    if recipe.embeddings not in SOURCES:  # vectors of others may be of other items
        lines += [one.told() for one in agreements(contents, sids.codes)]
    if args.json:
        told = {"dataset": name, "folder": folder.as_posix(), "seen": lines}
        print(_json({**told, **sids.quality}))
    else:
        print("\n".join([format_quality(quality), *([""] if lines else []), *lines]))
        print(f"\nwritten to {folder}\nto use them: genrec-bench run ugr --dataset {name}")
    return 0


def _import(args: argparse.Namespace) -> int:
    from genrec_bench.data.agreement import agreements
    from genrec_bench.data.obtain import obtain_contents
    from genrec_bench.data.sids.index_file import import_index
    from genrec_bench.data.sids.sid_store import sids_folder
    from genrec_bench.data.sightings import code_lines
    from genrec_bench.progress import Progress

    card, data_dir = load_card(args.name), args.data_dir
    # A mistyped word should not wait for a download.
    sids_folder(card.name, args.label, data_dir)
    _refuse_label_of(card, args.label)
    _refuse_recipe(args.label)
    if not (file := Path(args.file)).is_file():
        raise UserError(f"{file}: {no_file(file)}")
    if not file.stat().st_size:
        raise UserError(f"{file} is empty")
    check_writable(data_dir, f"cannot write to {data_dir} (--data-dir)")
    progress = Progress(logged=not args.json)
    contents = obtain_contents(args.name, data_dir, progress)
    where = (args.label, data_dir, progress)
    sids, folder, understood = import_index(contents, Path(args.file), *where, replace=args.replace)
    notes = list(understood)
    name = f"{args.name}{MARK}{args.label}"
    notes += code_lines(sids.codes, sids.codes_per_level)
    notes += [one.told() for one in agreements(contents, sids.codes)]
    if args.json:
        print(_json({"dataset": name, "folder": folder.as_posix(), "seen": notes}))
    else:
        shape = " x ".join(map(str, sids.codes_per_level))
        print("\n".join([f"{name}: {len(sids.codes)} items, {shape} codes", *notes]))
        print(f"written to {folder}")
    return 0


def _refuse_label_of(card: Card, label: str) -> None:
    """Refuse the label that the card's recipe has: the dataset's name alone would mean others."""
    if card.sids is not None and label == card.sids.label(card.codes_per_level):
        raise UserError(
            f"label {label!r} is that of the SIDs that {card.name} has by its card: "
            "take another one with --as"
        )


def _refuse_recipe(label: str) -> None:
    """Refuse a label that tells of a recipe by which the SIDs are not made."""
    if reads_as_recipe(label):
        raise UserError(
            f"label {label!r} reads as the options of other SIDs: take another one with --as"
        )


def _list(args: argparse.Namespace) -> int:
    from tabulate import tabulate

    from genrec_bench.data.sids.sid_store import labels

    rows = [
        {"dataset": name, "label": label, "use": f"--dataset {name}{MARK}{label}"}
        for name in card_names()
        for label in labels(name, args.data_dir)
    ]
    if args.json:
        print(_json(rows))
    else:
        print(
            tabulate(rows, headers="keys") if rows else f"no SIDs were made yet in {args.data_dir}"
        )
    return 0


def _show(args: argparse.Namespace) -> int:
    from genrec_bench.data.dataset_store import load_contents, split_name
    from genrec_bench.data.sids.sid_quality import format_quality, quality_of
    from genrec_bench.data.sids.sid_store import FIGURE, TEXTS, load_sids, sids_folder
    from genrec_bench.data.sightings import code_lines

    data_dir, (base, label) = args.data_dir, split_name(args.name)
    contents = load_contents(base, data_dir)
    card = contents.card
    if not label:
        if card.sids is None or contents.sids is not None:
            raise UserError(
                f"{base} has the SIDs that its files bring: see `genrec-bench data show {base}`; "
                f"those that were made are {base}@LABEL: see `genrec-bench sids list`"
            )
        label = card.sids.label(card.codes_per_level)
    sids = load_sids(contents, label, data_dir)
    try:
        worth = quality_of(sids.quality)
    except ValueError as error:
        raise UserError(
            f"{sids_folder(base, label, data_dir)}: its manifest says nothing of quality as it was "
            f"written: {error}"
        ) from error
    if args.json:
        print(_json({"recipe": sids.recipe, "quality": sids.quality}))
    else:
        figure = sids_folder(base, label, data_dir) / FIGURE
        told = ", ".join(f"{key} {value}" for key, value in sids.recipe.items() if key != TEXTS)
        lines = code_lines(sids.codes, sids.codes_per_level)
        worth_told = "\n".join([format_quality(worth), *([""] if lines else []), *lines])
        print(f"{base}@{label}: {told}\n\n{worth_told}")
        if figure.exists():
            print(f"\nfigure: {figure}")
    return 0


def _json(value: object) -> str:
    return json.dumps(value, indent=2, sort_keys=True)
