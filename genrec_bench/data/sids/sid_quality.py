"""The quality of SIDs, measured before anything is trained on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from genrec_bench.storage.validation import checked

Indices = NDArray[np.int64]

SHUFFLES = 10
SHUFFLE_SEED = 0
"""Of the categories, for the agreement that comes by chance."""


@dataclass(frozen=True)
class LevelQuality:
    """One level of the SIDs; prefixes are those that end at it.

    Attributes:
        level: from 1.
        num_codes: K_l, the codes that there are.
        used: codes that some item has.
        perplexity: exp of the entropy of the codes' shares of items; num_codes if all are used
            equally.
        prefixes: distinct ones.
        error: reconstruction error when the codes up to here are known, as `Quality.error`; None
            where it is not known, as of a level that resolves collisions.
        agreement: of prefixes with categories: normalized mutual information, 2 I / (H + H'), of an
            item's prefix and its category; 0 where they tell nothing of each other, 1 where they
            are the same up to names. None where there are no categories.
        chance: the same with categories shuffled among items, mean of some shuffles. It rises
            with the number of prefixes: only an agreement above it means something.
        counts: items of each used code, most first.
    """

    level: int
    num_codes: int
    used: int
    perplexity: float
    prefixes: int
    error: float | None
    agreement: float | None
    chance: float | None
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Quality:
    """The quality of SIDs.

    Attributes:
        distinct: number of distinct SIDs.
        sharing: share of items whose SID another item has too.
        largest: most items that have the same SID.
        error: summed squared distances of vectors to their reconstructions, divided by those to
            the vectors' mean: 0 is exact, 1 no better than the mean. None where unknown.
        neighbours: mean LCP / L of an item and the nearest other item by the cosine of their
            vectors; items with a zero vector are left out. None where no two are left.
        strangers: mean LCP / L over all pairs of items: `neighbours` by chance. None for one item.
    """

    items: int
    distinct: int
    sharing: float
    largest: int
    error: float | None
    neighbours: float | None
    strangers: float | None
    levels: tuple[LevelQuality, ...]


def quality(
    codes: NDArray[np.int32],
    codes_per_level: Sequence[int],
    vectors: NDArray[np.float32] | None,
    reconstruction: NDArray[np.float32] | None,
    categories: Sequence[tuple[str, ...]] | None,
    errors: Sequence[float] = (),
) -> Quality:
    """Judge SIDs by themselves, by the vectors that they were made of, and by categories.

    Args:
        codes: [n, L] zero-based, n > 0.
        vectors: [n, E], or None where they are not known.
        reconstruction: [n, E] what the SIDs say of the vectors, or None.
        categories: for each item its categories from the widest to the narrowest, () where none is
            known. Names that all items begin with tell nothing; the first one after them is the
            item's category.
        errors: reconstruction error of the first levels, as `methods.Quantized` has it.
    """
    prefixes = _prefixes(codes, codes_per_level)
    labels = None if categories is None else _labels(categories)
    shared = np.bincount(prefixes[-1])
    items, pairs = len(codes), len(codes) * (len(codes) - 1)
    # Two items have an LCP of l or more where they share the prefix of level l.
    together = sum(int((count * (count - 1)).sum()) for count in map(np.bincount, prefixes))
    known = [error if np.isfinite(error) else None for error in errors]
    known += [None] * (len(prefixes) - len(known))
    levels = []
    for place, (num_codes, prefix) in enumerate(zip(codes_per_level, prefixes, strict=True)):
        counts = np.sort(np.bincount(codes[:, place], minlength=num_codes))[::-1]
        agreement, chance = (None, None) if labels is None else _agreement(prefix, labels)
        level = LevelQuality(
            level=place + 1,
            num_codes=num_codes,
            used=int((counts > 0).sum()),
            perplexity=perplexity(counts),
            prefixes=int(prefix.max()) + 1,
            error=known[place],
            agreement=agreement,
            chance=chance,
            counts=tuple(counts[counts > 0].tolist()),
        )
        levels.append(level)
    return Quality(
        items=items,
        distinct=len(shared),
        sharing=float(shared[shared > 1].sum() / items),
        largest=int(shared.max()),
        error=_error(vectors, reconstruction),
        neighbours=None if vectors is None else _neighbours(codes, vectors),
        strangers=together / pairs / len(prefixes) if pairs else None,
        levels=tuple(levels),
    )


def quality_of(found: Mapping[str, Any]) -> Quality:
    """Return the quality that `asdict` made plain; ValueError, in one line, for other values."""
    read, wrong = checked(Quality, dict(found))
    if read is None or not read.levels:
        raise ValueError("; ".join(wrong) or "it has no levels")
    return read


def format_quality(found: Quality) -> str:
    """Return the quality as lines and a table for the terminal."""
    lines = [
        f"{found.items} items, {found.distinct} distinct SIDs; {found.sharing:.2%} of items share "
        f"theirs, at most {found.largest} the same"
    ]
    if found.error is not None:
        lines.append(f"reconstruction error: {found.error:.4f} of the vectors' variance")
    if found.neighbours is not None:
        lines.append(
            f"nearest neighbours begin with the same codes for {found.neighbours:.1%} of the SID, "
            f"any two items for {found.strangers:.1%}"
        )
    named = {"num_codes": "codes", "chance": "by chance"}
    levels = [asdict(level) for level in found.levels]
    known = [name for name in levels[0] if any(level[name] is not None for level in levels)]
    shown = [name for name in known if name != "counts"]
    rows = [{named.get(name, name): level[name] for name in shown} for level in levels]
    lines += ["", tabulate(rows, headers="keys", floatfmt=".4g", missingval="-")]
    if "agreement" in shown:
        lines += [
            "",
            "agreement: normalized mutual information of prefixes and categories; only what is "
            "above chance means something",
        ]
    return "\n".join(lines)


def perplexity(counts: Indices) -> float:
    """Return exp(-sum p log p) of the shares p = counts / sum(counts), 0 log 0 being 0."""
    shares = counts[counts > 0] / counts.sum()
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _prefixes(codes: NDArray[np.int32], codes_per_level: Sequence[int]) -> list[Indices]:
    """For each level [n] the number of each item's prefix, from 0."""
    found: list[Indices] = []
    prefix = np.zeros(len(codes), dtype=np.int64)
    for level, num_codes in enumerate(codes_per_level):
        _, prefix = np.unique(prefix * num_codes + codes[:, level], return_inverse=True)
        found.append(prefix)
    return found


def _labels(categories: Sequence[tuple[str, ...]]) -> Indices | None:
    """[n] each item's category, -1 where it has none; None where fewer than two occur."""
    known = [path for path in categories if path]
    depth = 0
    while len(names := {path[depth : depth + 1] for path in known}) == 1 and () not in names:
        depth += 1
    number = {name: place for place, name in enumerate(sorted(names - {()}))}
    if len(number) < 2:
        return None
    return np.array([number.get(path[depth : depth + 1], -1) for path in categories])


def _agreement(prefix: Indices, labels: Indices) -> tuple[float, float]:
    """Return the agreement of prefixes and categories, and the one that comes by chance."""
    from sklearn.metrics import normalized_mutual_info_score

    has = labels >= 0
    prefix, labels = prefix[has], labels[has]
    rng = np.random.default_rng(SHUFFLE_SEED)
    by_chance = [
        float(normalized_mutual_info_score(rng.permutation(labels), prefix))
        for _ in range(SHUFFLES)
    ]
    return float(normalized_mutual_info_score(labels, prefix)), float(np.mean(by_chance))


def _error(
    vectors: NDArray[np.float32] | None, reconstruction: NDArray[np.float32] | None
) -> float | None:
    if vectors is None or reconstruction is None:
        return None
    exact = vectors.astype(np.float64)
    whole = float(np.square(exact - exact.mean(axis=0)).sum())
    return float(np.square(exact - reconstruction).sum()) / whole if whole > 0 else None


def _neighbours(codes: NDArray[np.int32], vectors: NDArray[np.float32]) -> float | None:
    from sklearn.neighbors import NearestNeighbors

    known = np.flatnonzero(vectors.any(axis=1))
    if len(known) < 2:
        return None
    index = NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute").fit(vectors[known])
    # Without an argument an item is no neighbour of itself.
    nearest = index.kneighbors(return_distance=False)[:, 0]
    same = codes[known] == codes[known[nearest]]
    return float(np.cumprod(same, axis=1).mean())
