"""MiniOneRec's layout: examples as CSV, one file a split, beside SIDs and texts.

    {train,valid,test}/CATEGORY*.csv, info/CATEGORY*.txt, index/CATEGORY.{index,item}.json

Items are the integers from 0 on. A SID stands beside each id, and is checked against the index.
Every mistake in a file is named with the file and, where there are lines, the line.
"""

import glob
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import Contents, Examples
from genrec_bench.data.layouts.catalog_files import (
    examples_of,
    integers,
    item_names,
    read_sids,
    read_texts,
    vector_notes,
)
from genrec_bench.data.preparation.formats.fields import clean
from genrec_bench.data.preparation.formats.json_lines import read_literal
from genrec_bench.data.sids.sid_spelling import parse_sid
from genrec_bench.errors import UserError
from genrec_bench.storage.source_files import Folder, csv_rows, only_file

COLUMNS = ("user_id", "history_item_id", "item_id", "history_item_sid", "item_sid")


@dataclass(frozen=True)
class _Items:
    """The SIDs of the catalog as the index writes them.

    Attributes:
        texts: [num_items] each SID as one string.
        codes: [num_items] its codes as they stand there.
        file: where they were read.
    """

    texts: tuple[str, ...]
    codes: tuple[tuple[int, ...], ...]
    file: Path


def read_minionerec(folder: Folder, card: Card, category: str, notes: list[str]) -> Contents:
    """Read the files of a category; ``notes`` gets what there is to say of them."""
    root, index_dir = folder.path, folder.path / "index"
    tables = {
        split: only_file(root / split, f"{glob.escape(category)}*.csv")
        for split in ("train", "valid", "test")
    }
    info = only_file(root / "info", f"{glob.escape(category)}*.txt")
    items_file, index_file = (index_dir / f"{category}.{kind}.json" for kind in ("item", "index"))
    described, index = folder.mapping(items_file), folder.mapping(index_file)
    names = item_names(index_file, index, described)
    sids = read_sids(index_file, index, names, card.codes_per_level)
    texts = tuple(_as_text(index[name]) for name in names)
    for name, text in zip(names, texts, strict=True):
        if name not in described:
            raise UserError(
                f"{index_file}: SID {text} names no item: item {name} is not in {items_file}"
            )
    spelled = (parse_sid(index[name], card.num_levels, str(index_file)) for name in names)
    items = _Items(texts, tuple(spelled), index_file)
    known = read_texts(folder, items_file, names)
    notes += _check_info(folder, info, items, known.titles)
    users: dict[str, int] = {}
    splits = {
        split: _read_csv(folder, path, items, users, card.history_length)
        for split, path in tables.items()
    }
    notes += [*sids.notes, *vector_notes(index_dir, category, len(names), card.name)]
    return Contents(
        card,
        tuple(names),
        known.titles,
        splits,
        sids.codes,
        known.descriptions,
        known.categories,
        user_names=tuple(users),
    )


def _as_text(sid: object) -> str:
    tokens = isinstance(sid, list) and all(isinstance(token, str) for token in sid)
    return "".join(sid) if tokens and isinstance(sid, list) else str(sid)


def _check_info(folder: Folder, path: Path, items: _Items, titles: Sequence[str]) -> list[str]:
    """Check that the SID and id of each line of info/*.txt agree with the index.

    Titles need not be written alike, but a file of which most are others is of other items.

    Returns:
        A warning, if there is reason for one.
    """
    lines = folder.text(path).split("\n")
    same = known = 0
    for number, line in enumerate(lines, start=1):
        where, parts = f"{path}, line {number}", line.split("\t")
        if line and len(parts) != 3:
            raise UserError(f"{where}: expected SID, title and item id separated by tabs")
        if line:
            item = _item(parts[2], items, where)
            _check_sid(parts[0], item, items, where)
            known += 1
            same += clean(parts[1]) == clean(titles[item])
    if 2 * same >= known:
        return []
    told = f"{known - same} of {known} titles in {path.name} are not those of the item in item.json"
    return [f"warning: {told}: is one of the files counted from another number?"]


def _read_csv(
    folder: Folder, path: Path, items: _Items, users: dict[str, int], history_length: int
) -> Examples:
    """Read one split; `users` gathers dense indices in order of appearance."""
    rows = []
    for where, row in csv_rows(folder, path, COLUMNS):
        history = integers(row["history_item_id"], "history_item_id", where)
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
    return examples_of(rows)


def _item(text: str, items: _Items, where: str) -> int:
    if not re.fullmatch(r"-?[0-9]{1,18}", text):
        raise UserError(f"{where}: item id {text[:80]!r} is not an integer")
    return _check_range(int(text), items, where)


def _check_range(item: int, items: _Items, where: str) -> int:
    if not 0 <= item < len(items.texts):
        raise UserError(f"{where}: item id {item} is out of range 0 to {len(items.texts) - 1}")
    return item


def _check_sid(text: object, item: int, items: _Items, where: str) -> None:
    """Raise UserError unless `text` is the SID of `item`, saying which mistake it is."""
    if text == items.texts[item]:
        return
    if text is None or text == "":
        raise UserError(f"{where}: item {item} without SID")
    codes = parse_sid(text, len(items.codes[0]), where)
    if codes == items.codes[item]:
        return
    if codes not in items.codes:
        raise UserError(f"{where}: SID {text} names no item of {items.file}")
    raise UserError(
        f"{where}: SID {text} disagrees with {items.file}, "
        f"where item {item} has {items.texts[item]}"
    )


def _check_history_sids(text: str, history: Sequence[int], items: _Items, where: str) -> None:
    try:
        sids = read_literal(text)
    except ValueError:
        sids = None
    if not isinstance(sids, list):
        raise UserError(f"{where}: history_item_sid {text[:80]!r} is not a list")
    if len(sids) != len(history):
        raise UserError(f"{where}: {len(history)} ids in the history, but {len(sids)} SIDs")
    for sid, item in zip(sids, history, strict=True):
        _check_sid(sid, item, items, where)
