"""Candidate lists: where targets stand in them, and the items that they expand to.

A hit is an item, not a SID. Where several items share a SID, the SID stands for all of them, in the
order that the dataset's card declares, so it takes as many places of the item list as it has items.

Shapes: n examples, W beam width, S samples, k places of an item list. ``candidates`` are [n, W] SID
indices, best first, -1 where there is no candidate; ``targets`` are [n] item indices.
"""

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Catalog

MISSING = -1
"""Rank of a target that is not in the list; item of an empty place; hits where nothing was drawn.
"""


def item_ranks(
    candidates: NDArray[np.int32], targets: NDArray[np.int32], catalog: Catalog
) -> NDArray[np.int32]:
    """[n] zero-based rank of each target in the list of items that its SID list expands to.

    Where a list holds a SID twice, the first place counts, and the second still takes up its
    places. A target that is in no place has rank -1.
    """
    sizes, places = _sizes_and_places(catalog)
    taken = np.where(candidates >= 0, sizes[candidates], 0)
    return _ranks(candidates, targets, catalog, taken, places[targets])


def sid_ranks(
    candidates: NDArray[np.int32], targets: NDArray[np.int32], catalog: Catalog
) -> NDArray[np.int32]:
    """[n] zero-based rank of each target's SID among the real candidates, -1 where missing."""
    taken = (candidates >= 0).astype(np.int64)
    return _ranks(candidates, targets, catalog, taken, np.int64(0))


def sampled_hits(
    samples: NDArray[np.int32], targets: NDArray[np.int32], catalog: Catalog
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Count the samples [n, S] that hit; one recommends a single item, the first of its SID.

    Returns:
        [n] samples that recommend the target item, and [n] samples that are the target's SID.
    """
    by_sid = _hits(samples, targets, catalog).sum(axis=1).astype(np.int32)
    _, places = _sizes_and_places(catalog)
    return np.where(places[targets] == 0, by_sid, 0).astype(np.int32), by_sid


def expand(candidates: NDArray[np.int32], catalog: Catalog, k: int) -> NDArray[np.int32]:
    """[n, k] first k items of the lists that SID lists expand to, -1 in places left over."""
    sizes, places = _sizes_and_places(catalog)
    by_sid = np.lexsort((places, catalog.sid_of_item))
    starts = np.cumsum(sizes) - sizes
    rows, columns = np.nonzero(candidates >= 0)
    sids = candidates[rows, columns]
    taken = np.where(candidates >= 0, sizes[candidates], 0)
    before = (np.cumsum(taken, axis=1) - taken)[rows, columns]
    within = np.arange(sizes[sids].sum()) - np.repeat(
        np.cumsum(sizes[sids]) - sizes[sids], sizes[sids]
    )
    place = np.repeat(before, sizes[sids]) + within
    item = by_sid[np.repeat(starts[sids], sizes[sids]) + within]
    fits = place < k
    items = np.full((len(candidates), k), MISSING, dtype=np.int32)
    items[np.repeat(rows, sizes[sids])[fits], place[fits]] = item[fits]
    return items


def distinct_sids(places: NDArray[np.int32], catalog: Catalog) -> NDArray[np.int32]:
    """[n, W] SIDs of the items in lists [n, W], each where it stands first; -1 in places left over.

    This is how a list of items is counted by SID: what several items share takes one place.
    """
    sids = np.where(places >= 0, catalog.sid_of_item[places], MISSING).astype(np.int32)
    order = np.argsort(sids, axis=1, kind="stable")
    ordered = np.take_along_axis(sids, order, axis=1)
    new = np.diff(ordered, axis=1, prepend=MISSING) != 0
    first = np.zeros(sids.shape, dtype=np.bool_)
    np.put_along_axis(first, order, new, axis=1)
    front = np.argsort(~first, axis=1, kind="stable")
    kept = np.take_along_axis(first, front, axis=1)
    return np.where(kept, np.take_along_axis(sids, front, axis=1), MISSING).astype(np.int32)


def places_of(targets: NDArray[np.int32], places: NDArray[np.int32]) -> NDArray[np.int32]:
    """[n] zero-based place of each target in a list of items [n, W], -1 where it is missing."""
    hits = places == targets[:, None]
    return np.where(hits.any(axis=1), hits.argmax(axis=1), MISSING).astype(np.int32)


def worth(items: NDArray[np.int32], utilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """[n] the utilities of the items in lists [n, k], added up; one that stands twice counts once.

    ``utilities`` are [n, num_items]; empty places of a list, -1, are worth nothing.
    """
    ordered = np.sort(items, axis=1)
    new = np.diff(ordered, axis=1, prepend=MISSING) != 0
    each = np.take_along_axis(utilities, np.maximum(ordered, 0).astype(np.int64), axis=1)
    total: NDArray[np.float64] = np.where(new & (ordered >= 0), each, 0.0).sum(axis=1)
    return total


def _hits(
    candidates: NDArray[np.int32], targets: NDArray[np.int32], catalog: Catalog
) -> NDArray[np.bool_]:
    """[n, W] whether a candidate is the target's SID."""
    return np.asarray(candidates == catalog.sid_of_item[targets][:, None])


def _ranks(
    candidates: NDArray[np.int32],
    targets: NDArray[np.int32],
    catalog: Catalog,
    taken: NDArray[np.int64],
    places: NDArray[np.int64] | np.int64,
) -> NDArray[np.int32]:
    """[n] places that stand before the target, -1 where it is missing.

    Args:
        taken: [n, W] places that each candidate takes.
        places: [n] place of the target among those of its SID.
    """
    hits = _hits(candidates, targets, catalog)
    before = np.cumsum(taken, axis=1) - taken
    at_first_hit = np.take_along_axis(before, hits.argmax(axis=1)[:, None], axis=1)[:, 0]
    return np.where(hits.any(axis=1), at_first_hit + places, MISSING).astype(np.int32)


def _sizes_and_places(catalog: Catalog) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[num_sids] items of each SID, and [num_items] place of each item among those of its SID."""
    sizes = np.bincount(catalog.sid_of_item, minlength=len(catalog.unique_sids)).astype(np.int64)
    places = np.zeros(catalog.num_items, dtype=np.int64)
    for sid in np.flatnonzero(sizes > 1):
        places[catalog.items_of_sid(int(sid))] = np.arange(sizes[sid])
    return sizes, places
