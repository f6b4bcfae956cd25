"""The two simplest rankers there are, made of counts of the training split alone.

What cannot be told apart from them has learned nothing that a table of counts does not know.

Shapes: n examples, W length of a list.
"""

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset, Examples


def popularity_lists(dataset: Dataset, examples: Examples, width: int) -> NDArray[np.int32]:
    """[n, W] the items that are most often a training target; of equals the first in the catalog.

    All lists are the same; W is at most the number of items.
    """
    order = _by_popularity(dataset)[:width]
    return np.broadcast_to(order, (len(examples), len(order))).astype(np.int32)


def successor_lists(dataset: Dataset, examples: Examples, width: int) -> NDArray[np.int32]:
    """[n, W] the items that most often followed the last item of a history in training.

    A first-order Markov chain by maximum likelihood: items are ranked by how many training examples
    have this last item and that target; of equals, and behind them, by popularity.
    """
    train, num_items = dataset.train, dataset.catalog.num_items
    has_history = train.history_lengths > 0
    pairs = train.history_items[train.history_offsets[1:][has_history] - 1].astype(np.int64)
    pairs = pairs * num_items + train.targets[has_history]
    known, counts = np.unique(pairs, return_counts=True)
    last, item = known // num_items, known % num_items
    order = _by_popularity(dataset)
    place = np.empty(num_items, dtype=np.int64)
    place[order] = np.arange(num_items)
    ranked = np.lexsort((place[item], -counts, last))
    begins = np.searchsorted(last, np.arange(num_items + 1))
    lists: dict[int, NDArray[np.int32]] = {}
    found = np.empty((len(examples), min(width, num_items)), dtype=np.int32)
    for row in range(len(examples)):
        history = examples.history(row)
        key = int(history[-1]) if len(history) else -1
        if key not in lists:
            own = ranked[begins[key] : begins[key + 1]] if key >= 0 else ranked[:0]
            first = item[own][:width].astype(np.int32)
            # Of the most popular W at most as many stand in front already.
            rest = order[: found.shape[1]]
            rest = rest[~np.isin(rest, first)]
            lists[key] = np.concatenate([first, rest])[: found.shape[1]]
        found[row] = lists[key]
    return found


def _by_popularity(dataset: Dataset) -> NDArray[np.int32]:
    """[num_items] items in descending order of their occurrences as a training target."""
    return np.argsort(-dataset.catalog.popularity, kind="stable").astype(np.int32)
