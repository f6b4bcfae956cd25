"""Prepared datasets and SIDs that say something else than they were written with."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_runs import save_tiny, tiny_dataset

from genrec_bench.data.dataset_store import load_contents, read_manifest
from genrec_bench.data.preparation.formats.atomic import AtomicHeader
from genrec_bench.data.sids.sid_quality import quality_of
from genrec_bench.data.sids.sid_store import SIDs, load_sids, manifest_of, save_sids
from genrec_bench.data.vectors.item_vectors import read_vectors
from genrec_bench.errors import UserError
from genrec_bench.storage.cached import sealed
from genrec_bench.storage.digests import file_sha256
from genrec_bench.storage.parquet import read_table

NAME = "industrial"


def say(file: Path, **changes: Any) -> None:
    """Have a file in JSON say something else, and seal it, as a careful forger would."""
    file.write_text(json.dumps(sealed(json.loads(file.read_text()) | changes)))


def put(file: Path, name: str, value: Any) -> None:
    """Have a column of a table hold the same value in every row, and its manifest agree."""
    table = read_table(file)
    column = pa.array([value] * table.num_rows)
    pq.write_table(table.set_column(table.column_names.index(name), name, column), file)
    manifest = file.with_name("manifest.json")
    files = json.loads(manifest.read_text())["files"]
    say(manifest, files=files | {file.name: file_sha256(file)})


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": []},
        {"made": {"a": 1}},
        {"made": "found"},
        {"report": []},
        {"report": {"counts": 3}},
        {"report": {"notes": [1]}},
        {"ceiling": {"test": {"HR@10": "x"}}},
        {"rows": 3},
        {"items": "24"},
        {"files": None},
        {"files": {"../x": "0" * 64}},
        {"card": "x"},
        {"rows": {"train": -1}},
        {"differs_from_card": 5},
    ],
    ids=str,
)
def test_a_manifest_that_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    file = save_tiny(tmp_path) / NAME / "manifest.json"
    say(file, **changes)
    for read in (read_manifest, load_contents):
        with pytest.raises(UserError, match="is not a manifest .*; make it again: .* --replace`"):
            read(NAME, tmp_path)


@pytest.mark.parametrize(
    ("table", "column", "value"),
    [
        ("items", "sid", 7),
        ("items", "sid", ["a", "b", "c"]),
        ("items", "categories", 3),
        ("items", "name", None),
        ("items", "title", b"x"),
        ("train", "history", "1 2"),
        ("train", "history", [10**9]),
        ("valid", "target", "x"),
        ("test", "target", -5),
        ("test", "user", [1]),
        ("test", "user", float("nan")),
        ("test", "target", 2.5),
        ("items", "sid", [0.5, 1.0, 2.0]),
    ],
    ids=str,
)
def test_a_table_of_something_else(tmp_path: Path, table: str, column: str, value: Any) -> None:
    folder = save_tiny(tmp_path) / NAME
    put(folder / f"{table}.parquet", column, value)
    with pytest.raises(UserError, match="is not a prepared dataset|contents differ|cannot be read"):
        load_contents(NAME, tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"codes_per_level": [1, 2]},
        {"codes_per_level": 4},
        {"codes_per_level": [{}, [], None]},
        {"codes_per_level": ["x", 1, 1]},
        {"recipe": []},
        {"quality": 3},
        {"contents": None},
    ],
    ids=str,
)
def test_sids_with_another_manifest(tmp_path: Path, changes: dict[str, Any]) -> None:
    contents = tiny_dataset().contents
    assert contents.sids is not None
    sids = SIDs(contents.sids, contents.card.codes_per_level, {}, {})
    folder = save_sids(sids, contents, "mine", tmp_path, None)
    say(folder / "manifest.json", **changes)
    with pytest.raises(UserError, match="cannot be read|made for other contents"):
        load_sids(contents, "mine", tmp_path)
    (folder / "manifest.json").write_text('{"recipe": []}')
    assert manifest_of(NAME, "mine", tmp_path) is None


@pytest.mark.parametrize("found", [{}, {"levels": []}, {"levels": "x"}, {"levels": [{"level": 1}]}])
def test_a_quality_that_is_none(found: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="missing key"):
        quality_of(found)


@pytest.mark.parametrize("rows", [0, 1, 23])
def test_sids_of_fewer_items(tmp_path: Path, rows: int) -> None:
    contents = tiny_dataset().contents
    assert contents.sids is not None
    sids = SIDs(contents.sids[:rows], contents.card.codes_per_level, {}, {})
    save_sids(sids, contents, "mine", tmp_path, None)
    with pytest.raises(UserError, match=f"cannot be read .{rows} SIDs for 24 items"):
        load_sids(contents, "mine", tmp_path)


@pytest.mark.parametrize("line", ["x" * 200_000, "a:" * 100_000, "user_id:token\t" * 10_000])
def test_a_header_without_end(line: str) -> None:
    with pytest.raises(UserError, match="file, line 1: longer than 10000 characters"):
        AtomicHeader.of(line, "file")


@pytest.mark.parametrize("value", [1e15, -1e30, 1e38, float("inf"), float("nan")])
def test_vectors_whose_squares_are_no_numbers(tmp_path: Path, value: float) -> None:
    file = tmp_path / "vectors.npy"
    np.save(file, np.array([[1.0, 2.0], [3.0, value]], dtype=np.float32))
    with pytest.raises(UserError, match="row 1 .of 1 such rows. holds a number that is not finite"):
        read_vectors(file, 2)
