"""What a board is: sections of comparable records, their rows, and where each number comes from.

Records are comparable within one track and one Major.Minor of the benchmark; each such group is a
section. Within a section, the seeds of one algorithm in one configuration are one row. This file
holds what a board says; `rows.py` and `sections.py` make it from records, and `tables.py`,
`csv_table.py` and `html_page.py` show it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from genrec_bench.boards.reported import Reported
from genrec_bench.training.ledger import TRAINING_PHASES
from genrec_bench.training.metrics import BY_SID, METRICS, SampleMetric, find_metric

if TYPE_CHECKING:
    from genrec_bench.statistics.conclusions import Pair
    from genrec_bench.statistics.resampling import Estimate

RANKED = ("NDCG@10", "HR@10")
"""The metrics that have intervals, tests and ranks."""

OF_WORLDS = ("utility@10",)
"""The metrics that have them too where the data are drawn from a known world."""

ORDER_BY = RANKED[0]
"""Rows are in descending order of this metric."""

COSTS = ("seconds", "flops", "tokens")
"""What is spent: device seconds, floating-point operations, tokens."""

APART = ("sft", "evaluation")
"""Phases of the ledger that are no cost of an algorithm."""

Kind = Literal["start", "control", "result", "failed", "ceiling"]
"""What a row is: `start` is the SFT start, `failed` has no finished run, `ceiling` is the best
possible."""

GainCurve = tuple[tuple[int, float, float, float], ...]
"""Gain in HR@K over the SFT start: (K, mean, lower and upper end of a 95% interval), by K."""

Part = Literal["start", "control", "baseline"]
"""What a row is to the others: where all begin, SFT continued, and the baseline."""


@dataclass(frozen=True)
class Link:
    """The record that a number comes from.

    Attributes:
        path: POSIX path of `record.json` relative to the folder that the board is written to; empty
            where the record was not read from a file.
        value: its metrics of the test split.
        failed: whether the run failed, so that it has no metrics.
    """

    run_id: str
    seed: int
    path: str
    value: Mapping[str, float]
    failed: bool = False


@dataclass(frozen=True)
class Reached:
    """The budget to reach a target, in the unit of the section's budget.

    Attributes:
        median: over seeds, a miss counted as infinite; None where the median is a miss.
        by_seed: in order of the row's seeds; None: missed.
    """

    median: float | None
    by_seed: tuple[float | None, ...]


@dataclass(frozen=True)
class BoardRow:
    """One line of a section.

    Attributes:
        name: the algorithm and, in brackets, what differs from its usual configuration; or what
            the control is called.
        means: by metric, mean over seeds; lacks what some of the runs do not have.
        links: the records of `seeds`, in their order, and after them those of `failures`.
        algorithm: as in its file's name; empty for the ceiling and the start.
        seeds: of the finished runs, in order; of the failed ones where `kind` is `failed`.
        deviations: by metric, sample standard deviation over seeds; empty for a single seed.
        estimates: by metric of `ranked`; empty where the outcomes do not tell.
        ranks: by metric of `ranked`: best and worst rank that the tests leave open; None where the
            row has too few seeds for a rank.
        spent: mean of the runs' `seconds`, `flops` and `tokens` that count against the budget.
        phases: the same by phase of the ledger, `sft` and `evaluation` included.
        tuning: as in the record: what tuning cost; None where nothing was tuned.
        targets: by label of a target; empty where there are no curves of validation.
        curve: (spent in the unit of the budget, mean, lowest and highest seed) of the validation
            metric, in order of what was spent; empty where the runs have no such curves.
        gains_at: by list length, without correction; empty where outcomes do not tell.
        failures: by seed: why a run failed that nobody has made good since.
        lost: what those failed runs, all together, spent of `seconds`, `flops` and `tokens` that
            would have counted; empty without any, and where `kind` is `failed`: there `spent` says.
        outside: of a system that was not run here: what its maker declares, by what tables call it;
            empty for ours.
    """

    name: str
    kind: Kind
    means: Mapping[str, float]
    links: tuple[Link, ...]
    algorithm: str = ""
    seeds: tuple[int, ...] = ()
    deviations: Mapping[str, float] = field(default_factory=dict)
    estimates: Mapping[str, Estimate] = field(default_factory=dict)
    ranks: Mapping[str, tuple[int, int] | None] = field(default_factory=dict)
    spent: Mapping[str, float] = field(default_factory=dict)
    phases: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    tuning: Mapping[str, Any] | None = None
    targets: Mapping[str, Reached] = field(default_factory=dict)
    curve: tuple[tuple[float, float, float, float], ...] = ()
    failures: Mapping[int, str] = field(default_factory=dict)
    lost: Mapping[str, float] = field(default_factory=dict)
    gains_at: GainCurve = ()
    outside: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Section:
    """The comparable records of one track.

    Attributes:
        benchmark: Major.Minor.
        num_records: how many records there are, those that no row shows included.
        unit: of the budget, and so of targets and curves; FLOPs where the track has no budget.
        rows: SFT start, controls and results in descending order, failed ones, ceiling.
        pairs: by metric of `ranked`, each two rows that have estimates, compared.
        smallest_difference: by metric of `ranked`, the smallest one that the tests could have seen.
        target_values: the validation metric to reach, by label of the target.
        notes: what a reader must know about the rows.
        parts: names of the rows that have a part in the declared comparisons, by part.
        gains: by metric of `ranked`, each row less the SFT start.
        declared: by metric of `ranked`, each row less SFT continued, and less the baseline.
        outside: whether it is that of outside systems; then these alone are in `gains` and
            `declared`, and our rows stand beside them.
    """

    benchmark: str
    track_id: str
    track: Mapping[str, Any]
    partial: bool
    num_records: int
    unit: Literal["seconds", "flops", "tokens"]
    rows: tuple[BoardRow, ...]
    pairs: Mapping[str, tuple[Pair, ...]]
    smallest_difference: Mapping[str, float]
    target_values: Mapping[str, float]
    notes: tuple[str, ...]
    parts: Mapping[Part, str] = field(default_factory=dict)
    gains: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    declared: Mapping[str, tuple[Pair, ...]] = field(default_factory=dict)
    outside: bool = False

    def called(self, part: Part) -> str:
        """What words call a part: one word for SFT continued, whatever its row is called."""
        return "SFT continued" if part == "control" else self.parts[part]

    @property
    def ranked(self) -> tuple[str, ...]:
        """`RANKED`, and those `OF_WORLDS` that the outcomes of any row tell."""
        known = {metric for row in self.rows for metric in row.estimates}
        return (*RANKED, *(metric for metric in OF_WORLDS if metric in known))


@dataclass(frozen=True)
class Board:
    """All sections of one dataset: those of the newest version first, of these the largest.

    Attributes:
        sections: never mixed with each other.
        reported: what papers report of the dataset, in settings of their own.
        title: the dataset's full name; empty where no card says it.
    """

    dataset: str
    sections: tuple[Section, ...]
    reported: tuple[Reported, ...]
    title: str = ""

    @property
    def partial(self) -> bool:
        """Whether any number on the board comes from a training set that is not whole."""
        return any(section.partial for section in self.sections)


def board_metrics() -> list[str]:
    """Figures of the test split that are columns of a board: by item, by SID, then of samples."""
    columns = [(metric, name) for metric in METRICS for name in metric.on_boards]
    columns.sort(key=lambda each: (isinstance(each[0], SampleMetric), each[1].startswith(BY_SID)))
    return [name for _, name in columns]


def metrics_of(rows: Iterable[BoardRow]) -> list[str]:
    """Those of them that any of the rows has, and behind them what runs were asked for besides."""
    known = {name for row in rows for name in row.means}
    usual = [name for name in board_metrics() if name in known]
    return usual + sorted(known - set(usual), key=metric_order)


def phases_of(rows: Iterable[BoardRow]) -> list[str]:
    """All phases that anything was spent in, in the ledger's order, those apart at the end."""
    found = {phase for row in rows for phase in row.phases}
    known = [*TRAINING_PHASES, *APART]
    return [*sorted(found - set(known)), *(phase for phase in known if phase in found)]


def metric_heading(name: str) -> str:
    """The head of a metric's column, which says so where less is better."""
    found = find_metric(name)
    return f"{name} (lower is better)" if found and found[0].higher_is_better is False else name


def metric_order(name: str) -> tuple[int, int, str]:
    """Sort key of figures: in order of the table of metrics, and 5 before 10."""
    metric, cutoff = find_metric(name) or (None, 0)
    return (METRICS.index(metric) if metric else len(METRICS), cutoff, name)
