"""What a record must hold: its keys, their types, and which of its numbers are figures.

The keys are an interface for programs outside of this one. More may be added; none of these goes or
changes its meaning without a new `SCHEMA`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from genrec_bench.storage.digests import canonical_digest
from genrec_bench.storage.parquet import read_frame
from genrec_bench.storage.validation import Must, PlainName, at_least, checked, one_of
from genrec_bench.training.own_metrics import OWN


class Record(dict[str, Any]):
    """A record in plain JSON types.

    Attributes:
        path: of the file that it was read from; None if it was not.
    """

    path: Path | None = None

    @property
    def outcomes(self) -> pd.DataFrame:
        """The outcome of every example, of the policy and of the SFT start."""
        return self._table("outcomes")

    @property
    def curves(self) -> pd.DataFrame:
        """What was logged while training."""
        return self._table("curves")

    @property
    def lists(self) -> pd.DataFrame:
        """The list of every example by names, where `keep_lists` was asked for."""
        if not self.get("lists"):
            raise ValueError("the run kept no lists; `--set keep_lists=true` does")
        return self._table("lists")

    def _table(self, key: str) -> pd.DataFrame:
        if self.path is None:
            raise ValueError("the record was not read from a file")
        return read_frame(self.path.parent / self[key]["file"])

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Tell a notebook what it is; all of it would be pages."""
        figures = self["metrics"]["test"] or self["metrics"]["valid"]
        told = "  ".join(f"{name} {figures[name]:.4f}" for name in SHOWN if name in figures)
        printer.text(f"Record({self['run_id']}: {told or self['failure']})")


SCHEMA = 1
"""Version of the keys; raised when a reader of the former version would go wrong."""

SHOWN = ("HR@1", "HR@10", "NDCG@10")
"""Figures by which a notebook tells records apart."""

SPLITS = ("valid", "test")
"""The splits that a record has metrics of."""

EXTERNAL = "external"
"""The kind of a record of lists that an outside system made, and the key of what is declared."""

Figures = Mapping[str, float]


def _is_version(text: str) -> bool:
    return re.fullmatch(r"[0-9]{1,4}\.[0-9]{1,4}", text) is not None


@dataclass(frozen=True)
class _Configuration:
    hyperparameters: Mapping[str, Any]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class _Cost:
    seconds: float
    tokens: float
    flops: float
    peak_memory_bytes: float


@dataclass(frozen=True)
class _Budget:
    limit: str | None
    spent: Mapping[str, _Cost]


@dataclass(frozen=True)
class _Splits:
    valid: Figures
    test: Figures


@dataclass(frozen=True)
class _Beside:
    file: PlainName
    sha256: str


@dataclass(frozen=True)
class _Lists(_Beside):
    """Kept lists; `items` is how many the catalog has."""

    items: Annotated[int, at_least(1)]


def _is_own(name: str) -> bool:
    return name.startswith(OWN) and name[len(OWN) :].isidentifier()


@dataclass(frozen=True)
class _OwnMetrics:
    file: PlainName
    sha256: str
    figures: tuple[Annotated[str, Must(_is_own, f"{OWN}NAME")], ...]


@dataclass(frozen=True)
class _External:
    """An outside system, as its maker declares it; `ranked` is "item" or "sid"."""

    source: str
    backbone: str
    training_seconds: float | None
    tuning_seconds: float | None
    hardware: str
    notes: str
    file: PlainName
    sha256: str
    ranked: str


@dataclass(frozen=True)
class _Times:
    started: str
    finished: str


@dataclass(frozen=True)
class _Keys:
    """The keys of a record; it may have more."""

    benchmark: Annotated[str, Must(_is_version, "Major.Minor")]
    run_id: PlainName
    algorithm: PlainName
    dataset: PlainName
    seed: int
    complete: bool
    partial: bool
    track: Mapping[str, Any]
    track_id: str
    configuration: _Configuration
    fingerprints: Mapping[str, Any]
    versions: Mapping[str, Any]
    commit: str | None
    hardware: Mapping[str, Any]
    budget: _Budget
    sft: _Splits
    metrics: _Splits
    ceiling: Mapping[str, Figures]
    outcomes: _Beside
    curves: _Beside
    times: _Times
    cutoffs: tuple[Annotated[int, at_least(1)], ...] = ()
    own_metrics: _OwnMetrics | None = None
    trained: bool = True
    lists: _Lists | None = None
    kind: Annotated[str, one_of(("run", EXTERNAL))] = "run"
    external: _External | None = None
    command: tuple[str, ...] = ()


def own_figures(record: Mapping[str, Any]) -> list[str]:
    """Names of a record's metrics of one's own, such as `own/novelty`; others are not told apart.

    No outcomes tell them, and nobody runs a file of others to verify them.
    """
    told = record.get("own_metrics")
    return list(told["figures"]) if told else []


def track_id(track: Mapping[str, Any]) -> str:
    """Return a short hash of a track: 12 hexadecimal digits of its canonical digest."""
    return canonical_digest(track)[:12]


def version_key(benchmark: str) -> tuple[int, int]:
    """Return Major and Minor of a record's version, to sort by."""
    major, minor = benchmark.split(".")
    return int(major), int(minor)


def digest(record: Mapping[str, Any]) -> str:
    """Return the canonical digest of a record without the key `sha256`, which holds it."""
    return canonical_digest({key: value for key, value in record.items() if key != "sha256"})


def plain(value: Any, where: str = "") -> Any:
    """Convert to plain JSON types: numpy numbers, tuples and paths are converted, keys made text.

    Raises:
        ValueError: a number is not finite, which JSON cannot hold; `where` names its key.
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


def mistakes_in(record: Any) -> list[str]:
    """Return all that is wrong with a record, each with its key.

    Raises:
        ValueError: a number in it is not finite.
    """
    if not isinstance(record, dict):
        return ["it is no JSON object"]
    if record.get("schema") != SCHEMA:
        return [f"schema is {record.get('schema')!r}; this version reads {SCHEMA}"]
    if found := checked(_Keys, record, extra="ignore")[1]:
        return found
    if (record.get("kind") == EXTERNAL) is (record.get(EXTERNAL) is None):
        return [f"kind is {record.get('kind')!r}, which does not go with the key {EXTERNAL!r}"]
    if track_id(record["track"]) != record["track_id"]:
        return ["track_id is not the hash of track: one of them was changed"]
    # Records of earlier versions have none.
    if "sha256" in record and record["sha256"] != digest(record):
        return ["sha256 is not the hash of the record: it was changed after the run"]
    return []
