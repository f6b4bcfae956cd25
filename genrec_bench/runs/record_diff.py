"""Where two records differ: in settings, data, code, machine, results and costs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from genrec_bench.runs.record_schema import Record

SECTIONS = {
    "settings": (
        "configuration.hyperparameters",
        "configuration.settings",
        "preset",
        "seed",
        "control",
        "splits",
        "budget.limit",
        "tuning",
        "cutoffs",
    ),
    "data": ("dataset", "partial", "fingerprints", "ceiling"),
    "code": ("algorithm", "fingerprints.algorithm", "benchmark", "commit", "versions"),
    "machine": ("hardware",),
    "track": ("track",),
    "results": ("complete", "failure", "metrics", "sft"),
    "costs": ("budget.spent",),
    "run": ("run_id", "command", "times"),
}
"""What belongs to which section: keys, with all that lies in them; the longest that fits counts."""

NAMELESS = ("schema", "sha256", "track_id", "outcomes", "curves")
"""Keys that follow from others."""

MISSING = "–"


@dataclass(frozen=True)
class Difference:
    """A key with other values in two records; what is not there is `MISSING`."""

    section: str
    key: str
    first: Any
    second: Any

    @property
    def change(self) -> float | None:
        """The second less the first, where both are numbers."""
        values = (self.first, self.second)
        if any(isinstance(value, bool) or not isinstance(value, int | float) for value in values):
            return None
        return float(self.second - self.first)


def differences(first: Record, second: Record) -> list[Difference]:
    """Return where two records differ, section by section."""
    one, other = dict(_leaves(first)), dict(_leaves(second))
    keys = [key for key in {**one, **other} if one.get(key, MISSING) != other.get(key, MISSING)]
    found = [
        Difference(_section(key), key, one.get(key, MISSING), other.get(key, MISSING))
        for key in keys
    ]
    order = [*SECTIONS, "other"]
    return sorted(found, key=lambda one: (order.index(one.section), one.key))


def examples_apart(first: Record, second: Record, split: str = "test") -> tuple[int, int] | None:
    """Return for how many examples the target stands elsewhere, and how many there are.

    None where the two were not evaluated on the same examples.
    """
    if first["fingerprints"]["dataset"] != second["fingerprints"]["dataset"]:
        return None
    ranks: list[pd.Series[Any]] = []
    for record in (first, second):
        table = record.outcomes
        ranks.append(table[table["split"] == split].set_index("example")["item_rank"])
    if ranks[0].empty or not ranks[0].index.equals(ranks[1].index):
        return None
    return int((ranks[0] != ranks[1]).sum()), len(ranks[0])


def _leaves(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if key or name not in NAMELESS:
                yield from _leaves(inner, f"{key}.{name}" if key else str(name))
    else:
        yield key, value


def _section(key: str) -> str:
    fits = [
        (len(begin), section)
        for section, keys in SECTIONS.items()
        for begin in keys
        if key == begin or key.startswith(f"{begin}.")
    ]
    return max(fits)[1] if fits else "other"
