"""What is minimised, as pure functions on tensors; one value for each prompt."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import softplus


def clipped_objective(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, clip_low: float, clip_high: float
) -> Tensor:
    """Return the clipped surrogate of each code (PPO; UGR Eq. 8 before it is simplified).

    -min(rho A, clip(rho, 1 - clip_low, 1 + clip_high) A), rho = exp(log_probs - old_log_probs).

    Args:
        log_probs: [B, G, L] under the policy, with gradients.
        old_log_probs: [B, G, L] under the behavior policy.
        advantages: [B, G, 1] or [B, G, L].
        clip_low: how far rho may fall below 1 and still carry gradient.
        clip_high: how far rho may rise above 1 and still carry gradient.

    Returns:
        [B, G, L]
    """
    ratio = (log_probs - old_log_probs).exp()
    clipped = ratio.clamp(1.0 - clip_low, 1.0 + clip_high)
    return -torch.minimum(ratio * advantages, clipped * advantages)


def k3_divergence(log_probs: Tensor, reference_log_probs: Tensor) -> Tensor:
    """Estimate the KL divergence from the reference policy, code by code.

    exp(d) - d - 1 with d = reference - policy: never negative, unbiased under the policy (k3).

    Args:
        log_probs: [...] under the policy, with gradients.
        reference_log_probs: [...] under the reference policy.
    """
    difference = reference_log_probs - log_probs
    return difference.exp() - difference - 1.0


def group_mean(values: Tensor, valid: Tensor) -> Tensor:
    """Average over the codes of each candidate, then over the real candidates (GRPO).

    Args:
        values: [B, G, L].
        valid: [B, G] which candidates are real.

    Returns:
        [B]
    """
    per_candidate = values.mean(dim=-1).masked_fill(~valid, 0.0)
    return per_candidate.sum(dim=1) / valid.sum(dim=1).clamp(min=1)


def pairwise_ranking_loss(values: Tensor, best: Tensor, worse: Tensor) -> Tensor:
    """Ask that one candidate's value exceed those of a set (UGR Eq. 12).

    The mean over the set of log(1 + exp(value - value of the best)).

    Args:
        values: [B, G], with gradients.
        best: [B, G] the candidate that should come first, and its copies if it was drawn more than
            once; a prompt without one has no loss.
        worse: [B, G] the set; a prompt with an empty one has no loss.

    Returns:
        [B]
    """
    num_best = best.sum(dim=1, keepdim=True).clamp(min=1)
    best_value = (values * best).sum(dim=1, keepdim=True) / num_best
    margins = softplus(values - best_value).masked_fill(~worse, 0.0)
    mean = margins.sum(dim=1) / worse.sum(dim=1).clamp(min=1)
    return torch.where(best.any(dim=1), mean, 0.0)


def sibling_objective(
    log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, valid: Tensor
) -> Tensor:
    """Return the surrogate of the nodes of each tree, each node once (V-STAR Eq. 19, negated).

    -1 / |C| sum over nodes of A rho, rho = exp(log_probs - old_log_probs).

    Args:
        log_probs: [B, N] under the policy, with gradients.
        old_log_probs: [B, N] under the behavior policy.
        advantages: [B, N]; 0 for padding.
        valid: [B, G] which candidates are real; |C| is their number.

    Returns:
        [B]
    """
    ratio = (log_probs - old_log_probs).exp()
    return -(advantages * ratio).sum(dim=1) / valid.sum(dim=1).clamp(min=1)


def temporal_difference_loss(
    values: Tensor, rewards: Tensor, valid: Tensor, discount: float
) -> Tensor:
    """Return the squared error of values against one step and the next value (V-STAR Eq. 9).

    The mean over real candidates and levels of (V_l - y_l)^2, with y_l = r_l + discount V_(l+1),
    and y_L = r_L at the last level. No gradient passes through y_l.

    Args:
        values: [B, G, L] V along each candidate's path, with gradients.
        rewards: [B, G, L] r along each candidate's path.
        valid: [B, G] which candidates are real.
        discount: gamma, 0 to 1.

    Returns:
        [B]
    """
    following = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], dim=-1).detach()
    return group_mean((values - (rewards + discount * following)).square(), valid)
