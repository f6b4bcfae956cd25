"""A board: the records of one dataset, put side by side where they may be compared.

Records are comparable within one track and one Major.Minor of the benchmark; each such group is a
section. Within a section, the seeds of one algorithm in one configuration are one row.
"""

import json
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from genrec_bench.record_schema import Record, plain

METRICS = ("HR@1", "HR@5", "HR@10", "NDCG@5", "NDCG@10", "sid/HR@10", "sid/NDCG@10")
"""The columns of a board that hold metrics of the test split."""

SAMPLED = ("Pass@1", "Pass@10")
"""More columns, on boards of runs whose evaluation drew samples."""

ORDER_BY = "NDCG@10"
"""Rows are in descending order of this metric."""

COSTS = ("seconds", "flops", "tokens")

APART = ("sft", "evaluation")
"""Phases of the ledger that are no cost of an algorithm."""


@dataclass(frozen=True)
class Row:
    """One line of a section.

    Attributes:
        name: the algorithm and, in brackets, what differs from its usual configuration.
        kind: `start` is the SFT start, `ceiling` the best possible; `incomplete` has no metrics.
        seeds: of the runs, in order.
        means: by metric, mean over seeds; lacks what some of the runs do not have.
        deviations: by metric, sample standard deviation over seeds; empty for a single seed.
        spent: mean of the runs' `seconds`, `flops` and `tokens`, without SFT and evaluation.
    """

    name: str
    kind: Literal["start", "result", "incomplete", "ceiling"]
    seeds: tuple[int, ...]
    means: Mapping[str, float]
    deviations: Mapping[str, float]
    spent: Mapping[str, float]


