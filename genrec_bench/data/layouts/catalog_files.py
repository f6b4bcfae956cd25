"""What several layouts have beside their examples: SIDs, texts and vectors, by item.

``CATEGORY.index.json`` has the SID of each item, ``CATEGORY.item.json`` what is said of it, and
``CATEGORY.emb-MODEL-td.npy`` a vector for each, in the order of the items.
"""

import glob
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import Contents, Examples
from genrec_bench.data.preparation.formats.fields import clean
from genrec_bench.data.sids.sid_file import off_by_one
from genrec_bench.data.sids.sid_spelling import SpelledSIDs, spelled_sids
from genrec_bench.errors import UserError
from genrec_bench.storage.arrays import open_array
from genrec_bench.storage.bounded_json import decode_json
from genrec_bench.storage.source_files import Folder

Rows = Sequence[tuple[int, Sequence[int], int]]
"""Examples: user, history (oldest item first) and target, as indices."""


@dataclass(frozen=True)
class ItemTexts:
    """What a file says of items, [num_items] each; a text is "" where it says nothing."""

    titles: tuple[str, ...]
    descriptions: tuple[str, ...] = ()
    categories: tuple[tuple[str, ...], ...] = ()


def consecutive_names(count: int) -> tuple[str, ...]:
    """Return the names 0 to ``count`` - 1."""
    return tuple(map(str, range(count)))


def item_names(path: Path, index: Mapping[str, object], wanted: Mapping[str, object]) -> list[str]:
    """Return the names of the items of an index, 0 to n-1; UserError where one has no SID.

    ``wanted`` holds the items that must have one.
    """
    for name in wanted:
        if name not in index:
            raise UserError(f"{path}: item {name} has no SID{off_by_one(index, wanted)}")
    for name in consecutive_names(len(index)):
        if name not in index:
            last = len(index) - 1
            raise UserError(f"{path}: item {name} has no SID; ids must be 0 to {last}")
    return list(consecutive_names(len(index)))


def read_sids(
    path: Path, index: Mapping[str, object], names: Sequence[str], codes_per_level: Sequence[int]
) -> SpelledSIDs:
    """Return the SIDs of items, in their order.

    Raises:
        UserError: an item has no SID, a SID cannot be read, or has not as many levels as the card.
    """
    for name in names:
        if name not in index:
            raise UserError(f"{path}: item {name} has no SID{off_by_one(index, names)}")
    spelled = ((f"{path}, item {name}", index[name]) for name in names)
    return spelled_sids(spelled, codes_per_level, num_levels=len(codes_per_level))


def read_texts(folder: Folder, path: Path, names: Sequence[str]) -> ItemTexts:
    """Return what ``*.item.json`` says of each item.

    It maps an item's name to an object with ``title``, ``description`` and, in some, ``features``
    and ``categories``. Texts are text, a list of texts, or missing. What stands for features in
    the releases of 2023 follows the description.

    Raises:
        UserError: an item is missing, or a text is none.
    """
    described = folder.mapping(path)
    entries = []
    for name in names:
        if name not in described:
            raise UserError(f"{path}: item {name} is missing{off_by_one(described, names)}")
        entry = described[name]
        if not isinstance(entry, dict):
            raise UserError(f"{path}: item {name} must be an object whose title is text")
        entries.append(entry)
    where = [f"{path}: item {name}" for name in names]
    pairs = list(zip(where, entries, strict=True))
    categories = tuple(_categories(place, entry) for place, entry in pairs)
    return ItemTexts(
        titles=tuple(_text(place, entry, "title") for place, entry in pairs),
        descriptions=tuple(
            f"{_text(place, entry, 'description')} {_text(place, entry, 'features')}".rstrip(" ")
            if entry.get("features")
            else _text(place, entry, "description")
            for place, entry in pairs
        ),
        categories=categories if any(categories) else (),
    )


def in_order(names: Collection[str]) -> list[str]:
    """Return names sorted: as numbers where all of them are, else by their characters."""
    if all(name.isascii() and name.isdecimal() for name in names):
        # By length, then digit by digit: Python makes no number of thousands of digits.
        return sorted(names, key=lambda name: (len(name.lstrip("0")), name.lstrip("0"), name))
    return sorted(names)


