"""What `diversity` and `correlation` share: queries, and numbers of the candidates found for them.

A query is an example of the test split. All numbers are in double precision, so that equal rewards
stay equal when they are averaged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from genrec_bench.data.dataset import Examples
from genrec_bench.decoding.beam import chunks
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import score
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.value_rewards import semantic_reward

SEED = 0
"""Of the choice of queries: every policy of an analysis is asked the same, whatever its seed."""

QUERIES_AT_ONCE = 128


def choose(examples: Examples, count: int) -> Examples:
    """Return some examples in their order, always the same for one count; all for a count of 0."""
    if count == 0 or count >= len(examples):
        return examples
    chosen = np.random.default_rng(SEED).choice(len(examples), size=count, replace=False)
    return examples.subset(np.sort(chosen))


def batches(policy: Policy, examples: Examples) -> Iterator[tuple[Prompts, Tensor]]:
    """Yield prompts, and the leaf states [B] of their targets; short histories first."""
    order = np.argsort(examples.history_lengths, kind="stable")
    for start in range(0, len(order), QUERIES_AT_ONCE):
        rows = order[start : start + QUERIES_AT_ONCE]
        targets = torch.from_numpy(examples.targets[rows].astype(np.int64)).to(policy.device)
        prompts = policy.prompt_format.encode(examples, rows).to(policy.device)
        yield prompts, policy.item_leaves[targets]


def pair_distances(tree: CandidateTree) -> Tensor:
    """Return [B] the mean of 1 - LCP / L over all pairs of candidates (V-STAR §5.5, Div).

    LCP is the number of leading codes that two SIDs share. A node with c candidates below it adds
    one to the LCP of c (c - 1) / 2 pairs, so no pair is looked at.

    Args:
        tree: the candidates; one that was drawn twice makes a pair without distance.

    Returns:
        nan where there is no pair.
    """
    num_levels = tree.paths.shape[-1]
    below = torch.zeros(tree.states.shape, dtype=torch.float64, device=tree.states.device)
    real = tree.valid.unsqueeze(-1).expand(-1, -1, num_levels).flatten(1)
    below.scatter_add_(1, tree.paths.flatten(1), real.double())
    shared = (below * (below - 1.0)).sum(dim=1)
    count = tree.valid.sum(dim=1).double()
    # 0 / 0 is nan, as it should be.
    return 1.0 - shared / (count * (count - 1.0) * num_levels)


def candidate_rewards(tree: CandidateTree, targets: Tensor, embeddings: Tensor | None) -> Tensor:
    """Return [B, G] what each candidate is worth; 0 where it is not real.

    Args:
        targets: [B] leaf states.
        embeddings: [num_sids, E], for V-STAR's dense reward of a whole SID with the weight 1
            (Eq. 8): 1 for the target, else -(1 - cos(e(y), e(y*))). None: 1 for the target, else 0.
    """
    if embeddings is None:
        return tree.hits(targets).double()
    weights = [1.0] * tree.trie.num_levels
    # All candidates below a leaf are the same SID: their mean embedding is its own.
    nodes = semantic_reward(tree, targets, embeddings.double(), weights)
    return tree.on_paths(nodes)[..., -1].masked_fill(~tree.valid, 0.0)


def prefix_rewards(tree: CandidateTree, rewards: Tensor) -> Tensor:
    """Return [B, N] the mean of rewards [B, G] of candidates that share a prefix; 0 for padding.

    A candidate that was drawn twice counts twice.
    """
    return tree.bucket_mean(rewards.double().unsqueeze(-1)).squeeze(-1)


def prefix_log_probs(tree: CandidateTree) -> Tensor:
    """Return [B, N] log-probability of each prefix, all its codes together; 0 for padding."""
    below_root = tree.on_paths(tree.log_probs.double()).cumsum(dim=-1)
    num_prompts, num_nodes = tree.states.shape
    # A place more, for the paths of candidates that are not real.
    found = below_root.new_zeros(num_prompts, num_nodes + 1)
    place = tree.paths.masked_fill(~tree.valid.unsqueeze(-1), num_nodes)
    return found.scatter_(1, place.flatten(1), below_root.flatten(1))[:, :num_nodes]


def scored_by(policy: Policy, prompts: Prompts, tree: CandidateTree) -> CandidateTree:
    """Return a tree with the log-probabilities that a policy gives, in place of those it has."""
    found = torch.zeros_like(tree.log_probs)
    for rows in chunks(prompts.lengths + tree.is_node.sum(dim=1), policy.tokens_per_forward):
        part = tree.select(rows)
        scores = score(policy, prompts.select(rows), part)
        found[rows, : part.states.shape[1]] = scores.node_log_probs
    return replace(tree, log_probs=found)


def prefix_values(
    policy: Policy, algorithm: Algorithm, prompts: Prompts, tree: CandidateTree
) -> Tensor:
    """Return [B, N] what an algorithm expects of each prefix; 0 for padding."""
    found = torch.zeros(tree.states.shape, dtype=torch.float64, device=tree.states.device)
    for rows in chunks(prompts.lengths + tree.is_node.sum(dim=1), policy.tokens_per_forward):
        part = tree.select(rows)
        values = algorithm.values(score(policy, prompts.select(rows), part, leaves=True))
        found[rows, : values.shape[1]] = values.double()
    return found


def spearman(first: Tensor, second: Tensor, counted: Tensor) -> Tensor:
    """Return [B] Spearman's rank correlation of each row; equal values share their mean rank.

    All are [B, N], and ``counted`` says which places count. Where either is the same at all places
    that count, or fewer than two do, it is nan.
    """
    one, other = (
        rankdata(values.double().masked_fill(~counted, torch.nan).cpu(), axis=1, nan_policy="omit")
        for values in (first, second)
    )
    # Distances from the mean rank are exact: a row of equal values has a variance of 0.
    middle = (counted.sum(dim=1, keepdim=True).cpu().numpy() + 1) / 2
    one, other = np.nan_to_num(one - middle), np.nan_to_num(other - middle)
    spread = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
    with np.errstate(invalid="ignore"):
        return torch.from_numpy((one * other).sum(axis=1) / spread)
