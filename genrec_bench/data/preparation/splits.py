"""From interactions to the examples of three splits.

An example is an interaction, its target, with what its user took before, its history. A user's
order is that of time, and of item names where times are equal.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Examples, offsets_of
from genrec_bench.data.preparation.interactions import Interactions

Ints = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Splits:
    """Examples by split, in the order train, valid, test.

    Attributes:
        examples: users and items are indices into the names of the interactions.
        target_times: when each example's target was taken, in milliseconds since 1970 in UTC.
    """

    examples: dict[str, Examples]
    target_times: dict[str, Ints]


@dataclass(frozen=True, eq=False)
class Sequences:
    """The interactions user by user, in each user's order.

    Attributes:
        times: [n] milliseconds since 1970 in UTC; users and items are [n] too.
        place: [n] how many interactions of the user come before.
        following: [n] how many interactions of the user come after.
        rows: [n] where the interaction of each row of the log stands here.
    """

    users: NDArray[np.int32]
    items: NDArray[np.int32]
    times: Ints
    place: Ints
    following: Ints
    rows: Ints

    @classmethod
    def of(cls, interactions: Interactions) -> "Sequences":
        """Sort by user; the order of the log is each user's own already."""
        order = np.argsort(interactions.users, kind="stable")
        counts = interactions.per_user()
        following = np.repeat(np.cumsum(counts), counts) - 1 - np.arange(len(order))
        return cls(
            users=interactions.users[order],
            items=interactions.items[order],
            times=interactions.times[order],
            place=np.repeat(counts, counts) - 1 - following,
            following=following,
            rows=np.argsort(order),
        )

    def examples(self, targets: Ints, history_length: int) -> Examples:
        """Return the examples of targets ([m] places, none of them a user's first).

        A history holds the last ``history_length`` items at most.
        """
        lengths = np.minimum(self.place[targets], history_length)
        offsets = offsets_of(lengths)
        history_items = np.empty(offsets[-1], dtype=np.int32)
        # The last items first: indices are held of one item a history, not of all at once.
        left = np.arange(len(targets))
        for back in range(1, int(lengths.max(initial=0)) + 1):
            left = left[lengths[left] >= back]
            history_items[offsets[left + 1] - back] = self.items[targets[left] - back]
        return Examples(
            users=self.users[targets].astype(np.int64),
            history_items=history_items,
            history_offsets=offsets,
            targets=self.items[targets],
        )


def chronological(interactions: Interactions, history_length: int) -> Splits:
    """Make every interaction with a history an example, and cut the examples 8:1:1 by time.

    They are sorted by the time of the target, then by user name, then by place in the user's order.
    """
    sequences = Sequences.of(interactions)
    # Rows of the log come by time, user and item, and so by time, user and place.
    targets = sequences.rows[sequences.place[sequences.rows] > 0]
    first, second = len(targets) * 8 // 10, len(targets) * 9 // 10
    parts = {"train": targets[:first], "valid": targets[first:second], "test": targets[second:]}
    return _splits(sequences, parts, history_length)


def leave_one_out(interactions: Interactions, history_length: int) -> Splits:
    """Test each user's last interaction, validate on the one before, train on all others.

    The split of ``importers.read_lcrec``: every prefix of what is left is a training example. Users
    with fewer than three interactions have no example. Examples are sorted by user name, then by
    place in the user's order.
    """
    sequences = Sequences.of(interactions)
    place, following = sequences.place, sequences.following
    whole = place + following >= 2
    parts = {
        "train": np.flatnonzero((place > 0) & (following > 1)),
        "valid": np.flatnonzero(whole & (following == 1)),
        "test": np.flatnonzero(whole & (following == 0)),
    }
    return _splits(sequences, parts, history_length)


PROTOCOLS: Mapping[str, tuple[Callable[[Interactions, int], Splits], int]] = {
    "chronological": (chronological, 2),
    "leave-one-out": (leave_one_out, 3),
}
"""How interactions are split, given the history length, and how many of them a user needs."""


def _splits(sequences: Sequences, parts: Mapping[str, Ints], history_length: int) -> Splits:
    examples = {name: sequences.examples(part, history_length) for name, part in parts.items()}
    return Splits(examples, {name: sequences.times[part] for name, part in parts.items()})