def catalog_beside(
    folder: Folder,
    root: Path,
    card: Card,
    category: str,
    names: Sequence[str],
    splits: Mapping[str, Examples],
    notes: list[str],
) -> Contents:
    """Return contents of examples with the SIDs and texts of the items that lie beside them.

    Items that have a SID and no interaction are left out, and counted in ``notes``.
    """
    index_file, texts_file = (root / f"{category}.{kind}.json" for kind in ("index", "item"))
    codes, known = None, ItemTexts(("",) * len(names))
    if index_file.is_file():
        index = folder.mapping(index_file)
        sids = read_sids(index_file, index, names, card.codes_per_level)
        codes = sids.codes
        notes += sids.notes
        if more := len(index) - len(names):
            notes.append(f"{index_file.name}: {more} of {len(index)} items have no interaction")
    if texts_file.is_file():
        known = read_texts(folder, texts_file, names)
    notes += vector_notes(root, category, len(names), card.name)
    return Contents(
        card, tuple(names), known.titles, splits, codes, known.descriptions, known.categories
    )


def examples_of(rows: Rows) -> Examples:
    """Return rows as examples; of no rows there are none."""
    users, histories, targets = zip(*rows, strict=True) if rows else ((), (), ())
    return Examples.from_lists(users, histories, targets)


def leave_one_out_rows(
    sequences: Sequence[Sequence[int]], history_length: int
) -> dict[str, list[tuple[int, Sequence[int], int]]]:
    """Split users' sequences: the last item is the test target, the one before it validation's.

    Training has every prefix of what is left, and all of a sequence with fewer than three items.
    """
    rows: dict[str, list[tuple[int, Sequence[int], int]]] = {"train": [], "valid": [], "test": []}
    for user, sequence in enumerate(sequences):
        whole, last = len(sequence) >= 3, len(sequence) - 1
        for place in range(1, len(sequence)):
            held_out = "test" if place == last else "valid" if place == last - 1 else "train"
            history = sequence[max(0, place - history_length) : place]
            rows[held_out if whole else "train"].append((user, history, sequence[place]))
    return rows


def vector_notes(root: Path, category: str, num_items: int, name: str) -> list[str]:
    """Return a line for each file of vectors beside the others: how SIDs are made of it."""
    notes = []
    for path in sorted(root.glob(f"{glob.escape(category)}.emb-*.npy")):
        try:
            shape: tuple[int, ...] = open_array(path).shape
        except ValueError:
            notes.append(f"warning: {path} is no array that NumPy reads without running code")
            continue
        if len(shape) == 2 and shape[0] == num_items:
            notes.append(
                f"{path.name} has a vector of {shape[1]} numbers for each item: "
                f"`genrec-bench sids build {name} --embeddings {path}`"
            )
        else:
            notes.append(f"warning: {path.name} is of shape {shape}: not one row for each item")
    return notes


def integers(text: str, what: str, where: str) -> list[int]:
    """Return the integers of a list that is written as JSON and Python write it."""
    try:
        ids = decode_json(text)  # a list of integers reads the same in JSON as in Python
    except ValueError:
        ids = None
    if not isinstance(ids, list) or any(type(item) is not int for item in ids):
        raise UserError(f"{where}: {what} {text[:80]!r} is not a list of integers")
    return ids


def _text(where: str, entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    parts = value if isinstance(value, list) else [value]
    if not all(part is None or isinstance(part, str) for part in parts):
        raise UserError(f"{where} must be an object whose {key} is text")
    return " ".join(filter(None, parts))


def _categories(where: str, entry: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the categories of a list, or of a text that separates them by commas, each once."""
    value = entry.get("categories", entry.get("category"))
    parts = value.split(",") if isinstance(value, str) else value or []
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise UserError(f"{where} must be an object whose categories are texts")
    return tuple(dict.fromkeys(filter(None, map(clean, parts))))
