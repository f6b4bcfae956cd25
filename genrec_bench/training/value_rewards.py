"""What V-STAR's value learns from: nearness in meaning to the target, and temporal differences."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.objectives import group_mean


def semantic_reward(
    tree: CandidateTree, targets: Tensor, embeddings: Tensor, weights: list[float]
) -> Tensor:
    """Reward each prefix [B, N] by its nearness in meaning to the target (Eq. 6 to 8).

    w_l for a prefix of the target, -w_l (1 - cos(mean e(i), e(y*))) for any other, where the mean
    runs over the group's candidates i that share the prefix. The cosine with a zero vector is 0.
    ``embeddings`` [num_sids, E] are e of each SID, ``weights`` the L w_l.
    """
    trie = tree.trie
    found = embeddings[trie.sid_index(tree.leaves).clamp(min=0)]
    wanted = embeddings[trie.sid_index(targets)].unsqueeze(1)
    nearness = torch.cosine_similarity(tree.bucket_mean(found), wanted, dim=-1)
    place = (tree.levels - 1).clamp(min=0)
    matches = tree.states == trie.prefixes(targets).gather(1, place)
    reward = nearness.new_tensor(weights)[place] * torch.where(matches, 1.0, nearness - 1.0)
    return reward.masked_fill(~tree.is_node, 0.0)


def td_loss(values: Tensor, rewards: Tensor, valid: Tensor, discount: float) -> Tensor:
    """Return [B] the mean of (V_l - y_l)^2 over real candidates and levels (Eq. 9).

    y_l = r_l + gamma V_(l+1), and r_L at the last level; no gradient passes through it. V and r
    are [B, G, L], along each candidate's path.
    """
    following = torch.cat([values[..., 1:], torch.zeros_like(values[..., :1])], dim=-1).detach()
    return group_mean((values - (rewards + discount * following)).square(), valid)


def value_gap(values: Tensor, hits: Tensor, valid: Tensor) -> Tensor:
    """Return [B] by how much the values [B, G] of hits exceed those of wrong candidates.

    ``valid`` says which candidates are real. 0 where there is no hit, or nothing else: averaged
    over prompts, such a group has no gap.
    """
    wrong = valid & ~hits
    each = values.unsqueeze(-1)
    return (group_mean(each, hits) - group_mean(each, wrong)) * hits.any(1) * wrong.any(1)
