"""What an algorithm is shown: the groups that it judges, and the batch that it learns from.

Shapes: B prompts, G candidates each, L levels, E the size of item embeddings.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import Scores
from genrec_bench.policy.tree import CandidateTree


@dataclass(frozen=True, eq=False)
class Reference:
    """What the reference policy says of some groups.

    Attributes:
        log_probs: [B, G, L] of the candidates' codes.
        target_log_probs: [B, L] of the targets' codes, if the algorithm scores targets.
    """

    log_probs: Tensor
    target_log_probs: Tensor | None = None

    def select(self, rows: Tensor) -> Reference:
        """Return what belongs to some prompts, by their indices [R]."""
        return Reference(self.log_probs[rows], _of(self.target_log_probs, rows))

    @classmethod
    def join(cls, parts: Sequence[Reference]) -> Reference:
        """Put what was said of several parts together, one part after the other."""
        of_targets = [part.target_log_probs for part in parts]
        known = [values for values in of_targets if values is not None]
        joined = torch.cat(known) if known else None
        return cls(torch.cat([part.log_probs for part in parts]), joined)


class Answers(Protocol):
    """Who answers what cannot be read off candidates: the harness, which bills each answer."""

    policy: Policy
    embeddings: Tensor | None
    step: int
    share: float

    def reference(self, prompts: Prompts, tree: CandidateTree, targets: Tensor) -> Reference | None:
        """Ask the reference policy; None if there is none."""

    def read(
        self,
        prompts: Prompts,
        tree: CandidateTree,
        targets: Tensor,
        what: Callable[[Scores], Tensor],
    ) -> Tensor:
        """Read the policy's view of groups."""

    def sum(self, values: Tensor) -> Tensor:
        """Add numbers up over all processes."""


@dataclass(frozen=True, eq=False)
class Seen:
    """What ``reward``, ``accepts`` and ``advantage`` are given: the groups of some prompts.

    Attributes:
        prompts: B of them; ``prompts.histories`` are their items.
        tree: the candidates, with their log-probabilities under the behavior policy.
        targets: [B] leaf states of the targets.
        asked: answers the rest; None where only candidates are given, as in tests of formulas.
        told: what the reference policy has said of them already, if it was asked.
    """

    prompts: Prompts
    tree: CandidateTree
    targets: Tensor
    asked: Answers | None = None
    told: Reference | None = None

    @classmethod
    def bare(cls, tree: CandidateTree, targets: Tensor) -> Seen:
        """Return what can be seen where there are only candidates and targets."""
        none = torch.zeros(len(targets), 0, dtype=torch.long, device=targets.device)
        return cls(Prompts(none, none.bool(), none), tree, targets)

    @property
    def policy(self) -> Policy:
        """The behavior policy, with its heads; it must be left as it is."""
        return self._answers.policy

    @property
    def embeddings(self) -> Tensor | None:
        """[num_sids, E] of the catalog's SIDs, if the algorithm uses them."""
        return self._answers.embeddings

    @property
    def step(self) -> int:
        """How many steps were taken before."""
        return self._answers.step

    @property
    def share(self) -> float:
        """The share of the budget, or of the steps, that is spent, as ``begin_step`` was told."""
        return self._answers.share

    @cached_property
    def reference(self) -> Reference | None:
        """What the reference policy says; asked once, and used for the loss too."""
        if self.told is not None:
            return self.told
        return self._answers.reference(self.prompts, self.tree, self.targets)

    @property
    def reference_if_asked(self) -> Reference | None:
        """What the reference policy has said, without asking it."""
        found: Reference | None = vars(self).get("reference", self.told)
        return found

    @property
    def reference_log_probs(self) -> Tensor:
        """[B, G, L] under the reference policy.

        Raises:
            ValueError: the algorithm uses no reference.
        """
        if self.reference is None:
            raise ValueError("there is no reference policy: uses_reference is False")
        return self.reference.log_probs

    @property
    def reference_target_log_probs(self) -> Tensor:
        """[B, L] of the targets under the reference policy.

        Raises:
            ValueError: the algorithm uses no reference, or scores no targets.
        """
        if self.reference is None or self.reference.target_log_probs is None:
            raise ValueError("this takes uses_reference and scores_targets, and one is False")
        return self.reference.target_log_probs

    def read(self, what: Callable[[Scores], Tensor]) -> Tensor:
        """Return what a function, such as ``self.values``, reads of the policy's view of groups.

        That takes a forward pass without gradients, billed as ``value``. The view has what the loss
        reads: leaves and targets, if the algorithm asks for them.

        Args:
            what: is given some prompts at a time and returns [b, ...]; where nodes stand on the
                second axis, missing ones are filled with 0.
        """
        return self._answers.read(self.prompts, self.tree, self.targets, what)

    def sum(self, values: Tensor) -> Tensor:
        """Add numbers of any shape up over all processes, each of which has its own prompts.

        Each process adds up its own prompts first; all have to ask for the same sums in the same
        order. So a mean over the batch is ``sum(x.sum()) / sum(count)``.
        """
        return self._answers.sum(values)

    @property
    def _answers(self) -> Answers:
        if self.asked is None:
            raise ValueError("here are only candidates and targets, and nobody to ask for more")
        return self.asked


