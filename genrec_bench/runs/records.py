"""Records: one immutable JSON file per run, with the outcome of every example beside it.

A run's folder holds `outcomes.parquet` (the rank of each example's target, how often it was
sampled, whether it is in the long tail, and in worlds what the list is worth), `curves.parquet`
(the figures logged while training) and `record.json`, written in this order: where there is a
record, the other two are whole. It holds their SHA-256 and one of its own, so that no file can
change unnoticed. None of these files has names of users or items; `lists.parquet`, which is kept
on request, has nothing else.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from genrec_bench import benchmark_version
from genrec_bench.errors import UserError
from genrec_bench.runs.record_schema import SCHEMA, Record, digest, mistakes_in, plain, track_id
from genrec_bench.runs.record_tables import (
    KEYS,
    LISTS,
    OUTCOME_COLUMNS,
    START,
    START_COLUMNS,
    is_outcomes,
)
from genrec_bench.storage.bounded_json import decode_json
from genrec_bench.storage.digests import content_digest, file_sha256
from genrec_bench.storage.files import write_atomically, write_json
from genrec_bench.storage.parquet import parquet_bytes
from genrec_bench.storage.text_files import read_text
from genrec_bench.training.metrics import TAIL, is_worth

RECORD_FILE = "record.json"

MOST_BYTES, MOST_BYTES_BESIDE = 2**19, 2**28
"""Of a record, which has some ten thousand, and of a file beside it, which has 15 an example."""

TRACKING_FOLDERS = ("mlartifacts", "mlruns")
"""Folders in which MLflow keeps copies of records; they are no runs."""


def new_run_id(algorithm: str, seed: int, started: datetime) -> str:
    """Name a run so that no two are alike, even when started in the same second."""
    moment = started.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{algorithm}-seed{seed}-{moment}-{uuid4().hex[:6]}"


def complete_record(content: Mapping[str, Any]) -> Record:
    """Return a record in plain JSON types, with its schema, the benchmark's version and `track_id`.

    `write_record` adds the hashes of the files beside it.

    Raises:
        ValueError: a number is not finite.
    """
    record = Record(plain({"schema": SCHEMA, "benchmark": benchmark_version(), **content}))
    record["track_id"] = track_id(record["track"])
    return record


def join_outcomes(
    by_split: Mapping[str, pd.DataFrame], start: Mapping[str, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """Return the outcomes of several splits as one table.

    The SFT start's outcomes of the same examples, if they are given, add `START_COLUMNS`. Columns
    that records of earlier versions lack come last: `TAIL`, and in worlds what each list is worth,
    with those of the SFT start.

    Raises:
        ValueError: the SFT start was not evaluated on the same examples.
    """
    empty = pd.DataFrame({"split": pd.Series(dtype="str")} | {c: [] for c in OUTCOME_COLUMNS[1:]})
    tables = [table.assign(split=split) for split, table in by_split.items()]
    joined = pd.concat(tables, ignore_index=True) if tables else empty
    joined = joined.astype({column: "int32" for column in OUTCOME_COLUMNS[1:]})
    later = [name for name in joined.columns if name == TAIL or is_worth(name)]
    if start is None:
        return joined[[*OUTCOME_COLUMNS, *later]]
    theirs = join_outcomes(start).drop(columns=TAIL, errors="ignore")
    theirs.columns = [name if name in KEYS else START + name for name in theirs.columns]
    both = joined.merge(theirs, on=list(KEYS), validate="one_to_one")
    if len(both) < len(joined):
        raise ValueError("the SFT start was not evaluated on the same examples")
    later += [name for name in theirs.columns if is_worth(name.removeprefix(START))]
    return both[[*OUTCOME_COLUMNS, *START_COLUMNS, *later]]


def write_record(
    folder: Path,
    record: dict[str, Any],
    outcomes: pd.DataFrame,
    curves: pd.DataFrame,
    lists: tuple[bytes, int] | None = None,
) -> Path:
    """Write a run's files, the record last, and return the record's path.

    Args:
        folder: the run's own folder; made if missing.
        record: from `complete_record`; gains the keys `outcomes`, `curves` and `sha256`.
        outcomes: from `join_outcomes`, with or without the columns of the SFT start.
        curves: what was logged while training, any columns.
        lists: from `lists_bytes`, and how many items the catalog has; None: not kept.

    Raises:
        UserError: there is a record already, or the disk refuses.
        ValueError: the record is not a valid one.
    """
    path = folder / RECORD_FILE
    if path.exists():
        raise UserError(f"{path} exists; a record is never overwritten, choose another folder")
    if not is_outcomes(list(outcomes.columns)):
        raise ValueError(f"outcomes have the columns {list(outcomes.columns)}")
    files = {"outcomes": parquet_bytes(outcomes), "curves": parquet_bytes(curves)}
    for key, content in files.items():
        record[key] = {"file": f"{key}.parquet", "sha256": content_digest(content)}
    if lists is not None:
        files[LISTS], num_items = lists
        told = {"file": f"{LISTS}.parquet", "sha256": content_digest(files[LISTS])}
        record[LISTS] = {**told, "items": num_items}
    record.pop("sha256", None)
    if wrong := mistakes_in(record):
        raise ValueError(f"the record is not valid: {'; '.join(wrong)}")
    record["sha256"] = digest(record)
    for key, content in files.items():
        write_atomically(folder / record[key]["file"], content)
    write_json(path, record)
    return path


def read_record(path: Path) -> Record:
    """Read a record, given by its path or folder, and check its keys and the files beside it.

    Raises:
        UserError: it is missing, damaged or changed; the message names file and key.
    """
    if not path.exists():
        raise UserError(f"{path}: there is no such record or folder")
    path = path / RECORD_FILE if path.is_dir() else path
    if not path.exists():
        raise UserError(f"{path.parent}: holds no {RECORD_FILE}; has its run ended?")
    try:
        content = decode_json(read_text(path, most=MOST_BYTES))
        wrong = mistakes_in(content)
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read as a record: {error}") from error
    if wrong:
        raise UserError(f"{path}: {'; '.join(wrong)}")
    record = Record(content)
    record.path = path
    for key in ("outcomes", "curves", LISTS):
        # Lists may have stayed where the run was made: no board needs them.
        if key == LISTS and not has_lists(path, record):
            continue
        file = path.parent / record[key]["file"]
        if not file.is_file():
            raise UserError(f"{path}: {key}.file: {file.name} is missing beside it")
        if key != LISTS and file.stat().st_size > MOST_BYTES_BESIDE:
            raise UserError(f"{file} has more than {MOST_BYTES_BESIDE:,} bytes")
        if file_sha256(file) != record[key]["sha256"]:
            raise UserError(f"{file} was changed after the run: {path}: {key}.sha256 differs")
    return record


def has_lists(path: Path, record: Mapping[str, Any]) -> bool:
    """Whether lists were kept, and are beside a record still."""
    return bool(record.get(LISTS)) and (path.parent / record[LISTS]["file"]).is_file()
