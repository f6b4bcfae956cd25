"""RISER: reinforced item space exploration (Ding et al. 2026, arXiv 2602.00632).

Written from accounts of the paper, which is not at hand, nor is its code. Differences from GRPO:

1. A group whose candidates all miss has no advantages, and learns from preferences instead (SimPO,
   Meng et al. 2024, Eq. 6): the target is to be likelier than each candidate,

       1/G sum_i -log sigmoid(beta (l(y*) - l(y_i)) - gamma),    l(y) = 1/L sum_t w_t log pi(y_t)

   The target is scored beside the candidates and is none of them.
2. ``oversampling``: m > G candidates are drawn, each SID is taken once, and draws that repeat one
   fill what is left of G places. A beam (``candidates=beam``) has each SID once anyway.
3. ``decay``: w_t = 1 where the catalog has a choice, and less where a prefix has one child alone,
   whose code says nothing of the policy's taste. It weighs the gradients of GRPO's loss too.
4. KL-Cov (Cui et al. 2025, arXiv 2505.22617): the codes of the largest covariance between
   log-probability and advantage are held near the policy that rolled out. Here they are picked
   within a group and not from the whole batch, and the divergence is k3; like clipping it is idle
   while there is one update a rollout.

``group_size`` 6 with 10 draws, ``decay``, ``simpo_beta`` and ``gamma`` are values of an example in
such an account; what the paper tuned them to is not known.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from genrec_bench.algorithm import (
    Batch,
    CandidateTree,
    Policy,
    Prompts,
    Scores,
    Trie,
    fixed,
    group_mean,
    hyperparameter,
    k3_divergence,
    masked_mean,
    no_gradient_figures,
    sample,
    weight,
)
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters


@dataclass(frozen=True)
class RISERHyperparameters(GRPOHyperparameters):
    """GRPO's, and those of preferences, draws and codes."""

    # Around the example's; a SID has few codes, so that their mean moves more than a title's.
    simpo_beta: float = weight(2.0, high=100, search=(0.5, 10), log=True, help="beta of SimPO")
    gamma: float = weight(0.5, high=100, search=(0, 2), help="gamma: margin that SimPO asks for")
    simpo_weight: float = weight(1.0, high=100, search=(0, 2), help="weight of groups that miss")
    candidates: str = fixed("draws", choices=("draws", "beam"), help="how they are found")
    oversampling: float = fixed(1.67, low=1, high=100, help="m / G: draws for each candidate")
    decay: float = hyperparameter(
        0.1, low=0, high=1, search=(0, 1), help="d: w_t of a code that has no alternative"
    )
    cov_share: float = fixed(0.02, low=0, high=1, help="share of a group's codes that are held")
    cov_weight: float = fixed(1.0, low=0, high=100, help="weight of their divergence, KL-Cov")


def distinct_first(drawn: CandidateTree, group_size: int) -> CandidateTree:
    """Return G of the m candidates that were drawn: each SID once, then those that repeat one."""
    leaves, log_probs = drawn.leaves, drawn.on_paths(drawn.log_probs)
    same = (leaves.unsqueeze(2) == leaves.unsqueeze(1)).tril(diagonal=-1)
    order = same.any(dim=2).long().argsort(dim=1, stable=True)[:, :group_size]
    kept = log_probs.take_along_dim(order.unsqueeze(-1), dim=1)
    return CandidateTree.build(drawn.trie, leaves.gather(1, order), kept)


class RISER(GRPO):
    """Groups that hit learn by GRPO, groups that miss by preferences."""

    hyperparameters_class = RISERHyperparameters
    hyperparameters: RISERHyperparameters

    @property
    def scores_targets(self) -> bool:
        """The preferred side of a pair."""
        return True

    def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
        """Draw more than are needed, and keep as many distinct ones as there are (2)."""
        if self.hyperparameters.candidates == "beam":
            return super().rollout(policy, prompts, group_size)
        count = max(group_size, round(self.hyperparameters.oversampling * group_size))
        return distinct_first(sample(policy, prompts, count), group_size)

    def certainty(self, trie: Trie, states: Tensor) -> Tensor:
        """Return w of the codes that lead into some states: 1, or ``decay`` of an only child."""
        alone = trie.num_children[trie.parent[states]] == 1
        return torch.where(alone, self.hyperparameters.decay, 1.0)

    def outlying(self, tree: CandidateTree, advantages: Tensor) -> Tensor:
        """Return [B, G, L] which codes have the largest covariance of their group (KL-Cov)."""
        log_probs, real = tree.on_paths(tree.log_probs), tree.valid.unsqueeze(-1)
        mean = group_mean(log_probs, tree.valid).view(-1, 1, 1)
        apart = advantages - masked_mean(advantages, tree.valid).unsqueeze(1)
        covariance = (log_probs - mean) * apart.unsqueeze(-1)
        covariance = covariance.masked_fill(~real, -torch.inf).flatten(1)
        count = tree.valid.sum(dim=1, keepdim=True) * tree.trie.num_levels
        held = (self.hyperparameters.cov_share * count).ceil().long()
        ordered = covariance.sort(dim=1, descending=True).values
        least = ordered.gather(1, (held - 1).clamp(min=0)).masked_fill(held == 0, torch.inf)
        return ((covariance >= least) & (covariance > 0)).view(log_probs.shape)

    def preferences(self, batch: Batch, scores: Scores, weights: Tensor) -> Tensor:
        """Return [B] SimPO's loss, the target against each candidate (1)."""
        hp, tree, of_target = self.hyperparameters, batch.tree, scores.target_log_probs
        assert of_target is not None
        at = self.certainty(tree.trie, tree.trie.prefixes(batch.targets))
        wanted = (at * of_target).mean(dim=-1, keepdim=True)
        margins = hp.simpo_beta * (wanted - (weights * scores.log_probs).mean(dim=-1)) - hp.gamma
        return masked_mean(-logsigmoid(margins), tree.valid)

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Return GRPO's loss with weighed gradients, or SimPO's where no candidate hits."""
        hp, tree = self.hyperparameters, batch.tree
        weights = self.certainty(tree.trie, tree.on_paths(tree.states))
        # The same numbers, with w times the gradient: a weight in the sum would do no more.
        still = scores.log_probs.detach()
        weighed = still + weights * (scores.log_probs - still)
        loss, figures = super().loss(batch, replace(scores, log_probs=weighed))
        if hp.cov_share * hp.cov_weight > 0:
            moved = k3_divergence(weighed, tree.on_paths(tree.log_probs))
            held = self.outlying(tree, batch.advantages)
            loss = loss + hp.cov_weight * group_mean(moved * held, tree.valid)
        misses = ~tree.hits(batch.targets).any(dim=1)
        preferences = self.preferences(batch, scores, weights)
        figures |= no_gradient_figures(misses=misses, preference_loss=preferences * misses)
        return torch.where(misses, hp.simpo_weight * preferences, loss), figures
