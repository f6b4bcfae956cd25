"""Figures of whole candidate lists: what they hold, how even, how popular, and what it is worth.

Shapes: n examples, W beam width, L levels, K the cutoff of a figure. Every function takes the lists
and K, and returns None where the figure does not exist.
"""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Catalog
from genrec_bench.training.candidate_lists import (
    MISSING,
    distinct_sids,
    expand,
    item_ranks,
    places_of,
    sid_ranks,
    worth,
)

HEAD = 0.33
"""Share of the training purchases that the head of the catalog makes up; see `in_tail`."""


@dataclass(frozen=True, eq=False)
class Lists:
    """The candidate lists of one split.

    Attributes:
        candidates: [n, W] SID indices, best first, -1 where the beam found no more.
        targets: [n] item indices.
        codes: [n, W, L] zero-based codes as decoded; None where nobody kept them.
        utilities: [n, num_items] how probable it is that each item is wanted; None where no world
            says so.
        places: [n, W] items, best first, -1 in places left over, where items were ranked and not
            SIDs; the candidates are then their SIDs, each where it stands first, see `of_items`.
    """

    candidates: NDArray[np.int32]
    targets: NDArray[np.int32]
    catalog: Catalog
    codes: NDArray[np.integer] | None = None
    utilities: NDArray[np.float64] | None = None
    places: NDArray[np.int32] | None = None
    _expanded: dict[int, NDArray[np.int32]] = field(default_factory=dict, repr=False)
    _worth: dict[int, NDArray[np.float32]] = field(default_factory=dict, repr=False)

    @classmethod
    def of_items(
        cls,
        places: NDArray[np.int32],
        targets: NDArray[np.int32],
        catalog: Catalog,
        utilities: NDArray[np.float64] | None = None,
    ) -> "Lists":
        """Lists of a system that ranks items, and knows nothing of SIDs.

        Args:
            places: [n, W] item indices, best first, -1 in places left over, behind all others.
        """
        candidates = distinct_sids(places, catalog)
        codes = catalog.unique_sids[candidates]
        return cls(candidates, targets, catalog, codes, utilities, places)

    def items(self, k: int) -> NDArray[np.int32]:
        """[n, K] the first K items that each list has or expands to, -1 in places left over."""
        if k not in self._expanded:
            if self.places is None:
                self._expanded[k] = expand(self.candidates, self.catalog, k)
            else:
                width = max(0, k - self.places.shape[1])
                padded = np.pad(self.places, ((0, 0), (0, width)), constant_values=MISSING)
                self._expanded[k] = padded[:, :k]
        return self._expanded[k]

    def item_ranks(self) -> NDArray[np.int32]:
        """[n] zero-based rank of each target among the items, -1 where it is missing."""
        if self.places is not None:
            return places_of(self.targets, self.places)
        return item_ranks(self.candidates, self.targets, self.catalog)

    def sid_ranks(self) -> NDArray[np.int32]:
        """[n] zero-based rank of each target's SID among the candidates, -1 where it is missing."""
        return sid_ranks(self.candidates, self.targets, self.catalog)

    def worth(self, k: int) -> NDArray[np.float32]:
        """[n] how probable it is that the first K hold the item that is wanted: the expected HR@K.

        Raises:
            ValueError: nobody knows what is wanted.
        """
        if self.utilities is None:
            raise ValueError("no world says what these lists are worth")
        if k not in self._worth:
            self._worth[k] = worth(self.items(k), self.utilities).astype(np.float32)
        return self._worth[k]


def unique_candidates(lists: Lists, k: int) -> float:
    """Mean number of distinct candidates of an example."""
    ordered = np.sort(lists.candidates, axis=1)
    new = np.diff(ordered, axis=1, prepend=MISSING) != 0
    return float(new.sum(axis=1).mean())


def coverage(lists: Lists, k: int) -> float:
    """Share of the catalog's items that are in anyone's first K."""
    items = lists.items(k)
    return len(np.unique(items[items >= 0])) / lists.catalog.num_items


