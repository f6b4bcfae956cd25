import csv
import json
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from genrec_bench.data.sids.sid_file import read_sid_file
from genrec_bench.data.sids.sid_spelling import parse_sid
from genrec_bench.errors import UserError
from genrec_bench.storage.source_files import Folder

NAMES = ("B0", "B1", "B2")
CODES = [[0, 3], [1, 2], [0, 1]]


def read(file: Path) -> tuple[list[tuple[int, ...]], str]:
    """Return the codes of all items in their order, and what was understood."""
    folder = Folder(file.parent)
    spelled, notes = read_sid_file(folder, file, NAMES)
    assert len(folder.checksums()) == 1
    return [parse_sid(spelled[name], 0, name) for name in NAMES], "\n".join(notes)


def as_json(content: object) -> Callable[[Path], object]:
    return lambda file: file.write_text(json.dumps(content))


def as_parquet(sids: pa.Array) -> Callable[[Path], object]:
    return lambda file: pq.write_table(pa.table({"item": list(NAMES), "sid": sids}), file)


def as_table(rows: list[list[Any]], separator: str = ",") -> Callable[[Path], object]:
    def write(file: Path) -> None:
        with file.open("w", newline="") as out:
            csv.writer(out, delimiter=separator).writerows(rows)

    return write


def as_lines(entries: list[Any]) -> Callable[[Path], object]:
    return lambda file: file.write_text("\n".join(map(json.dumps, entries)))


PAIRS = list(zip(NAMES, CODES, strict=True))
TEXT = {name: "-".join(map(str, sid)) for name, sid in PAIRS}
TURNED = list(reversed(PAIRS))


@pytest.mark.parametrize(
    ("name", "write", "told"),
    [
        ("a.json", as_json(dict(TURNED)), ""),
        ("a.json", as_json(TEXT), ""),
        ("a.json", as_json({name: {"title": "x", "sid": sid} for name, sid in PAIRS}), ""),
        ("a.json", as_json({sid: [name] for name, sid in TEXT.items()}), "the other way round"),
        ("a.json", as_json({sid: name for name, sid in TEXT.items()}), "the other way round"),
        ("a.json", as_json(CODES), "taken in the dataset's order, 'B0' first"),
        ("a.json", as_json([{"item": n, "codes": s} for n, s in TURNED]), "from 'item', SIDs f"),
        ("a.jsonl", as_lines([{"asin": n, "sid": s} for n, s in TURNED]), "from 'asin', SIDs from"),
        ("a.csv", as_table([["item_id", "sid"], *map(list, TEXT.items())]), "from 'item_id'"),
        ("a.csv", as_table([["item_id", "c1", "c2"], *[[n, *s] for n, s in TURNED]]), "by level"),
        ("a.tsv", as_table([["id", "sids"], *map(list, TEXT.items())], "\t"), "from 'id'"),
        ("a.txt", as_table([["sid"], *[[sid] for sid in TEXT.values()]]), "the dataset's order"),
        ("a.npy", lambda f: np.save(f, np.array(CODES)), "the dataset's order"),
        ("a.npy", lambda f: np.save(f, np.array(CODES).T), "is turned: levels stand first"),
        ("a.npy", lambda f: np.save(f, np.array(CODES, dtype=float)), "the dataset's order"),
        ("a.npy", lambda f: np.save(f, np.array(list(TEXT.values()))), "the dataset's order"),
        ("a.pt", lambda f: torch.save(torch.tensor(CODES).T, f), "is turned"),
        ("a.pt", lambda f: torch.save({"sids": torch.tensor(CODES), "epoch": 3}, f), "order"),
        (
            "a.parquet",
            lambda f: pq.write_table(pa.table({"item_id": list(NAMES), "sid": CODES}), f),
            "from 'item_id', SIDs from 'sid'",
        ),
    ],
)  # fmt: skip
def test_sids_are_read_from_files_of_many_shapes(
    name: str, write: Callable[[Path], object], told: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    write(file)
    codes, notes = read(file)
    assert codes == [tuple(sid) for sid in CODES]
    assert told in notes and bool(told) == bool(notes)


@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.pkl", lambda f: f.write_bytes(pickle.dumps(CODES)), "may run code when it is read"),
        ("a.npy", lambda f: f.write_bytes(b"x"), "cannot be read as one array of codes"),
        ("a.npy", lambda f: np.save(f, np.zeros((3, 2, 2))), r"holds float64 \(3, 2, 2\), not cod"),
        ("a.npy", lambda f: np.save(f, np.zeros((4, 2))), "has 4 SIDs for 3 items, and names no"),
        ("a.pt", lambda f: torch.save({"a": 1}, f), "cannot be read as one array of codes"),
        ("a.parquet", lambda f: f.write_bytes(b"x"), "cannot be read"),
        ("a.json", as_json([]), "expected a JSON object with at least one entry"),
        ("a.json", as_json(CODES[:2]), "has 2 SIDs for 3 items"),
        ("a.json", lambda f: f.write_text("[1,\n"), "line 2: malformed JSON"),
        ("a.jsonl", lambda f: f.write_text("{}\n{\n"), "line 2: malformed JSON"),
        ("a.jsonl", as_lines([[1], [2]]), "must be a JSON object"),
        ("a.csv", as_table([["item", "sid"], ["B0"]]), "entry 1: .*|is no SID"),
        ("a.csv", as_table([["item", "sid"], ["B0", 1], ["B0", 2]]), "item 'B0' stands twice"),
        ("a.parquet", as_parquet(pa.array([2**62] * 3, pa.timestamp("us"))), "cannot be read"),
        ("a.parquet", as_parquet(pa.array([2**62] * 3, pa.duration("ms"))), "cannot be read"),
        ("a.parquet", as_parquet(pa.array([b"x"] * 3)), "is no SID|not of the form"),
        ("a.csv", as_table([["item", "sid"], ["B0", "1" * 200_000]]), "as a table: field larger"),
        ("a.tsv", as_table([["item", "s" * 200_000]], "\t"), "as a table: field larger"),
        ("a.txt", as_table([["item", "sid"], ["B" * 200_000, 1]], "\t"), "as a table: field lar"),
        ("a.json", lambda f: None, "a.json is missing"),
    ],
)  # fmt: skip
def test_each_mistake_in_a_file_of_sids_is_named(
    name: str, write: Callable[[Path], object], message: str, tmp_path: Path
) -> None:
    file = tmp_path / name
    write(file)
    with pytest.raises(UserError, match=message):
        read(file)


@pytest.mark.parametrize(
    "text",
    ["x" * 100_000, "a_" * 50_000, "<" * 100_000, "<end" * 30_000, "1-" * 50_000, " " * 99_999],
)
@pytest.mark.parametrize("inside", [lambda text: text, lambda text: [text, 1]])
def test_a_text_that_is_too_long_for_a_sid_is_refused_at_once(
    text: str, inside: Callable[[str], object]
) -> None:
    began = time.process_time()
    with pytest.raises(UserError, match="a SID of more than 2000 characters"):
        parse_sid(inside(text), 0, "here")
    assert time.process_time() - began < 1
