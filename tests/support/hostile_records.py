"""Records as strangers would forge them."""

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from board_world import GOOD, reseal, save, whole

from genrec_bench.runs.record_schema import track_id
from genrec_bench.storage.digests import file_sha256


def changed(record: dict[str, Any], place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The record with one part replaced, or left out (`...`), and sealed anew."""
    new = copy.deepcopy(record)
    part = new
    for key in place[:-1]:
        part = part[key]
    if value is ...:
        del part[place[-1]]
    else:
        part[place[-1]] = value
    if isinstance(new.get("track"), dict) and place != ("track_id",):
        new["track_id"] = track_id(new["track"])
    return new


def write_table(folder: Path, key: str, content: bytes) -> None:
    """Put another table beside a record, whose hashes are made anew."""
    record = json.loads((folder / "record.json").read_text())
    file = folder / record[key]["file"]
    file.write_bytes(content)
    record[key]["sha256"] = file_sha256(file)
    reseal(folder / "record.json", record)


def parquet(table: pa.Table, **metadata: str) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(table.replace_schema_metadata(metadata or None), sink)
    content: bytes = sink.getvalue().to_pybytes()
    return content


def make_hostile(folder: Path) -> list[Path]:
    """Fifty records, in front of all others by name, of ten kinds of harm."""
    made = []
    for number in range(50):
        # Every one of them says that it is a run that somebody else made.
        one = whole("aevil", GOOD, seed=number)
        path = save(folder, one)
        record = json.loads(path.read_text())
        kind = number % 10
        if kind == 0:
            path.write_bytes(b"[" * 100_000)
        elif kind == 1:
            path.write_text(path.read_text().replace('"seed": ', '"seed": ' + "9" * 5000))
        elif kind == 2:
            reseal(path, record | {"dataset": "../../x"})
        elif kind == 3:
            reseal(path, record | {"splits": 3, "tuning": [1], "metrics": []})
        elif kind == 4:
            reseal(path, changed(record, ("metrics", "test", "HR@10"), 1.0))
        elif kind == 5:
            table = pd.read_parquet(path.parent / "outcomes.parquet").astype({"item_rank": "str"})
            write_table(path.parent, "outcomes", parquet(pa.Table.from_pandas(table)))
        elif kind == 6:
            # The run of an honest one, with another result.
            reseal(path, record | {"run_id": f"algo0-seed{number % 5}-0"})
        elif kind == 7:
            path.write_bytes(b'{"a": ' * 20_000)
        elif kind == 8:
            other = save(folder / "more", whole("aevil", GOOD[:3], seed=number, start=GOOD[:3]))
            shutil.rmtree(path.parent)
            path = other
        else:
            path.write_text('{"run_id": "\\ud800"}')
        made.append(path)
    return made