@dataclass(frozen=True)
class Section:
    """The comparable records of one track.

    Attributes:
        benchmark: Major.Minor.
        track_id: hash of the track.
        track: what is fixed.
        partial: whether the training set is smaller than the card expects.
        num_records: how many records there are, those that no row shows included.
        rows: SFT start, results, incomplete ones, ceiling.
        notes: what a reader must know about the rows.
    """

    benchmark: str
    track_id: str
    track: Mapping[str, Any]
    partial: bool
    num_records: int
    rows: tuple[Row, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Board:
    """All sections of one dataset, those of most records first."""

    dataset: str
    sections: tuple[Section, ...]

    @property
    def partial(self) -> bool:
        """Whether any number on the board comes from a training set that is not whole."""
        return any(section.partial for section in self.sections)


def leaderboard(
    records: Iterable[Record],
    dataset: str,
    defaults: Mapping[str, Mapping[str, Any]] | None = None,
) -> Board:
    """Make the board of one dataset.

    Args:
        records: each run once; those of other datasets are left aside.
        dataset: name of the card.
        defaults: by algorithm, the hyperparameters that go without saying in a row's name. For an
            algorithm that is not in it, these are the ones that most of its records have.

    Returns:
        The board, the same for the same records in any order.
    """
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in sorted(records, key=_age):
        if record["dataset"] == dataset:
            groups.setdefault((record["benchmark"], record["track_id"]), []).append(record)
    order = sorted(groups, key=lambda key: (-len(groups[key]), key))
    return Board(dataset, tuple(_section(groups[key], defaults or {}) for key in order))


def _age(record: Record) -> tuple[str, str]:
    """Sort key, oldest first; all records are written in one time zone."""
    return record["times"]["finished"], record["run_id"]


def _section(records: Sequence[Record], defaults: Mapping[str, Mapping[str, Any]]) -> Section:
    """Make a section of comparable records, oldest first."""
    newest: dict[tuple[str, int], Record] = {}
    failed: dict[tuple[str, int], Record] = {}
    for record in records:
        of = newest if record["complete"] else failed
        of[_variant(record), record["seed"]] = record
    failed = {key: record for key, record in failed.items() if key not in newest}
    names = _names([*newest.values(), *failed.values()], defaults)
    results = [_result(names[v], group) for v, group in _by_variant(newest).items()]
    results.sort(key=lambda row: (-row.means.get(ORDER_BY, -1.0), row.name))
    incomplete = [_incomplete(names[v], group) for v, group in _by_variant(failed).items()]
    incomplete.sort(key=lambda row: row.name)
    last = records[-1]
    rows = [*_start(records), *results, *incomplete, *_ceiling(last)]
    notes = [f"Ordered by {ORDER_BY}. Spent: per run, without SFT and evaluation."]
    if any(row.deviations for row in rows):
        notes.append("±: standard deviation over seeds.")
    if replaced := len(records) - len(newest) - len(failed):
        what = "record is" if replaced == 1 else "records are"
        notes.append(
            f"{replaced} {what} not shown: the same configuration and seed was run again, "
            "and the newest complete run counts."
        )
    return Section(
        benchmark=last["benchmark"],
        track_id=last["track_id"],
        track=last["track"],
        partial=any(record["partial"] for record in records),
        num_records=len(records),
        rows=tuple(rows),
        notes=tuple(notes),
    )


def _variant(record: Record) -> str:
    """What runs must share to be seeds of one row: algorithm, its code, and the configuration."""
    code = record["fingerprints"].get("algorithm")
    return json.dumps([record["algorithm"], code, record["configuration"]], sort_keys=True)


def _by_variant(records: Mapping[tuple[str, int], Record]) -> dict[str, list[Record]]:
    groups: dict[str, list[Record]] = {}
    for (variant, _), record in sorted(records.items()):
        groups.setdefault(variant, []).append(record)
    return groups


def _names(records: Sequence[Record], defaults: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Name each variant by its algorithm and what sets it apart."""
    names: dict[str, str] = {}
    for algorithm in {record["algorithm"] for record in records}:
        own = [record for record in records if record["algorithm"] == algorithm]
        counts = Counter(_variant(record) for record in own)
        commonest = min(counts, key=lambda variant: (-counts[variant], variant))
        configuration = json.loads(commonest)[2]
        usual = configuration["settings"] | plain(
            defaults.get(algorithm, configuration["hyperparameters"])
        )
        several_codes = len({record["fingerprints"].get("algorithm") for record in own}) > 1
        for record in own:
            chosen = record["configuration"]
            actual = chosen["settings"] | chosen["hyperparameters"]
            apart = [
                f"{key}={_short(actual[key])}" if key in actual else f"without {key}"
                for key in sorted(usual | actual)
                if key not in usual or key not in actual or usual[key] != actual[key]
            ]
            if several_codes:
                apart.append(f"code {str(record['fingerprints'].get('algorithm'))[:8]}")
            names[_variant(record)] = algorithm + (f" ({', '.join(apart)})" if apart else "")
    return names


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return abbreviate(text)


def abbreviate(text: str) -> str:
    """Cut a hash to its first digits; leave anything else as it is."""
    return text[:8] if re.fullmatch(r"[0-9a-f]{32,}", text) else text


def _result(name: str, records: Sequence[Record]) -> Row:
    figures = [record["metrics"]["test"] for record in records]
    means = _means(figures)
    deviations = {}
    if len(records) > 1:
        deviations = {key: statistics.stdev(each[key] for each in figures) for key in means}
    return Row(name, "result", _seeds(records), means, deviations, _spent(records))


def _incomplete(name: str, records: Sequence[Record]) -> Row:
    return Row(f"{name}: incomplete", "incomplete", _seeds(records), {}, {}, _spent(records))


def _start(records: Sequence[Record]) -> list[Row]:
    """The checkpoint that all runs of a track start from; runs that did not evaluate it are out."""
    figures = [record["sft"]["test"] for record in records if record["sft"]["test"]]
    return [Row("SFT start", "start", (), _means(figures), {}, {})] if figures else []


def _ceiling(record: Record) -> list[Row]:
    figures = record["ceiling"].get("test", {})
    return [Row("ceiling", "ceiling", (), _means([figures]), {}, {})] if figures else []


def _seeds(records: Sequence[Record]) -> tuple[int, ...]:
    return tuple(sorted(record["seed"] for record in records))


def _means(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {
        key: statistics.fmean(each[key] for each in figures)
        for key in (*METRICS, *SAMPLED)
        if all(key in each for each in figures)
    }


def _spent(records: Sequence[Record]) -> dict[str, float]:
    phases = [
        [cost for phase, cost in record["budget"]["spent"].items() if phase not in APART]
        for record in records
    ]
    return {
        key: statistics.fmean(float(sum(cost[key] for cost in costs)) for costs in phases)
        for key in COSTS
    }
