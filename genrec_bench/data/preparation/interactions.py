"""The interactions of a dataset as columns, in an order that does not depend on the files'."""

from array import array
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import count

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Interactions:
    """Who took what, and when.

    Names are sorted, and rows are sorted by time, then by user name, then by item name, so that
    equal logs are equal to the byte. ``keep`` and ``compact`` leave it so.

    Attributes:
        users: [n] indices into ``user_names``.
        items: [n] indices into ``item_names``.
        times: [n] milliseconds since 1970 in UTC.
        user_names: in order of code points; some may be of no row.
        item_names: likewise.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: NDArray[np.int64]
    user_names: tuple[str, ...]
    item_names: tuple[str, ...]

    @classmethod
    def gather(cls, rows: Iterable[tuple[str, str, int]]) -> "Interactions":
        """Read rows in any order: user, item, time in milliseconds since 1970 in UTC.

        A name is kept in memory once, and a row costs three numbers.
        """
        user_index: defaultdict[str, int] = defaultdict(count().__next__)
        item_index: defaultdict[str, int] = defaultdict(count().__next__)
        users, items, times = array("i"), array("i"), array("q")
        add_user, add_item, add_time = users.append, items.append, times.append
        for user, item, time in rows:
            add_user(user_index[user])
            add_item(item_index[item])
            add_time(time)
        user_names, new_user = _sorted_names(user_index)
        item_names, new_item = _sorted_names(item_index)
        of_user = new_user[np.frombuffer(users, dtype=np.int32)]
        of_item = new_item[np.frombuffer(items, dtype=np.int32)]
        when = np.frombuffer(times, dtype=np.int64)
        order = np.lexsort((of_item, of_user, when))
        return cls(of_user[order], of_item[order], when[order], user_names, item_names)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.times)

    def keep(self, rows: NDArray[np.bool_]) -> "Interactions":
        """Return those of the rows ([n]) that are marked; all names stay."""
        return replace(self, users=self.users[rows], items=self.items[rows], times=self.times[rows])

    def compact(self) -> "Interactions":
        """Return the same rows without the names that none of them has."""
        users, user_names = _used(self.users, self.user_names)
        items, item_names = _used(self.items, self.item_names)
        return Interactions(users, items, self.times, user_names, item_names)

    def per_user(self) -> NDArray[np.int64]:
        """Return the number of rows of each user name."""
        return np.bincount(self.users, minlength=len(self.user_names))


def _sorted_names(index: Mapping[str, int]) -> tuple[tuple[str, ...], NDArray[np.int32]]:
    """Return the names sorted, and the place among them of each old index."""
    names = sorted(index)
    place = np.empty(len(names), dtype=np.int32)
    old = np.fromiter((index[name] for name in names), dtype=np.int64, count=len(names))
    place[old] = np.arange(len(names), dtype=np.int32)
    return tuple(names), place


def _used(
    indices: NDArray[np.int32], names: tuple[str, ...]
) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Return the indices numbered anew, and the names that they have; the order stays."""
    left, place = np.unique(indices, return_inverse=True)
    return place.astype(np.int32), tuple(names[i] for i in left.tolist())
