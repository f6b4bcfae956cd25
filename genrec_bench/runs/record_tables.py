"""The tables beside a record: their columns, and what these may hold."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from genrec_bench.errors import UserError
from genrec_bench.storage.field_kinds import LARGEST
from genrec_bench.storage.parquet import read_frame
from genrec_bench.training.metrics import TAIL, is_worth

KEYS = ("split", "example")

OUTCOME_COLUMNS = (*KEYS, "item_rank", "sid_rank", "sampled_hits", "sid_sampled_hits")

START = "start_"
"""What the SFT start's columns begin with."""

START_COLUMNS = tuple(START + name for name in OUTCOME_COLUMNS[2:])
"""The same columns for the SFT start."""

LISTS = "lists"
"""Key of a record that kept its lists, and name of the file beside it."""

TEXTS = ("user", "target")
"""Columns of lists that hold names; others hold lists of names, or numbers."""


def is_outcomes(columns: Sequence[str]) -> bool:
    """Whether these can be the columns of a record's outcomes."""
    known = [*OUTCOME_COLUMNS, *(START_COLUMNS if set(START_COLUMNS) & set(columns) else ())]
    later = columns[len(known) :]
    return list(columns[: len(known)]) == known and all(
        name == TAIL or is_worth(name.removeprefix(START)) for name in later
    )


def read_table_of(file: Path, key: str) -> pd.DataFrame:
    """Read what lies beside a record under a key: `outcomes`, `curves` or `lists`.

    Raises:
        UserError: it is no table, or none of that kind; one line that begins with the file.
    """
    try:
        table = read_frame(file)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file} cannot be read as a table: {reason}") from error
    if len(set(table.columns)) < len(table.columns):
        raise UserError(f"{file}: {key}: two columns have one name")
    missing = [name for name in OUTCOME_COLUMNS if key == "outcomes" and name not in table.columns]
    if missing:
        raise UserError(f"{file}: {key}: no column {', '.join(missing)}")
    for column, wrong in _oddities(table, key):
        raise UserError(f"{file}: {key}: column {column!r} {wrong}")
    return table


def _oddities(table: pd.DataFrame, key: str) -> Iterator[tuple[str, str]]:
    """Columns that do not hold what they should, with what is wrong."""
    for name, column in table.items():
        name, kind = str(name), column.dtype.kind
        if name == "split" or (key == LISTS and name in TEXTS):
            if not all(isinstance(value, str) for value in column):
                yield name, "holds what is no text"
        elif key == LISTS and kind == "O":
            if not all(isinstance(value, np.ndarray) for value in column):
                yield name, "holds what is no list"
        elif kind not in "iufb":
            yield name, "holds what is no number"
        elif kind == "f":
            values = column.to_numpy(float)
            empty = np.isnan(values).any() and key != "curves"
            if empty or (np.abs(values[~np.isnan(values)]) > LARGEST).any():
                yield name, "holds what is no finite number"
        if key == "outcomes" and name in (*OUTCOME_COLUMNS[1:], *START_COLUMNS):
            whole = kind in "iu" and bool(column.between(-1, 2**31 - 1).all())
            if not whole:
                yield name, "holds other things than whole numbers from -1 on"
