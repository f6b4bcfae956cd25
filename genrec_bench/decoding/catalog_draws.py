"""Candidates that no policy has a say in: distinct SIDs of the catalog, each as likely as any."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_bench.decoding.randomness import draw_key, prompt_keys, uniform
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie


def catalog_draws(
    trie: Trie, prompts: Prompts, group_size: int, count: int, *, key: int | None = None
) -> CandidateTree:
    """Draw distinct SIDs for each prompt, uniformly from the catalog.

    Nothing is read of the policy, so that the tree's log-probabilities are 0: an algorithm that
    rolls out so sets ``rates_candidates`` to False. Random numbers are keyed as in ``sample``.

    Args:
        group_size: G, places for candidates.
        count: how many of them are filled, if the catalog has so many SIDs; the first ones.
        key: see ``sample``.
    """
    count = min(count, group_size, trie.num_leaves)
    keys = prompt_keys(prompts, draw_key() if key is None else key)
    drawn = torch.full((len(keys), group_size), -1, dtype=torch.long, device=keys.device)
    # Floyd's: the j-th is one of the first n - count + j + 1, or the last of these if it is there.
    for place in range(count):
        last = trie.num_leaves - count + place
        sid = (uniform(keys, place) * (last + 1)).long()
        again = (drawn[:, :place] == sid.unsqueeze(1)).any(dim=1)
        drawn[:, place] = torch.where(again, last, sid)
    leaves = trie.leaf(drawn)
    nothing: Tensor = torch.zeros(*leaves.shape, trie.num_levels, device=keys.device)
    return CandidateTree.build(trie, leaves, nothing)
