"""What candidates are worth, as pure functions of a tree and its targets.

Each returns [B, G] with 0 at candidates that are not real. ``tree`` holds B groups of G candidates
and ``targets`` [B] the leaf states of the targets.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_bench.randomness import mix
from genrec_bench.tree import CandidateTree


def rule_reward(tree: CandidateTree, targets: Tensor) -> Tensor:
    """Reward the target alone: R = 1[y = y*] (UGR Eq. 2)."""
    return tree.hits(targets).float()


def rank_reward(tree: CandidateTree, targets: Tensor) -> Tensor:
    """Punish wrong candidates by rank: R = 1[y = y*] - 1[y != y*] / log(rank(y) + 1) (UGR Eq. 3).

    Rank 1 is the most probable candidate of the group, wherever it stands in it. The paper writes
    log without a base; the base is 2 here, that of the NDCG discount which the reward imitates.
    """
    hits = tree.hits(targets)
    penalty = -1.0 / torch.log2(tree.ranks() + 2.0)
    return torch.where(hits, 1.0, penalty).masked_fill(~tree.valid, 0.0)


def rule_and_rank_reward(tree: CandidateTree, targets: Tensor) -> Tensor:
    """Add a normalised rank penalty to the hit, as MiniOneRec's code does.

    With zero-based rank i, a hit earns 1 and a wrong candidate
    -(1 / log2(i + 2)) / sum_{j < G} 1 / log2(j + 2); the sum runs over all places of the group, the
    hit's included (the paper leaves the hit's out). A group without a hit earns 0 throughout.
    """
    hits = tree.hits(targets)
    discount = (1.0 / torch.log2(tree.ranks() + 2.0)).masked_fill(~tree.valid, 0.0)
    penalty = -discount / discount.sum(dim=1, keepdim=True)
    reward = torch.where(hits, 1.0, penalty)
    return reward * hits.any(dim=1, keepdim=True) * tree.valid


def uncertainty_reward(
    tree: CandidateTree, targets: Tensor, *, length_penalty: float = 0.0, without_hit: bool = True
) -> Tensor:
    """Punish wrong candidates by the policy's certainty of them (UGR Eq. 5).

    r(y*) = 1 and r(y) = -exp(s(y)) / sum over wrong candidates of exp(s), where s(y) is the sum of
    the candidate's log-probabilities: the punishments of a group add up to -1.

    Args:
        tree: the candidates.
        targets: [B] leaf states of the targets.
        length_penalty: divides s(y) by (L + 1) to this power. The paper has 0; the released code's
            beam search has 1, with an end token as the extra one, which softens the punishments.
        without_hit: whether a group that lacks the target is punished, as the formula says; the
            released code gives such a group 0.
    """
    hits = tree.hits(targets)
    num_codes = tree.trie.num_levels + 1
    intensity = tree.sequence_log_probs() / num_codes**length_penalty
    wrong = tree.valid & ~hits
    # Subtracting the largest leaves the ratio as it is and keeps the exponentials in range. A group
    # with no wrong candidate has nothing to divide by, and nothing to punish.
    scores = intensity.masked_fill(~wrong, -torch.inf)
    shifted = scores - scores.amax(dim=1, keepdim=True).clamp(min=torch.finfo(scores.dtype).min)
    weights = shifted.exp().masked_fill(~wrong, 0.0)
    penalty = -weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-30)
    reward = torch.where(hits, 1.0, penalty)
    if not without_hit:
        reward = reward * hits.any(dim=1, keepdim=True)
    return reward * tree.valid


def random_reward(tree: CandidateTree) -> Tensor:
    """Reward by a coin that knows nothing: the control that shows what optimisation alone does.

    The draws, uniform in [0, 1), are a hash of the candidate and of who else is in its group. No
    generator is asked, so that one seed gives one run however it is cut, and a candidate's reward
    under one prompt tells nothing of its reward under another.
    """
    group = mix(tree.leaves).sum(dim=1, keepdim=True)
    draws = mix(tree.leaves + mix(group)).double() / 2.0**32
    return draws.float().clamp(max=1 - 1e-7).masked_fill(~tree.valid, 0.0)
