"""GREAM's curriculum (section 4.3): tasks first, and thoughts among them more and more.

In all epochs but the last, a batch of traces follows the i-th batch of tasks with a probability
that rises with i; traces that are left close the epoch. The last epoch mixes both evenly.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset
from genrec_bench.policy.policy import Policy
from genrec_bench.training.rollouts import Sampler
from genrec_bench.training.task_steps import TaskStepper
from genrec_bench.training.traces import ThoughtQuestions, Traces


def insertion_probability(batch: int, aligned: int, reasoned: int, pace: float) -> float:
    """Return how likely a batch of traces follows a batch of tasks (section 4.3).

    Args:
        batch: i, counted from 1.
        aligned: N_align, batches of tasks in an epoch.
        reasoned: N_reason, batches of traces in an epoch.
        pace: gamma.
    """
    return min(1.0, pace * batch / aligned * reasoned / aligned)


def batches_of_epoch(sequences: int, traces: int, batch: int) -> tuple[int, int]:
    """Return N_align and N_reason, of an epoch with so many sequences of tasks and traces."""
    return math.ceil(sequences / batch), math.ceil(traces / batch)


class Curriculum:
    """Which batches stand where; each epoch has all of both kinds."""

    def __init__(self, aligned: int, reasoned: int, epochs: int, pace: float, seed: int) -> None:
        """Plan epochs of so many batches of tasks and of traces; the last epoch is even."""
        self._aligned, self._reasoned = aligned, reasoned
        self._epochs, self._pace, self._seed = epochs, pace, seed
        self._order: tuple[int, NDArray[np.bool_]] = (-1, np.empty(0, dtype=bool))

    def __len__(self) -> int:
        """Return the number of batches of an epoch."""
        return self._aligned + self._reasoned

    def order(self, epoch: int) -> NDArray[np.bool_]:
        """Return [N_align + N_reason] which batches of an epoch are of traces."""
        generator = np.random.default_rng([self._seed, epoch])
        aligned, reasoned = self._aligned, self._reasoned
        if epoch >= self._epochs - 1:
            return generator.permutation(np.arange(aligned + reasoned) >= aligned)
        left, found = reasoned, []
        for batch, drawn in enumerate(generator.random(aligned), start=1):
            found.append(False)
            if left and drawn < insertion_probability(batch, aligned, reasoned, self._pace):
                found.append(True)
                left -= 1
        return np.array(found + [True] * left)

    def batch(self, step: int) -> tuple[bool, int]:
        """Return whether a step learns traces, and how many steps of its kind came before it."""
        epoch, place = divmod(step, len(self))
        if self._order[0] != epoch:
            self._order = (epoch, self.order(epoch))
        order = self._order[1]
        reasons = bool(order[place])
        before = int((order[:place] == reasons).sum())
        return reasons, epoch * (self._reasoned if reasons else self._aligned) + before


class CurriculumStepper(TaskStepper):
    """Learns tasks, and thoughts before answers; a step learns one of the two.

    Attributes:
        curriculum: says which.
    """

    def __init__(
        self,
        policy: Policy,
        dataset: Dataset,
        *parts: Any,
        traces: Traces,
        epochs: float,
        pace: float,
        batch: int,
        seed: int,
        **options: Any,
    ) -> None:
        """Prepare; ``parts`` and ``options`` are those of `TaskStepper`."""
        super().__init__(policy, dataset, *parts, batch=batch, seed=seed, **options)
        thoughts = ThoughtQuestions(traces, dataset, self._format)
        self._add(thoughts)
        self._thoughts = Sampler(len(traces), batch, seed)
        aligned, reasoned = (
            math.ceil(count / batch) for count in (len(self._mixture), len(traces))
        )
        self.curriculum = Curriculum(aligned, reasoned, math.ceil(epochs), pace, seed)

    def __len__(self) -> int:
        """Return the number of sequences of an epoch, which is whole batches."""
        return len(self.curriculum) * self.batch

    def _rows(self, index: int, part: float) -> NDArray[np.int64]:
        reasons, number = self.curriculum.batch(index)
        if reasons:
            return self._thoughts.rows(number, part) + int(self._first[-2])
        return self._mixture.rows(number, part)

    def _evenly(self, count: int) -> NDArray[np.int64]:
        places = np.linspace(0, len(self) - 1, count).astype(np.int64)
        steps = [self._rows(int(place) // self.batch, 1.0) for place in places]
        return np.array(
            [rows[place % self.batch] for rows, place in zip(steps, places, strict=True)]
        )
