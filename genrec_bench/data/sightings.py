"""What an import or a preparation saw, told at once; ``warning:`` begins what looks wrong.

Nothing here refuses anything: odd data may be what somebody wants to study.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.agreement import agreements
from genrec_bench.data.dataset import Contents, Examples
from genrec_bench.data.preparation.interactions import Interactions
from genrec_bench.data.preparation.leaks import REPEATED_PAIRS, SPLITS, Leaks

FEW_DISTINCT = 0.8
"""Share of items with a SID of their own below which codebooks have collapsed."""

FEW_CODES = 0.1
"""A level on which items use codes as evenly as this share of them would has collapsed."""

ONE_CODE = 1.1
"""So evenly used, a level tells nothing, however few codes it has."""

MANY_FIRST_CODES = 0.5
"""First codes for each item from which on the levels after the first have nothing to tell apart."""

MANY_COPIES = 0.5
"""Share of a split's rows that another split has too from which on they may be one file."""

MANY_TIES = 0.01
SHORTEST_COPY = 5
"""Items of a sequence that two users do not take alike by chance."""


def seen(contents: Contents, leaks: Leaks) -> list[str]:
    """Return what there is to say of a dataset as a whole."""
    lines = count_lines(contents)
    if contents.sids is not None:
        lines += code_lines(contents.sids, contents.own.catalog.codes_per_level)
    lines += copy_lines(contents.splits, leaks)
    return lines + [one.told() for one in agreements(contents, contents.sids)]


def count_lines(contents: Contents) -> list[str]:
    """Return a warning for each count that is not near the card's."""
    expected, found = contents.card.expected, {"items": len(contents.item_names)}
    users = np.concatenate([part.users for part in contents.splits.values()])
    found |= {f"{split}_rows": len(part) for split, part in contents.splits.items()}
    if contents.layout != "mimigenrec":  # whose files name no users
        found["users"] = len(np.unique(users))
    lines = []
    for what, number in found.items():
        wanted = getattr(expected, what)
        if wanted is not None and abs(number - wanted) > 0.01 * wanted and what != "train_rows":
            told = f"{what.replace('_', ' ')}: {number:,}, and the card expects {wanted:,}"
            lines.append(f"warning: {told}: are these the files that the card means?")
    return lines


def code_lines(sids: NDArray[np.int32], codes_per_level: Sequence[int]) -> list[str]:
    """Return warnings of codebooks that collapse, and of codes that are wasted.

    ``sids`` are [num_items, L] zero-based.
    """
    items, levels = sids.shape
    _, shared = np.unique(sids, axis=0, return_counts=True)
    lines = []
    if len(shared) < FEW_DISTINCT * items:
        lines.append(
            f"warning: the codebooks collapse: {len(shared):,} distinct SIDs for {items:,} items, "
            f"up to {shared.max():,} of which share one"
        )
    for level in range(levels):
        counts = np.bincount(sids[:, level])
        counts = counts[counts > 0]
        shares = counts / items
        as_many = float(np.exp(-(shares * np.log(shares)).sum()))
        possible = min(codes_per_level[level], items)
        last_resort = level == levels - 1 and levels > 1 and len(shared) == items
        few = max(FEW_CODES * possible, ONE_CODE) if possible > 1 else 0.0
        if as_many < few and items >= codes_per_level[level] and not last_resort:
            lines.append(
                f"warning: level {level + 1} of the SIDs collapses: {len(counts)} of "
                f"{codes_per_level[level]} codes are used, as unevenly as {as_many:.1f} would be"
            )
    first = codes_per_level[0]
    if first > MANY_FIRST_CODES * items:
        enough = max(2, int(np.ceil(items ** (1 / levels))))
        lines.append(
            f"warning: codes are wasted: {first} first codes for {items} items, so that the first "
            f"code tells most items apart and the others say nothing; {levels} levels of {enough} "
            "would do"
        )
    return lines


def copy_lines(splits: Mapping[str, Examples], leaks: Leaks) -> list[str]:
    """Return what splits hold twice: rows, rows of another split, users with equal sequences."""
    lines = []
    again = {split: leaks.found(REPEATED_PAIRS, split, split) or 0 for split in SPLITS}
    if any(again.values()):
        counts = ", ".join(
            f"{again[split]:,} of {len(splits[split]):,} {split}" for split in SPLITS
        )
        lines.append(f"rows that repeat history and target of another: {counts}")
    for split, other in (("valid", "train"), ("test", "train"), ("test", "valid")):
        equal = leaks.found(REPEATED_PAIRS, split, other) or 0
        if equal > MANY_COPIES * len(splits[split]):
            lines.append(
                f"warning: {equal:,} of {len(splits[split]):,} {split} rows are in {other} too, "
                "with the same history and target: are two splits made of one file?"
            )
    longest = _sequences(splits)
    copies = len(longest) - len(set(longest.values()))
    if copies:
        lines.append(
            f"{copies:,} of {len(longest):,} users with {SHORTEST_COPY} items or more have the "
            "items of another user, in the same order"
        )
    return lines


def log_lines(log: Interactions, drops_copies: bool) -> list[str]:
    """Return how many interactions of a raw log are exact copies of others."""
    users, items, times = log.users, log.items, log.times
    # Equal rows are neighbours.
    same = (users[1:] == users[:-1]) & (items[1:] == items[:-1]) & (times[1:] == times[:-1])
    copies = int(np.count_nonzero(same))
    if not copies:
        return []
    told = f"{copies:,} of {len(log):,} interactions repeat user, item and time of another"
    hint = "" if drops_copies else "; the step {step: duplicates, keep: exact} drops them"
    return [f"{told}{hint}"]


def tie_lines(log: Interactions, protocol: str) -> list[str]:
    """Return how often a tie in time decides which interaction is a test target.

    Where a user took two items at the same time, item names say which comes first.
    """
    order = np.argsort(log.users, kind="stable")
    users, times = log.users[order], log.times[order]
    tied = (users[1:] == users[:-1]) & (times[1:] == times[:-1])
    if protocol == "leave-one-out":
        last = np.flatnonzero(np.append(users[1:] != users[:-1], True))
        found, of = int(np.count_nonzero(tied[last[last > 0] - 1])), len(last)
        what = "users have their last two interactions at one time: which is the test target, names"
    else:
        found, of = int(np.count_nonzero(tied)), len(log)
        what = "interactions have the time of the user's one before: which is the target, names"
    if not found:
        return []
    mark = "warning: " if found > MANY_TIES * of else ""
    return [f"{mark}{found:,} of {of:,} {what} of items decide"]


def _sequences(splits: Mapping[str, Examples]) -> dict[int, bytes]:
    """Return the longest sequence of each user, history and target, where it is long enough."""
    found: dict[int, tuple[int, bytes]] = {}
    for part in splits.values():
        lengths = part.history_lengths
        for row in np.flatnonzero(lengths >= SHORTEST_COPY - 1).tolist():
            user, length = int(part.users[row]), int(lengths[row])
            if user not in found or found[user][0] <= length:
                items = np.append(part.history(row), part.targets[row])
                found[user] = (length, items.tobytes())
    return {user: items for user, (_, items) in found.items()}