def diversity(lists: Lists, k: int) -> float | None:
    """Mean of 1 - LCP / L over the pairs of items in one list's first K; None without a pair.

    LCP is the length of the longest common prefix of their SIDs.
    """
    items = lists.items(k)
    codes = lists.catalog.sids[items]
    total, pairs = 0.0, 0
    for second in range(1, items.shape[1]):
        # An empty place is always behind the real ones, so the later item decides.
        real = items[:, second] >= 0
        for first in range(second):
            same = codes[real, first] == codes[real, second]
            common = np.cumprod(same, axis=1).sum()
            total += float(real.sum()) - float(common) / lists.catalog.num_levels
        pairs += second * int(real.sum())
    return total / pairs if pairs else None


def popularity_lift(lists: Lists, k: int) -> float | None:
    """Mean training popularity of the first K items over that of the targets.

    None where no target occurs in training.
    """
    items = lists.items(k)
    recommended = items[items >= 0]
    of_targets = float(lists.catalog.popularity[lists.targets].mean())
    if of_targets <= 0 or not len(recommended):
        return None
    return float(lists.catalog.popularity[recommended].mean()) / of_targets


def invalid_rate(lists: Lists, k: int) -> float | None:
    """Share of the decoded candidates that are no SID of the catalog; anything but 0 is a fault.

    Reads the items' codes themselves, not the trie that the decoder was held to, so that it checks
    the trie too.
    """
    if lists.codes is None:
        return None
    decoded = lists.codes[lists.candidates >= 0]
    if len(decoded) == 0:
        return 0.0
    rows = np.concatenate([lists.catalog.sids, decoded]).astype(np.int64)
    _, same = np.unique(rows, axis=0, return_inverse=True)
    same = same.reshape(-1)
    known = np.zeros(same.max() + 1, dtype=np.bool_)
    known[same[: lists.catalog.num_items]] = True
    return float(1.0 - known[same[lists.catalog.num_items :]].mean())


def gini(lists: Lists, k: int) -> float | None:
    """How unevenly the first K places are dealt to the catalog's items; None where none is filled.

    The Gini coefficient of the items' exposure x, which is how often each item of the catalog is in
    anyone's first K: with x in ascending order, sum over i = 1..m of (2 i - m - 1) x_i, over
    m * sum(x). It is 0 where all items are shown alike, and near 1 where few have all places.
    """
    items = lists.items(k)
    return unevenness(np.bincount(items[items >= 0], minlength=lists.catalog.num_items))


def unevenness(exposure: NDArray[np.integer]) -> float | None:
    """The Gini coefficient of [num_items] counts; None where all are 0."""
    ordered = np.sort(exposure)
    total, m = int(ordered.sum()), len(ordered)
    if not total:
        return None
    return float((2 * np.arange(1, m + 1) - m - 1) @ ordered / (m * total))


def regret(lists: Lists, k: int) -> float | None:
    """What the best K items of the catalog are worth beyond the first K; None without a world."""
    if lists.utilities is None:
        return None
    k_best = min(k, lists.utilities.shape[1])
    best = np.partition(lists.utilities, -k_best, axis=1)[:, -k_best:].sum(axis=1)
    # Sums in another order, and single precision, may differ in the last bit.
    return max(0.0, float(best.mean()) - float(lists.worth(k).mean(dtype=np.float64)))


def in_tail(catalog: Catalog) -> NDArray[np.bool_]:
    """[num_items] whether an item is in the long tail, which is all but the head.

    The head, or short head, are the most popular items that make up `HEAD` of the training
    purchases: as few of them as it takes, and of equally popular ones the first in the catalog.
    No item is in the tail where nothing was purchased. Source: Cremonesi, Koren and Turrin 2010,
    "Performance of recommender algorithms on top-N recommendation tasks", section 3.
    """
    order = np.argsort(-catalog.popularity, kind="stable")
    purchases = np.cumsum(catalog.popularity[order])
    tail = np.full(catalog.num_items, purchases[-1] > 0)
    tail[order[: np.searchsorted(purchases, HEAD * purchases[-1]) + 1]] = False
    return tail
