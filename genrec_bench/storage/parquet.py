"""Parquet files, read without threads.

Arrow's threads may outlive the reader: a command that ends soon after it has read a table was
aborted now and then when all was done, with an exit code that was not its own
(https://github.com/apache/arrow/issues/34314). Our tables are small, and one thread is enough.
"""

import io
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq


def read_table(source: Path | bytes) -> pa.Table:
    """Return the table of a Parquet file, given as the file or its content.

    Raises:
        OSError: it cannot be read.
        pyarrow.ArrowException: it is no Parquet; mostly a ValueError too.
    """
    opened = pa.BufferReader(source) if isinstance(source, bytes) else source
    with pq.ParquetFile(opened, pre_buffer=False) as file:
        return file.read(use_threads=False)


def read_frame(source: Path | bytes) -> pd.DataFrame:
    """Return the table of a Parquet file as pandas has it; see `read_table`."""
    frame: pd.DataFrame = read_table(source).to_pandas(use_threads=False)
    return frame


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
