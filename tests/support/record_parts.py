"""Records put together from parts that tests change one by one."""

import copy
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from genrec_bench.runs.record_schema import SPLITS, Record
from genrec_bench.runs.records import complete_record


def record_of_parts(
    *,
    hyperparameters: Mapping[str, Any],
    settings: Mapping[str, Any],
    spent: Mapping[str, Mapping[str, float]],
    started: datetime,
    finished: datetime,
    budget_limit: str | None = None,
    **parts: Any,
) -> Record:
    """A record whose nested parts are given by themselves; a split without metrics has none."""
    usual = {"failure": "", "control": "", "splits": SPLITS, "tuning": None, "commit": None}
    for key in ("sft", "metrics"):
        parts[key] = {split: parts[key].get(split, {}) for split in SPLITS}
    nested = {
        "configuration": {"hyperparameters": hyperparameters, "settings": settings},
        "budget": {"limit": budget_limit, "spent": spent},
        "times": {
            "started": started.astimezone(UTC).isoformat(timespec="seconds"),
            "finished": finished.astimezone(UTC).isoformat(timespec="seconds"),
        },
    }
    return complete_record({**usual, **parts, **nested})


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
