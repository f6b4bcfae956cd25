"""Files of SIDs that others made, in the shapes in which they are found, by item.

    .json          item to SID, SID to item or items, a list of SIDs, or of objects of item and SID
    .jsonl         an object of item and SID a line
    .csv .tsv .txt .parquet   a column of items, and one of SIDs or one for each level
    .npy .pt .pth  [num_items, L] or [L, num_items] codes

What names no items holds SIDs in the order of the dataset's items. How one SID may be spelled,
`sid_spelling` says. Nothing is read that could run code.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from genrec_bench.errors import DAMAGE, UserError, one_line
from genrec_bench.storage.arrays import open_array
from genrec_bench.storage.bounded_json import parse_json
from genrec_bench.storage.source_files import Folder
from genrec_bench.storage.text_files import json_lines

ITEM_KEYS = ("item_id", "item", "asin", "parent_asin", "iid", "id", "name", "movieId")
SID_KEYS = (
    "sid", "sids", "semantic_id", "semantic_ids", "sem_id", "sem_ids", "codes", "code", "tokens",
    "index", "indices",
)  # fmt: skip
"""What items and SIDs are called in objects and tables; the first that is there counts."""

TABLES = {".csv": ",", ".tsv": "\t", ".txt": "\t"}
ARRAYS = (".npy", ".pt", ".pth")
PICKLES = (".pkl", ".pickle", ".p", ".npz", ".joblib")

Spelled = dict[str, object]
"""SIDs as they are spelled, by item."""


def read_sid_file(folder: Folder, file: Path, names: Sequence[str]) -> tuple[Spelled, list[str]]:
    """Return the SIDs of a file by item, as they are spelled, and what was understood.

    Args:
        names: the dataset's items, in their order.

    Raises:
        UserError: the file is missing or malformed, or its shape fits no number of items.
    """
    suffix = file.suffix.lower()
    if suffix in PICKLES:
        raise UserError(
            f"{file} may run code when it is read: save the SIDs as JSON, or with numpy.save"
        )
    if suffix in ARRAYS:
        content, notes = _array(folder, file, len(names))
        return _in_order(file, content, names, notes)
    if suffix == ".parquet":
        return _of_objects(file, _parquet(folder, file), names)
    if suffix in TABLES:
        text = folder.text(file)
        separator = TABLES[suffix] if TABLES[suffix] in text.split("\n", 1)[0] else ","
        try:
            rows = list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))
        except csv.Error as error:
            raise UserError(f"{file} cannot be read as a table: {error}") from None
        return _of_objects(file, rows, names)
    if suffix == ".jsonl":
        return _of_objects(file, json_lines(folder.text(file), str(file)), names)
    if not folder.text(file).lstrip().startswith("["):
        folder.used.pop()
        return _of_mapping(folder.mapping(file), names)
    folder.used.pop()
    content = parse_json(folder.text(file), str(file))
    if content and all(isinstance(entry, dict) for entry in content):
        return _of_objects(file, content, names)
    return _in_order(file, content, names, [])


def off_by_one(found: Mapping[str, object], wanted: Sequence[str] | Mapping[str, object]) -> str:
    """Say so where the names that a file has count from another number than those wanted."""
    # All names but those at the ends are there on both sides.
    first, last = ("0" in wanted) - ("0" in found), str(len(found))
    if first == 1 and last in found:
        return ": this file counts from 1, the items from 0"
    if first == -1 and last in wanted:
        return ": this file counts from 0, the items from 1"
    return ""


def _of_mapping(content: Mapping[str, Any], names: Sequence[str]) -> tuple[Spelled, list[str]]:
    """Read item to SID, or SID to items where no key is an item and all values are."""
    known = set(names)
    if not known & content.keys():
        items = {
            sid: list(map(str, found if isinstance(found, list) else [found]))
            for sid, found in content.items()
            if isinstance(found, str | int | list)
        }
        if len(items) == len(content) and all(known.issuperset(some) for some in items.values()):
            turned: Spelled = {item: sid for sid, some in items.items() for item in some}
            return turned, ["the file leads from SIDs to items, and is read the other way round"]
    return {name: _sid_of(value) for name, value in content.items()}, []


def _sid_of(value: object) -> object:
    """Return the SID in an object that says more of an item."""
    if isinstance(value, dict):
        return next((value[key] for key in SID_KEYS if key in value), value)
    return value


def _of_objects(
    file: Path, entries: Sequence[Any], names: Sequence[str]
) -> tuple[Spelled, list[str]]:
    """Read entries that each have an item, by name or by place, and a SID, whole or by level."""
    if not entries or not isinstance(entries[0], dict):
        raise UserError(f"{file}: expected entries with an item and a SID, such as item_id and sid")
    keys = list(entries[0])
    item_key = next((key for key in ITEM_KEYS if key in keys), None)
    sid_key = next((key for key in SID_KEYS if key in keys), None)
    levels = [key for key in keys if key != item_key] if sid_key is None else []
    found: list[tuple[str, object]] = []
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or None in entry or not set(keys) <= entry.keys():
            raise UserError(f"{file}, entry {number}: expected {', '.join(map(str, keys))}")
        sid = entry[sid_key] if sid_key is not None else [entry[level] for level in levels]
        found.append((str(number) if item_key is None else str(entry[item_key]), sid))
    told = f"{sid_key!r}" if sid_key is not None else f"{', '.join(map(repr, levels))}, by level"
    if item_key is None:
        return _in_order(file, [sid for _, sid in found], names, [f"SIDs are read from {told}"])
    spelled = dict(found)
    if len(spelled) < len(found):
        twice = next(name for place, (name, _) in enumerate(found) if name in dict(found[:place]))
        raise UserError(f"{file}: item {twice!r} stands twice")
    return spelled, [f"items are read from {item_key!r}, SIDs from {told}"]


def _in_order(
    file: Path, sids: Sequence[object], names: Sequence[str], notes: list[str]
) -> tuple[Spelled, list[str]]:
    if not isinstance(sids, list | np.ndarray) or not len(sids):
        raise UserError(f"{file}: expected a JSON object with at least one entry")
    if len(sids) != len(names):
        raise UserError(
            f"{file} has {len(sids)} SIDs for {len(names)} items, and names no items: it must have "
            "one for each, in the dataset's order"
        )
    told = f"the file names no items: its SIDs are taken in the dataset's order, {names[0]!r} first"
    return dict(zip(names, sids, strict=True)), [*notes, told]


def _array(folder: Folder, file: Path, num_items: int) -> tuple[Any, list[str]]:
    folder.used.append(file)
    try:
        if file.suffix == ".npy":
            found: Any = np.array(open_array(file))
        else:
            import torch

            found = torch.load(file, map_location="cpu", weights_only=True)
            if isinstance(found, dict):
                (found,) = (value for value in found.values() if getattr(value, "ndim", 0) == 2)
            found = np.asarray(found)
    except Exception as error:  # of many kinds, from either library
        raise UserError(
            f"{file} cannot be read as one array of codes ({one_line(error)})"
        ) from None
    if found.ndim not in (1, 2) or found.dtype.kind not in "iufU":
        raise UserError(f"{file} holds {found.dtype} {found.shape}, not codes [{num_items}, L]")
    if found.ndim == 2 and len(found) != num_items and found.shape[1] == num_items:
        return found.T, [
            f"{file.name} is of shape {found.shape}, and is turned: levels stand first"
        ]
    return found, []


def _parquet(folder: Folder, file: Path) -> list[dict[str, Any]]:
    import pyarrow as pa

    from genrec_bench.storage.parquet import read_table

    folder.used.append(file)
    try:
        entries: list[dict[str, Any]] = read_table(file).to_pylist()
    except (OSError, *DAMAGE, pa.ArrowException) as error:
        raise UserError(f"{file} cannot be read: {one_line(error)}") from None
    return entries
