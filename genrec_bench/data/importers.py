"""Readers of the file layouts that other projects publish.

Both layouts name items by integers 0..n-1 and write a SID as tokens such as `<a_12><b_3><c_4>`,
where the letter is the level and the number the zero-based code. Every mistake in a file is named
with the file and, where there are lines, the line.
"""

import ast
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import Contents, Examples
from genrec_bench.data.sids.sid_recipe import MOST_CODES
from genrec_bench.errors import UserError, nearest
from genrec_bench.storage.source_files import Folder, csv_rows, only_file

TOKEN = re.compile(r"<([a-z])_(0|[1-9][0-9]{0,8})>")
ANY_TOKEN = re.compile(r"<[^<>]*>")
COLUMNS = ("user_id", "history_item_id", "item_id", "history_item_sid", "item_sid")


@dataclass(frozen=True)
class Items:
    """The catalog as the files write it.

    Attributes:
        sids: [num_items, L] zero-based codes.
        texts: [num_items] each SID as one string.
        file: where the SIDs were read.
    """

    sids: NDArray[np.int32]
    texts: tuple[str, ...]
    file: Path

    @property
    def names(self) -> tuple[str, ...]:
        """[num_items] the integers 0..n-1."""
        return tuple(map(str, range(len(self.texts))))


def import_contents(layout: str, directory: Path, card: Card) -> tuple[Contents, dict[str, str]]:
    """Return the contents of the files in a folder, and the sha256 of each by its path there.

    ``layout`` is "minionerec" or "lcrec", and must be the card's.

    Raises:
        UserError: anything wrong with the files, naming file and line.
    """
    if layout not in READERS:
        raise UserError(
            f"unknown layout {layout!r}{nearest(layout, READERS)}; "
            f"the layouts are {', '.join(READERS)}"
        )
    if card.layout != layout:
        kinds = {"synthetic": "it is drawn, not imported", "": "it is made from raw files"}
        hint = kinds.get(card.layout, f"its layout is {card.layout!r}")
        raise UserError(f"dataset {card.name!r} has no layout {layout!r}: {hint}")
    if not directory.is_dir():
        raise UserError(f"{directory} is not a folder")
    found = _layouts_found(directory)
    if layout not in found and found:
        raise UserError(f"{directory} holds files of layout {found[0]!r}, not {layout!r}")
    folder = Folder(directory)
    contents = READERS[layout](folder, card)
    return contents, folder.checksums()


def read_minionerec(folder: Folder, card: Card) -> Contents:
    """Read MiniOneRec's layout: CSV by split, info/*.txt, index/*.index.json, index/*.item.json."""
    root, category = folder.path, card.category
    tables = {
        split: only_file(root / split, f"{category}*.csv") for split in ("train", "valid", "test")
    }
    info = only_file(root / "info", f"{category}*.txt")
    items_file = root / "index" / f"{category}.item.json"
    described = folder.mapping(items_file)
    items = _read_index(folder, root / "index" / f"{category}.index.json", card, described)
    for name, text in enumerate(items.texts):
        if str(name) not in described:
            raise UserError(
                f"{items.file}: SID {text} names no item: item {name} is not in {items_file}"
            )
    titles, descriptions = (
        tuple(_text(items_file, described, item, key) for item in range(len(items.texts)))
        for key in ("title", "description")
    )
    _check_info(folder, info, items)
    users: dict[str, int] = {}
    splits = {
        split: _read_csv(folder, path, items, users, card.history_length)
        for split, path in tables.items()
    }
    return Contents(card, items.names, titles, splits, items.sids, descriptions)


def read_lcrec(folder: Folder, card: Card) -> Contents:
    """Read LC-Rec's layout, NAME.inter.json and NAME.index.json, and split leave-one-out.

    The last item of a user is the test target, the one before it the validation target, and
    training has every prefix of what is left.
    """
    path = folder.path / f"{card.category}.inter.json"
    if not path.is_file():
        patterns = ("*.inter.json", "*/*.inter.json")
        found = [other for pattern in patterns for other in sorted(folder.path.glob(pattern))]
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
    items = _read_index(folder, folder.path / f"{card.category}.index.json", card, bought)
    rows: dict[str, list[tuple[int, list[int], int]]] = {"train": [], "valid": [], "test": []}
    for user_index, sequence in enumerate(sequences.values()):
        last = len(sequence) - 1
        for place in range(1, len(sequence)):
            split = "test" if place == last else "valid" if place == last - 1 else "train"
            history = sequence[max(0, place - card.history_length) : place]
            rows[split].append((user_index, history, sequence[place]))
    splits = {split: _examples(part) for split, part in rows.items()}
    return Contents(card, items.names, ("",) * len(items.texts), splits, items.sids)


READERS: Mapping[str, Callable[[Folder, Card], Contents]] = {
    "minionerec": read_minionerec,
    "lcrec": read_lcrec,
}


def parse_sid(tokens: Sequence[object], num_levels: int, where: str) -> tuple[int, ...]:
    """Return the codes of a SID given as tokens, one a level, such as `["<a_12>", "<b_3>"]`.

    Raises:
        UserError: a token that is not `<letter_number>`, stands on the wrong level, or is one too
            many or too few; the message begins with ``where``.
    """
    codes = []
    for level, token in enumerate(tokens):
        match = TOKEN.fullmatch(token) if isinstance(token, str) else None
        if match is None:
            raise UserError(f"{where}: SID token {token!r} is not of the form '<a_12>'")
        letter = chr(ord("a") + level)
        if match[1] != letter:
            raise UserError(f"{where}: SID token {token!r} stands where level {letter!r} belongs")
        if int(match[2]) >= MOST_CODES:
            raise UserError(f"{where}: SID token {token!r}: codes must be below {MOST_CODES}")
        codes.append(int(match[2]))
    if len(codes) != num_levels:
        raise UserError(f"{where}: SID has {len(codes)} levels, not {num_levels}")
    return tuple(codes)


