"""Parquet files, read without threads.

Arrow's threads may outlive the reader: a command that ends soon after it has read a table was
aborted now and then when all was done, with an exit code that was not its own
(https://github.com/apache/arrow/issues/34314). Our tables are small, and one thread is enough.
"""

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from genrec_bench.errors import one_line

MOST_CELLS = 2**31
"""Rows by columns: a small file can stand for a table that no machine holds."""


def read_table(source: Path | bytes) -> pa.Table:
    """Return the table of a Parquet file, given as the file or its content.

    Raises:
        OSError: it cannot be read.
        pyarrow.ArrowInvalid: it is no Parquet, or larger than any table; a ValueError too.
    """
    opened = pa.BufferReader(source) if isinstance(source, bytes) else source
    with _as_damage(), pq.ParquetFile(opened, pre_buffer=False) as file:
        about = file.metadata
        if about.num_rows * max(about.num_columns, 1) > MOST_CELLS:
            raise pa.ArrowInvalid(f"{about.num_rows:,} rows are more than can be meant")
        return file.read(use_threads=False)


def read_frame(source: Path | bytes) -> pd.DataFrame:
    """Return the table of a Parquet file as pandas has it; see `read_table`."""
    with _as_damage():
        # What pandas notes for itself in a file can say anything of it.
        table = read_table(source).replace_schema_metadata(None)
        frame: pd.DataFrame = table.to_pandas(use_threads=False)
    return frame


@contextlib.contextmanager
def _as_damage() -> Iterator[None]:
    """Raise ArrowInvalid, a ValueError, for whatever a damaged file makes the library raise."""
    try:
        yield
    except (OSError, MemoryError, pa.ArrowInvalid):
        raise
    except Exception as error:
        raise pa.ArrowInvalid(f"{type(error).__name__}: {one_line(error)}") from None


def table_bytes(table: pa.Table) -> bytes:
    """Return a table of texts that repeat as the content of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()


def parquet_bytes(table: pd.DataFrame) -> bytes:
    """Return a table as the content of a Parquet file.

    Numbers in single precision hardly repeat: split into their bytes they take half the space.
    """
    buffer = io.BytesIO()
    single = [name for name in table.columns if table[name].dtype == "float32"]
    if single:
        table.to_parquet(
            buffer,
            index=False,
            compression="zstd",
            use_dictionary=[name for name in table.columns if name not in single],
            column_encoding=dict.fromkeys(single, "BYTE_STREAM_SPLIT"),
        )
    else:
        table.to_parquet(buffer, index=False)
    return buffer.getvalue()
