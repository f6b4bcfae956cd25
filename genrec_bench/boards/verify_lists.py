"""Verification of kept lists: ranks, coverage and evenness must be those of the lists."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from genrec_bench.boards.evidence import Evidence
from genrec_bench.runs.record_schema import SPLITS
from genrec_bench.training.list_figures import unevenness
from genrec_bench.training.metrics import LIST_LENGTH

COLUMNS = ("split", "example", "user", "target", "items")

Stated = tuple[str, object, object]
"""A key, what is stated there, and what the lists say."""


def differences_of_lists(evidence: Evidence, tolerance: float) -> Iterator[Stated]:
    """Compare what a record and its outcomes say with the lists, where these were kept."""
    lists = evidence.lists
    if lists is None:
        return
    if missing := [name for name in COLUMNS if name not in lists]:
        yield "lists", f"columns {', '.join(COLUMNS)}", f"no {', '.join(missing)}"
        return
    for split in SPLITS:
        rows = evidence.of_split(split)
        kept = lists[lists["split"] == split].sort_values("example", kind="stable")
        if kept["example"].tolist() != rows["example"].tolist():
            yield f"lists: {split}", f"{len(rows)} examples", f"{len(kept)} lists, or other ones"
            continue
        if len(kept):
            yield from _ranks(split, rows, kept)
            yield from _shown(split, evidence, kept, tolerance)


def _ranks(split: str, rows: pd.DataFrame, kept: pd.DataFrame) -> Iterator[Stated]:
    """A rank within the longest list must be the target's place; any other, that it is missing."""
    places = []
    longest = max(map(len, kept["items"]))
    for target, items in zip(kept["target"], kept["items"], strict=True):
        found = np.flatnonzero(np.asarray(items) == target)
        places.append(int(found[0]) if len(found) else -1)
    stated = rows["item_rank"].to_numpy()
    within = np.where(stated < longest, stated, -1)
    if wrong := int((within != np.array(places)).sum()):
        yield f"outcomes: {split}: item_rank", f"{len(rows)} ranks", f"{wrong} others by the lists"


def _shown(
    split: str, evidence: Evidence, kept: pd.DataFrame, tolerance: float
) -> Iterator[Stated]:
    """Coverage and evenness of the first places."""
    num_items = evidence.record["lists"]["items"]
    shown = pd.Series([item for items in kept["items"] for item in items[:LIST_LENGTH]])
    counts = shown.value_counts().to_numpy()
    if len(counts) > num_items:
        yield "lists.items", num_items, f"{len(counts)} items in the lists"
        return
    exposure = np.concatenate([counts, np.zeros(num_items - len(counts), dtype=np.int64)])
    found = {"coverage": len(counts) / num_items, "gini": unevenness(exposure)}
    for name, value in found.items():
        key = f"{name}@{LIST_LENGTH}"
        stated = evidence.record["metrics"][split].get(key)
        if stated is not None and (
            value is None or not math.isclose(stated, value, rel_tol=0, abs_tol=tolerance)
        ):
            yield f"metrics.{split}.{key}", stated, value
