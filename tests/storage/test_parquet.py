import re
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from genrec_bench.storage.parquet import parquet_bytes, read_frame, read_table


def test_what_was_written_is_read(tmp_path: Path) -> None:
    frame = pd.DataFrame({"a": np.arange(3, dtype=np.int32), "b": ["x", "ä", ""], "c": [0.5, 1, 2]})
    content, file = parquet_bytes(frame), tmp_path / "table.parquet"
    file.write_bytes(content)
    for source in (content, file):
        pd.testing.assert_frame_equal(read_frame(source), frame)
        assert read_table(source).column_names == ["a", "b", "c"]
    with pytest.raises(FileNotFoundError):
        read_table(tmp_path / "none.parquet")
    with pytest.raises((pa.ArrowException, OSError)):
        read_frame(content[:-9])


def test_nothing_is_read_with_threads(root: Path) -> None:
    """A command that ends with Arrow's threads alive is aborted now and then."""
    threaded = re.compile(r"\b(?:pd|pandas|pq)\.(?:read_parquet|read_table|Parquet\w+)\(")
    files = [*root.glob("genrec_bench/**/*.py"), *root.glob("benchmarks/*.py")]
    found = [path.name for path in files if threaded.search(path.read_text())]
    assert found == ["parquet.py"]
