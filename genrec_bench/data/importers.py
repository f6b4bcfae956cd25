"""Taking prepared files of others: which layout they have, and which reader reads it."""

import dataclasses
import glob
from collections.abc import Callable, Mapping
from pathlib import Path

from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import Contents
from genrec_bench.data.layouts.lcrec_files import read_lcrec
from genrec_bench.data.layouts.mimigenrec_files import read_mimigenrec
from genrec_bench.data.layouts.minionerec_files import read_minionerec
from genrec_bench.data.layouts.sequence_files import read_bert4rec, read_s3rec
from genrec_bench.data.layouts.split_files import read_recbole_splits
from genrec_bench.data.preparation.leaks import find_leaks
from genrec_bench.data.sightings import seen
from genrec_bench.errors import UserError, nearest
from genrec_bench.storage.source_files import Folder
from genrec_bench.storage.validation import is_plain_name

Reader = Callable[[Folder, Card, str, list[str]], Contents]
"""Reads the files of a category in a folder; the list gets what there is to say of them."""

READERS: Mapping[str, Reader] = {
    "minionerec": read_minionerec,
    "mimigenrec": read_mimigenrec,
    "lcrec": read_lcrec,
    "s3rec": read_s3rec,
    "bert4rec": read_bert4rec,
    "recbole": read_recbole_splits,
}
SIGNS: Mapping[str, tuple[str, ...]] = {
    "minionerec": ("train/*.csv", "valid/*.csv", "test/*.csv", "info/*.txt"),
    "mimigenrec": ("id2sid.json", "rl/test*.json", "sft/test*.json"),
    "lcrec": ("{}.inter.json",),
    "s3rec": ("{}.txt",),
    "bert4rec": ("{}.txt",),
    "recbole": ("{}.train.inter", "{}.test.inter"),
}
"""Files by which a layout is known; the braces stand for the category."""


def import_contents(
    layout: str, directory: Path, card: Card, category: str = ""
) -> tuple[Contents, dict[str, str]]:
    """Return the contents of the files in a folder, and the sha256 of each by its path there.

    Args:
        layout: one that the card takes.
        directory: has the files, or a folder of the category's name that has them.
        category: what the names of the files begin with; "" for what the card says.

    Raises:
        UserError: anything wrong with the files, naming file and line.
    """
    if layout not in READERS:
        raise UserError(
            f"unknown layout {layout!r}{nearest(layout, READERS)}; "
            f"the layouts are {', '.join(READERS)}"
        )
    if layout not in card.imports:
        raise UserError(f"dataset {card.name!r} has no layout {layout!r}: {_ways(card)}")
    if not directory.is_dir():
        raise UserError(f"{directory} is not a folder")
    if category and not is_plain_name(category):
        raise UserError(f"--category {category!r}: must be a plain name, without a folder")
    category = category or card.imports[layout]
    within = directory / category
    found = layouts_found(directory, category)
    if layout not in found and within.is_dir() and layout in layouts_found(within, category):
        directory = within
    elif layout not in found and found:
        raise UserError(f"{directory} holds files of layout {found[0]!r}, not {layout!r}")
    folder, notes = Folder(directory), list[str]()
    contents = READERS[layout](folder, card, category, notes)
    if contents.sids is None and card.sids is None:
        raise UserError(
            f"{directory}: the files bring no SIDs ({category}.index.json), and the card of "
            f"{card.name} does not say under 'sids' how they are made"
        )
    notes += _unread(folder, directory, category)
    contents = dataclasses.replace(contents, layout=layout)
    notes += seen(contents, find_leaks(contents.splits, protocol=card.protocol))
    return dataclasses.replace(contents, report={"notes": notes}), folder.checksums()


def layouts_found(directory: Path, category: str) -> list[str]:
    """Return the layouts that a folder's files look like, those of the category first."""
    found = []
    for name in (glob.escape(category), "*"):
        for layout, patterns in SIGNS.items():
            if any(any(directory.glob(pattern.format(name))) for pattern in patterns):
                found.append(layout)
    return list(dict.fromkeys(found))


def _ways(card: Card) -> str:
    """Say from what a dataset can be made, and how files of another layout are taken."""
    if card.synthetic is not None:
        return "it is drawn, not imported"
    layouts = " or ".join(card.imports)
    ways = [f"is imported from files in the layout {layouts}"] if layouts else []
    ways += ["is made from raw files"] if card.raw is not None else []
    own = "a card of your own with `layout:` and `category:` takes other files"
    return f"it {' or '.join(ways)}; {own}"


def _unread(folder: Folder, directory: Path, category: str) -> list[str]:
    """Return a line for the files of the category that were there and were not read, if any."""
    read = {path.resolve() for path in folder.used}
    others = [
        path.name
        for path in sorted(directory.glob(f"{glob.escape(category)}[._]*"))
        if path.is_file() and path.resolve() not in read and ".emb-" not in path.name
    ]
    return [f"not read: {', '.join(others[:8])}{', ...' if len(others) > 8 else ''}"] * bool(others)
