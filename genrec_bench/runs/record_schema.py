"""What a record must hold: its keys, their types, and which of its numbers are figures.

The keys are an interface for programs outside of this one. More may be added; none of these goes or
changes its meaning without a new `SCHEMA`.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from genrec_bench.errors import one_line
from genrec_bench.runs.record_tables import read_table_of
from genrec_bench.storage.digests import canonical_digest
from genrec_bench.storage.field_kinds import (
    Amount,
    Count,
    Fact,
    Figures,
    Line,
    Moment,
    Scalars,
    Sha256,
    Word,
)
from genrec_bench.storage.validation import Must, PlainName, between, checked, one_of
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
        return read_table_of(self.path.parent / self[key]["file"], key)

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

MOST_SEED = 2**31 - 1

_VERSION = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}")


@dataclass(frozen=True)
class _Configuration:
    hyperparameters: Scalars
    settings: Scalars


@dataclass(frozen=True)
class _Cost:
    seconds: Amount
    tokens: Amount
    flops: Amount
    peak_memory_bytes: Amount


@dataclass(frozen=True)
class _Budget:
    limit: Word | None
    spent: Mapping[Word, _Cost]


@dataclass(frozen=True)
class _Tuning:
    """What was spent to find the hyperparameters; a limit of its own is part of the track."""

    study: Line | None = None
    limit: Word | None = None
    trials: Count = 0
    failed: Count = 0
    pruned: Count = 0
    flops: Amount = 0.0
    seconds: Amount = 0.0
    tokens: Amount = 0.0


@dataclass(frozen=True, kw_only=True)
class _Track:
    """What is known of every track; whatever else it says is a `Fact`."""

    dataset: Word
    beam_width: Count = 1
    decoding: Word = ""
    test_examples: Count = 0
    tuning: Word | None = None


@dataclass(frozen=True, kw_only=True)
class _RunTrack(_Track):
    """Of a run, and not of lists that an outside system made."""

    backbone: Line
    budget: Word | None


@dataclass(frozen=True)
class _Settings:
    """What is read of settings; whatever else they say is a `Scalar`."""

    beam_width: Annotated[int, between(1, 10**6)] = 1
    pass_samples: Count = 0
    test_examples: Count = 0
    validation_examples: Count = 0
    keep: Word = ""


@dataclass(frozen=True)
class _Fingerprints:
    dataset: Word


@dataclass(frozen=True)
class _Splits:
    valid: Figures
    test: Figures


@dataclass(frozen=True)
class _Beside:
    file: PlainName
    sha256: Sha256


@dataclass(frozen=True)
class _Lists(_Beside):
    """Kept lists; `items` is how many the catalog has."""

    items: Annotated[int, between(1, 10**9)]


def _is_own(name: str) -> bool:
    return name.startswith(OWN) and name[len(OWN) :].isidentifier()


@dataclass(frozen=True)
class _OwnMetrics:
    file: PlainName
    sha256: Sha256
    figures: tuple[Annotated[str, Must(_is_own, f"{OWN}NAME")], ...]


@dataclass(frozen=True)
class _Preset:
    name: PlainName
    sha256: Sha256


@dataclass(frozen=True)
class _External:
    """An outside system, as its maker declares it; `ranked` is "item" or "sid"."""

    source: Line
    backbone: Line
    training_seconds: Amount | None
    tuning_seconds: Amount | None
    hardware: Line
    notes: Line
    file: PlainName
    sha256: Sha256
    ranked: Annotated[str, one_of(("item", "sid"))]


@dataclass(frozen=True)
class _Times:
    started: Moment
    finished: Moment


@dataclass(frozen=True)
class _Keys:
    """The keys of a record; it may have more."""

    benchmark: Annotated[str, Must(_VERSION.fullmatch, "Major.Minor")]
    run_id: PlainName
    algorithm: PlainName
    dataset: PlainName
    seed: Annotated[int, between(0, MOST_SEED)]
    complete: bool
    partial: bool
    track: Mapping[Word, Fact]
    track_id: Word
    configuration: _Configuration
    fingerprints: Mapping[Word, Line]
    versions: Mapping[Word, Word | None]
    commit: Word | None
    hardware: Scalars
    budget: _Budget
    sft: _Splits
    metrics: _Splits
    ceiling: Mapping[Word, Figures]
    outcomes: _Beside
    curves: _Beside
    times: _Times
    failure: Line = ""
    control: Word = ""
    splits: tuple[Annotated[str, one_of(SPLITS)], ...] = SPLITS
    tuning: _Tuning | None = None
    cutoffs: tuple[Annotated[int, between(1, 10**6)], ...] = ()
    own_metrics: _OwnMetrics | None = None
    preset: _Preset | None = None
    trained: bool = True
    lists: _Lists | None = None
    kind: Annotated[str, one_of(("run", EXTERNAL))] = "run"
    external: _External | None = None
    command: tuple[Line, ...] = ()
    sha256: Sha256 | None = None


_KINDS: dict[str, type] = {
    "": _Keys,
    "track": _RunTrack,
    "configuration.settings": _Settings,
    "fingerprints": _Fingerprints,
}
"""What is checked of a record, by the key: first all of it, then what stands among other facts."""


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
        return [one_line(f"schema is {record.get('schema')!r}; this version reads {SCHEMA}")]
    if (record.get("kind") == EXTERNAL) is (record.get(EXTERNAL) is None):
        return [
            one_line(f"kind is {record.get('kind')!r}, which does not go with the key {EXTERNAL!r}")
        ]
    kinds = _KINDS | ({"track": _Track} if record.get("kind") == EXTERNAL else {})
    for place, kind in kinds.items():
        part = reduce(getitem, filter(None, place.split(".")), record)
        if found := checked(kind, part, extra="ignore", place=place)[1]:
            return found
    if track_id(record["track"]) != record["track_id"]:
        return ["track_id is not the hash of track: one of them was changed"]
    # Records of earlier versions have none.
    if "sha256" in record and record["sha256"] != digest(record):
        return ["sha256 is not the hash of the record: it was changed after the run"]
    return []
