"""Tables that people hand in and take away: CSV, JSON lines or Parquet, by the file's ending."""

from __future__ import annotations

import io
from pathlib import Path

import pandas as pd

from genrec_bench.errors import UserError, one_line
from genrec_bench.storage.files import write_atomically
from genrec_bench.storage.parquet import parquet_bytes, read_frame
from genrec_bench.storage.text_files import json_lines, read_text

ENDINGS = (".csv", ".jsonl", ".parquet")


def check_ending(path: Path, option: str) -> None:
    """Raise UserError, naming the option, where a file's ending says no format."""
    if path.suffix not in ENDINGS:
        raise UserError(f"{option} {path}: must end in {', '.join(ENDINGS)}")


def read_rows(path: Path) -> pd.DataFrame:
    """Read a table; all that CSV holds is text.

    Raises:
        UserError: the file is missing or cannot be read as its ending says.
    """
    try:
        if path.suffix == ".parquet":
            return read_frame(path)
        text = read_text(path)
        if not text.strip():
            raise UserError(f"{path}: is empty")
        if path.suffix == ".jsonl":
            return pd.DataFrame(json_lines(text, str(path)))
        return pd.read_csv(io.StringIO(text), dtype=str, keep_default_na=False)
    except FileNotFoundError:
        raise UserError(f"{path}: there is no such file") from None
    except (OSError, ValueError) as error:  # what pyarrow and pandas raise is among them
        raise UserError(f"{path}: cannot be read: {one_line(error)}") from None


def write_rows(path: Path, table: pd.DataFrame) -> None:
    """Write a table in the format of the file's ending.

    Raises:
        StorageError: the disk refuses.
    """
    if path.suffix == ".parquet":
        content = parquet_bytes(table)
    elif path.suffix == ".jsonl":
        content = table.to_json(orient="records", lines=True, force_ascii=False).encode()
    else:
        content = table.to_csv(index=False).encode()
    write_atomically(path, content)
