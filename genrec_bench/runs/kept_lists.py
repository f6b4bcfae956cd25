"""Ranked lists that a run keeps: what each user was shown, by the names that users and items have.

A row for each example: `split`, `example` (as in the outcomes), `user`, `target` and `items`, best
first, up to the beam width. Users have numbers where the data were prepared without their names.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pyarrow as pa

from genrec_bench.data.dataset import Dataset
from genrec_bench.storage.parquet import table_bytes
from genrec_bench.training.evaluate import Evaluation, judged
from genrec_bench.training.settings import Settings


def lists_bytes(found: Mapping[str, Evaluation], dataset: Dataset, settings: Settings) -> bytes:
    """Return the lists of several splits as the content of a Parquet file."""
    names = pa.array(dataset.catalog.item_names, pa.string())
    parts = []
    for split, evaluation in found.items():
        examples = judged(dataset, split, settings)
        items = evaluation.ranked(examples).items
        real = items >= 0
        # Empty places stand behind the real ones, so that a list is what is real of its row.
        offsets = np.concatenate([[0], np.cumsum(real.sum(axis=1))])
        lists = pa.ListArray.from_arrays(
            pa.array(offsets, pa.int32()), names.take(pa.array(items[real]))
        )
        users = [_user(dataset, user) for user in examples.users.tolist()]
        parts.append(
            pa.table(
                {
                    "split": pa.array([split] * len(examples), pa.string()),
                    "example": pa.array(np.arange(len(examples), dtype=np.int32)),
                    "user": pa.array(users, pa.string()),
                    "target": names.take(pa.array(examples.targets)),
                    "items": lists,
                }
            )
        )
    return table_bytes(pa.concat_tables(parts))


def _user(dataset: Dataset, user: int) -> str:
    known = dataset.contents.user_names
    return known[user] if known else str(user)
