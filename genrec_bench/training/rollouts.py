"""What a step learns from: groups that an algorithm accepts, and others for those that it rejects.

A step's batch is a rollout of some prompts. Where an algorithm rejects groups, further prompts are
rolled out in their place, in the order in which prompts are visited anyway. Who rolls out what
depends on the number of processes; which groups the batch holds, and in what order, does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec_bench.data.dataset import Examples
from genrec_bench.data.worlds import Purchases
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.groups import Groups, Reference
from genrec_bench.training.kept_weights import KeptStart
from genrec_bench.training.out_of_memory import in_smaller_passes
from genrec_bench.training.returned_shapes import shaped
from genrec_bench.training.views import Views


class Sampler:
    """Visits every row once an epoch, in an order that depends on seed and epoch alone."""

    def __init__(self, count: int, batch: int, seed: int) -> None:
        """Sample ``batch`` of ``count`` rows a step; a small set repeats within a batch's run."""
        self._count = count
        self.batch = batch
        self._seed = seed
        self._order: tuple[int, NDArray[np.int64]] = (-1, np.empty(0, dtype=np.int64))

    def size(self, part: float) -> int:
        """Return how many rows come nearest to a part of a batch, at least one."""
        return max(1, round(part * self.batch))

    def rows(self, index: int, part: float = 1.0) -> NDArray[np.int64]:
        """Return the rows of step ``index``; asking in any order gives the same."""
        return self.visits(index * self.batch, self.size(part))

    def visits(self, start: int, number: int) -> NDArray[np.int64]:
        """Return which rows are visited after ``start`` others, ``number`` of them."""
        return self.at(np.arange(start, start + number))

    def at(self, places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which row each visit is to, visits counted from 0."""
        epochs = places // self._count
        rows = np.empty(len(places), dtype=np.int64)
        for epoch in np.unique(epochs).tolist():
            if self._order[0] != epoch:
                generator = np.random.default_rng([self._seed, epoch])
                self._order = (epoch, generator.permutation(self._count))
            here = epochs == epoch
            rows[here] = self._order[1][places[here] % self._count]
        return rows


def join(parts: Sequence[Groups]) -> Groups:
    """Put groups together, one part after the other."""
    if len(parts) == 1:
        return parts[0]
    targets = torch.cat([part.targets for part in parts])
    order = torch.arange(len(targets), device=targets.device)
    asked = [part.reference for part in parts]
    return Groups(
        Prompts.join([part.prompts for part in parts]),
        CandidateTree.join([part.tree for part in parts], order),
        targets,
        torch.cat([part.rewards for part in parts]),
        Reference.join([one for one in asked if one is not None]) if all(asked) else None,
    )


@dataclass(frozen=True, eq=False)
class Rollout:
    """What one process holds of a step's batch.

    Attributes:
        groups: that it holds, or None.
        places: [n] the place of each of them in the batch of all processes, ascending.
        size: how many groups the batch has, all processes.
        part: of a whole batch, that was asked for.
        drawn: how many prompts were rolled out to find them, all processes.
        figures: averages over all that was rolled out, rejected or not.
    """

    groups: Groups | None
    places: NDArray[np.int64]
    size: int
    part: float
    drawn: int
    figures: dict[str, float]


class Rollouts:
    """Rolls out the prompts of a step, and others for those whose groups are rejected.

    Attributes:
        refilled: how many prompts refills have drawn so far, less those that parts of a batch
            left out; may be negative. A resumed run needs it to go on at the right prompt.
    """

    def __init__(
        self,
        views: Views,
        examples: Examples,
        *,
        group_size: int,
        prompts_per_step: int,
        seed: int,
        purchases: Purchases | None = None,
        opponent: KeptStart | None = None,
    ) -> None:
        """Prepare; the seed decides in what order examples are visited, and what is drawn.

        The policy and the algorithm are those of ``views``; an opponent rolls out in its place.
        Targets are the examples' own, or else the purchases that a world draws for each visit.
        """
        self._views = views
        self._policy = views.policy
        self._algorithm = views.algorithm
        self._examples = examples
        self._purchases = purchases
        self._opponent = opponent
        self._workers = views.workers
        self._group_size = group_size
        self._sampler = Sampler(len(examples), prompts_per_step, seed)
        self._seed = seed
        self.refilled = 0

    def gather(self, index: int, part: float = 1.0) -> Rollout:
        """Roll out until the batch of step ``index`` is full or no refill is left.

        A refill draws as many prompts as are missing. To draw more, in view of how many are
        rejected, takes fewer rounds, but more FLOPs for each group that is kept: what is accepted
        beyond the batch is rolled out for nothing.

        A batch that is not full is what it is. If every group was rejected, it is those of the
        first round: their advantages say nothing, but the step is taken.

        Args:
            part: of a whole batch, that is to be filled.
        """
        whole, wanted = self._sampler.batch, self._sampler.size(part)
        start = index * whole + self.refilled
        drawn = size = 0
        sums: dict[str, float] = {}
        first: Groups | None = None
        kept: list[Groups] = []
        places: list[NDArray[np.int64]] = []
        for turn in range(self._algorithm.most_refills + 1):
            rows = self._sampler.visits(start + drawn, wanted - size)
            groups, accepted = self._round(start + drawn, len(rows), self._workers.mine(rows))
            if groups is not None:
                first = groups if turn == 0 else first
                for name, value in _figures(groups, self._group_size).items():
                    sums[name] = sums.get(name, 0.0) + value
                mine = self._workers.mine(accepted) > 0
                places.append(self._workers.mine(size + accepted.cumsum() - 1)[mine])
                if mine.all():
                    kept.append(groups)
                elif mine.any():
                    here = torch.from_numpy(mine.nonzero()[0])
                    kept.append(groups.select(here.to(groups.targets.device)))
            drawn += len(rows)
            size += int(accepted.sum())
            if size == wanted:
                break
        self.refilled += drawn - whole
        totals = self._workers.sum_named(sums)
        figures = {name: total / drawn for name, total in totals.items()}
        if self._algorithm.most_refills:
            figures["accepted"] = size / drawn
        if size == 0:
            every = self._workers.mine(np.arange(wanted))
            return Rollout(first, every, wanted, wanted / whole, drawn, figures)
        groups = join(kept) if kept else None
        mine_of_all = np.concatenate(places) if places else np.empty(0, dtype=np.int64)
        return Rollout(groups, mine_of_all, size, wanted / whole, drawn, figures)

    def _round(
        self, start: int, count: int, rows: NDArray[np.int64]
    ) -> tuple[Groups | None, NDArray[np.int64]]:
        """Roll out this process's part of a round; None if it has none.

        Args:
            start: how many prompts were visited before this round, which with the seed decides the
                round's random numbers: those of torch's generator may be spent unevenly among
                processes, of which some have no prompt left to roll out.
            count: how many prompts the round has, all processes.
            rows: [n] which examples.

        Returns:
            The groups, and [count] 1 for those of all processes to keep, 0 for others.
        """
        groups, own = None, np.empty(0, dtype=np.int32)
        with self._views.together():
            if len(rows):
                groups, accepted = self._judged(start, count, rows)
                own = accepted.cpu().numpy().astype(np.int32)
        if not self._algorithm.most_refills:
            return groups, np.ones(count, dtype=np.int64)
        return groups, self._workers.interleave(own).astype(np.int64)

    def _judged(self, start: int, count: int, rows: NDArray[np.int64]) -> tuple[Groups, Tensor]:
        """Find the groups of some examples, and say what they are worth and which to keep."""
        policy, algorithm = self._policy, self._algorithm
        prompts = policy.prompt_format.encode(self._examples, rows).to(policy.device)
        bought = self._examples.targets[rows].astype(np.int64)
        if self._purchases is not None:
            visits = self._workers.mine(np.arange(start, start + count))
            bought = self._purchases(rows, visits)
        items = torch.from_numpy(bought)
        targets = policy.item_leaves[items.to(policy.device)]
        # Four numbers: the sampler seeds with two and the minibatches with three.
        seed = np.random.SeedSequence([self._seed, start, 0, 1]).generate_state(1).item()

        acting = nullcontext(policy) if self._opponent is None else self._opponent.policy()
        with acting as actor:

            def roll_out() -> CandidateTree:
                with torch.random.fork_rng(devices=[]):
                    torch.default_generator.manual_seed(seed)
                    return algorithm.rollout(actor, prompts, self._group_size)

            tree = in_smaller_passes(actor, roll_out)
        seen = self._views.seen(prompts, tree, targets)
        grid = tuple(tree.valid.shape)
        rewards = shaped(algorithm, "reward", algorithm.reward(seen), "[B, G]", grid)
        accepted = torch.ones_like(targets, dtype=torch.bool)
        if algorithm.most_refills:
            accepted = algorithm.accepts(seen, rewards)
            accepted = shaped(algorithm, "accepts", accepted, "[B] truth values", grid[:1])
        return Groups(prompts, tree, targets, rewards, seen.reference_if_asked), accepted


def _figures(groups: Groups, group_size: int) -> dict[str, float]:
    """Return the curves of UGR's Figures 3 and 5, summed over groups."""
    tree = groups.tree
    hits = tree.hits(groups.targets)
    leaves = tree.is_node & (tree.levels == tree.trie.num_levels)
    return {
        "reward": float((groups.rewards.sum(dim=1) / tree.valid.sum(dim=1)).sum()),
        "HR@1": float((hits & (tree.ranks() == 0)).any(dim=1).sum()),
        # A rollout may hold more than G candidates for a prompt, as a wide beam does.
        f"HR@{group_size}": float((hits & (tree.ranks() < group_size)).any(dim=1).sum()),
        "unique_candidates": float(leaves.sum()),
    }
