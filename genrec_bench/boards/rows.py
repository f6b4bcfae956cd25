"""The rows of a board, made from comparable records: names, means, costs, curves, links."""

from __future__ import annotations

import json
import os
import re
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec_bench.boards.board import APART, COSTS, BoardRow, Kind, Link, board_metrics
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.targets import LOOKED_BY, Looks, curve, reached, read_looks
from genrec_bench.runs.record_schema import own_figures, plain
from genrec_bench.training.budgets import BudgetKind
from genrec_bench.training.ledger import PHASES
from genrec_bench.training.metrics import (
    BY_SID,
    CUTOFFS,
    METRICS,
    WHOLE,
    RankMetric,
    find_metric,
    is_worth,
    values_of,
)
from genrec_bench.training.settings import as_asked

MADE_OF = {"algorithm": "code", "texts": "texts"}
"""Fingerprints that set rows of one algorithm apart, and their words in the names of rows."""

NO_REASON = "it ended early; the record gives no reason"

Defaults = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True, eq=False)
class Group:
    """The seeds of one row.

    Attributes:
        finished: complete runs in order of seeds.
        failed: runs that failed, of seeds that no complete run has, in order.
    """

    name: str
    finished: tuple[Evidence, ...]
    failed: tuple[Evidence, ...]

    @property
    def first(self) -> Evidence:
        """One of the runs; all have one algorithm, configuration and control."""
        return (*self.finished, *self.failed)[0]

    @property
    def algorithm(self) -> str:
        """Name of the algorithm."""
        return str(self.first.record["algorithm"])

    @property
    def kind(self) -> Kind:
        """What the row is."""
        if not self.finished:
            return "failed"
        return "control" if control_of(self.first) else "result"

    def looks(self, unit: BudgetKind) -> list[Looks | None]:
        """The validations of the finished runs."""
        return [read_looks(one.curves, unit) for one in self.finished]

    def looks_apart(self, other: Group) -> list[str]:
        """The settings of validation in which these runs differ from another row's."""
        ours, theirs = (one.first.record["configuration"]["settings"] for one in (self, other))
        return [key for key in LOOKED_BY if ours.get(key) != theirs.get(key)]


def control_of(one: Evidence) -> str:
    """What the run is a control for; empty if it is none."""
    return str(one.record.get("control") or "")


def group(records: Sequence[Evidence], defaults: Defaults) -> list[Group]:
    """Sort comparable records into rows.

    Args:
        records: oldest first. Of equal runs with equal seeds the newest complete one counts.
        defaults: by algorithm, the hyperparameters that go without saying in a row's name.

    Returns:
        Rows of finished runs in order of name, then those of which no run finished.
    """
    newest: dict[tuple[str, int], Evidence] = {}
    failed: dict[tuple[str, int], Evidence] = {}
    for one in records:
        of = newest if one.record["complete"] else failed
        of[_variant(one), one.record["seed"]] = one
    newest |= {key: one for key, one in failed.items() if key not in newest}
    groups = []
    for variant, name in _names(list(newest.values()), defaults).items():
        runs = [newest[key] for key in sorted(newest) if key[0] == variant]
        finished = tuple(one for one in runs if one.record["complete"])
        groups.append(Group(name, finished, tuple(one for one in runs if one not in finished)))
    return sorted(groups, key=lambda one: (not one.finished, one.name))


def make_row(
    group: Group, unit: BudgetKind, targets: Mapping[str, float], folder: Path
) -> BoardRow:
    """Make a row but for what the tests say of it.

    Args:
        targets: validation values to reach, by label.
        folder: that links are relative to.
    """
    runs = group.finished or group.failed
    failed = group.failed if group.finished else ()
    names = _shown(group.finished)
    figures = [_figures(one, names) for one in group.finished]
    means = _means(figures, names)
    several = means if len(figures) > 1 else ()
    seen = group.looks(unit)
    return BoardRow(
        name=group.name,
        algorithm=group.algorithm,
        kind=group.kind,
        links=tuple(_link(one, one.record["metrics"]["test"], folder) for one in (*runs, *failed)),
        seeds=tuple(one.record["seed"] for one in runs),
        means=means,
        deviations={key: statistics.stdev(each[key] for each in figures) for key in several},
        spent=_spent(runs),
        phases=_phases(runs),
        tuning=group.first.record.get("tuning"),
        targets=reached(seen, targets),
        curve=curve(seen),
        failures={
            one.record["seed"]: str(one.record.get("failure") or NO_REASON) for one in group.failed
        },
        lost={cost: amount * len(failed) for cost, amount in _spent(failed).items() if failed},
    )


