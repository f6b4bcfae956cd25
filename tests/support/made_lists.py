"""A small catalog with shared SIDs, and lists written by hand."""

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Catalog


def make_catalog(sids: list[list[int]], popularity: list[int], rule: str = "popularity") -> Catalog:
    codes = np.array(sids, dtype=np.int32)
    return Catalog(
        sids=codes,
        codes_per_level=tuple(int(k) + 1 for k in codes.max(axis=0)),
        item_names=tuple(f"item{i}" for i in range(len(sids))),
        titles=("",) * len(sids),
        popularity=np.array(popularity, dtype=np.int64),
        rank_shared=rule,
    )


# Distinct SIDs in order: 0 = (0,0), 1 = (0,1), 2 = (1,0), 3 = (1,1).
# Items 1, 2 and 4 share SID 1; by popularity their order is 4, 1, 2, by index 1, 2, 4.
SIDS = [[0, 0], [0, 1], [0, 1], [1, 0], [0, 1], [1, 1]]
POPULARITY = [4, 2, 2, 0, 7, 3]
CATALOG = make_catalog(SIDS, POPULARITY)


def lists(*rows: list[int]) -> NDArray[np.int32]:
    return np.array(rows, dtype=np.int32)


def items(*targets: int) -> NDArray[np.int32]:
    return np.array(targets, dtype=np.int32)
