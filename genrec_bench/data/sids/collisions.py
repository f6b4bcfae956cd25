"""Resolving collisions: items that share a SID keep it or are told apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.sids.sid_recipe import COLLISIONS
from genrec_bench.errors import UserError, nearest


def resolve(
    codes: NDArray[np.int32],
    codes_per_level: Sequence[int],
    how: str,
    distances: NDArray[np.float64] | None = None,
    codebook: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.int32], tuple[int, ...]]:
    """Tell items that share a SID apart, or let them be.

    "keep" lets them share it. "move" gives all of them but the nearest to the SID's reconstruction
    another code on the last level: of those that no item with the same prefix has, the one whose
    vector is nearest to the old one's. The number of levels stays, as in SIDs that LC-Rec (Zheng et
    al. 2024, Section 3.2) and MiniOneRec publish, which spread such items by optimal transport.

    The other two add a level at the end, for every item, so that SIDs have one length; where
    nothing collides its code is 0 throughout.

    "level" is GREAM's conflict-resolution slot (Section 6.1.3), a level like the others, with as
    many codes as the last of them. Of the items that share a SID the nearest to its reconstruction
    has code 0, the next one 1, and so on; equally near ones in the order of the catalog. The paper
    does not say which order it takes.

    "code" is TIGER's (Rajput et al. 2023, Section 3.1): the items that share a SID are numbered in
    the order of the catalog, and the level has as many codes as the largest group has items.

    Args:
        codes: [n, L] zero-based.
        distances: [n] of each item to its SID's reconstruction; "level" and "move" ask for them.
        codebook: [at most K_L, E] vectors of the last level's codes; "move" alone asks for them.

    Returns:
        Codes [n, L] or [n, L + 1], and their codes per level. All SIDs are distinct unless they
        were to be kept.

    Raises:
        UserError: an unknown way, "level" where more items share a SID than a level has codes, or
            "move" where more items share a prefix than the last level has codes.
    """
    if how not in COLLISIONS:
        raise UserError(
            f"unknown way {how!r}{nearest(how, COLLISIONS)} to resolve collisions; "
            f"there are {', '.join(COLLISIONS)}"
        )
    if how == "keep":
        return codes, tuple(codes_per_level)
    if how == "code":
        places = _places(codes, np.zeros(len(codes)))
        return _append(codes, places), (*codes_per_level, int(places.max(initial=0)) + 1)
    if how == "move":
        assert distances is not None and codebook is not None
        return _moved(codes, codes_per_level[-1], distances, codebook), tuple(codes_per_level)
    assert distances is not None
    places, slots = _places(codes, distances), codes_per_level[-1]
    if places.max(initial=0) >= slots:
        last = int(places.argmax())
        sid = "-".join(map(str, codes[last].tolist()))
        raise UserError(
            f"collisions=level: {places[last] + 1} items share the SID {sid}, and the level that "
            f"tells them apart has {slots} codes; ask for more levels or more codes per level, use "
            "collisions=code, or embeddings that tell these items apart"
        )
    return _append(codes, places), (*codes_per_level, slots)


def _moved(
    codes: NDArray[np.int32],
    num_codes: int,
    distances: NDArray[np.float64],
    codebook: NDArray[np.float32],
) -> NDArray[np.int32]:
    """[n, L] with another code on the last level for all items of a SID but the nearest."""
    places = _places(codes, distances)
    used: dict[bytes, set[int]] = {}
    for row in codes:
        used.setdefault(row[:-1].tobytes(), set()).add(int(row[-1]))
    # Codes that the method left without a vector are as far as can be, and still free.
    vectors = np.full((num_codes, codebook.shape[1]), np.inf)
    vectors[: len(codebook)] = codebook
    moved = codes.copy()
    # The nearest items choose first; equally near ones in the order of the catalog.
    for item in np.lexsort((distances, places)).tolist():
        if places[item] == 0:
            continue
        own, taken = int(codes[item, -1]), used[codes[item, :-1].tobytes()]
        free = np.setdiff1d(np.arange(num_codes), list(taken))
        if not len(free):
            prefix = "-".join(map(str, codes[item, :-1].tolist()))
            shared = f"the prefix {prefix}" if prefix else "the empty prefix"
            raise UserError(
                f"collisions=move: more items share {shared} than the last level's "
                f"{num_codes} codes; ask for more levels or more codes per level, use "
                "method=rq-kmeans-balanced, or another of --collisions"
            )
        away = np.square(vectors[free] - vectors[own]).sum(axis=1)
        code = int(free[away.argmin()])
        moved[item, -1] = code
        taken.add(code)
    return moved


def _places(codes: NDArray[np.int32], order_by: NDArray[np.float64]) -> NDArray[np.int32]:
    """[n] each item's place among those that share its SID, least first, then by index."""
    if not len(codes):
        return np.zeros(0, dtype=np.int32)
    _, sid_of_item = np.unique(codes, axis=0, return_inverse=True)
    sid_of_item = sid_of_item.reshape(-1)
    order = np.lexsort((order_by, sid_of_item))  # stable, so that ties stay in the catalog's order
    ordered = sid_of_item[order]
    places = np.empty(len(codes), dtype=np.int32)
    places[order] = np.arange(len(codes)) - np.searchsorted(ordered, ordered)
    return places


def _append(codes: NDArray[np.int32], places: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.concatenate([codes, places[:, None]], axis=1, dtype=np.int32)
