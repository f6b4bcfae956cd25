"""The filters of a card: each drops interactions, and says which and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.preparation.interactions import Interactions
from genrec_bench.data.preparation.raw_recipe import OPTIONS, Step

SHORTEST_TITLE = 2
"""Characters; what is shorter is a slip of the source, no title."""

MILLISECONDS_A_DAY = 86_400_000

Reasons = dict[str, NDArray[np.bool_]]
"""Which rows ([n]) are dropped, by the reason; a row has one reason at most."""


@dataclass(frozen=True)
class Counts:
    """How much there is."""

    users: int
    items: int
    interactions: int

    @classmethod
    def of(cls, interactions: Interactions) -> "Counts":
        """Count interactions without unused names."""
        users, items = interactions.user_names, interactions.item_names
        return cls(len(users), len(items), len(interactions))


@dataclass(frozen=True)
class Filtered:
    """What a step did.

    Attributes:
        step: which one, with its options.
        removed: interactions that it dropped, by the reason.
    """

    step: str
    before: Counts
    after: Counts
    removed: Mapping[str, int]


def is_usable(title: str, longest: int) -> bool:
    """Return whether a title is long enough and has at most ``longest`` words (0: any number)."""
    return len(title) >= SHORTEST_TITLE and not 0 < longest < len(title.split())


def apply_step(
    step: Step, interactions: Interactions, titles: Mapping[str, str]
) -> tuple[Interactions, Filtered]:
    """Apply one step that `check_steps` lets pass to interactions without unused names.

    Titles, by item name, are read by "titles" alone; a missing one is empty.

    Returns:
        What is left, without the names that are gone; and what to report.
    """
    if step.step == "titles":
        reasons = _without_title(step, interactions, titles)
    elif step.step == "window":
        reasons = _outside(step, interactions)
    elif step.step == "duplicates":
        reasons = _repeated(step, interactions)
    else:
        reasons = _below_core(step, interactions)
    options = (f"{key} {getattr(step, key)}" for key in OPTIONS[step.step] if getattr(step, key))
    return drop(interactions, reasons, " ".join([step.step, *options]))


def drop(interactions: Interactions, reasons: Reasons, step: str) -> tuple[Interactions, Filtered]:
    """Return what is left without the rows that there is a reason to drop, and what to report.

    Neither the interactions nor what is left of them have unused names.
    """
    dropped = np.zeros(len(interactions), dtype=bool)
    for rows in reasons.values():
        dropped |= rows
    left = interactions.keep(~dropped).compact()
    removed = {reason: int(np.count_nonzero(rows)) for reason, rows in reasons.items()}
    told = {reason: rows for reason, rows in removed.items() if rows}
    return left, Filtered(step, Counts.of(interactions), Counts.of(left), told)


def too_few(interactions: Interactions, fewest: int) -> NDArray[np.bool_]:
    """Return which rows ([n]) are of users with fewer than ``fewest`` of them."""
    rows: NDArray[np.bool_] = np.bincount(interactions.users)[interactions.users] < fewest
    return rows


def _without_title(step: Step, interactions: Interactions, titles: Mapping[str, str]) -> Reasons:
    names = interactions.item_names
    empty = np.array([not titles.get(name, "") for name in names], dtype=bool)
    long = step.longest_title
    usable = np.array([is_usable(titles.get(name, ""), long) for name in names], dtype=bool)
    return {
        "item without a title": empty[interactions.items],
        "title too short or too long": (~usable & ~empty)[interactions.items],
    }


def _outside(step: Step, interactions: Interactions) -> Reasons:
    reasons = {}
    if step.since:
        reasons[f"before {step.since}"] = interactions.times < _midnight(step.since)
    if step.until:
        reasons[f"from {step.until} on"] = interactions.times >= _midnight(step.until)
    return reasons


def _repeated(step: Step, interactions: Interactions) -> Reasons:
    users, items, times = interactions.users, interactions.items, interactions.times
    if step.keep == "exact":
        # Equal rows are neighbours in the order of all rows.
        same = (users[1:] == users[:-1]) & (items[1:] == items[:-1]) & (times[1:] == times[:-1])
        return {"repeats user, item and time": np.concatenate([[False], same])[: len(users)]}
    # Imported late: pandas takes its time, and cards are checked without it.
    import pandas as pd

    pairs = pd.Series(users.astype(np.int64) * len(interactions.item_names) + items)
    repeated = pairs.duplicated(keep="last" if step.keep == "last" else "first")
    return {"repeats user and item": repeated.to_numpy()}


def _below_core(step: Step, interactions: Interactions) -> Reasons:
    """Drop round by round; whatever the order, the same rows remain in the end."""
    of_user = np.zeros(len(interactions), dtype=bool)
    of_item = np.zeros(len(interactions), dtype=bool)
    left = np.arange(len(interactions))
    while True:
        users, items = interactions.users[left], interactions.items[left]
        weak_user = np.bincount(users)[users] < step.users
        weak_item = (np.bincount(items)[items] < step.items) & ~weak_user
        of_user[left[weak_user]] = True
        of_item[left[weak_item]] = True
        strong = ~(weak_user | weak_item)
        if strong.all():
            break
        left = left[strong]
    return {
        f"user with fewer than {step.users}": of_user,
        f"item with fewer than {step.items}": of_item,
    }


def _midnight(day: str) -> int:
    """Return the first millisecond of a day in UTC."""
    return (date.fromisoformat(day) - date(1970, 1, 1)).days * MILLISECONDS_A_DAY