def start_row(records: Sequence[Evidence], folder: Path) -> list[BoardRow]:
    """The checkpoint that all runs of a track start from; runs that did not evaluate it are out."""
    known = [one for one in records if one.record["sft"]["test"]]
    if not known:
        return []
    names = _shown(known)
    figures = [_figures(one, names, "start_") for one in known]
    chosen = start_evidence(records) or known[-1]
    link = replace(_link(chosen, chosen.record["sft"]["test"], folder), failed=False)
    return [BoardRow("SFT start", "start", _means(figures, names), (link,))]


def start_evidence(records: Sequence[Evidence]) -> Evidence | None:
    """The newest record that keeps the SFT start's outcomes on the test split."""
    known = (one for one in reversed(records) if one.knows_start)
    return next((one for one in known if not one.of_split("test").empty), None)


def ceiling_row(records: Sequence[Evidence], folder: Path) -> list[BoardRow]:
    """The best possible figures, as the newest record that has them says."""
    for one in reversed(records):
        if figures := one.record["ceiling"].get("test", {}):
            # These figures are none of the run's own: they hold however it ended.
            link = replace(_link(one, figures, folder), failed=False)
            return [BoardRow("ceiling", "ceiling", _means([figures], board_metrics()), (link,))]
    return []


def _link(one: Evidence, value: Mapping[str, float], folder: Path) -> Link:
    path = Path(os.path.relpath(one.path, folder)).as_posix() if one.path is not None else ""
    failed = not one.record["complete"]
    return Link(one.record["run_id"], one.record["seed"], path, dict(value), failed)


def _figures(one: Evidence, names: Sequence[str], prefix: str = "") -> dict[str, float]:
    """A run's figures on test, or with `start_` the SFT start's, as the record states them.

    Figures of ranks that boards show and the record does not state, such as HR@50, are taken from
    its outcomes where the beam was wide enough.
    """
    figures = dict(one.record["sft" if prefix else "metrics"]["test"])
    if f"{prefix}item_rank" not in one.outcomes.columns or one.of_split("test").empty:
        return figures
    for name in names:
        metric, cutoff = find_metric(name) or (None, WHOLE)
        if name not in figures and isinstance(metric, RankMetric) and cutoff <= _beam(one):
            values = user_values([one], name, prefix)
            if values is not None:
                figures[name] = float(values.mean())
    return figures


def user_values(
    runs: Sequence[Evidence], metric: str, prefix: str = ""
) -> NDArray[np.float64] | None:
    """A metric's value of each test example.

    Args:
        metric: of ranks, or what each list is worth.
        prefix: of the columns: `start_` for the SFT start.

    Returns:
        [seeds, users], or None where outcomes are missing or not of the same examples.
    """
    if is_worth(metric):
        if not all(prefix + metric in one.outcomes for one in runs):
            return None
        values = [one.of_split("test")[prefix + metric].to_numpy(np.float64) for one in runs]
    else:
        column = prefix + ("sid_rank" if metric.startswith(BY_SID) else "item_rank")
        values = [values_of(metric, one.of_split("test")[column].to_numpy()) for one in runs]
    if not values or not len(values[0]) or len({len(each) for each in values}) > 1:
        return None
    return np.stack(values)


def differences(one: Evidence, usual: Mapping[str, Any]) -> list[str]:
    """Words for the hyperparameters and settings that differ from the usual ones."""
    chosen = one.record["configuration"]
    actual, usual = as_asked(chosen["settings"]) | chosen["hyperparameters"], as_asked(usual)
    return [
        f"{key}={_short(actual[key])}" if key in actual else f"without {key}"
        for key in sorted(usual | actual)
        if key not in usual or key not in actual or usual[key] != actual[key]
    ]


def was_tuned(one: Evidence) -> bool:
    """Whether trials were made to find the run's hyperparameters."""
    tuning = one.record.get("tuning")
    return bool(tuning and tuning.get("trials"))


def abbreviate(text: str) -> str:
    """Cut a hash to its first digits; leave anything else as it is."""
    return text[:8] if re.fullmatch(r"[0-9a-f]{32,}", text) else text


def _variant(one: Evidence) -> str:
    """What runs must share to be seeds of one row.

    It is the algorithm, its code, the texts of its embeddings, its configuration and control.
    """
    record = one.record
    made_of = [record["fingerprints"].get(key) for key in MADE_OF]
    what = [record["algorithm"], made_of, record["configuration"], control_of(one)]
    return json.dumps(what, sort_keys=True)