@dataclass(frozen=True, eq=False)
class Groups:
    """The candidates of some prompts, and what they are worth.

    Attributes:
        prompts: B of them.
        tree: the candidates, with their log-probabilities under the behavior policy.
        targets: [B] leaf states of the targets.
        rewards: [B, G] as ``reward`` returned them.
        reference: what the reference policy says, if somebody has asked it already.
    """

    prompts: Prompts
    tree: CandidateTree
    targets: Tensor
    rewards: Tensor
    reference: Reference | None = None

    def select(self, rows: Tensor) -> Groups:
        """Return the groups of some prompts, by their indices [R], at least one."""
        return Groups(
            self.prompts.select(rows),
            self.tree.select(rows),
            self.targets[rows],
            self.rewards[rows],
            None if self.reference is None else self.reference.select(rows),
        )


@dataclass(frozen=True, eq=False)
class Batch:
    """What the loss is given: one rollout, or the part of it that one forward pass holds.

    Attributes:
        prompts: B of them.
        tree: the candidates, with their log-probabilities under the behavior policy.
        targets: [B] leaf states of the targets.
        rewards: [B, G] as ``reward`` returned them.
        advantages: as ``advantage`` returned them; the first axis is B.
        reference_log_probs: [B, G, L] under the reference policy, if the algorithm uses one.
        embeddings: [num_sids, E] of the catalog's SIDs, row for row, if the algorithm uses them.
        target_log_probs: [B, L] of the targets' codes under the behavior policy, if the algorithm
            scores targets.
        reference_target_log_probs: [B, L] the same under the reference policy.
    """

    prompts: Prompts
    tree: CandidateTree
    targets: Tensor
    rewards: Tensor
    advantages: Tensor
    reference_log_probs: Tensor | None = None
    embeddings: Tensor | None = None
    target_log_probs: Tensor | None = None
    reference_target_log_probs: Tensor | None = None

    def select(self, rows: Tensor) -> Batch:
        """Return the part that belongs to some prompts, by their indices [R]."""
        return dataclasses.replace(
            self,
            prompts=self.prompts.select(rows),
            tree=self.tree.select(rows),
            targets=self.targets[rows],
            rewards=self.rewards[rows],
            advantages=self.advantages[rows],
            reference_log_probs=_of(self.reference_log_probs, rows),
            target_log_probs=_of(self.target_log_probs, rows),
            reference_target_log_probs=_of(self.reference_target_log_probs, rows),
        )


def _of(values: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if values is None else values[rows]
