"""What one split gives away of another, counted exactly, for any prepared dataset.

Nothing here is forbidden: leave-one-out lets training see what other users took later, and users
who repeat themselves repeat their histories. The counts tell how much of a score may rest on it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Examples

Ints = NDArray[np.int64]

SPLITS = ("train", "valid", "test")

LATER_TARGETS = "targets later than its first target"
LATER_REPEATS = "user and target again, later than its first target"
OTHER_TARGETS = "rows whose history has another target"
"""Why rewards go by row: looked up by history, all but one of its targets would be lost."""

REPEATED_HISTORIES = "rows with the same history"
REPEATED_PAIRS = "rows with the same history and target"
"""Both count rows of any user. Within a split, the first row of a pair is not counted."""

REPEATED_ROWS = "rows with the same user, history and target"
USERS = "users in both"
COLD_ITEMS = "cold items"
COLD_TARGETS = "rows with a cold target"
"""An item is cold if the other split has it neither in a history nor as a target."""


@dataclass(frozen=True)
class Leak:
    """One count.

    Attributes:
        split: the one that is judged.
        other: the one that gives something away; the same one for counts within a split.
        what: one of the constants above.
        found: how many; None where nobody knows, as the times are not kept.
        of: how many there could be: rows of ``other`` for ``LATER_TARGETS``, of ``split`` for all
            else but users and items.
    """

    split: str
    other: str
    what: str
    found: int | None
    of: int


@dataclass(frozen=True)
class Leaks:
    """All counts of a dataset, and what to bear in mind when reading them."""

    counts: tuple[Leak, ...]
    note: str

    def found(self, what: str, split: str, other: str) -> int | None:
        """Return one count; KeyError where it was not made."""
        for leak in self.counts:
            if (leak.what, leak.split, leak.other) == (what, split, other):
                return leak.found
        raise KeyError((what, split, other))

    def as_rows(self) -> list[dict[str, Any]]:
        """Return one row of a table a count, by column heading."""
        return [
            {
                "split": leak.split,
                "against": leak.other,
                "what": leak.what,
                "found": "unknown" if leak.found is None else leak.found,
                "of": leak.of,
                "share": None if leak.found is None else leak.found / max(leak.of, 1),
            }
            for leak in self.counts
        ]


def find_leaks(
    splits: Mapping[str, Examples],
    target_times: Mapping[str, Ints] | None = None,
    protocol: str = "",
) -> Leaks:
    """Count what splits give away of each other.

    A training target is *later* where it was taken after the first target of the split that is
    judged: whoever deployed the policy at that time could not have known it.

    Args:
        splits: "train", "valid" and "test", which share the indices of users and items.
        target_times: [n] of each split, in milliseconds; None or a split missing where unknown.
    """
    times = target_times or {}
    splits = {name: splits[name] for name in SPLITS}  # earlier ones first
    known = [items for part in splits.values() for items in (part.history_items, part.targets)]
    num_items = 1 + int(max(items.max(initial=-1) for items in known))
    histories, pairs = _history_numbers(splits, num_items)
    # Of users, items and numbered pairs there are so few that products of two stay exact.
    bought = _numbered(
        {name: part.users * num_items + part.targets for name, part in splits.items()}
    )
    num_pairs = sum(map(len, splits.values()))
    rows = _numbered({name: part.users * num_pairs + pairs[name] for name, part in splits.items()})
    counts = []
    for name in splits:
        others = _with_another_target(histories, pairs, name, name)
        size = len(splits[name])
        counts.append(Leak(name, name, OTHER_TARGETS, others, size))
        repeated = size - len(np.unique(pairs[name]))
        counts.append(Leak(name, name, REPEATED_PAIRS, repeated, size))
    for other, name in combinations(splits, 2):
        size = len(splits[name])
        users = np.unique(splits[name].users)
        late = _later(times, name, other)
        late_targets = None if late is None else int(np.count_nonzero(late))
        repeats = None if late is None else _among(bought[name], bought[other][late])
        others = _with_another_target(histories, pairs, name, other)
        counts += [
            Leak(name, other, LATER_TARGETS, late_targets, len(splits[other])),
            Leak(name, other, LATER_REPEATS, repeats, size),
            Leak(name, other, OTHER_TARGETS, others, size),
            Leak(name, other, REPEATED_HISTORIES, _among(histories[name], histories[other]), size),
            Leak(name, other, REPEATED_PAIRS, _among(pairs[name], pairs[other]), size),
            Leak(name, other, REPEATED_ROWS, _among(rows[name], rows[other]), size),
            Leak(name, other, USERS, _among(users, splits[other].users), len(users)),
        ]
    shown = {
        name: np.union1d(part.history_items, part.targets).astype(np.int64)
        for name, part in splits.items()
    }
    for name in SPLITS[1:]:
        for what, items in ((COLD_ITEMS, shown[name]), (COLD_TARGETS, splits[name].targets)):
            cold = len(items) - _among(items, shown["train"])
            counts.append(Leak(name, "train", what, cold, len(items)))
    return Leaks(tuple(counts), _note(bool(times), protocol))


def _note(timed: bool, protocol: str) -> str:
    if not timed:
        return "The source keeps no times, so that later targets are unknown."
    if protocol == "leave-one-out":
        return (
            "Leave-one-out cuts each user's order, not time: by design, training may have targets "
            "later than those of valid and test."
        )
    return ""


def _history_numbers(
    splits: Mapping[str, Examples], num_items: int
) -> tuple[dict[str, Ints], dict[str, Ints]]:
    """Number equal histories equally, and so pairs of history and target; both by split, [n].

    Histories of one length are told apart item by item, and only those that are still alike are
    looked at further: exact, and soon done.
    """
    items = np.concatenate([part.history_items for part in splits.values()])
    lengths = np.concatenate([part.history_lengths for part in splits.values()])
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    numbers, unused = lengths.copy(), int(lengths.max(initial=0)) + 1
    place, alike = 0, np.flatnonzero(lengths > 0)
    while len(alike):
        keys = numbers[alike] * num_items + items[starts[alike] + place]
        _, group, sizes = np.unique(keys, return_inverse=True, return_counts=True)
        numbers[alike] = unused + group
        unused += len(sizes)
        place += 1
        alike = alike[(sizes[group] > 1) & (lengths[alike] > place)]
    ends = np.cumsum([len(part) for part in splits.values()])[:-1]
    histories = _numbered(dict(zip(splits, np.split(numbers, ends), strict=True)))
    pairs = {name: histories[name] * num_items + part.targets for name, part in splits.items()}
    return histories, _numbered(pairs)


def _numbered(keys: Mapping[str, Ints]) -> dict[str, Ints]:
    """Replace keys by numbers from 0 on, the same ones in every split."""
    numbers = np.unique(np.concatenate(list(keys.values())), return_inverse=True)[1]
    ends = np.cumsum([len(part) for part in keys.values()])[:-1]
    return dict(zip(keys, np.split(numbers, ends), strict=True))


def _with_another_target(
    histories: Mapping[str, Ints], pairs: Mapping[str, Ints], name: str, other: str
) -> int:
    """Count rows of split ``name`` whose history has in ``other`` a target that is not theirs."""
    _, first = np.unique(pairs[other], return_index=True)
    size = 1 + int(histories[name].max(initial=-1))
    targets = np.bincount(histories[other][first], minlength=size)[histories[name]]
    return int(np.count_nonzero(targets > np.isin(pairs[name], pairs[other])))


def _later(times: Mapping[str, Ints], name: str, other: str) -> NDArray[np.bool_] | None:
    """Return which targets of ``other`` ([n]) come after the first of ``name``; None if unknown."""
    if name not in times or other not in times:
        return None
    if not len(times[name]):
        return np.zeros(len(times[other]), dtype=bool)
    later: NDArray[np.bool_] = times[other] > times[name].min()
    return later


def _among(values: NDArray[np.integer], known: Ints) -> int:
    """Count the values that are known."""
    return int(np.count_nonzero(np.isin(values, known)))
