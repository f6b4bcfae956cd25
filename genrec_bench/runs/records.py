"""Records: one immutable JSON file per run, with the outcome of every example beside it.

A run's folder holds `outcomes.parquet` (the rank of each example's target, and how often it was
sampled), `curves.parquet` (the figures logged while training) and `record.json`, written in this
order: a record that is there is complete. It names the other two by their SHA-256 and holds one of
its own, so that none can change unnoticed. Nothing in the folder tells who a user is or what an
item is called.
"""

import copy
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pandas as pd

from genrec_bench import benchmark_version
from genrec_bench.errors import UserError
from genrec_bench.runs.record_schema import SCHEMA, SPLITS, Record, digest, plain, problem, track_id
from genrec_bench.storage.digests import content_digest, file_sha256
from genrec_bench.storage.files import write_atomically
from genrec_bench.storage.parquet import parquet_bytes

RECORD_FILE = "record.json"

OUTCOME_COLUMNS = (
    "split",
    "example",
    "item_rank",
    "sid_rank",
    "sampled_hits",
    "sid_sampled_hits",
)

START_COLUMNS = tuple(f"start_{name}" for name in OUTCOME_COLUMNS[2:])
"""The same of the SFT start, for each example."""

TRACKING_FOLDERS = ("mlartifacts", "mlruns")
"""Folders in which MLflow keeps copies of records; they are no runs."""


def new_run_id(algorithm: str, seed: int, started: datetime) -> str:
    """Name a run so that no two are alike, even when started in the same second."""
    moment = started.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{algorithm}-seed{seed}-{moment}-{uuid4().hex[:6]}"


def build_record(
    *,
    run_id: str,
    algorithm: str,
    dataset: str,
    seed: int,
    complete: bool,
    partial: bool,
    track: Mapping[str, Any],
    hyperparameters: Mapping[str, Any],
    settings: Mapping[str, Any],
    fingerprints: Mapping[str, str],
    versions: Mapping[str, str],
    commit: str | None,
    hardware: Mapping[str, Any],
    budget_limit: str | None,
    spent: Mapping[str, Mapping[str, float]],
    sft: Mapping[str, Mapping[str, float]],
    metrics: Mapping[str, Mapping[str, float]],
    ceiling: Mapping[str, Mapping[str, float]],
    started: datetime,
    finished: datetime,
    splits: Sequence[str] = SPLITS,
    control: str = "",
    failure: str = "",
    tuning: Mapping[str, Any] | None = None,
) -> Record:
    """Put a record together; `write_record` adds the hashes of the files beside it.

    Args:
        run_id: see `new_run_id`.
        algorithm: name of the algorithm.
        dataset: name of the card.
        seed: of the run.
        complete: whether the run ended as planned, rather than by a failure or an interruption.
        partial: whether the training set is smaller than the card expects.
        track: all that is fixed in a comparison.
        hyperparameters: of the algorithm, resolved.
        settings: of the harness, resolved; only what bears on the result, and not the seed.
        fingerprints: hashes of dataset, SIDs, SFT checkpoint and algorithm.
        versions: of Python and the libraries.
        commit: of the checkout, None outside of one.
        hardware: what the run ran on.
        budget_limit: as given by the user, None for no limit.
        spent: by phase: seconds, tokens, flops, peak_memory_bytes.
        sft: metrics of the SFT start on "valid" and "test".
        metrics: metrics of the result on "valid" and "test"; empty maps where it was not evaluated.
        ceiling: best possible metrics by split, empty where unknown.
        started: with time zone.
        finished: with time zone.
        splits: that were to be evaluated; a trial of a sweep leaves the test split alone.
        control: what the run is a control for, in words; empty if it is none.
        failure: why the run is not complete, in one line.
        tuning: what was spent to find the hyperparameters; None if nothing is known of it.

    Returns:
        The record in plain JSON types (numpy numbers, tuples and paths converted).

    Raises:
        ValueError: a number is not finite.
    """
    record = {
        "schema": SCHEMA,
        "benchmark": benchmark_version(),
        "run_id": run_id,
        "algorithm": algorithm,
        "dataset": dataset,
        "seed": seed,
        "complete": complete,
        "failure": failure,
        "control": control,
        "splits": splits,
        "tuning": tuning,
        "partial": partial,
        "track": track,
        "configuration": {"hyperparameters": hyperparameters, "settings": settings},
        "fingerprints": fingerprints,
        "versions": versions,
        "commit": commit,
        "hardware": hardware,
        "budget": {"limit": budget_limit, "spent": spent},
        "sft": {split: sft.get(split, {}) for split in SPLITS},
        "metrics": {split: metrics.get(split, {}) for split in SPLITS},
        "ceiling": ceiling,
        "times": {
            "started": started.astimezone(UTC).isoformat(timespec="seconds"),
            "finished": finished.astimezone(UTC).isoformat(timespec="seconds"),
        },
    }
    converted: Record = plain(record)
    converted["track_id"] = track_id(converted["track"])
    return converted


