"""Datasets that tests put together by hand."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import Contents, Dataset, Examples

Rows = Sequence[tuple[int, Sequence[int], int]]
"""User, history, target."""


def examples(rows: Rows) -> Examples:
    users, histories, targets = zip(*rows, strict=True)
    return Examples.from_lists(users, histories, targets)


def build_dataset(
    card: Card,
    sids: NDArray[np.int32],
    item_names: Sequence[str],
    titles: Sequence[str],
    splits: Mapping[str, Examples],
    ceiling: Mapping[str, Mapping[str, float]] | None = None,
) -> Dataset:
    """A dataset that brings its SIDs."""
    names = tuple(item_names), tuple(titles)
    return Contents(card, *names, splits, sids, ceiling=ceiling or {}).own