def _read_index(folder: Folder, path: Path, card: Card, wanted: Mapping[str, object]) -> Items:
    """Read the SIDs; `wanted` holds the item ids that must have one."""
    index = folder.mapping(path)
    for name in wanted:
        if name not in index:
            raise UserError(f"{path}: item {name} has no SID")
    codes = []
    for name in map(str, range(len(index))):
        if name not in index:
            raise UserError(f"{path}: item {name} has no SID; ids must be 0 to {len(index) - 1}")
        if not isinstance(index[name], list):
            raise UserError(f"{path}: item {name} must have a list of SID tokens")
        codes.append(parse_sid(index[name], card.num_levels, f"{path}, item {name}"))
    texts = tuple("".join(index[str(item)]) for item in range(len(index)))
    return Items(np.array(codes, dtype=np.int32), texts, path)


def _check_info(folder: Folder, path: Path, items: Items) -> None:
    """Check that SID, title and id of each line of info/*.txt agree with the index."""
    lines = folder.text(path).split("\n")
    for number, line in enumerate(lines, start=1):
        where, parts = f"{path}, line {number}", line.split("\t")
        if line and len(parts) != 3:
            raise UserError(f"{where}: expected SID, title and item id separated by tabs")
        if line:
            _check_sid(parts[0], _item(parts[2], items, where), items, where)


def _read_csv(
    folder: Folder, path: Path, items: Items, users: dict[str, int], history_length: int
) -> Examples:
    """Read one split; `users` gathers dense indices in order of appearance."""
    rows = []
    for where, row in csv_rows(folder, path, COLUMNS):
        history = _id_list(row["history_item_id"], where)
        for item in history:
            _check_range(item, items, where)
        if not history:
            raise UserError(f"{where}: the history is empty")
        target = _item(row["item_id"], items, where)
        _check_sid(row["item_sid"], target, items, where)
        # Python writes a list of plain strings in one way only, so that parsing is rarely needed.
        if row["history_item_sid"] != str([items.texts[item] for item in history]):
            _check_history_sids(row["history_item_sid"], history, items, where)
        user = users.setdefault(row["user_id"], len(users))
        rows.append((user, history[-history_length:], target))
    if not rows:
        raise UserError(f"{path} has no rows below its header")
    return _examples(rows)


def _id_list(text: str, where: str) -> list[int]:
    try:
        ids = json.loads(text)  # a list of integers reads the same in JSON as in Python
    except ValueError:
        ids = None
    if not isinstance(ids, list) or any(type(item) is not int for item in ids):
        raise UserError(f"{where}: history_item_id {text[:80]!r} is not a list of integers")
    return ids


def _item(text: str, items: Items, where: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise UserError(f"{where}: item id {text[:80]!r} is not an integer")
    return _check_range(int(text), items, where)


def _check_range(item: int, items: Items, where: str) -> int:
    if not 0 <= item < len(items.texts):
        raise UserError(f"{where}: item id {item} is out of range 0 to {len(items.texts) - 1}")
    return item


def _check_sid(text: object, item: int, items: Items, where: str) -> None:
    """Raise UserError unless `text` is the SID of `item`, saying which mistake it is."""
    if text == items.texts[item]:
        return
    if not isinstance(text, str) or not text:
        raise UserError(f"{where}: item {item} without SID")
    tokens = ANY_TOKEN.findall(text)
    parse_sid(tokens if "".join(tokens) == text else [text], items.sids.shape[1], where)
    if text not in items.texts:
        raise UserError(f"{where}: SID {text} names no item of {items.file}")
    raise UserError(
        f"{where}: SID {text} disagrees with {items.file}, "
        f"where item {item} has {items.texts[item]}"
    )


def _check_history_sids(text: str, history: Sequence[int], items: Items, where: str) -> None:
    try:
        sids = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        sids = None
    if not isinstance(sids, list):
        raise UserError(f"{where}: history_item_sid {text[:80]!r} is not a list")
    if len(sids) != len(history):
        raise UserError(f"{where}: {len(history)} ids in the history, but {len(sids)} SIDs")
    for sid, item in zip(sids, history, strict=True):
        _check_sid(sid, item, items, where)


def _examples(rows: Sequence[tuple[int, list[int], int]]) -> Examples:
    users, histories, targets = zip(*rows, strict=True) if rows else ((), (), ())
    return Examples.from_lists(users, histories, targets)


def _text(path: Path, described: Mapping[str, Any], item: int, key: str) -> str:
    entry = described[str(item)]
    text = entry.get(key, "") if isinstance(entry, dict) else None
    if not isinstance(text, str):
        raise UserError(f"{path}: item {item} must be an object whose {key} is text")
    return text


def _layouts_found(directory: Path) -> list[str]:
    """Return the layouts that the folder's files look like."""
    found = []
    if any((directory / split).is_dir() for split in ("train", "valid", "test", "info", "index")):
        found.append("minionerec")
    if any(directory.glob("*.inter.json")) or any(directory.glob("*/*.inter.json")):
        found.append("lcrec")
    return found