def join_outcomes(
    by_split: Mapping[str, pd.DataFrame], start: Mapping[str, pd.DataFrame] | None = None
) -> pd.DataFrame:
    """One table of the outcomes of several splits (see `metrics.evaluate_lists`).

    Args:
        by_split: of the run.
        start: of the SFT start on the same examples; adds `START_COLUMNS`.
    """
    if start is not None:
        ours, theirs = join_outcomes(by_split), join_outcomes(start)
        names = dict(zip(OUTCOME_COLUMNS[2:], START_COLUMNS, strict=True))
        both = ours.merge(
            theirs.rename(columns=names), on=["split", "example"], validate="one_to_one"
        )
        if len(both) < len(ours):
            raise ValueError("the SFT start was not evaluated on the same examples")
        return both
    empty = pd.DataFrame({"split": pd.Series(dtype="str")} | {c: [] for c in OUTCOME_COLUMNS[1:]})
    tables = [table.assign(split=split) for split, table in by_split.items()]
    joined = pd.concat(tables, ignore_index=True) if tables else empty
    joined = joined[list(OUTCOME_COLUMNS)]
    return joined.astype({column: "int32" for column in OUTCOME_COLUMNS[1:]})


def write_record(
    folder: Path, record: Record, outcomes: pd.DataFrame, curves: pd.DataFrame
) -> Path:
    """Write a run's three files, the record last.

    Args:
        folder: the run's own folder; made if missing.
        record: from `build_record`; gains the keys `outcomes`, `curves` and `sha256`.
        outcomes: from `join_outcomes`, with or without the columns of the SFT start.
        curves: what was logged while training, any columns.

    Returns:
        The path of the record.

    Raises:
        UserError: there is a record already, or the disk refuses.
        ValueError: the record is not a valid one.
    """
    path = folder / RECORD_FILE
    if path.exists():
        raise UserError(f"{path} exists; a record is never overwritten, choose another folder")
    if tuple(outcomes.columns) not in (OUTCOME_COLUMNS, (*OUTCOME_COLUMNS, *START_COLUMNS)):
        raise ValueError(f"outcomes have the columns {list(outcomes.columns)}")
    files = {"outcomes": parquet_bytes(outcomes), "curves": parquet_bytes(curves)}
    for key, content in files.items():
        found = content_digest(content)
        record[key] = {"file": f"{key}.parquet", "sha256": found}
    record.pop("sha256", None)
    wrong = problem(record)
    if wrong:
        raise ValueError(f"the record is not valid: {wrong}")
    record["sha256"] = digest(record)
    for key, content in files.items():
        write_atomically(folder / record[key]["file"], content)
    text = json.dumps(record, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    write_atomically(path, (text + "\n").encode())
    return path


def read_record(path: Path) -> Record:
    """Read a record and check its keys and the files beside it.

    Args:
        path: the record or the run's folder.

    Raises:
        UserError: it is missing, damaged or changed; the message names file and key.
    """
    path = path / RECORD_FILE if path.is_dir() else path
    try:
        record = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read as a record: {error}") from error
    wrong = problem(record)
    if wrong:
        raise UserError(f"{path}: {wrong}")
    for key in ("outcomes", "curves"):
        file = path.parent / record[key]["file"]
        if not file.is_file():
            raise UserError(f"{path}: {key}.file: {file.name} is missing beside it")
        if file_sha256(file) != record[key]["sha256"]:
            raise UserError(f"{file} was changed after the run: {path}: {key}.sha256 differs")
    return record  # type: ignore[no-any-return]  # problem() has checked it


def comparable(record: Record) -> Record:
    """The record without what differs between two equal runs: times, peak memory, names of runs.

    The hash of the curves is left out too, since curves hold seconds, and that of the whole record.
    """
    view = copy.deepcopy(record)
    for key in ("run_id", "times", "curves", "sha256"):
        view.pop(key, None)
    for cost in view["budget"]["spent"].values():
        cost.pop("seconds", None)
        cost.pop("peak_memory_bytes", None)
    (view.get("tuning") or {}).pop("seconds", None)
    return view


def _refuse(constant: str) -> None:
    """Refuse what Python's reader takes for a number though JSON has no such thing."""
    raise ValueError(f"{constant} is no number")
