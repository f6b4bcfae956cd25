"""From rewards to credit, as pure functions on tensors."""

from __future__ import annotations

import torch
from torch import Tensor


def group_advantage(
    rewards: Tensor, valid: Tensor, *, epsilon: float = 1e-4, divide_by_std: bool = True
) -> Tensor:
    """Compare each candidate with its group: A = (r - mean) / (std + epsilon) (GRPO; UGR Eq. 6).

    Mean and standard deviation (n - 1 in its denominator) run over the real candidates of a group;
    a group of one has no deviation and no advantage.

    Args:
        rewards: [B, G].
        valid: [B, G] which candidates are real.
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


def difficulty_weight(hits: Tensor, ranks: Tensor, alpha_min: float) -> Tensor:
    """Weigh a prompt by how far down its target stands (UGR Eq. 7).

    lambda = alpha_min + (1 - alpha_min) rank(y*) / (G - 1), with zero-based ranks, and G - 1 as the
    rank of a target that was missed.

    Args:
        hits: [B, G] which candidate is the target.
        ranks: [B, G] zero-based rank of each candidate by probability.
        alpha_min: in [0, 1], the weight of a prompt whose target comes first.

    Returns:
        [B]; 1 for every prompt if G is 1.
    """
    last = hits.shape[1] - 1
    if last == 0:
        return torch.ones(len(hits), device=hits.device)
    rank = torch.where(hits, ranks, last).amin(dim=1)
    return alpha_min + (1.0 - alpha_min) * rank / last
