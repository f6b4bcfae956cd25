"""Ranked lists that a run keeps: what each user was shown, by the names that users and items have.

A row for each example: `split`, `example` (as in the outcomes), `user`, `target`, `items`, best
first, up to the beam width, and `sids`, which are all that was ranked: items that share one may
stand beyond that width. Lists of systems that rank items have no `sids`. Users have numbers where
the data were prepared without their names.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset
from genrec_bench.storage.parquet import table_bytes
from genrec_bench.training.evaluate import Evaluation, judged
from genrec_bench.training.settings import Settings


def lists_bytes(found: Mapping[str, Evaluation], dataset: Dataset, settings: Settings) -> bytes:
    """Return the lists of several splits as the content of a Parquet file."""
    catalog = dataset.catalog
    names = pa.array(catalog.item_names, pa.string())
    sids = pa.array(["-".join(map(str, codes)) for codes in catalog.unique_sids.tolist()])
    parts = []
    for split, evaluation in found.items():
        examples = judged(dataset, split, settings)
        items = evaluation.ranked(examples).items
        assert evaluation.lists is not None
        users = [_user(dataset, user) for user in examples.users.tolist()]
        columns = {
            "split": pa.array([split] * len(examples), pa.string()),
            "example": pa.array(np.arange(len(examples), dtype=np.int32)),
            "user": pa.array(users, pa.string()),
            "target": names.take(pa.array(examples.targets)),
            "items": _lists(items, names),
        }
        if evaluation.lists.places is None:
            columns["sids"] = _lists(evaluation.lists.candidates, sids)
        parts.append(pa.table(columns))
    return table_bytes(pa.concat_tables(parts))


def _lists(indices: NDArray[np.int32], words: pa.Array) -> pa.ListArray:
    """Lists [n, W] of indices by their words; -1 is an empty place, behind all others."""
    real = indices >= 0
    offsets = np.concatenate([[0], np.cumsum(real.sum(axis=1))])
    return pa.ListArray.from_arrays(
        pa.array(offsets, pa.int32()), words.take(pa.array(indices[real]))
    )


def _user(dataset: Dataset, user: int) -> str:
    known = dataset.contents.user_names
    return known[user] if known else str(user)
