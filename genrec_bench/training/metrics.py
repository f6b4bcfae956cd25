"""Figures of candidate lists: is the target item found, how high, and what else is recommended.

A hit is an item, not a SID. Where several items share a SID, the SID stands for all of them, in the
order that the dataset's card declares, so it takes as many places of the item list as it has items.
The same figures counted by SID, which is what most published numbers are, carry the prefix `sid/`.

Shapes: n examples, W beam width, S samples, L levels, k places of an item list.
"""

from collections.abc import Sequence
from math import comb

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genrec_bench.data.dataset import Catalog

KS = (1, 3, 5, 10, 20)
"""List lengths at which figures are reported."""

LIST_LENGTH = 10
"""Length of the item lists that coverage, diversity and popularity are taken of."""

PASS_KS = (1, 5, 10)
"""Numbers of samples at which Pass@k is reported (GREAM, 6.1.2)."""

MISSING = -1
"""Rank of a target that is not in the list; item of an empty place; hits where nothing was drawn.
"""


def item_ranks(
    candidates: NDArray[np.int32], targets: NDArray[np.int32], catalog: Catalog
) -> NDArray[np.int32]:
    """Zero-based rank of each target in the list of items that its SID list expands to.

    Args:
        candidates: [n, W] SID indices, best first, -1 where there is no candidate.
        targets: [n] item indices.
        catalog: gives the items of each SID and their order.

    Returns:
        [n] rank of the target item, -1 where it is missing. Where a list holds a SID twice, the
        first place counts, and the second still takes up its places.
    """
    hits = _hits(candidates, targets, catalog)
    sizes, places = _sizes_and_places(catalog)
    taken = np.where(candidates >= 0, sizes[candidates], 0)
    before = np.cumsum(taken, axis=1) - taken
    ranks = _at_first_hit(before, hits) + places[targets]
    return np.where(hits.any(axis=1), ranks, MISSING).astype(np.int32)


def sid_ranks(
    candidates: NDArray[np.int32], targets: NDArray[np.int32], catalog: Catalog
) -> NDArray[np.int32]:
    """Zero-based rank of each target's SID among the real candidates.

    Args:
        candidates: [n, W] SID indices, best first, -1 where there is no candidate.
        targets: [n] item indices.
        catalog: gives the SID of each item.

    Returns:
        [n] rank of the target's SID, -1 where it is missing.
    """
    hits = _hits(candidates, targets, catalog)
    taken = (candidates >= 0).astype(np.int64)
    before = np.cumsum(taken, axis=1) - taken
    return np.where(hits.any(axis=1), _at_first_hit(before, hits), MISSING).astype(np.int32)


def ranking_metrics(ranks: NDArray[np.integer], ks: Sequence[int] = KS) -> dict[str, float]:
    """HR@K, NDCG@K and MRR of one relevant item per example; a missing target counts as zero.

    With one relevant item the ideal DCG is 1, so NDCG@K is 1 / log2(rank + 2) for a zero-based rank
    below K (Jaervelin and Kekaelaeinen, 2002). MRR is taken over the whole list.

    Args:
        ranks: [n] zero-based ranks, -1 where the target is missing.
        ks: list lengths K.

    Raises:
        ValueError: there is no example, so that the means do not exist.
    """
    if len(ranks) == 0:
        raise ValueError("no example to take a metric of")
    found = ranks >= 0
    places = np.where(found, ranks, 0).astype(np.float64)
    gains = np.where(found, 1.0 / np.log2(places + 2.0), 0.0)
    metrics: dict[str, float] = {}
    for k in ks:
        hits = found & (ranks < k)
        metrics[f"HR@{k}"] = float(hits.mean())
        metrics[f"NDCG@{k}"] = float(np.where(hits, gains, 0.0).mean())
    metrics["MRR"] = float(np.where(found, 1.0 / (places + 1.0), 0.0).mean())
    return metrics


