"""What every part of the benchmark reads: examples, catalog, contents, dataset."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.cards import Card
from genrec_bench.data.columns import TextLists, Texts
from genrec_bench.storage.digests import texts_sha256

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
        offsets = offsets_of(lengths)
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
        offsets = offsets_of(lengths)
        # Position of every kept history item: its row's start plus its place in the row.
        shift = np.repeat(self.history_offsets[rows] - offsets[:-1], lengths)
        return Examples(
            users=self.users[rows],
            history_items=self.history_items[shift + np.arange(offsets[-1])],
            history_offsets=offsets,
            targets=self.targets[rows],
        )


def offsets_of(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return where each of n lists begins that are laid end to end, and the end, [n + 1]."""
    return np.concatenate([[0], np.cumsum(lengths)])


class World(Protocol):
    """What a drawn dataset was drawn from; see `genrec_bench/data/worlds.py`."""

    @property
    def feedback(self) -> str:
        """What algorithms that roll out learn from unless a run asks otherwise."""

    def utilities(self, examples: Examples) -> NDArray[np.float64]:
        """Return the probability that each item is wanted next, [n, num_items]; rows sum to 1."""


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
    item_names: Sequence[str]
    titles: Sequence[str]
    popularity: NDArray[np.int64]
    rank_shared: str

    def __post_init__(self) -> None:
        """Keep texts as columns."""
        for name in ("item_names", "titles"):
            object.__setattr__(self, name, Texts.of(getattr(self, name)))

    @property
    def num_items(self) -> int:
        """Number of items."""
        return len(self.sids)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of SIDs and codes per level."""
        digest = hashlib.sha256(json.dumps(self.codes_per_level).encode())
        _add_array(digest, self.sids, "<i4")
        return digest.hexdigest()

    @property
    def num_levels(self) -> int:
        """L, the number of codes in a SID."""
        return int(self.sids.shape[1])

    @cached_property
    def _unique(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        codes = self.codes_per_level
        if self._fit_one_number:
            # Rows of a table are sorted far more slowly.
            cells = np.ravel_multi_index(tuple(self.sids.T), codes)
            found, inverse = np.unique(cells, return_inverse=True)
            sids = np.empty((len(found), len(codes)), np.int32)
            sids.T[:] = np.unravel_index(found, codes)
        else:
            sids, inverse = np.unique(self.sids, axis=0, return_inverse=True)
        return sids, inverse.reshape(-1).astype(np.int32)

    @property
    def _fit_one_number(self) -> bool:
        """Whether a number of 64 bits tells each SID from all others."""
        inside = bool(((self.sids >= 0) & (self.sids < self.codes_per_level)).all())
        return inside and min(self.codes_per_level) > 0 and math.prod(self.codes_per_level) < 2**63

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
        return order, offsets_of(counts)

    def items_of_sid(self, sid_index: int) -> NDArray[np.int32]:
        """Return the items of SID `sid_index` (row of `unique_sids`), in the rule's order."""
        order, offsets = self._ranked
        return order[offsets[sid_index] : offsets[sid_index + 1]]


