"""LC-Rec's and LETTER's layout: users' sequences as JSON, beside SIDs, texts and vectors.

    CATEGORY.inter.json (user to items in order), CATEGORY.index.json, CATEGORY.item.json, *.npy

Items are the integers from 0 on. The index may be missing where the card says how SIDs are made,
and the texts may be missing always.
"""

from collections.abc import Mapping
from pathlib import Path

from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import Contents
from genrec_bench.data.layouts.catalog_files import (
    ItemTexts,
    consecutive_names,
    examples_of,
    item_names,
    leave_one_out_rows,
    read_sids,
    read_texts,
    vector_notes,
)
from genrec_bench.errors import UserError
from genrec_bench.storage.source_files import Folder

SPARSEST, ENOUGH_IDS = 20, 1000
"""Ids for each item that somebody has, beside a thousand: with more they are no numbering."""


def read_lcrec(folder: Folder, card: Card, category: str, notes: list[str]) -> Contents:
    """Read the files of a category, and split leave-one-out; ``notes`` gets what there is to say.

    The last item of a user is the test target, the one before it the validation target, and
    training has every prefix of what is left.
    """
    root = folder.path
    path, index_file, texts_file = (
        root / f"{category}.{kind}.json" for kind in ("inter", "index", "item")
    )
    if not path.is_file():
        patterns = ("*.inter.json", "*/*.inter.json")
        found = [other for pattern in patterns for other in sorted(root.glob(pattern))]
        shown = ", ".join(str(other) for other in found[:5]) or "no *.inter.json"
        raise UserError(f"{path} is missing; there is {shown}")
    sequences = folder.mapping(path)
    bought: dict[str, str] = {}
    for user, sequence in sequences.items():
        if not isinstance(sequence, list) or any(type(item) is not int for item in sequence):
            raise UserError(f"{path}: user {user!r} must have a list of integer item ids")
        if len(sequence) < 3:
            raise UserError(
                f"{path}: user {user!r} has {len(sequence)} items; leave-one-out needs 3"
            )
        for item in sequence:
            bought.setdefault(str(item), user)
    _check_ids(path, bought)
    codes = None
    if index_file.is_file() or card.sids is None:
        index = folder.mapping(index_file)
        names = item_names(index_file, index, bought)
        sids = read_sids(index_file, index, names, card.codes_per_level)
        codes = sids.codes
        notes += sids.notes
    else:
        names = list(consecutive_names(1 + max(map(int, bought))))
        notes.append(f"{index_file.name} is missing: SIDs are made by the card's recipe")
    known = ItemTexts(("",) * len(names))
    if texts_file.is_file():
        known = read_texts(folder, texts_file, names)
    notes += vector_notes(root, category, len(names), card.name)
    rows = leave_one_out_rows(list(sequences.values()), card.history_length)
    splits = {split: examples_of(part) for split, part in rows.items()}
    return Contents(
        card,
        tuple(names),
        known.titles,
        splits,
        codes,
        known.descriptions,
        known.categories,
        user_names=tuple(sequences),
    )


def _check_ids(path: Path, bought: Mapping[str, str]) -> None:
    """Refuse ids that do not count items: each up to the largest becomes an item."""
    if negative := [name for name in bought if name.startswith("-")]:
        raise UserError(f"{path}: item id {negative[0]} is negative")
    largest = max(map(int, bought))
    if largest >= SPARSEST * len(bought) + ENOUGH_IDS:
        told = str(largest)[:40]
        raise UserError(
            f"{path}: item id {told}, of user {bought[str(largest)]!r}, is far above the number of "
            f"items, {len(bought)}; ids must count items from 0 on"
        )