def sampled_hits(
    samples: NDArray[np.int32], targets: NDArray[np.int32], catalog: Catalog
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Count the samples that hit; one recommends a single item, the first of its SID.

    Args:
        samples: [n, S] SID indices.
        targets: [n] item indices.
        catalog: gives the items of each SID and their order.

    Returns:
        [n] samples that recommend the target item, and [n] samples that are the target's SID.
    """
    by_sid = _hits(samples, targets, catalog).sum(axis=1).astype(np.int32)
    _, places = _sizes_and_places(catalog)
    return np.where(places[targets] == 0, by_sid, 0).astype(np.int32), by_sid


def pass_metrics(
    hits: NDArray[np.integer], num_samples: int, ks: Sequence[int] = PASS_KS
) -> dict[str, float]:
    """Pass@k: how probable it is that one of k samples hits, averaged over the examples.

    With c hits among S samples, 1 - C(S - c, k) / C(S, k) is its unbiased estimate (Chen et al.
    2021, "Evaluating Large Language Models Trained on Code", Eq. 1).

    Args:
        hits: [n] c of each example.
        num_samples: S.
        ks: numbers k; those above S are left out.

    Raises:
        ValueError: there is no example, so that the means do not exist.
    """
    if len(hits) == 0:
        raise ValueError("no example to take a metric of")
    metrics: dict[str, float] = {}
    for k in ks:
        if k <= num_samples:
            ways = comb(num_samples, k)
            missed = [comb(num_samples - c, k) / ways for c in range(num_samples + 1)]
            metrics[f"Pass@{k}"] = float(1.0 - np.array(missed)[hits].mean())
    return metrics


def expand(candidates: NDArray[np.int32], catalog: Catalog, k: int) -> NDArray[np.int32]:
    """First k items of the lists that SID lists expand to.

    Args:
        candidates: [n, W] SID indices, best first, -1 where there is no candidate.
        catalog: gives the items of each SID and their order.
        k: places to fill.

    Returns:
        [n, k] item indices, -1 in the places that are left over.
    """
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


def list_metrics(
    candidates: NDArray[np.int32], targets: NDArray[np.int32], catalog: Catalog
) -> dict[str, float]:
    """What the lists are like, apart from the hits.

    - `coverage@10`: share of the catalog's items that are in anyone's top 10.
    - `diversity@10`: 1 - LCP / L, averaged over all pairs of items in one top 10, where LCP is the
      length of the longest common prefix of their SIDs.
    - `popularity_lift@10`: mean training popularity of the recommended items over that of the
      targets.
    - `unique_candidates`: mean number of distinct candidates.

    A figure that does not exist is left out: all those at 10 for beams narrower than that,
    diversity where no list has two items, popularity lift where no target occurs in training.

    Args:
        candidates: [n, W] SID indices, best first, -1 where there is no candidate.
        targets: [n] item indices.
        catalog: gives items, SIDs and popularity.
    """
    ordered = np.sort(candidates, axis=1)
    new = np.diff(ordered, axis=1, prepend=MISSING) != 0
    metrics = {"unique_candidates": float(new.sum(axis=1).mean())}
    if candidates.shape[1] < LIST_LENGTH:
        return metrics
    items = expand(candidates, catalog, LIST_LENGTH)
    recommended = items[items >= 0]
    metrics[f"coverage@{LIST_LENGTH}"] = len(np.unique(recommended)) / catalog.num_items
    diversity = _diversity(items, catalog)
    if diversity is not None:
        metrics[f"diversity@{LIST_LENGTH}"] = diversity
    of_targets = float(catalog.popularity[targets].mean())
    if of_targets > 0 and len(recommended):
        lift = float(catalog.popularity[recommended].mean()) / of_targets
        metrics[f"popularity_lift@{LIST_LENGTH}"] = lift
    return metrics


def invalid_rate(codes: NDArray[np.integer], valid: NDArray[np.bool_], catalog: Catalog) -> float:
    """Share of the decoded candidates that are no SID of the catalog; anything but 0 is a fault.

    Reads the items' codes themselves, not the trie that the decoder was held to, so that it checks
    the trie too.

    Args:
        codes: [n, W, L] zero-based codes as decoded.
        valid: [n, W] which of them the decoder says are real; the others are not counted.
        catalog: gives the SIDs that exist.
    """
    decoded = codes[valid]
    if len(decoded) == 0:
        return 0.0
    rows = np.concatenate([catalog.sids, decoded]).astype(np.int64)
    _, same = np.unique(rows, axis=0, return_inverse=True)
    same = same.reshape(-1)
    known = np.zeros(same.max() + 1, dtype=np.bool_)
    known[same[: catalog.num_items]] = True
    return float(1.0 - known[same[catalog.num_items :]].mean())


def evaluate_lists(
    candidates: NDArray[np.int32],
    targets: NDArray[np.int32],
    catalog: Catalog,
    ks: Sequence[int] = KS,
    samples: NDArray[np.int32] | None = None,
) -> tuple[dict[str, float], pd.DataFrame]:
    """All figures of one split, and the outcome of each example.

    Args:
        candidates: [n, W] SID indices, best first, -1 where the beam found no more.
        targets: [n] item indices.
        catalog: of the dataset.
        ks: list lengths K; those above the beam width W are left out.
        samples: [n, S] SID indices of candidates that were drawn, for Pass@k.

    Returns:
        The metrics: by item (`HR@10`, `NDCG@10`, `MRR`, `Pass@10`), by SID (`sid/HR@10`, ...), and
        of the lists. The outcomes: one row per example, columns `example` (row number),
        `item_rank`, `sid_rank`, `sampled_hits`, `sid_sampled_hits`; the last two are -1 where
        nothing was drawn.
    """
    if candidates.ndim != 2 or len(candidates) != len(targets):
        raise ValueError(
            f"candidates {candidates.shape} are not one list for each of {len(targets)} targets"
        )
    reported = [k for k in ks if k <= candidates.shape[1]]
    by_item = item_ranks(candidates, targets, catalog)
    by_sid = sid_ranks(candidates, targets, catalog)
    metrics = ranking_metrics(by_item, reported)
    metrics |= {f"sid/{key}": value for key, value in ranking_metrics(by_sid, reported).items()}
    metrics |= list_metrics(candidates, targets, catalog)
    hits = sid_hits = np.full(len(targets), MISSING, dtype=np.int32)
    if samples is not None:
        hits, sid_hits = sampled_hits(samples, targets, catalog)
        passed = pass_metrics(sid_hits, samples.shape[1])
        metrics |= pass_metrics(hits, samples.shape[1])
        metrics |= {f"sid/{key}": value for key, value in passed.items()}
    outcomes = pd.DataFrame(
        {
            "example": np.arange(len(targets), dtype=np.int32),
            "item_rank": by_item,
            "sid_rank": by_sid,
            "sampled_hits": hits,
            "sid_sampled_hits": sid_hits,
        }
    )
    return metrics, outcomes


def _hits(
    candidates: NDArray[np.int32], targets: NDArray[np.int32], catalog: Catalog
) -> NDArray[np.bool_]:
    """[n, W] whether a candidate is the target's SID."""
    return np.asarray(candidates == catalog.sid_of_item[targets][:, None])


def _at_first_hit(values: NDArray[np.int64], hits: NDArray[np.bool_]) -> NDArray[np.int64]:
    """[n] value in the column of each row's first hit; meaningless in rows without one."""
    return np.take_along_axis(values, hits.argmax(axis=1)[:, None], axis=1)[:, 0]


def _sizes_and_places(catalog: Catalog) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """[num_sids] items of each SID, and [num_items] place of each item among those of its SID."""
    sizes = np.bincount(catalog.sid_of_item, minlength=len(catalog.unique_sids)).astype(np.int64)
    places = np.zeros(catalog.num_items, dtype=np.int64)
    for sid in np.flatnonzero(sizes > 1):
        places[catalog.items_of_sid(int(sid))] = np.arange(sizes[sid])
    return sizes, places


def _diversity(items: NDArray[np.int32], catalog: Catalog) -> float | None:
    """Mean of 1 - LCP / L over the pairs of items in one list; None without a pair."""
    codes = catalog.sids[items]
    total, pairs = 0.0, 0
    for second in range(1, items.shape[1]):
        # An empty place is always behind the real ones, so the later item decides.
        real = items[:, second] >= 0
        for first in range(second):
            same = codes[real, first] == codes[real, second]
            common = np.cumprod(same, axis=1).sum()
            total += float(real.sum()) - float(common) / catalog.num_levels
        pairs += second * int(real.sum())
    return total / pairs if pairs else None
