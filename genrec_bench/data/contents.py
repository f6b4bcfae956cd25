"""What is kept of a dataset: everything but the SIDs, and these too if its source brings them."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import (
    PARTIAL_BELOW,
    Dataset,
    Examples,
    build_dataset,
    contents_fingerprint,
)
from genrec_bench.data.sids.sid_store import SIDs
from genrec_bench.data.vectors.vector_cache import texts_sha256


@dataclass(frozen=True, eq=False)
class Contents:
    """What is kept of a dataset, with SIDs only if its source files bring them.

    Attributes:
        card: what it should be.
        item_names: [num_items] identifiers in the source.
        titles: [num_items], "" where unknown.
        splits: "train", "valid" and "test".
        sids: [num_items, L] zero-based codes, or None.
        descriptions: [num_items], "" where unknown.
        categories: [num_items] from the widest to the narrowest, none where unknown.
        times: when each target was taken, in milliseconds since 1970 UTC, by split; empty where
            the source says only in what order.
        ceiling: best possible metrics by split, empty where unknown.
        report: of the preparation, as JSON holds it; empty where the source is prepared already.
    """

    card: Card
    item_names: tuple[str, ...]
    titles: tuple[str, ...]
    splits: Mapping[str, Examples]
    sids: NDArray[np.int32] | None
    descriptions: tuple[str, ...]
    categories: tuple[tuple[str, ...], ...]
    times: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    ceiling: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, dataset: Dataset, descriptions: Sequence[str] = ()) -> "Contents":
        """Return what is kept of a dataset that brings its SIDs."""
        catalog = dataset.catalog
        return cls(
            card=dataset.card,
            item_names=catalog.item_names,
            titles=catalog.titles,
            splits=dataset.splits,
            sids=catalog.sids,
            descriptions=tuple(descriptions) or ("",) * catalog.num_items,
            categories=((),) * catalog.num_items,
            ceiling=dataset.ceiling,
        )

    @property
    def made(self) -> str:
        """How it came to be: "drawn", "imported" or "prepared" from raw files."""
        if self.card.layout == "synthetic":
            return "drawn"
        return "prepared" if self.report else "imported"

    @property
    def partial(self) -> bool:
        """Whether the training set is smaller than the card expects."""
        return len(self.splits["train"]) < PARTIAL_BELOW * (self.card.expected.train_rows or 0)

    @property
    def fingerprint(self) -> str:
        """Hash of examples, item names, titles and the rule for shared SIDs."""
        return contents_fingerprint(self.card, self.item_names, self.titles, self.splits)

    @cached_property
    def descriptions_sha256(self) -> str:
        """Hash of the descriptions, which SIDs may be made of and no policy reads; "" for none."""
        return texts_sha256(self.descriptions) if any(self.descriptions) else ""

    def dataset(self) -> Dataset:
        """Return the dataset with the SIDs that the source brings."""
        assert self.sids is not None
        return build_dataset(
            self.card, self.sids, self.item_names, self.titles, self.splits, self.ceiling
        )

    def with_sids(self, sids: SIDs, name: str) -> Dataset:
        """Return the dataset with SIDs that were made for it.

        Args:
            sids: to be used.
            name: of the dataset with these.
        """
        card = dataclasses.replace(self.card, codes_per_level=sids.codes_per_level)
        names = (self.item_names, self.titles)
        return build_dataset(card, sids.codes, *names, self.splits, self.ceiling, name)