def _names(records: Sequence[Evidence], defaults: Defaults) -> dict[str, str]:
    """Name each variant by its algorithm, or control, and what sets it apart."""
    families: dict[str, dict[str, list[Evidence]]] = {}
    for one in records:
        family = families.setdefault(control_of(one) or one.record["algorithm"], {})
        family.setdefault(_variant(one), []).append(one)
    names: dict[str, str] = {}
    shared = said_by_all(records)
    for base, family in families.items():
        usual = _usual(family, defaults, shared)
        firsts = {variant: runs[0].record for variant, runs in sorted(family.items())}
        algorithms = {record["algorithm"] for record in firsts.values()}
        for variant, record in firsts.items():
            apart = differences(family[variant][0], usual)
            if len(algorithms) > 1:
                apart.append(record["algorithm"])
            for key, word in MADE_OF.items():
                if len({other["fingerprints"].get(key) for other in firsts.values()}) > 1:
                    apart.append(f"{word} {str(record['fingerprints'].get(key))[:8]}")
            name = base + (f" ({', '.join(apart)})" if apart else "")
            # Two variants can differ in what a name leaves out, such as the rest of a hash.
            others = sum(known.partition(" #")[0] == name for known in names.values())
            names[variant] = f"{name} #{others + 1}" if others else name
    return names


def said_by_all(records: Sequence[Evidence]) -> dict[str, Any]:
    """Hyperparameters of several algorithms that have one value in all records that know them."""
    values: dict[str, dict[str, Any]] = {}
    algorithms: dict[str, set[str]] = {}
    for one in records:
        for key, value in one.record["configuration"]["hyperparameters"].items():
            values.setdefault(key, {})[json.dumps(value, sort_keys=True)] = value
            algorithms.setdefault(key, set()).add(one.record["algorithm"])
    return {
        key: next(iter(found.values()))
        for key, found in values.items()
        if len(found) == 1 and len(algorithms[key]) > 1
    }


def _usual(
    family: Mapping[str, Sequence[Evidence]], defaults: Defaults, shared: Mapping[str, Any]
) -> dict[str, Any]:
    """What goes without saying in the names of one algorithm's variants.

    The commonest configuration's settings, what all rows share, and else the algorithm's defaults;
    or what tuning found, where there was tuning: a row of tuned runs is the algorithm itself.
    """
    tuned = {variant: runs for variant, runs in family.items() if was_tuned(runs[0])}
    counts = Counter({variant: len(runs) for variant, runs in (tuned or family).items()})
    commonest = min(counts, key=lambda variant: (-counts[variant], variant))
    first = family[commonest][0]
    configuration = first.record["configuration"]
    chosen = configuration["hyperparameters"]
    if not tuned and not control_of(first):
        chosen = plain(defaults.get(first.record["algorithm"], chosen))
        chosen |= {key: value for key, value in shared.items() if key in chosen}
    return dict(as_asked(configuration["settings"]) | chosen)


def _short(value: Any) -> str:
    """A value for people: a tuned number in three digits; the record has all of them."""
    if isinstance(value, float):
        return f"{value:.3g}"
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return abbreviate(text)


def _means(figures: Sequence[Mapping[str, float]], names: Sequence[str]) -> dict[str, float]:
    """Mean over runs of those figures that all of them have."""
    return {
        key: statistics.fmean(each[key] for each in figures)
        for key in names
        if figures and all(key in each for each in figures)
    }


def _shown(runs: Sequence[Evidence]) -> list[str]:
    """Figures that a board shows of some runs: its usual ones, and what was asked for besides.

    That is at other K, and metrics of one's own if all runs have them of one file.
    """
    asked = {
        name
        for one in runs
        if tuple(one.record.get("cutoffs") or CUTOFFS) != CUTOFFS
        for metric in METRICS
        if metric.cutoffs is CUTOFFS
        for name, _ in metric.figures(_beam(one), one.record["cutoffs"])
    }
    files = {(one.record.get("own_metrics") or {}).get("sha256") for one in runs}
    own = {name for one in runs for name in own_figures(one.record) if len(files) == 1}
    usual = board_metrics()
    return [*usual, *sorted(asked - set(usual)), *sorted(own)]


def _beam(one: Evidence) -> int:
    return int(one.record["configuration"]["settings"].get("beam_width", 0))


def _phases(runs: Sequence[Evidence]) -> dict[str, dict[str, float]]:
    """Mean cost of each phase that any of the runs entered."""
    ledgers = [one.record["budget"]["spent"] for one in runs]
    return {
        phase: {
            cost: statistics.fmean(float(spent.get(phase, {}).get(cost, 0)) for spent in ledgers)
            for cost in COSTS
        }
        for phase in PHASES
        if any(phase in spent for spent in ledgers)
    }


def _spent(runs: Sequence[Evidence]) -> dict[str, float]:
    phases = _phases(runs)
    return {
        cost: float(sum(amounts[cost] for phase, amounts in phases.items() if phase not in APART))
        for cost in COSTS
    }
