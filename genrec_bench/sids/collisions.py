"""What becomes of items that share a SID."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from genrec_bench.errors import UserError, nearest
from genrec_bench.sids.recipe import COLLISIONS


def resolve(
    codes: NDArray[np.int32],
    codes_per_level: Sequence[int],
    how: str,
    distances: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.int32], tuple[int, ...]]:
    """Tell items that share a SID apart, or let them be.

    "keep" lets them share it. The other two add a level at the end, for every item, so that SIDs
    have one length; where nothing collides its code is 0 throughout.

    "level" is GREAM's conflict-resolution slot (Section 6.1.3), a level like the others, with as
    many codes as the last of them. Of the items that share a SID the nearest to its reconstruction
    has code 0, the next one 1, and so on; equally near ones in the order of the catalog. The paper
    does not say which order it takes.

    "code" is TIGER's (Rajput et al. 2023, Section 3.1): the items that share a SID are numbered in
    the order of the catalog, and the level has as many codes as the largest group has items.

    Args:
        codes: [n, L] zero-based.
        codes_per_level: K_l, for each of the L levels.
        how: one of ``recipe.COLLISIONS``.
        distances: [n] of each item to its SID's reconstruction; "level" alone asks for them.

    Returns:
        Codes [n, L] or [n, L + 1], and their codes per level. All SIDs are distinct unless they
        were to be kept.

    Raises:
        UserError: an unknown way, or "level" where more items share a SID than a level has codes.
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
    if distances is None:
        raise ValueError("collisions=level needs the items' distances to their reconstructions")
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
