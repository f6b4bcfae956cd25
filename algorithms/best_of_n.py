"""Best of N lists, distilled: what the abstract of BLADE says, by formulas that are not BLADE's.

BLADE (Chen et al. 2026, arXiv 2605.04559) trains a policy to give at once the list that is the best
of N by a metric of lists. Its abstract names the target: a prior of what the start's lists are
worth, fused with evidence from the current rollouts, as with the prior alone the signal fades while
the policy improves. Neither its formulas nor its code were at hand. This file is our reading of
that abstract on top of variational best-of-N (Amini et al. 2024, arXiv 2407.06057), and says
nothing of what BLADE reaches.

G samples of a prompt make N lists of K draws. With R the NDCG@K of a list and F(R) the probability
that a list is worth no more than R, the policy is to maximise

    E[(N - 1) log F(R)] - beta KL(pi || pi_ref)

per list. The optimum for beta = 1 is pi_ref(list) F(R)^(N - 1), normalised: about what best of N
does. A prompt has one target, so that F is known where it is taken under the reference: with p the
target's probability and k the draws before the first hit, K if there is none,

    F_ref = (1 - p)^k,    F = (prior F_ref + N F_now) / (prior + N)

F_now is the share of the N lists that are worth no more: the mean of a Beta prior of ``prior``
lists that has seen N. A large ``prior`` is best-of-N with a static reference.

Differences from GRPO: (1) credit is a list's, the same for all its draws, and less the mean of the
prompt's lists; nothing is divided by a deviation. (2) The divergence is in the credit, as in
``rloo``. (3) Candidates are samples: p is the policy's own with ``logprob_space=trie``, and a
little too small otherwise. Draws that are too few for a list are given none.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import (
    Algorithm,
    Batch,
    CandidateTree,
    Hyperparameters,
    Policy,
    Prompts,
    Scores,
    Seen,
    fixed,
    group_advantage,
    group_mean,
    sample,
    weight,
)


@dataclass(frozen=True)
class BestOfNHyperparameters(Hyperparameters):
    """How many lists, and what the target is made of."""

    lists: int = fixed(4, low=2, high=1000, below="group_size", help="N: lists of a group")
    # From rollouts alone to the start's lists counting four times as many.
    prior: float = weight(4.0, high=1e6, search=(0, 16), help="lists that F_ref counts for")
    beta: float = weight(1.0, high=100, search=(0, 2), help="of the divergence; 1: best of N")


class BestOfN(Algorithm):
    """Lists that are seldom surpassed become likelier."""

    hyperparameters_class = BestOfNHyperparameters
    hyperparameters: BestOfNHyperparameters
    uses_reference = True
    scores_targets = True

    def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
        """Draw from the policy inside the trie."""
        return sample(policy, prompts, group_size)

    def in_lists(self, values: Tensor) -> Tensor:
        """Cut [B, G, ...] into [B, N, K, ...], without what is left over."""
        size = max(1, values.shape[1] // self.hyperparameters.lists)
        count = min(self.hyperparameters.lists, values.shape[1] // size)
        cut: Tensor = values[:, : count * size].unflatten(1, (count, size))
        return cut

    def of_draws(self, values: Tensor, seen: Seen) -> Tensor:
        """Give the draws of each list its value [B, N]; [B, G], 0 to what is not real or left."""
        size = self.in_lists(seen.tree.valid).shape[2]
        spread = torch.zeros_like(seen.tree.valid, dtype=values.dtype)
        spread[:, : values.shape[1] * size] = values.repeat_interleave(size, dim=1)
        return spread.masked_fill(~seen.tree.valid, 0.0)

    def misses(self, seen: Seen) -> Tensor:
        """Return [B, N] k: the draws of each list before its first hit, K without one."""
        hits = self.in_lists(seen.tree.hits(seen.targets))
        return (hits.long().cumsum(dim=2) == 0).sum(dim=2)

    def reward(self, seen: Seen) -> Tensor:
        """Return [B, G] the NDCG@K of the list that a draw belongs to."""
        before = self.misses(seen)
        size = self.in_lists(seen.tree.valid).shape[2]
        worth = torch.where(before < size, 1.0 / torch.log2(before + 2.0), 0.0)
        return self.of_draws(worth, seen)

    def share_below(self, before: Tensor, real: Tensor, of_target: Tensor) -> Tensor:
        """Return [B, N] F of lists with k draws before a hit, of which some are real.

        Args:
            before: k, [B, N].
            real: [B, N].
            of_target: log p of the target under the reference, [B].
        """
        p, prior = of_target.exp().clamp(max=1 - 1e-6).unsqueeze(1), self.hyperparameters.prior
        static = (1 - p) ** before
        # The fewer draws before the hit, the more a list is worth.
        no_better = (before.unsqueeze(1) >= before.unsqueeze(2)) & real.unsqueeze(1)
        count = real.sum(dim=1, keepdim=True)
        return (prior * static + no_better.sum(dim=2)) / (prior + count).clamp(min=1)

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return (N - 1) log F less the divergence, of each list against the prompt's others."""
        hp, tree = self.hyperparameters, seen.tree
        real = self.in_lists(tree.valid)
        has_draws, of_target = real.any(dim=2), seen.reference_target_log_probs.sum(dim=1)
        share = self.share_below(self.misses(seen), has_draws, of_target)
        credit = (share.shape[1] - 1) * share.clamp(min=1e-30).log()
        if hp.beta > 0:
            gap = (tree.on_paths(tree.log_probs) - seen.reference_log_probs).sum(dim=-1)
            credit = credit - hp.beta * (self.in_lists(gap) * real).sum(dim=2)
        credit = credit.masked_fill(~has_draws, 0.0)
        return self.of_draws(group_advantage(credit, has_draws, divide_by_std=False), seen)

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Return -A log pi, per code and candidate."""
        weighted = -batch.advantages.unsqueeze(-1) * scores.log_probs
        return group_mean(weighted, batch.tree.valid), {}
