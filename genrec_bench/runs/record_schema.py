"""What a record must hold: its keys, their types, and which of its numbers are figures.

The keys are an interface for programs outside of this one. More may be added; none of these goes or
changes its meaning without a new `SCHEMA`.
"""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genrec_bench.storage.digests import canonical_digest

Record = dict[str, Any]
"""A record in plain JSON types."""

SCHEMA = 1
"""Version of the keys; raised when a reader of the former version would go wrong."""

SPLITS = ("valid", "test")
"""The splits that a record has metrics of."""

_TEXT, _INTEGER, _FLAG, _MAP = (str,), (int,), (bool,), (dict,)
_FIELDS: dict[str, tuple[type, ...]] = {
    "benchmark": _TEXT,
    "run_id": _TEXT,
    "algorithm": _TEXT,
    "dataset": _TEXT,
    "seed": _INTEGER,
    "complete": _FLAG,
    "partial": _FLAG,
    "track": _MAP,
    "track_id": _TEXT,
    "configuration.hyperparameters": _MAP,
    "configuration.settings": _MAP,
    "fingerprints": _MAP,
    "versions": _MAP,
    "commit": (str, type(None)),
    "hardware": _MAP,
    "budget.limit": (str, type(None)),
    "budget.spent": _MAP,
    "sft.valid": _MAP,
    "sft.test": _MAP,
    "metrics.valid": _MAP,
    "metrics.test": _MAP,
    "ceiling": _MAP,
    "outcomes.file": _TEXT,
    "outcomes.sha256": _TEXT,
    "curves.file": _TEXT,
    "curves.sha256": _TEXT,
    "times.started": _TEXT,
    "times.finished": _TEXT,
}
_COSTS = ("seconds", "tokens", "flops", "peak_memory_bytes")


def track_id(track: Mapping[str, Any]) -> str:
    """Short hash of a track: 12 hexadecimal digits of the SHA-256 of its canonical JSON."""
    return canonical_digest(track)[:12]


def digest(record: Mapping[str, Any]) -> str:
    """SHA-256 of a record's canonical JSON, without the key `sha256` that holds it."""
    return canonical_digest({key: value for key, value in record.items() if key != "sha256"})


def plain(value: Any, where: str = "") -> Any:
    """Convert to plain JSON types: numpy numbers, tuples and paths are converted, keys made text.

    Args:
        value: to convert.
        where: key of the value, for the message.

    Raises:
        ValueError: a number is not finite, which JSON cannot hold.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item, f"{where}.{key}".strip(".")) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, where) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item(), where)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{where} is {value}, which a record cannot hold")
    return value


def problem(record: Any) -> str | None:
    """Say what is wrong with a record and at which key, or return None."""
    if not isinstance(record, dict):
        return "it is no JSON object"
    if record.get("schema") != SCHEMA:
        return f"schema is {record.get('schema')!r}; this version reads {SCHEMA}"
    for field, kinds in _FIELDS.items():
        value: Any = record
        for key in field.split("."):
            if not isinstance(value, dict) or key not in value:
                return f"{field} is missing"
            value = value[key]
        # Not isinstance: true would pass for an integer.
        if type(value) not in kinds:
            names = " or ".join("null" if k is type(None) else k.__name__ for k in kinds)
            return f"{field} is {value!r}, not of type {names}"
    for split, figures in record["ceiling"].items():
        if not isinstance(figures, dict):
            return f"ceiling.{split} is {figures!r}, not of type dict"
    for where, figure in _figures(record):
        if type(figure) not in (int, float) or not math.isfinite(figure):
            return f"{where} is {figure!r}, not a finite number"
    for file in (record["outcomes"]["file"], record["curves"]["file"]):
        if not file or Path(file).name != file:
            return f"{file!r} is no name of a file beside the record"
    if track_id(record["track"]) != record["track_id"]:
        return "track_id is not the hash of track: one of them was changed"
    # Records of earlier versions have none.
    if "sha256" in record and record["sha256"] != digest(record):
        return "sha256 is not the hash of the record: it was changed after the run"
    return None


def _figures(record: Record) -> Iterator[tuple[str, Any]]:
    """All figures of a record with their keys."""
    maps = {f"{key}.{split}": record[key][split] for key in ("sft", "metrics") for split in SPLITS}
    maps |= {f"ceiling.{split}": figures for split, figures in record["ceiling"].items()}
    for name, figures in maps.items():
        yield from ((f"{name}.{key}", value) for key, value in figures.items())
    for phase, cost in record["budget"]["spent"].items():
        for key in _COSTS:
            value = cost.get(key) if isinstance(cost, dict) else None
            yield f"budget.spent.{phase}.{key}", value
