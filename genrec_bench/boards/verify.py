"""Verification: does a record say what its per-user outcomes and its curves say?

The outcomes determine the metrics of ranks and of samples, by item and by SID, of the run and of
the SFT start. Where a record keeps one fact twice, both must agree. A record that states anything
else than what can be computed was altered, or a file beside it was.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.verify_lists import differences_of_lists
from genrec_bench.errors import UserError
from genrec_bench.runs.record_schema import SPLITS, own_figures
from genrec_bench.training.budgets import parse_exact
from genrec_bench.training.ledger import of_training
from genrec_bench.training.metrics import (
    ListMetric,
    WorthMetric,
    find_metric,
    outcome_metrics,
)

TOLERANCE = 1e-9
"""Of a metric; one example more or less moves it by far more."""

SHARES = (0.5, 1.5)
"""Of a budget that a finished run may have spent, where its last step cost other than expected."""

MOST_TUNING = 1.05
"""Of its limit that tuning may have cost: what stops it is a step too late at worst."""

FORMER_CUTOFFS = (1, 3, 5, 10, 20)
"""K of the metrics of records that do not state them."""

SAME_WORTH = 1e-6
"""By how much what the best lists are worth may differ: utilities are kept in single precision."""

_SAME_IN_SETTINGS = ("beam_width", "dtype", "group_size", "logprob_space", "lora_rank")
_SAME_IN_FINGERPRINTS = ("dataset", "sft", "sids")


@dataclass(frozen=True)
class Finding:
    """A value that a record states and that differs from the recomputed one.

    Attributes:
        record: path, or name of the run.
        key: of the record, with dots.
        stated: what it says.
        found: what the other files or keys say.
    """

    record: str
    key: str
    stated: Any
    found: Any

    def __str__(self) -> str:
        return f"{self.record}: {self.key}: stated {_text(self.stated)}, found {_text(self.found)}"


@dataclass(frozen=True)
class Verified:
    """What was verified of one record.

    Attributes:
        metrics: figures that were recomputed, of the run.
        start_metrics: and of the SFT start; 0 where its outcomes were not kept.
        share: of the budget that was spent; None without a budget.
    """

    evidence: Evidence
    metrics: int
    start_metrics: int
    share: float | None
    findings: tuple[Finding, ...]


def verify(evidence: Evidence) -> Verified:
    """Recompute what can be recomputed, and compare what is stated twice."""
    record, counts = evidence.record, []
    findings: list[Finding] = []
    for key, prefix in (("metrics", ""), ("sft", "start_")):
        count = 0
        if not prefix or evidence.knows_start:
            for split in SPLITS:
                stated = record[key][split]
                # The SFT start is evaluated before a run can fail, its outcomes are kept after.
                rows = evidence.of_split(split)
                if prefix and rows.empty:
                    continue
                found = recompute(rows, record, prefix)
                count += len(found)
                own = own_figures(record)
                rest = {name: value for name, value in stated.items() if name not in own}
                findings += _differences(evidence.name, f"{key}.{split}", rest, found)
        counts.append(count)
    findings += list(_examples(evidence))
    findings += list(_best_worth(evidence))
    findings += [
        Finding(evidence.name, *told) for told in differences_of_lists(evidence, TOLERANCE)
    ]
    findings += list(_said_twice(evidence.name, record))
    findings += list(_ending(evidence))
    findings += list(_tuning(evidence.name, record))
    findings += list(_spent(evidence))
    share = budget_share(record)
    if share is not None and record["complete"] and evidence.on_test:
        # What is not trained may leave all of its budget; that it took no step its curves say.
        low, high = SHARES if _is_trained(evidence) else (0.0, SHARES[1])
        if not low <= share <= high:
            limit = record["budget"]["limit"]
            findings.append(Finding(evidence.name, "budget.limit", limit, f"{share:.3g} of it"))
    return Verified(evidence, counts[0], counts[1], share, tuple(findings))


def recompute(rows: pd.DataFrame, record: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """All metrics that the outcomes of one split determine.

    Args:
        record: its settings say how wide the beam was and how many samples were drawn.
        prefix: of the columns: `start_` for the SFT start.

    Returns:
        Metrics by name, see `metrics.METRICS`; empty where there is no example.
    """
    if rows.empty:
        return {}
    settings = record["configuration"]["settings"]
    width = settings.get("beam_width", max(FORMER_CUTOFFS))
    cutoffs = record.get("cutoffs") or FORMER_CUTOFFS
    return outcome_metrics(rows, width, settings.get("pass_samples", 0), prefix, cutoffs)


def _is_trained(evidence: Evidence) -> bool:
    """Return whether a run took steps, or says that it should have."""
    steps = evidence.curves.get("step", pd.Series([1]))
    return bool(evidence.record.get("trained", True) or (steps > 0).any())


def budget_share(record: Mapping[str, Any]) -> float | None:
    """Share of its budget that a run has spent; None where it had none."""
    limit = record["budget"]["limit"]
    if limit is None:
        return None
    try:
        budget = parse_exact(limit)
    except UserError:
        return math.inf
    return of_training(record["budget"]["spent"], budget.kind) / budget.amount


def _differences(
    name: str, key: str, stated: Mapping[str, float], found: Mapping[str, float]
) -> Iterator[Finding]:
    if stated and not found:
        yield Finding(name, key, f"{len(stated)} metrics", "no example in the outcomes")
        return
    for metric in sorted(stated.keys() | found.keys()):
        if metric not in stated:
            yield Finding(name, f"{key}.{metric}", "nothing", found[metric])
        elif metric in found:
            if not math.isclose(stated[metric], found[metric], rel_tol=0, abs_tol=TOLERANCE):
                yield Finding(name, f"{key}.{metric}", stated[metric], found[metric])
        # Records of earlier versions do not keep what each list is worth.
        elif not isinstance((find_metric(metric) or (None,))[0], ListMetric | WorthMetric):
            yield Finding(name, f"{key}.{metric}", stated[metric], "nothing in the outcomes")


def _examples(evidence: Evidence) -> Iterator[Finding]:
    """Every example of a split must be there once, and no more than runs are judged on."""
    most = evidence.record["configuration"]["settings"].get("test_examples", 0)
    for split, rows in evidence.outcomes.groupby("split"):
        numbers = np.sort(rows["example"].to_numpy())
        if not np.array_equal(numbers, np.arange(len(numbers))):
            distinct = len(np.unique(numbers))
            what = f"{distinct} distinct numbers up to {numbers[-1]}"
            yield Finding(evidence.name, f"outcomes: {split}", f"{len(rows)} examples", what)
        if 0 < most < len(rows):
            what = f"configuration.settings.test_examples {most}"
            yield Finding(evidence.name, f"outcomes: {split}", f"{len(rows)} examples", what)


def _best_worth(evidence: Evidence) -> Iterator[Finding]:
    """A list's utility and its regret come to what the best list is worth, whoever made it."""
    run, start = evidence.record["metrics"], evidence.record["sft"]
    for split in SPLITS:
        for regret in sorted(name for name in run[split] if name.startswith("regret@")):
            both = ("utility" + regret.removeprefix("regret"), regret)
            if not all(name in of[split] for name in both for of in (run, start)):
                continue
            best, same = (sum(of[split][name] for name in both) for of in (run, start))
            if not math.isclose(best, same, rel_tol=0, abs_tol=SAME_WORTH):
                found = f"{same - run[split][both[0]]!r}, by the SFT start's"
                yield Finding(evidence.name, f"metrics.{split}.{regret}", run[split][regret], found)


