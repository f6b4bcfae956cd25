"""What a step is, and the step that learns from targets alone, of SFT and of algorithms."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec_bench.data.dataset import Examples
from genrec_bench.decoding.beam import chunks
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.supervised import score_targets
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.hyperparameters import Hyperparameters
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.memory import memory_of, remember
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.out_of_memory import forget, in_smaller_passes
from genrec_bench.training.returned_shapes import shaped
from genrec_bench.training.rollouts import Sampler
from genrec_bench.training.training_data import TrainingData
from genrec_bench.training.workers import Workers


class Stepper(Protocol):
    """Something that takes a step.

    Attributes:
        batch: prompts, or sequences, of a whole batch.
    """

    batch: int

    def begin(self) -> None:
        """Do what comes before the first step of a run, and not when a run goes on."""

    def step(self, index: int, share: float, part: float = 1.0) -> dict[str, float]:
        """Take step ``index``, after ``share`` of the work is done; return figures to log.

        Args:
            index: how many steps were taken before.
            part: of a whole batch to learn from, above 0, at most 1; "part" among the figures is
                what it came to.
        """

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return what a checkpoint must hold, by name."""

    def state(self) -> dict[str, int]:
        """Return what else it must hold, but for how many steps were taken."""

    def load(self, state: Mapping[str, int]) -> None:
        """Take up what ``state`` returned."""

    def memory(self) -> dict[str, Tensor]:
        """Return the tensors that it must hold besides, by name."""

    def remember(self, tensors: Mapping[str, Tensor]) -> None:
        """Take up what ``memory`` returned."""


class OfAlgorithm:
    """The part of a stepper that an algorithm's memory is."""

    _algorithm: Algorithm
    _policy: Policy
    _examples: Examples

    def begin(self) -> None:
        """Let the algorithm look at the training split; what that takes is billed as ``update``."""
        policy, algorithm = self._policy, self._algorithm
        # Where nothing is done, no seconds are either.
        if type(algorithm).begin is not Algorithm.begin:
            with policy.metered("update"):
                algorithm.begin(TrainingData(self._examples, policy.trie, policy.item_leaves))

    def memory(self) -> dict[str, Tensor]:
        """Return what the algorithm remembers."""
        return memory_of(self._algorithm)

    def remember(self, tensors: Mapping[str, Tensor]) -> None:
        """Give it back."""
        remember(self._algorithm, tensors, self._policy.device)


class SupervisedStepper(OfAlgorithm):
    """Raises the likelihood of targets, or lowers what an algorithm makes of it."""

    def __init__(
        self,
        policy: Policy,
        examples: Examples,
        optimization: Optimization,
        ledger: Ledger,
        workers: Workers,
        *,
        batch: int,
        seed: int,
        phase: str,
        algorithm: Algorithm | None = None,
        targets: int = 1,
    ) -> None:
        """Prepare; ``phase`` is the ledger's name for this work, and SFT needs no algorithm.

        ``targets`` are most of a sequence of windows, see ``Chains.nested``.
        """
        self.batch = batch
        self._algorithm = algorithm or Algorithm(Hyperparameters())
        self._policy = policy
        self._examples = examples
        self._chains = policy.prompt_format.chains(examples, targets)
        self._lengths = examples.history_lengths
        self._optimization = optimization
        self._ledger = ledger
        self._workers = workers
        self._sampler = Sampler(len(self._chains), batch, seed)
        self._phase = phase

    def __len__(self) -> int:
        """Return the number of training sequences."""
        return len(self._chains)

    def modules(self) -> dict[str, torch.nn.Module]:
        """Return the policy."""
        return {"policy": self._policy}

    def state(self) -> dict[str, int]:
        """Return nothing: a step's number says what it learns."""
        return {}

    def load(self, state: Mapping[str, int]) -> None:
        """Take up nothing."""

    def step(self, index: int, share: float, part: float = 1.0) -> dict[str, float]:
        """Take one step on a batch of training sequences, or a part of it."""
        self._algorithm.begin_step(index, share)
        return self.learn(index, share, part)

    def learn(self, index: int, share: float, part: float = 1.0) -> dict[str, float]:
        """Take a step that has begun."""
        rows = self._rows(index, part)
        count = self._count(rows)
        with self._ledger.phase(self._phase):
            total = self._learn_whole(self._workers.mine(rows), count)
            (total,) = self._workers.sum([total])
            where = f"{self._phase} step {index + 1}"
            norm = self._optimization.step(share, total, where)
        return {"part": len(rows) / self.batch, "loss": total, "gradient_norm": norm}

    def rehearse(self, count: int) -> None:
        """Do the work of learning some sequences, evenly chosen, and learn nothing."""
        rows = self._evenly(count)
        self._learn_whole(rows, self._count(rows))
        forget(self._policy)

    def _learn_whole(self, rows: NDArray[np.int64], count: float) -> float:
        """Do as ``_learn``, in smaller passes where memory does not suffice."""
        learn = partial(self._learn, rows, count)
        return in_smaller_passes(self._policy, learn, partial(forget, self._policy))

    def _rows(self, index: int, part: float) -> NDArray[np.int64]:
        """Return the sequences of a step."""
        return self._sampler.rows(index, part)

    def _evenly(self, count: int) -> NDArray[np.int64]:
        """Return some sequences, evenly chosen."""
        return np.linspace(0, len(self) - 1, count).astype(np.int64)

    def _count(self, rows: NDArray[np.int64]) -> float:
        """Return by what losses are divided: the batch's targets, in whatever process they are."""
        return float(self._chains.num_targets[rows].sum())

    def _learn(self, rows: NDArray[np.int64], count: float) -> float:
        """Add the gradients of sequences up; return their loss, a ``count``-th of each target's."""
        items = self._lengths[self._chains.last[rows]] + 1
        prompt_format = self._policy.prompt_format
        sizes = prompt_format.sequence_tokens(items, self._chains.num_targets[rows])
        total = 0.0
        self._policy.train()
        for some in chunks(torch.from_numpy(sizes), self._policy.tokens_per_forward):
            scores = score_targets(self._policy, self._examples, self._chains, rows[some.numpy()])
            said, size = self._algorithm.target_loss(scores), tuple(scores.log_probs.shape)
            losses = shaped(self._algorithm, "target_loss", said, "[T] or [T, L]", size[:1], size)
            loss = losses.sum()
            (loss / count).backward()
            total += float(loss.detach()) / count
        return total
