"""The contract of an algorithm, on one screen.

An algorithm is a class in a file of its own. It says how candidates are found (``rollout``), what
they are worth (``reward``), how that becomes credit (``advantage``), and what is minimised
(``loss``). It overrides what differs from these defaults. Everything that must be equal for a
comparison to be fair belongs to the harness, which never asks for an algorithm's name.

Shapes: B prompts, G candidates each, L levels, N nodes a tree, D the hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from genrec_bench.decoding.beam import beam_search
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import Scores
from genrec_bench.policy.supervised import TargetScores
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie
from genrec_bench.training.groups import Batch, Seen
from genrec_bench.training.hyperparameters import Hyperparameters
from genrec_bench.training.training_data import TrainingData


class Algorithm:
    """The base of all algorithms: rollouts by beam search, and no opinion on anything else.

    Attributes:
        hyperparameters_class: a frozen dataclass derived from ``Hyperparameters``.
        on_policy: False for an algorithm that learns from the targets alone, by ``target_loss``,
            and never rolls out.
        trains: False for a way to decode, or another fixed policy: it is evaluated as it begins.
        is_baseline: True for the one algorithm whose gain over the SFT start sets the targets of
            boards; derived classes do not inherit it.
        updates_per_rollout: how often the policy is updated from one rollout.
        minibatches: into how many parts each of these passes over the rollout is cut; every part
            takes an optimizer step.
        most_refills: how often a rollout may draw further prompts in place of those whose groups
            were not accepted; what rejected groups cost is spent all the same.
        loss_temperature: divides the logits of which the log-probabilities in ``Scores`` and
            ``Batch`` come that the loss reads; the rollout's tree must keep them at it too.
        rates_candidates: False for rollouts that ask the policy nothing, such as draws from the
            catalog, whose trees hold 0 for log-probabilities.
    """

    hyperparameters_class: ClassVar[type[Hyperparameters]] = Hyperparameters
    on_policy: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    is_baseline: ClassVar[bool] = False
    updates_per_rollout: int = 1
    minibatches: int = 1
    most_refills: int = 0
    loss_temperature: float = 1.0
    rates_candidates: bool = True

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        """Keep the hyperparameters, which are of ``hyperparameters_class``.

        A derived class tells their type by an annotation: ``hyperparameters: MyHyperparameters``.
        """
        self.hyperparameters = hyperparameters

    @property
    def tokens(self) -> Mapping[str, str]:
        """Tokens to add to the vocabulary: by name, the words it starts from, or no words.

        A policy that knows no words starts it near the mean of all tokens.
        """
        return {}

    def heads(self, hidden_size: int, embedding_size: int, trie: Trie) -> Mapping[str, nn.Module]:
        """Return modules to train beside the backbone, by name; frozen ones are kept as they are.

        Args:
            hidden_size: D.
            embedding_size: E of the SIDs' embeddings; 0 if the algorithm uses none.
            trie: the catalog's SIDs.
        """
        return {}

    def begin(self, data: TrainingData) -> None:
        """Look at the training split before the first step; what that takes is billed.

        Called once in a run, and not when it goes on: what is kept belongs into ``state``.
        """

    def state(self) -> Mapping[str, Tensor | nn.Module]:
        """Return what is remembered between steps, by the names of attributes.

        Checkpoints keep it, and the folder of the policy does where evaluation asks the algorithm.
        It must be equal in all processes.
        """
        return {}

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up the tensors of ``state``, by default as attributes; modules are filled in place.

        It is called after ``heads``, in a run that goes on and where a policy is used.
        """
        for name, tensor in state.items():
            setattr(self, name, tensor)

    @property
    def head_learning_rate(self) -> float | None:
        """Peak learning rate of heads and added tokens; by default SFT's: both start untrained."""
        return None

    @property
    def scores_leaves(self) -> bool:
        """Whether the loss reads hidden states at finished candidates."""
        return False

    @property
    def scores_targets(self) -> bool:
        """Whether targets are scored beside the candidates, for the price of a few tokens each.

        ``Scores`` and ``Batch`` then have what the policies say of them; they are no candidates.
        """
        return False

    @property
    def uses_reference(self) -> bool:
        """Whether there is a reference policy, for ``reference_log_probs``."""
        return False

    @property
    def uses_embeddings(self) -> bool:
        """Whether the loss reads ``embeddings``, or a head ``policy.prefix_embeddings``."""
        return False

    def begin_step(self, step: int, share: float) -> None:
        """Hear that a step begins; called before each, and by nobody who only evaluates.

        What an algorithm keeps of it, it must be able to tell from these two numbers alone, or
        return in ``state``: a run that was cut short goes on with another object.

        Args:
            step: how many were taken before.
            share: of the budget, or of the steps, that is spent: from 0 to below 1.
        """

    @property
    def trains_backbone(self) -> bool:
        """Whether the step that has begun trains the backbone, as all do by default.

        Where it is False, only the heads learn: the loss is given scores without gradients and no
        reference, and all that the step takes is billed as ``value``.
        """
        return True

    @property
    def rolls_out(self) -> bool:
        """Whether the step that has begun rolls out, as all do by default.

        Where it is False, the step learns from targets by ``target_loss``, at the price of SFT.
        """
        return True

    def target_loss(self, scores: TargetScores) -> Tensor:
        """Return what a step without a rollout minimises: [T], or [T, L] to be added up.

        The harness averages over the targets of a batch; by default it is SFT's loss.
        """
        return -scores.log_probs

    def reference_mix(self, step: int) -> float:
        """Return the share of the policy's weights to mix into the reference after a step.

        Args:
            step: how many were taken; 1 after the first. 0 keeps it frozen.
        """
        return 0.0

    @property
    def uses_opponent(self) -> bool:
        """Whether a copy of the policy, its opponent, finds the candidates in its place.

        Their log-probabilities are then the opponent's. It is the start until it is moved.
        """
        return False

    def opponent_mix(self, step: int) -> float:
        """Return the share of the policy's weights to mix into the opponent after a step.

        As ``reference_mix``: 0 keeps it as it is, 1 makes it the policy of the moment.
        """
        return 0.0

    def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
        """Find G candidates for each prompt. Runs without gradients."""
        return beam_search(policy, prompts, group_size)

    def reward(self, seen: Seen) -> Tensor:
        """Return what each candidate is worth, [B, G]; 0 for candidates that are not real.

        ``seen.tree`` holds the candidates and ``seen.targets`` [B] the targets; see ``Seen``.
        """
        raise NotImplementedError

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Turn rewards [B, G] into credit, [B, G] or [B, G, L]; 0 where a candidate is not real.

        What else is told once and read by every update, such as a critic's values of before, joins
        it as [B, G, L, K] with the credit first.
        """
        raise NotImplementedError

    def accepts(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return [B] which groups to learn from; called only if ``most_refills`` is not 0."""
        return seen.tree.valid.any(dim=1)

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Return what is to be minimised.

        The harness averages over the prompts of an update, however many forward passes they take.

        Returns:
            One loss for each prompt [B], and figures to log, each [B].
        """
        raise NotImplementedError

    @property
    def decoding(self) -> str:
        """How evaluation finds candidates; part of the track, as it decides what is compared."""
        return "beam"

    def decode(self, policy: Policy, prompts: Prompts, width: int) -> CandidateTree:
        """Find ``width`` candidates for evaluation, best first.

        Called only if ``decoding`` is not ``beam``: that search is the harness's own.
        """
        return beam_search(policy, prompts, width)

    @property
    def reranks(self) -> bool:
        """Whether evaluation sorts by ``rerank``, which costs a forward pass over the leaves."""
        return False

    def rerank(self, tree: CandidateTree, scores: Scores) -> Tensor:
        """Return [B, G] scores to rank the evaluation's candidates by; -inf where not real.

        ``scores`` is the policy's view of the candidates, leaves included.
        """
        raise NotImplementedError

    @property
    def estimates_values(self) -> bool:
        """Whether analyses can call ``values``."""
        return False

    def values(self, scores: Scores) -> Tensor:
        """Return [B, N] the value of each node of trees scored with their leaves; 0 for padding."""
        raise NotImplementedError


def no_gradient_figures(**figures: Tensor) -> dict[str, Tensor]:
    """Detach figures that are only logged."""
    return {name: figure.detach().to(torch.float32) for name, figure in figures.items()}
