"""Worlds: drawn datasets that know what every item is worth to the user behind a history.

The utility of an item is the probability that this user wants it next. Feedback of a world is a
purchase, drawn by these probabilities whenever a prompt is visited: a target like a logged one, so
that whatever an algorithm makes of targets (hits, matched levels, nearness, ranks) it makes of
purchases too. For one who rewards the hit, the mean over purchases is the utility itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Examples, World

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

STREAM = 0x70757263
"""Keeps the random numbers of purchases apart from all others of a run's seed."""


@dataclass(frozen=True, eq=False)
class Purchases:
    """What users buy who meet the prompts of a run, once for each visit.

    Attributes:
        examples: whose histories the prompts are; their targets are not looked at.
        seed: of the run.
    """

    world: World
    examples: Examples
    seed: int

    def __call__(self, rows: Ints, visits: Ints) -> Ints:
        """Draw the targets of some prompts, [n] item indices.

        A purchase depends on the seed, the history and the number of the visit, and on nothing
        else: not on the batch, the process, or where a run was resumed.

        Args:
            rows: [n] which examples.
            visits: [n] how many prompts the run had visited before each of them.
        """
        chances = [_chance(self.seed, visit) for visit in visits.tolist()]
        return items_at(self.world.utilities(self.examples.subset(rows)), np.array(chances))


def items_at(probabilities: Floats, chances: Floats) -> Ints:
    """Return the item of each row of [n, num_items] that a number of [0, 1) falls on, [n]."""
    cumulative = np.cumsum(probabilities, axis=1)
    # Scaled by the row's own sum, so that rounding cannot push a draw past the last column.
    drawn = chances * cumulative[:, -1]
    columns: Ints = np.count_nonzero(cumulative <= drawn[:, None], axis=1)
    return columns


def _chance(seed: int, visit: int) -> float:
    """Return a number of [0, 1) that belongs to a visit."""
    bits = np.random.Philox(key=[seed, STREAM], counter=[0, 0, 0, visit])
    return float(np.random.Generator(bits).random())
