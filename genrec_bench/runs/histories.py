"""Histories that people hand in, one a row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from genrec_bench.errors import UserError, nearest
from genrec_bench.storage.bounded_json import decode_json
from genrec_bench.storage.row_files import read_rows

HISTORY, USER = "history", "user"


def read_histories(path: Path) -> tuple[list[Any] | None, list[list[str]]]:
    """Read a file with the column ``history``, oldest item first, and perhaps ``user``.

    A history is a list; in CSV it is written with commas between items, or as a list in JSON.

    Returns:
        The users, None where there is no such column, and the names of each row's items.

    Raises:
        UserError: the file cannot be read, lacks the column, or a row holds no history.
    """
    table = read_rows(path)
    if HISTORY not in table:
        there = ", ".join(map(str, table.columns)) or "none"
        hint = nearest(HISTORY, map(str, table.columns))
        raise UserError(f"{path}: there is no column {HISTORY!r} (columns: {there}){hint}")
    found = []
    for row, value in enumerate(table[HISTORY]):
        items = _items(value)
        if items is None:
            raise UserError(f"{path}, row {row}: history is no list of items but {value!r}")
        found.append(items)
    return list(table[USER]) if USER in table else None, found


def _items(value: object) -> list[str] | None:
    if isinstance(value, str):
        if not value.lstrip().startswith("["):
            return [item.strip() for item in value.split(",") if item.strip()]
        try:
            value = decode_json(value)
        except ValueError:
            return None
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if not isinstance(value, list) or not all(isinstance(item, str | int) for item in value):
        return None
    return [str(item) for item in value]