@dataclass(frozen=True, eq=False)
class Contents:
    """A dataset without SIDs, except those that its source files bring.

    Attributes:
        item_names: [num_items] identifiers in the source; titles: [num_items], "" where unknown.
        splits: "train", "valid" and "test".
        sids: [num_items, L] zero-based codes; None where the source brings none.
        descriptions: [num_items], "" where unknown; () stands for all unknown.
        categories: [num_items] tuples from the widest to the narrowest, () where unknown; ()
            stands for all unknown.
        times: when each target was taken, in milliseconds since 1970 UTC, by split; empty where
            the source says only in what order.
        ceiling: best possible metrics by split ("valid", "test"), empty where unknown.
        report: of the preparation, as JSON holds it; of an import what was seen, as `notes`.
        layout: of the prepared files that it was imported from; "" for none.
        world: that it was drawn from; None where nobody knows what users want.
        user_names: identifiers in the source by the users' index; empty where nobody kept them.

    Raises:
        ValueError: lengths that disagree, or an example with an item outside the catalog.
    """

    card: Card
    item_names: Sequence[str]
    titles: Sequence[str]
    splits: Mapping[str, Examples]
    sids: NDArray[np.int32] | None = None
    descriptions: Sequence[str] = ()
    categories: Sequence[tuple[str, ...]] = ()
    times: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    ceiling: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    layout: str = ""
    world: World | None = None
    user_names: Sequence[str] = ()

    def __post_init__(self) -> None:
        num_items = len(self.item_names)
        columns: dict[str, object] = {
            "item_names": Texts.of(self.item_names),
            "titles": Texts.of(self.titles),
            "descriptions": Texts.of(self.descriptions or Texts.empty(num_items)),
            "categories": TextLists.of(self.categories or TextLists.empty(num_items)),
            "user_names": Texts.of(self.user_names),
        }
        for name, column in columns.items():
            object.__setattr__(self, name, column)
        for texts in (self.titles, self.descriptions, self.categories):
            if len(texts) != num_items:
                raise ValueError("item_names, titles, descriptions and categories disagree")
        for examples in self.splits.values():
            for items in (examples.history_items, examples.targets):
                if len(items) and (items.min() < 0 or items.max() >= num_items):
                    raise ValueError("an example names an item outside the catalog")

    @property
    def made(self) -> str:
        """How it came to be: "drawn", "imported" or "prepared" from raw files."""
        if self.card.layout == "synthetic":
            return "drawn"
        return "prepared" if self.report and not self.layout else "imported"

    @property
    def partial(self) -> bool:
        """Whether the training set is smaller than the card expects."""
        return len(self.splits["train"]) < PARTIAL_BELOW * (self.card.expected.train_rows or 0)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of examples, item names, titles and the rule for shared SIDs."""
        card, digest = self.card, hashlib.sha256()
        # As JSON of one list would be written, which may be gigabytes.
        head = json.dumps([card.name, card.version, card.shared_sids])[:-1]
        digest.update(head.encode())
        for texts in (self.item_names, self.titles):
            digest.update(b", ")
            for piece in Texts.of(texts).json_pieces():
                digest.update(piece)
        digest.update(b"]")
        for name in ("train", "valid", "test"):
            examples = self.splits[name]
            _add_array(digest, examples.users, "<i8")
            _add_array(digest, examples.history_items, "<i4")
            _add_array(digest, examples.history_offsets, "<i8")
            _add_array(digest, examples.targets, "<i4")
        return digest.hexdigest()

    @cached_property
    def descriptions_sha256(self) -> str:
        """Hash of the descriptions, of which SIDs and rewards may be made; "" for none."""
        return texts_sha256(self.descriptions) if any(self.descriptions) else ""

    @cached_property
    def own(self) -> "Dataset":
        """The dataset with the SIDs that the source brings."""
        assert self.sids is not None
        return self.with_sids(self.sids, self.card.codes_per_level, self.card.name)

    def with_sids(
        self, sids: NDArray[np.int32], codes_per_level: Sequence[int], name: str
    ) -> "Dataset":
        """Return the dataset with these SIDs.

        Args:
            sids: [num_items, L] zero-based codes.
            codes_per_level: [L], raised where a larger code occurs.

        Raises:
            ValueError: SIDs of another shape.
        """
        num_items = len(self.item_names)
        if sids.shape != (num_items, len(codes_per_level)):
            raise ValueError("sids, item_names and the number of levels disagree")
        largest = sids.max(axis=0) if num_items else np.full(len(codes_per_level), -1)
        pairs = zip(codes_per_level, largest, strict=True)
        targets = self.splits["train"].targets
        catalog = Catalog(
            sids=np.ascontiguousarray(sids, dtype=np.int32),
            codes_per_level=tuple(max(declared, int(code) + 1) for declared, code in pairs),
            item_names=self.item_names,
            titles=self.titles,
            popularity=np.bincount(targets, minlength=num_items).astype(np.int64),
            rank_shared=self.card.shared_sids,
        )
        return Dataset(name, self, catalog, self.splits)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A dataset with SIDs, as policies are trained and evaluated on it.

    Attributes:
        name: the card's name; with SIDs that were made for it, ``NAME@LABEL``.
        contents: all of it but the SIDs; the fingerprint is theirs.
        splits: "train", "valid" and "test", those of the contents unless some are withheld.
    """

    name: str
    contents: Contents
    catalog: Catalog
    splits: Mapping[str, Examples]

    @property
    def card(self) -> Card:
        """What the dataset should be."""
        return self.contents.card

    @property
    def train(self) -> Examples:
        """Examples to learn from."""
        return self.splits["train"]

    @property
    def valid(self) -> Examples:
        """Examples to choose by."""
        return self.splits["valid"]

    @property
    def test(self) -> Examples:
        """Examples to report."""
        return self.splits["test"]

    @property
    def partial(self) -> bool:
        """Whether the training set is smaller than the card expects."""
        return self.contents.partial

    @property
    def ceiling(self) -> Mapping[str, Mapping[str, float]]:
        """Best possible metrics by split ("valid", "test"), empty where unknown."""
        return self.contents.ceiling

    @property
    def world(self) -> World | None:
        """What it was drawn from; None where nobody knows what users want."""
        return self.contents.world

    @property
    def fingerprint(self) -> str:
        """Hash of examples, item names, titles and the rule for shared SIDs."""
        return self.contents.fingerprint

    @property
    def sid_fingerprint(self) -> str:
        """Hash of SIDs and codes per level."""
        return self.catalog.fingerprint


def _add_array(digest: "hashlib._Hash", array: NDArray[np.integer], dtype: str) -> None:
    """Add shape and contents in one byte order, so that every machine gets one hash."""
    digest.update(json.dumps(array.shape).encode())
    digest.update(np.ascontiguousarray(array, dtype=dtype).tobytes())
