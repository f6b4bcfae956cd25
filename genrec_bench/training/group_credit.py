"""Whether an algorithm's credit is relative to the group: in a group of one it teaches nothing.

Nobody has to declare it, so no plug-in can forget to: the algorithm is asked for the advantages of
small groups with every kind of reward.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import torch

from genrec_bench.errors import UserError
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie
from genrec_bench.storage.python_files import guarded
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.groups import Reference, Seen

PROMPTS, LARGER = 6, 4
"""Groups that are tried, and the size at which there must be credit."""


def needs_company(algorithm: Algorithm) -> bool:
    """Return whether all advantages are 0 in groups of one, and not in larger ones.

    Args:
        algorithm: nothing that it remembers is changed: another with its hyperparameters is asked.
    """
    if not (algorithm.on_policy and algorithm.trains):
        return False
    try:
        return guarded(
            lambda: not _has_credit(algorithm, 1) and _has_credit(algorithm, LARGER), "", None
        )
    # One that cannot be asked in so small a world is not judged.
    except UserError:
        return False


@torch.no_grad()
def _has_credit(algorithm: Algorithm, group_size: int) -> bool:
    """Return whether any advantage is not 0: of its own rewards, of equal and of random ones."""
    codes = np.stack(np.unravel_index(np.arange(8), (2, 2, 2)), axis=1).astype(np.int32)
    trie = Trie.build(codes, (2, 2, 2))
    first = trie.first_of_level[-1]
    drawn = torch.Generator().manual_seed(0)
    places = torch.arange(PROMPTS).unsqueeze(1) + torch.arange(group_size)
    log_probs = -torch.rand(PROMPTS, group_size, 3, generator=drawn)
    tree = CandidateTree.build(trie, first + places % trie.num_leaves, log_probs)
    # Hits at the first place, and groups that miss.
    targets = first + (torch.arange(PROMPTS) + 7 * (torch.arange(PROMPTS) % 2)) % trie.num_leaves
    ones = torch.ones(PROMPTS, group_size)
    # A reference that is the policy: a divergence in the reward is 0.
    told = Reference(tree.on_paths(tree.log_probs))
    seen = dataclasses.replace(Seen.bare(tree, targets), told=told)
    given = (None, ones, torch.rand(PROMPTS, group_size, generator=drawn))
    for rewards in given:
        asked = type(algorithm)(algorithm.hyperparameters)
        if rewards is None:
            rewards = asked.reward(seen)
        if asked.advantage(seen, rewards).any():
            return True
    return False
