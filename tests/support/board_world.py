"""Records made by hand, with outcomes and curves that fit them."""

import copy
import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from genrec_bench.boards.evidence import Evidence
from genrec_bench.runs.record_schema import SPLITS, digest
from genrec_bench.runs.record_tables import OUTCOME_COLUMNS
from genrec_bench.runs.records import complete_record, join_outcomes, write_record
from genrec_bench.training.metrics import outcome_metrics

MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)
KEYS = ("HR@1", "HR@5", "HR@10", "NDCG@5", "NDCG@10", "sid/HR@10", "sid/NDCG@10")
TRACK = {"dataset": "d" * 64, "backbone": "tiny", "budget": None, "group_size": 16}
SETTINGS = {"prompts_per_step": 64, "beam_width": 10, "pass_samples": 2}
BUDGET: dict[str, Any] = {"track": TRACK | {"budget": "1Tflop"}, "budget_limit": "1Tflop"}
BEST = (0, 0, 1, 0, 2, 0)
GOOD = (0, 1, 3, 0, -1, 2)
START = (0, -1, 3, -1, 12, 1)
"""Ranks that the SFT start gives the targets of six examples."""


def figures(value: float) -> dict[str, float]:
    return dict.fromkeys(KEYS, value)


def make_record(
    algorithm: str, value: float, seed: int = 0, minutes: int = 0, **changes: Any
) -> dict[str, Any]:
    """A record of which all metrics have one value; changes may be of nested parts too."""
    cost = {"tokens": 1_000_000, "flops": 5e11, "peak_memory_bytes": 1}
    phases = {"sft": 100.0, "rollout": 30.0, "update": 10.0, "evaluation": 7.0}
    moment = MIDNIGHT + timedelta(minutes=minutes)
    parts: dict[str, Any] = {
        "run_id": f"{algorithm}-seed{seed}-{minutes}",
        "algorithm": algorithm,
        "dataset": "industrial",
        "seed": seed,
        "complete": True,
        "failure": "",
        "control": "",
        "splits": SPLITS,
        "tuning": None,
        "partial": True,
        "track": TRACK,
        "hyperparameters": {"alpha": 0.5, "weight": True},
        "settings": SETTINGS,
        "fingerprints": {"algorithm": "a" * 64, "dataset": "d" * 64},
        "versions": {},
        "commit": None,
        "hardware": {"device": "cpu"},
        "budget_limit": None,
        "spent": {phase: cost | {"seconds": seconds} for phase, seconds in phases.items()},
        "sft": {"valid": figures(0.06), "test": figures(0.05)},
        "metrics": {"valid": figures(value), "test": figures(value)},
        "ceiling": {"test": {"HR@10": 0.9, "NDCG@10": 0.8}},
        "started": moment,
        "finished": moment,
        **changes,
    }
    for key in ("sft", "metrics"):
        parts[key] = {split: parts[key].get(split, {}) for split in SPLITS}
    nested = {
        "configuration": {key: parts.pop(key) for key in ("hyperparameters", "settings")},
        "budget": {"limit": parts.pop("budget_limit"), "spent": parts.pop("spent")},
        "times": {key: parts.pop(key).isoformat() for key in ("started", "finished")},
    }
    return complete_record(parts | nested)


def bare(algorithm: str, value: float, *args: Any, **changes: Any) -> Evidence:
    """Such a record with nothing beside it."""
    return Evidence(make_record(algorithm, value, *args, **changes))


def outcomes_of(ranks: Sequence[int]) -> pd.DataFrame:
    """Outcomes of examples whose targets are at some ranks; a third of the samples hit."""
    count = len(ranks)
    return pd.DataFrame(
        {
            "example": np.arange(count, dtype=np.int32),
            "item_rank": np.array(ranks, dtype=np.int32),
            "sid_rank": np.array(ranks, dtype=np.int32),
            "sampled_hits": (np.arange(count) % 3).astype(np.int32),
            "sid_sampled_hits": (np.arange(count) % 3).astype(np.int32),
        }
    )


def metrics_of(ranks: Sequence[int]) -> dict[str, float]:
    """All metrics of these outcomes, and one that they do not tell."""
    return outcome_metrics(outcomes_of(ranks), 10, 2) | {"coverage@10": 0.5}


def whole(
    algorithm: str,
    ranks: Sequence[int],
    seed: int = 0,
    minutes: int = 0,
    *,
    start: Sequence[int] | None = START,
    looks: Sequence[float] = (),
    **changes: Any,
) -> Evidence:
    """A record with outcomes on test and validation, and curves that end where its ledger does.

    `ranks` are those of the targets on test, `start` those that the SFT start gives (None: not
    kept); validation has them in reverse order. `looks` are of validation NDCG@10 at equal shares
    of the budget, from 0 on. The run ends some minutes after midnight.
    """
    after, before = ({} if of is None else {"test": of, "valid": of[::-1]} for of in (ranks, start))
    figures = {
        key: {split: metrics_of(of) for split, of in ranked.items()}
        for key, ranked in (("metrics", after), ("sft", before))
    }
    record = make_record(algorithm, 0.0, seed, minutes, **(figures | changes))
    outcomes, of_start = (
        {split: outcomes_of(of) for split, of in ranked.items()} for ranked in (after, before)
    )
    shares = np.linspace(0, 1, len(looks)) if looks else np.array([1.0])
    # Rollout and update of `make_record`: 40 s, 1e12 FLOPs, 2 million tokens.
    curves = pd.DataFrame(
        {
            "step": np.arange(len(shares)) * 5,
            "share": shares,
            "seconds": 40.0 * shares,
            "flops": 1e12 * shares,
            "tokens": 2e6 * shares,
        }
    )
    if looks:
        curves["valid/NDCG@10"] = looks
    return Evidence(record, join_outcomes(outcomes, of_start or None), curves)


def reseal(path: Path, record: dict[str, Any]) -> None:
    """Write an edited record with the hash of what it says now, as a careful forger would."""
    path.write_text(json.dumps(record | {"sha256": digest(record)}))


def save(folder: Path, one: Evidence) -> Path:
    """Write a record into a folder of its own and return the record's path."""
    outcomes = one.outcomes
    if outcomes.empty:
        outcomes = join_outcomes({})[list(OUTCOME_COLUMNS)]
    curves = one.curves if len(one.curves.columns) else pd.DataFrame({"step": [1]})
    return write_record(folder / one.record["run_id"], dict(one.record), outcomes, curves)


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    """The record without what differs between two equal runs: times, memory, names, words.

    The hash of the curves is left out too, since curves hold seconds, and that of the whole record.
    """
    view = copy.deepcopy(record)
    for key in ("run_id", "times", "curves", "sha256", "command"):
        view.pop(key, None)
    for cost in view["budget"]["spent"].values():
        cost.pop("seconds", None)
        cost.pop("peak_memory_bytes", None)
    (view.get("tuning") or {}).pop("seconds", None)
    return view
