"""From rewards to credit, as pure functions on tensors."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.rewards import bucket_mean


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


def success_bonus(hits: Tensor, valid: Tensor, k: int) -> Tensor:
    """Credit a candidate for the chance that k of its group hold a hit (GREAM Eq. 15-20).

    Of n real candidates c are hits, and k are drawn without replacement. With

        rho   = 1 - C(n - c, k) / C(n, k)                the draw holds a hit      (Eq. 15)
        sigma = sqrt(rho (1 - rho))                                                (Eq. 16)
        delta = C(n - c - 1, k - 1) / C(n - 1, k - 1)    one wrong candidate is drawn, and
                                                         the others are wrong too  (Eq. 19)

    a hit gets (1 - rho) / sigma (Eq. 18), any other ((1 - rho) - delta) / sigma (Eq. 20). Where
    sigma is 0 so are both: without a hit, and with so many that every draw holds one (k > n - c).

    Args:
        hits: [B, G] which candidates are the target; several can be.
        valid: [B, G] which candidates are real.
        k: at least 1; a group with fewer real candidates is drawn whole, which leaves no bonus.

    Returns:
        [B, G]; 0 at candidates that are not real.
    """
    size = valid.sum(dim=1, keepdim=True).double()
    wrong = size - (hits & valid).sum(dim=1, keepdim=True)
    # C(n - c - 1, k - 1) / C(n - 1, k - 1) is the product over 0 < j < k of (n - c - j) / (n - j).
    taken = torch.arange(1, k, device=hits.device)
    factors = (wrong - taken).clamp(min=0) / (size - taken).clamp(min=1)
    delta = factors.masked_fill(taken >= size, 1.0).prod(dim=1, keepdim=True)
    # What C(n - c, k) / C(n, k) has beyond it is the factor (n - c) / n.
    miss = delta * wrong / size.clamp(min=1)
    sigma = (miss * (1.0 - miss)).sqrt()
    bonus = torch.where(hits, miss, miss - delta) / torch.where(sigma > 0, sigma, 1.0)
    return bonus.masked_fill(~valid | (sigma == 0), 0.0).float()


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


def sibling_advantage(tree: CandidateTree, rewards: Tensor, *, epsilon: float = 1e-4) -> Tensor:
    """Compare each node with its siblings, the nodes of its tree with its parent (V-STAR Eq. 18).

    With R(v) the mean reward of the candidates that pass through node v, A = (R(v) - mean) /
    (std + epsilon). Mean and standard deviation run over the siblings, each once however many
    candidates it has. The paper does not say which deviation; this one has n in its denominator, as
    the released code's. A node without siblings has no advantage.

    Args:
        tree: the candidates.
        rewards: [B, G].
        epsilon: keeps the quotient finite when siblings are equal.

    Returns:
        [B, N]; 0 for padding.
    """
    # As double: on a GPU sums are taken in any order, and equal runs shall stay equal.
    node_rewards = bucket_mean(tree, rewards.double().unsqueeze(-1)).squeeze(-1)
    real = tree.is_node
    # The place of each node's parent: 0 is the prompt, which only that prompt's nodes have.
    parent = tree.parents + 1

    def over_siblings(values: Tensor) -> Tensor:
        sums = values.new_zeros(len(values), values.shape[1] + 1)
        sums.scatter_add_(1, parent, values.masked_fill(~real, 0.0))
        return sums.gather(1, parent)

    count = over_siblings(real.to(node_rewards.dtype)).clamp(min=1)
    centered = node_rewards - over_siblings(node_rewards) / count
    deviation = (over_siblings(centered.square()) / count).sqrt()
    return (centered / (deviation + epsilon)).masked_fill(~real, 0.0).to(rewards.dtype)
