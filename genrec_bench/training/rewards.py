"""What candidates are worth, as pure functions of a tree and its targets.

Each returns [B, G] with 0 at candidates that are not real, or [B, N] with 0 at padding where it
speaks of nodes. ``tree`` holds B groups of G candidates and ``targets`` [B] the leaf states of the
targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from genrec_bench.decoding.randomness import mix
from genrec_bench.errors import UserError
from genrec_bench.policy.tree import CandidateTree


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


def residual_reward(tree: CandidateTree, targets: Tensor, *, power: float = 0.5) -> Tensor:
    """Reward the prefix that a candidate shares with the target: (l / L)^power (GREAM Eq. 13-14).

    l is the length of the longest common prefix: 0 earns nothing, the target 1. With a power below
    1 the first codes earn more than the last ones.

    Args:
        tree: the candidates.
        targets: [B] leaf states of the targets.
        power: beta of Eq. 14, in (0, 1].
    """
    share = tree.matched_levels(targets) / tree.trie.num_levels
    return share**power


def random_reward(tree: CandidateTree) -> Tensor:
    """Reward by a coin that knows nothing: the control that shows what optimisation alone does.

    The draws, uniform in [0, 1), are a hash of the candidate and of who else is in its group. No
    generator is asked, so that one seed gives one run however it is cut, and a candidate's reward
    under one prompt tells nothing of its reward under another.
    """
    group = mix(tree.leaves).sum(dim=1, keepdim=True)
    draws = mix(tree.leaves + mix(group)).double() / 2.0**32
    return draws.float().clamp(max=1 - 1e-7).masked_fill(~tree.valid, 0.0)


def bucket_mean(tree: CandidateTree, values: Tensor) -> Tensor:
    """Average a value of the candidates over those that pass through each node (V-STAR Eq. 6).

    Args:
        tree: the candidates; one that was drawn twice counts twice.
        values: [B, G, E].

    Returns:
        [B, N, E]; 0 for padding.
    """
    # Added up, and not multiplied by a matrix of zeros and ones: its padding would be metered.
    sums = values.new_zeros(*tree.states.shape, values.shape[-1])
    counts = values.new_zeros(tree.states.shape)
    # What stands at empty places may be anything, and 0 times infinity is not 0.
    own = values.masked_fill(~tree.valid.unsqueeze(-1), 0.0)
    for nodes in tree.paths.unbind(dim=-1):
        sums.scatter_add_(1, nodes.unsqueeze(-1).expand_as(own), own)
        counts.scatter_add_(1, nodes, tree.valid.to(counts.dtype))
    return sums / counts.unsqueeze(-1).clamp(min=1)


def semantic_reward(
    tree: CandidateTree, targets: Tensor, embeddings: Tensor, weights: Sequence[float]
) -> Tensor:
    """Reward each prefix by its nearness in meaning to the target (V-STAR Eq. 6 to 8).

    w_l for a prefix of the target, -w_l (1 - cos(mean e(i), e(y*))) for any other, where the mean
    runs over the group's candidates i that share the prefix. The cosine with a zero vector is 0.

    Args:
        tree: the candidates.
        targets: [B] leaf states of the targets.
        embeddings: [num_sids, E] e of each SID.
        weights: w_l of each of the L levels.

    Returns:
        [B, N]
    """
    trie = tree.trie
    found = embeddings[trie.sid_index(tree.leaves).clamp(min=0)]
    wanted = embeddings[trie.sid_index(targets)].unsqueeze(1)
    nearness = cosine_similarity(bucket_mean(tree, found), wanted, dim=-1)
    place = (tree.levels - 1).clamp(min=0)
    matches = tree.states == trie.prefixes(targets).gather(1, place)
    weight = nearness.new_tensor(weights)[place]
    reward = weight * torch.where(matches, 1.0, nearness - 1.0)
    return reward.masked_fill(~tree.is_node, 0.0)


def level_weights(text: str, num_levels: int) -> list[float]:
    """Read a weight for each level from a text such as ``0.3,0.5,1``.

    Where there are as many levels as numbers, these are the weights. Otherwise the numbers are
    spread evenly from the first level to the last, and levels in between are interpolated linearly.

    Args:
        text: positive numbers, separated by commas.
        num_levels: L; the only level of L = 1 has the last weight.

    Raises:
        UserError: if the text is anything else.
    """
    try:
        given = [float(word) for word in text.split(",")]
    except ValueError:
        given = []
    rising = all(before <= after for before, after in pairwise(given))
    if not given or not rising or not all(0 < weight < math.inf for weight in given):
        raise UserError(
            f"level_weights={text}: must be positive numbers that do not fall, separated by "
            "commas, such as 0.3,0.5,1"
        )
    weights = []
    for level in range(num_levels):
        place = (len(given) - 1) * (level / (num_levels - 1) if num_levels > 1 else 1.0)
        before = min(int(place), len(given) - 1)
        after = min(before + 1, len(given) - 1)
        share = place - before
        weights.append((1.0 - share) * given[before] + share * given[after])
    return weights
