"""Whether SIDs, titles and sequences are of the same items: what is alike in one is in another.

Files that count from different numbers give each item the SID or the title of its neighbour, and
nothing fails. So three things are held against each other, two by two:

- SIDs and titles: how much of its SID an item shares with the item whose words are the most alike;
- SIDs and sequences: how much of it two items share that a user took one after the other;
- titles and sequences: how alike the words of such items are.

Each is compared with what it is when the items are shuffled, and when all are moved by one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from genrec_bench.data.dataset import Contents
from genrec_bench.data.vectors.embeddings import (
    DESCRIPTION_WORDS,
    ENOUGH_TEXTS,
    item_texts,
    word_weights,
)

FEWEST_ITEMS, FEWEST_PAIRS = 30, 50
"""With fewer nothing can be told."""

MOST_PAIRS, MOST_QUERIES = 50_000, 500
SHUFFLES = 20
SEED = 0

FAR = 3.0
"""Standard deviations among shuffles: what is nearer to their mean is what chance gives."""

Pairs = NDArray[np.int64]
"""[n, 2] items that should be alike."""


@dataclass(frozen=True)
class Agreement:
    """How alike the items of pairs are in something else.

    Attributes:
        what: in what they are paired, and in what they are compared.
        found: mean likeness, from 0 to 1; chance: the same with items shuffled.
        spread: standard deviation of it among shuffles.
        moved: the same where each item has what belongs to the one before it, and to the one after.
        needed: whether agreement is to be expected. Words may tell nothing of what users take.
    """

    what: str
    found: float
    chance: float
    spread: float
    moved: tuple[float, float]
    needed: bool = True

    @property
    def by_chance(self) -> bool:
        """Whether it is not above what chance gives."""
        return self.found < self.chance + FAR * self.spread

    @property
    def shift(self) -> int:
        """By how many places items are moved if that agrees far better: -1, 1, or 0 for no."""
        best = int(np.argmax(self.moved))
        better = self.moved[best] > self.found + FAR * self.spread
        return (1, -1)[best] if better and self.moved[best] > 1.1 * self.found else 0

    def told(self) -> str:
        """Return a line; it begins with ``warning:`` where something is wrong."""
        line = f"{self.what} {self.found:.3f}, of shuffled items {self.chance:.3f}"
        if self.shift:
            by = f"{max(self.moved):.3f} if all are moved by one place"
            return f"warning: {line}, and {by}: is one of the files counted from another number?"
        if self.by_chance and self.needed:
            return f"warning: {line}: that is what chance gives; are they of the same items?"
        return line


def agreements(contents: Contents, sids: NDArray[np.int32] | None) -> list[Agreement]:
    """Return how SIDs ([num_items, L], None for none), titles and training sequences agree.

    What is missing or too little to tell anything is left out.
    """
    if len(contents.item_names) < FEWEST_ITEMS:
        return []
    rng = np.random.default_rng(SEED)
    texts: Sequence[str] = contents.titles
    if sum(map(bool, texts)) < ENOUGH_TEXTS * len(texts):
        texts = item_texts(contents.titles, contents.descriptions)
    words = word_weights(texts, DESCRIPTION_WORDS)
    taken = _one_after_the_other(contents, rng)
    found = []
    if sids is not None and words is not None:
        alike = _shared_codes(sids)
        what = "items with the most alike words share of their SIDs"
        found.append(_agreement(what, _nearest_words(words, rng), alike, len(sids), rng))
    if sids is not None:
        what = "items taken one after the other share of their SIDs"
        found.append(_agreement(what, taken, _shared_codes(sids), len(sids), rng))
    if words is not None:
        what = "items taken one after the other share of their words"
        one = _agreement(what, taken, _shared_words(words), words.shape[0], rng)
        found.append(one and replace(one, needed=False))
    return [one for one in found if one is not None]


def _agreement(
    what: str,
    pairs: Pairs,
    alike: Callable[[Pairs], float],
    num_items: int,
    rng: np.random.Generator,
) -> Agreement | None:
    if len(pairs) < FEWEST_PAIRS:
        return None
    shuffled = [alike(rng.permutation(num_items)[pairs]) for _ in range(SHUFFLES)]
    before, after = ((pairs + by) % num_items for by in (-1, 1))
    return Agreement(
        what,
        alike(pairs),
        float(np.mean(shuffled)),
        float(np.std(shuffled, ddof=1)),
        (alike(before), alike(after)),
    )


def _shared_codes(sids: NDArray[np.int32]) -> Callable[[Pairs], float]:
    """Return the mean length of the common prefix of pairs' SIDs, over L."""

    def alike(pairs: Pairs) -> float:
        same = sids[pairs[:, 0]] == sids[pairs[:, 1]]
        return float(np.cumprod(same, axis=1).mean())

    return alike


def _shared_words(words: scipy.sparse.csr_array) -> Callable[[Pairs], float]:
    """Return the mean cosine of pairs' words, [num_items, W], rows of length 1 or 0."""

    def alike(pairs: Pairs) -> float:
        return float(words[pairs[:, 0]].multiply(words[pairs[:, 1]]).sum() / len(pairs))

    return alike


def _one_after_the_other(contents: Contents, rng: np.random.Generator) -> Pairs:
    """Return last items of training histories with the targets, where they differ; some."""
    train = contents.splits["train"]
    rows = np.flatnonzero(train.history_lengths > 0)
    last = train.history_items[train.history_offsets[rows + 1] - 1]
    pairs: Pairs = np.stack([last, train.targets[rows]], axis=1).astype(np.int64)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    some: Pairs = pairs[np.sort(rng.permutation(len(pairs))[:MOST_PAIRS])]
    return some


def _nearest_words(words: scipy.sparse.csr_array, rng: np.random.Generator) -> Pairs:
    """Return some items that have words, each with the other item whose words are nearest."""
    known = np.flatnonzero(np.diff(words.indptr))
    queries = np.sort(rng.permutation(known)[:MOST_QUERIES])
    found: list[Sequence[int]] = []
    for query in queries.tolist():
        cosines = (words @ words[[query]].T).toarray()[:, 0]
        cosines[query] = -1.0
        nearest = int(np.argmax(cosines))
        if cosines[nearest] > 0:
            found.append((query, nearest))
    return np.array(found, dtype=np.int64).reshape(-1, 2)