def _said_twice(name: str, record: Mapping[str, Any]) -> Iterator[Finding]:
    """The track repeats settings and fingerprints, so that an edit of one of them shows."""
    track, settings = record["track"], record["configuration"]["settings"]
    fingerprints, limit = record["fingerprints"], record["budget"]["limit"]
    same = [(key, settings, f"configuration.settings.{key}") for key in _SAME_IN_SETTINGS]
    same += [(key, fingerprints, f"fingerprints.{key}") for key in _SAME_IN_FINGERPRINTS]
    for key, other, where in same:
        if key in track and key in other and track[key] != other[key]:
            yield Finding(name, f"track.{key}", track[key], f"{where} {_text(other[key])}")
    kept = settings.get("keep", "last")
    if track.get("keep", "last") != kept:
        found = f"configuration.settings.keep {kept!r}"
        yield Finding(name, "track.keep", track.get("keep", "last"), found)
    drawn = settings.get("test_examples", 0)
    if track.get("test_examples", 0) != drawn:
        found = f"configuration.settings.test_examples {drawn!r}"
        yield Finding(name, "track.test_examples", track.get("test_examples", 0), found)
    if limit is not None and track.get("budget") != limit:
        yield Finding(name, "track.budget", track.get("budget"), f"budget.limit {limit!r}")
    version = record["versions"].get("genrec_bench")
    if version is not None and ".".join(version.split(".")[:2]) != record["benchmark"]:
        found = f"versions.genrec_bench {version!r}"
        yield Finding(name, "benchmark", record["benchmark"], found)


def _ending(evidence: Evidence) -> Iterator[Finding]:
    """A run is called after what it is, and either came to its end or says why not."""
    record, name = evidence.record, evidence.name
    called = f"{record['algorithm']}-seed{record['seed']}-"
    if not record["run_id"].startswith(called):
        yield Finding(name, "run_id", record["run_id"], f"algorithm and seed, {called}...")
    complete, failure = record["complete"], record.get("failure")
    # Records of earlier versions give no reasons.
    if failure is not None and complete is bool(failure):
        found = f"failure {failure!r}"
        yield Finding(name, "complete", complete, found)
    there, due = bool(record["metrics"]["test"]), complete and evidence.on_test
    if there is not due:
        found = "a run that was evaluated on test" if due else "a run that was not evaluated there"
        yield Finding(name, "metrics.test", f"{len(record['metrics']['test'])} metrics", found)


def _tuning(name: str, record: Mapping[str, Any]) -> Iterator[Finding]:
    """What tuning was allowed to cost is part of the track, and it cost no more."""
    tuning, track = record.get("tuning") or {}, record["track"]
    limit = tuning.get("limit")
    if limit is None:
        return
    if "tuning" in track and track["tuning"] != limit:
        yield Finding(name, "track.tuning", track["tuning"], f"tuning.limit {limit!r}")
    try:
        budget = parse_exact(str(limit))
    except UserError:
        yield Finding(name, "tuning.limit", limit, "no budget")
        return
    cost = tuning.get(budget.kind)
    if cost is not None and not cost <= budget.amount * MOST_TUNING:
        yield Finding(name, f"tuning.{budget.kind}", cost, f"a limit of {limit}")


def _spent(evidence: Evidence) -> Iterator[Finding]:
    """The ledger of a finished run ends where its curves do."""
    record, curves = evidence.record, evidence.curves
    spent = record["budget"]["spent"]
    if not record["complete"] or curves.empty:
        return
    for cost in ("seconds", "flops", "tokens"):
        if cost in curves.columns:
            last, stated = float(curves[cost].iloc[-1]), of_training(spent, cost)
            if not math.isclose(stated, last, rel_tol=1e-9, abs_tol=1e-9):
                yield Finding(evidence.name, f"budget.spent: {cost}", stated, f"curves {last!r}")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
