"""What several algorithms share: rewards, the advantage within a group, and surrogate losses.

Pure functions on tensors. A formula that serves one paper stands in that paper's file. ``tree``
holds B groups of G candidates, ``targets`` [B] the leaf states of the targets, ``valid`` [B, G]
which candidates are real.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from genrec_bench.decoding.randomness import mix
from genrec_bench.policy.tree import CandidateTree


def rule_reward(tree: CandidateTree, targets: Tensor) -> Tensor:
    """Return [B, G] the hit: R = 1[y = y*] (UGR Eq. 2)."""
    return tree.hits(targets).float()


def random_reward(tree: CandidateTree) -> Tensor:
    """Return [B, G] rewards drawn at random: the control that shows what optimisation alone does.

    They are uniform in [0, 1), and 0 at candidates that are not real. Each is a hash of the
    candidate and of its group: no generator is used, so that a seed gives one run however it is cut
    into steps, and a candidate's reward under one prompt tells nothing of its reward under another.
    """
    group = mix(tree.leaves).sum(dim=1, keepdim=True)
    draws = mix(tree.leaves + mix(group)).double() / 2.0**32
    return draws.float().clamp(max=1 - 1e-7).masked_fill(~tree.valid, 0.0)


def group_advantage(
    rewards: Tensor, valid: Tensor, *, epsilon: float = 1e-4, divide_by_std: bool = True
) -> Tensor:
    """Compare each candidate with its group: A = (r - mean) / (std + epsilon) (GRPO; UGR Eq. 6).

    Mean and standard deviation (n - 1 in its denominator) run over the real candidates of a group;
    a group of one has no deviation and no advantage.

    Args:
        rewards: [B, G].
        valid: [B, G].
        epsilon: keeps the quotient finite when all rewards are equal.
        divide_by_std: False leaves the difference as it is (Dr. GRPO).

    Returns:
        [B, G]; 0 at candidates that are not real.
    """
    count = valid.sum(dim=1, keepdim=True).clamp(min=1)
    mean = (rewards * valid).sum(dim=1, keepdim=True) / count
    centered = (rewards - mean) * valid
    if not divide_by_std:
        return centered
    variance = centered.square().sum(dim=1, keepdim=True) / (count - 1).clamp(min=1)
    return centered / (variance.sqrt() + epsilon)


def clipped_objective(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """Return the clipped surrogate of each code [B, G, L] (PPO; UGR Eq. 8 before it is simplified).

    -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), rho = exp(log_probs - old_log_probs).

    Args:
        log_probs: [B, G, L] under the policy, with gradients.
        old_log_probs: [B, G, L] under the behavior policy.
        advantages: [B, G, 1] or [B, G, L].
        clip_low: how far rho may fall below 1 and still carry gradient.
        clip_high: how far rho may rise above 1 and still carry gradient.
    """
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def k3_divergence(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Estimate the KL divergence from the reference policy, code by code.

    exp(d) - d - 1 with d = reference - policy: never negative, unbiased under the policy (k3).
    """
    difference = reference_log_probs - log_probs
    return difference.exp() - difference - 1.0


def masked_softmax(values: Tensor, mask: Tensor) -> Tensor:
    """Return [B, G] exp(value) over its sum, of the masked candidates; 0 at all others."""
    values = values.masked_fill(~mask, -torch.inf)
    # Without the largest, exponentials stay in range. Where nothing is masked all are 0.
    largest = values.amax(dim=1, keepdim=True).clamp(min=torch.finfo(values.dtype).min)
    weights = (values - largest).exp()
    return weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-30)


def ranking_loss(values: Tensor, best: Tensor, others: Tensor) -> Tensor:
    """Return [B] the mean over others of log(1 + exp(value - value of the best)) (UGR Eq. 12).

    All are [B, G]; ``best`` says which candidates are the hit, whose places share one value: a
    target that was drawn more than once counts once. The loss is 0 without a hit or without others.
    """
    margins = functional.softplus(values - masked_mean(values, best).unsqueeze(1))
    return torch.where(best.any(dim=1), masked_mean(margins, others), 0.0)


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Average values [B, G] over the masked candidates of each group: [B]; 0 without any."""
    return group_mean(values.unsqueeze(-1), mask)


def group_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Average values [B, G, L] over the codes of each candidate, then over real candidates: [B]."""
    per_candidate = values.mean(dim=-1).masked_fill(~valid, 0.0)
    return per_candidate.sum(dim=1) / valid.sum(dim=1).clamp(min=1)
