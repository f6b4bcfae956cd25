"""GRPO: group relative policy optimization (Shao et al. 2024), as generative recommenders use it.

For a prompt, beam search finds G candidates y_1 .. y_G of L codes. With rewards r_i,

    A_i  = (r_i - mean(r)) / (std(r) + eps)                                    (UGR Eq. 6)
    rho  = pi(y_it | x, y_i<t) / pi_old(y_it | x, y_i<t)
    loss = 1/G sum_i 1/L sum_t [ -min(rho A_i, clip(rho, 1 - c, 1 + c) A_i) + beta k3_it ]

where k3 = exp(d) - d - 1, d = log pi_ref - log pi, estimates the divergence from a reference.

Choices that papers and released code make differently are hyperparameters:

1. ``reward``: the hit alone (UGR Eq. 2), rank penalties (UGR Eq. 3), or MiniOneRec's sum of the
   hit and normalised rank penalties. A random reward is the control.
2. ``beta``: UGR and this default have no reference policy; MiniOneRec has 0.001, and mixes the
   policy into the reference (``sync_every``, ``sync_mix``), as TR-DPO does.
3. With one update per rollout rho is 1 and clipping idle, as in the released code of UGR and
   MiniOneRec; ``updates_per_rollout`` and ``minibatches`` make it live.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import (
    Algorithm,
    Batch,
    CandidateTree,
    Hyperparameters,
    Scores,
    Seen,
    clipped_objective,
    fixed,
    group_advantage,
    group_mean,
    k3_divergence,
    no_gradient_figures,
    random_reward,
    rule_reward,
    weight,
)

REWARDS = ("rule", "rank", "rule+rank", "random")


@dataclass(frozen=True)
class GRPOHyperparameters(Hyperparameters):
    """GRPO's choices."""

    reward: str = fixed(
        "rule",
        choices=REWARDS,
        help="rule: UGR Eq. 2; rank: UGR Eq. 3; rule+rank: MiniOneRec's; random: a control",
    )
    # With one update per rollout there is nothing to clip (3), so that a sweep has no use for c.
    clip_low: float = fixed(0.2, low=0, high=1, help="c below 1: how far rho may fall")
    clip_high: float = fixed(0.2, low=0, high=10, help="c above 1: how far rho may rise")
    # In steps, so that a sweep tries 0 too, which saves the reference's forward pass; 0.04 is the
    # weight in GRPO's own paper, and the largest in use.
    beta: float = weight(0.0, high=1, search=(0, 0.04, 0.01), help="weight of k3; 0: no reference")
    sync_every: int = fixed(0, low=0, help="rollouts between reference updates; 0: it is frozen")
    sync_mix: float = fixed(0.6, low=0, high=1, help="policy's share in the updated reference")
    updates_per_rollout: int = fixed(1, low=1, high=64, help="passes over one rollout")
    minibatches: int = fixed(1, low=1, high=64, help="parts of a pass, an optimizer step each")
    epsilon: float = fixed(1e-4, low=0, high=1, help="eps in the advantage's denominator")
    # False is another paper's algorithm, and a sweep is to tune this one.
    divide_by_std: bool = fixed(True, help="false leaves the division by std out (Dr. GRPO)")


def rank_reward(tree: CandidateTree, targets: Tensor) -> Tensor:
    """Return [B, G] the hit less a penalty by rank (UGR Eq. 3); 0 where a candidate is not real.

    R = 1[y = y*] - 1[y != y*] / log(rank(y) + 1). Rank 1 is the most probable candidate of the
    group. The paper writes log without a base; here it is 2, that of the NDCG discount which the
    reward imitates.
    """
    hits = tree.hits(targets)
    penalty = -1.0 / torch.log2(tree.ranks() + 2.0)
    return torch.where(hits, 1.0, penalty).masked_fill(~tree.valid, 0.0)


def rule_and_rank_reward(tree: CandidateTree, targets: Tensor) -> Tensor:
    """Return [B, G] the hit less a normalised penalty by rank, as MiniOneRec's code does.

    With zero-based rank i, a hit earns 1 and a wrong candidate
    -(1 / log2(i + 2)) / sum_{j < G} 1 / log2(j + 2); the sum runs over all places of the group, the
    hit's included (the paper leaves the hit's out). A group without a hit earns 0 throughout.
    """
    hits = tree.hits(targets)
    discount = (1.0 / torch.log2(tree.ranks() + 2.0)).masked_fill(~tree.valid, 0.0)
    penalty = -discount / discount.sum(dim=1, keepdim=True)
    reward = torch.where(hits, 1.0, penalty)
    return reward * hits.any(dim=1, keepdim=True) * tree.valid


class GRPO(Algorithm):
    """Clipped policy gradient on advantages within the group."""

    hyperparameters_class = GRPOHyperparameters
    hyperparameters: GRPOHyperparameters
    is_baseline = True

    def __init__(self, hyperparameters: GRPOHyperparameters) -> None:
        super().__init__(hyperparameters)
        self.updates_per_rollout = hyperparameters.updates_per_rollout
        self.minibatches = hyperparameters.minibatches

    @property
    def uses_reference(self) -> bool:
        """Only if the divergence has a weight."""
        return self.hyperparameters.beta > 0

    def reference_mix(self, step: int) -> float:
        """Move the reference towards the policy every ``sync_every`` rollouts."""
        every = self.hyperparameters.sync_every
        return self.hyperparameters.sync_mix if every and step % every == 0 else 0.0

    def reward(self, seen: Seen) -> Tensor:
        """Apply the chosen reward."""
        name = self.hyperparameters.reward
        if name == "random":
            return random_reward(seen.tree)
        rewards = {"rule": rule_reward, "rank": rank_reward, "rule+rank": rule_and_rank_reward}
        return rewards[name](seen.tree, seen.targets)

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Compare within the group (UGR Eq. 6)."""
        hp, valid = self.hyperparameters, seen.tree.valid
        return group_advantage(rewards, valid, epsilon=hp.epsilon, divide_by_std=hp.divide_by_std)

    def surrogate(self, log_probs: Tensor, old: Tensor, advantages: Tensor) -> Tensor:
        """Return [B, G, L], or [B, G, 1] where codes share it, to be minimised; A too."""
        hp = self.hyperparameters
        return clipped_objective(log_probs, old, advantages, hp.clip_low, hp.clip_high)

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Clip, and keep near the reference policy."""
        hp, tree = self.hyperparameters, batch.tree
        old = tree.on_paths(tree.log_probs)
        advantages = batch.advantages.view(*tree.valid.shape, -1)
        per_code = self.surrogate(scores.log_probs, old, advantages)
        figures = {}
        if batch.reference_log_probs is not None:
            divergence = k3_divergence(scores.log_probs, batch.reference_log_probs)
            per_code = per_code + hp.beta * divergence
            figures["divergence"] = group_mean(divergence, tree.valid)
        return group_mean(per_code, tree.valid), no_gradient_figures(**figures)
