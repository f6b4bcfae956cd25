"""The three things every part of the benchmark reads: examples, catalog, dataset."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.cards import Card

PARTIAL_BELOW = 0.99
"""A training set smaller than this share of the card's expected rows is called partial."""


@dataclass(frozen=True, eq=False)
class Examples:
    """The examples (history, target) of one split, histories laid end to end.

    Attributes:
        users: [n] dense user index, shared by all splits.
        history_items: flat item indices of all histories, oldest first within a history.
        history_offsets: [n + 1]; history i is `history_items[offsets[i]:offsets[i + 1]]`.
        targets: [n] item indices.
    """

    users: NDArray[np.int64]
    history_items: NDArray[np.int32]
    history_offsets: NDArray[np.int64]
    targets: NDArray[np.int32]

    def __post_init__(self) -> None:
        """Raise ValueError where the arrays do not fit together."""
        n, offsets = len(self.targets), self.history_offsets
        if len(self.users) != n or len(offsets) != n + 1:
            raise ValueError("users, targets and history_offsets disagree about the number of rows")
        if (
            offsets[0] != 0
            or offsets[-1] != len(self.history_items)
            or np.any(np.diff(offsets) < 0)
        ):
            raise ValueError("history_offsets must rise from 0 to the length of history_items")

    @classmethod
    def from_lists(
        cls, users: Sequence[int], histories: Sequence[Sequence[int]], targets: Sequence[int]
    ) -> "Examples":
        """Build from one history a row, each oldest item first."""
        lengths = np.fromiter((len(h) for h in histories), dtype=np.int64, count=len(histories))
        offsets = np.zeros(len(histories) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        flat = (item for history in histories for item in history)
        return cls(
            users=np.asarray(users, dtype=np.int64),
            history_items=np.fromiter(flat, dtype=np.int32, count=int(offsets[-1])),
            history_offsets=offsets,
            targets=np.asarray(targets, dtype=np.int32),
        )

    def __len__(self) -> int:
        """Return the number of examples."""
        return len(self.targets)

    @property
    def history_lengths(self) -> NDArray[np.int64]:
        """[n] number of items in each history."""
        return np.diff(self.history_offsets)

    def history(self, i: int) -> NDArray[np.int32]:
        """Return the items of example i's history, oldest first."""
        return self.history_items[self.history_offsets[i] : self.history_offsets[i + 1]]

    def subset(self, indices: NDArray[np.integer] | Sequence[int]) -> "Examples":
        """Return the examples at `indices` ([m], any order, repeats allowed)."""
        rows = np.asarray(indices, dtype=np.int64)
        lengths = self.history_lengths[rows]
        offsets = np.zeros(len(rows) + 1, dtype=np.int64)
        np.cumsum(lengths, out=offsets[1:])
        # Position of every kept history item: its row's start plus its place in the row.
        shift = np.repeat(self.history_offsets[rows] - offsets[:-1], lengths)
        return Examples(
            users=self.users[rows],
            history_items=self.history_items[shift + np.arange(offsets[-1])],
            history_offsets=offsets,
            targets=self.targets[rows],
        )


@dataclass(frozen=True, eq=False)
class Catalog:
    """All items with their SIDs.

    Attributes:
        sids: [num_items, L] zero-based codes.
        codes_per_level: K_l for each level, at least the largest code + 1.
        item_names: identifiers in the source.
        titles: "" where unknown.
        popularity: [num_items] occurrences as a training target.
        rank_shared: order of items that share a SID, "popularity" (most popular first, then by
            index) or "index".
    """

    sids: NDArray[np.int32]
    codes_per_level: tuple[int, ...]
    item_names: tuple[str, ...]
    titles: tuple[str, ...]
    popularity: NDArray[np.int64]
    rank_shared: str

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.sids)

    @property
    def num_levels(self) -> int:
        """L, the number of codes in a SID."""
        return int(self.sids.shape[1])

    @cached_property
    def _unique(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        sids, inverse = np.unique(self.sids, axis=0, return_inverse=True)
        return sids, inverse.reshape(-1).astype(np.int32)

    @property
    def unique_sids(self) -> NDArray[np.int32]:
        """[num_sids, L] distinct SIDs in lexicographic order."""
        return self._unique[0]

    @property
    def sid_of_item(self) -> NDArray[np.int32]:
        """[num_items] row of each item's SID in `unique_sids`."""
        return self._unique[1]

    @cached_property
    def _ranked(self) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
        indices = np.arange(self.num_items)
        by_rule = -self.popularity if self.rank_shared == "popularity" else indices
        order = np.lexsort((indices, by_rule, self.sid_of_item)).astype(np.int32)
        counts = np.bincount(self.sid_of_item, minlength=len(self.unique_sids))
        return order, np.concatenate([[0], np.cumsum(counts)])

    def items_of_sid(self, sid_index: int) -> NDArray[np.int32]:
        """Return the items of SID `sid_index` (row of `unique_sids`), in the rule's order."""
        order, offsets = self._ranked
        return order[offsets[sid_index] : offsets[sid_index + 1]]


@dataclass(frozen=True, eq=False)
class Dataset:
    """A prepared dataset: its card, its catalog and its three splits.

    Attributes:
        name: the card's name; with SIDs that were made for it, ``NAME@LABEL``.
        card: what the dataset should be.
        catalog: the items.
        train: examples to learn from.
        valid: examples to choose by.
        test: examples to report.
        partial: whether the training set is smaller than the card expects.
        fingerprint: hash of examples, item names, titles and the rule for shared SIDs.
        sid_fingerprint: hash of SIDs and codes per level.
        ceiling: best possible metrics by split ("valid", "test"), empty where unknown.
    """

    name: str
    card: Card
    catalog: Catalog
    train: Examples
    valid: Examples
    test: Examples
    partial: bool
    fingerprint: str
    sid_fingerprint: str
    ceiling: Mapping[str, Mapping[str, float]]

    @property
    def splits(self) -> dict[str, Examples]:
        """The splits by name, in the order train, valid, test."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def build_dataset(
    card: Card,
    sids: NDArray[np.int32],
    item_names: Sequence[str],
    titles: Sequence[str],
    splits: Mapping[str, Examples],
    ceiling: Mapping[str, Mapping[str, float]] | None = None,
    name: str | None = None,
) -> Dataset:
    """Put a dataset together and derive what follows from its contents.

    Args:
        card: the dataset's card.
        sids: [num_items, L] zero-based codes, L as on the card.
        item_names: [num_items] identifiers in the source.
        titles: [num_items], "" where unknown.
        splits: "train", "valid" and "test".
        ceiling: best possible metrics by split, where known.
        name: of the dataset; None for the card's.

    Raises:
        ValueError: an item index outside the catalog, or SIDs of another shape.
    """
    num_items = len(item_names)
    if sids.shape != (num_items, card.num_levels) or len(titles) != num_items:
        raise ValueError("sids, item_names, titles and the card's levels disagree")
    for examples in splits.values():
        for items in (examples.history_items, examples.targets):
            if len(items) and (items.min() < 0 or items.max() >= num_items):
                raise ValueError("an example names an item outside the catalog")
    largest = sids.max(axis=0) if num_items else np.full(card.num_levels, -1)
    pairs = zip(card.codes_per_level, largest, strict=True)
    train = splits["train"]
    catalog = Catalog(
        sids=np.ascontiguousarray(sids, dtype=np.int32),
        codes_per_level=tuple(max(declared, int(code) + 1) for declared, code in pairs),
        item_names=tuple(item_names),
        titles=tuple(titles),
        popularity=np.bincount(train.targets, minlength=num_items).astype(np.int64),
        rank_shared=card.shared_sids,
    )
    return Dataset(
        name=name or card.name,
        card=card,
        catalog=catalog,
        train=train,
        valid=splits["valid"],
        test=splits["test"],
        partial=len(train) < PARTIAL_BELOW * (card.expected.train_rows or 0),
        fingerprint=contents_fingerprint(card, item_names, titles, splits),
        sid_fingerprint=_sid_fingerprint(catalog),
        ceiling=dict(ceiling or {}),
    )


def contents_fingerprint(
    card: Card, item_names: Sequence[str], titles: Sequence[str], splits: Mapping[str, Examples]
) -> str:
    """Hash all of a dataset but its SIDs.

    Args:
        card: name, version and rule for shared SIDs are read.
        item_names: [num_items].
        titles: [num_items].
        splits: "train", "valid" and "test".
    """
    digest = hashlib.sha256()
    head = [card.name, card.version, card.shared_sids, list(item_names), list(titles)]
    digest.update(json.dumps(head, sort_keys=True).encode())
    for name in ("train", "valid", "test"):
        examples = splits[name]
        _add_array(digest, examples.users, "<i8")
        _add_array(digest, examples.history_items, "<i4")
        _add_array(digest, examples.history_offsets, "<i8")
        _add_array(digest, examples.targets, "<i4")
    return digest.hexdigest()


def _sid_fingerprint(catalog: Catalog) -> str:
    digest = hashlib.sha256(json.dumps(catalog.codes_per_level).encode())
    _add_array(digest, catalog.sids, "<i4")
    return digest.hexdigest()


def _add_array(digest: "hashlib._Hash", array: NDArray[np.integer], dtype: str) -> None:
    """Add shape and contents in one byte order, so that every machine gets one hash."""
    digest.update(json.dumps(array.shape).encode())
    digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
