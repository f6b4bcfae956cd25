"""Outside systems: their ranked lists, evaluated as our own runs are, kept as a record.

Such a record is of the kind `external`. Its track is the dataset and its SIDs alone: nobody knows
what the system cost, so that it meets others of its kind, and our runs, in a section of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from genrec_bench import benchmark_version
from genrec_bench.data.dataset import Dataset
from genrec_bench.errors import StorageError, UserError
from genrec_bench.runs.environment import commit, hardware, versions
from genrec_bench.runs.kept_lists import lists_bytes
from genrec_bench.runs.record_schema import EXTERNAL, SPLITS
from genrec_bench.runs.records import (
    RECORD_FILE,
    complete_record,
    join_outcomes,
    new_run_id,
    write_record,
)
from genrec_bench.runs.run_files import SPLIT, RunFile
from genrec_bench.storage.files import inside, read_json
from genrec_bench.storage.validation import is_plain_name
from genrec_bench.training.evaluate import Evaluation
from genrec_bench.training.metrics import CUTOFFS, evaluate_lists
from genrec_bench.training.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What the maker of an outside system says of it; nothing of it is checked.

    Attributes:
        label: what it is called; its seeds share it.
        source: "run file", or what made the lists.
        backbone: model, or kind of model; "" where nobody says.
        training_seconds: of one run, tuning apart; None where nobody says.
        tuning_seconds: of all trials; None where nobody says.
        hardware: that the seconds are of.
        notes: whatever else a reader should know.
        hyperparameters: that tell its variants apart.
    """

    label: str
    seed: int = 0
    source: str = "run file"
    backbone: str = ""
    training_seconds: float | None = None
    tuning_seconds: float | None = None
    hardware: str = ""
    notes: str = ""
    hyperparameters: Mapping[str, Any] = field(default_factory=dict)


def check_label(label: str) -> None:
    """Raise UserError unless a label can name a folder, and says nothing else to a reader."""
    if not is_plain_name(label) or len(label) > 80 or label.startswith((".", "-")):
        raise UserError(f"--as {label!r}: must be a plain name of at most 80 characters")


def keep_external(
    found: RunFile,
    declared: Declared,
    dataset: Dataset,
    output: Path,
    *,
    file: str,
    sha256: str,
    keep_lists: bool = False,
    measured: bool = False,
    began: datetime | None = None,
    command: Sequence[str] = (),
) -> tuple[Path, bool]:
    """Evaluate lists, and write the record of the system that made them.

    Args:
        file: name of the file that the lists stood in; ``sha256`` is its hash.
        keep_lists: whether the lists are kept beside the record, by names.
        measured: whether its seconds were measured here, so that they never are the same twice.
        began: when the work on it did; None for now.

    Returns:
        The record's path, and whether it was there before: of the same file, declared the same.

    Raises:
        UserError: the label names no folder.
        StorageError: the disk refuses.
    """
    check_label(declared.label)
    began = began or datetime.now(UTC)
    told = {**dataclasses.asdict(declared), "file": file, "sha256": sha256, "ranked": found.ranked}
    label, seed, chosen = (told.pop(key) for key in ("label", "seed", "hyperparameters"))
    metrics, outcomes = evaluate_lists(found.lists)
    content = {
        "kind": EXTERNAL,
        "algorithm": label,
        "dataset": dataset.name,
        "seed": seed,
        "complete": True,
        "failure": "",
        "control": "",
        "splits": (SPLIT,),
        "tuning": None,
        "partial": dataset.partial,
        "track": {
            "dataset": dataset.fingerprint,
            "kind": EXTERNAL,
            "sids": dataset.sid_fingerprint,
        },
        "configuration": {
            "hyperparameters": dict(chosen),
            "settings": {"beam_width": found.lists.candidates.shape[1]},
        },
        "fingerprints": _fingerprints(dataset),
        "budget": {"limit": None, "spent": {}},
        "cutoffs": CUTOFFS,
        "sft": {split: {} for split in SPLITS},
        "metrics": {split: metrics if split == SPLIT else {} for split in SPLITS},
        "ceiling": dataset.ceiling,
        EXTERNAL: told,
    }
    parent = output / dataset.name
    if (earlier := _equal(parent, content, measured)) is not None:
        return earlier, True
    run_id = new_run_id(label, seed, began)
    record = complete_record(
        {
            **content,
            "run_id": run_id,
            "command": command,
            "versions": versions(),
            "commit": commit(),
            "hardware": hardware("cpu"),
            "times": {
                "started": began.astimezone(UTC).isoformat(timespec="seconds"),
                "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            },
        }
    )
    lists = None
    if keep_lists:
        evaluation = Evaluation(metrics, outcomes, found.lists)
        lists = lists_bytes({SPLIT: evaluation}, dataset, Settings()), dataset.catalog.num_items
    joined = join_outcomes({SPLIT: outcomes})
    return write_record(inside(parent, run_id), record, joined, pd.DataFrame(), lists), False


def find_external(parent: Path, label: str, seed: int, notes: str, dataset: Dataset) -> Path | None:
    """Return the record of a label and a seed on a dataset whose notes say the same, if any."""
    for path in sorted(parent.glob(f"*/{RECORD_FILE}")):
        try:
            there = read_json(path)
        except StorageError:
            continue
        declared = there.get(EXTERNAL)
        told = declared.get("notes") if isinstance(declared, Mapping) else None
        found = (there.get("algorithm"), there.get("seed"), told, there.get("benchmark"))
        if found == (label, seed, notes, benchmark_version()) and (
            there.get("fingerprints") == _fingerprints(dataset)
        ):
            return path
    return None


def _fingerprints(dataset: Dataset) -> dict[str, str]:
    return {"dataset": dataset.fingerprint, "sids": dataset.sid_fingerprint}


def _equal(parent: Path, content: Mapping[str, Any], measured: bool) -> Path | None:
    """Return the record of the same lists, declared the same and found the same; None for none.

    Args:
        measured: whether its seconds may differ.
    """
    wanted = _without_seconds(complete_record(content), measured)
    for path in sorted(parent.glob(f"*/{RECORD_FILE}")):
        try:
            there = _without_seconds(read_json(path), measured)
        except StorageError:
            continue
        if all(there.get(key) == value for key, value in wanted.items()):
            return path
    return None


def _without_seconds(record: Mapping[str, Any], measured: bool) -> dict[str, Any]:
    told = record.get(EXTERNAL)
    if not measured or not isinstance(told, Mapping):
        return dict(record)
    seconds = ("training_seconds", "tuning_seconds")
    return {**record, EXTERNAL: {key: told[key] for key in told if key not in seconds}}
