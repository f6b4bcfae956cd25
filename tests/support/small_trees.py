"""Trees over five SIDs, small enough to be worked out by hand."""

import numpy as np
import torch

from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie

SIDS = [[0, 0, 0], [0, 0, 1], [0, 1, 0], [1, 0, 0], [2, 0, 0]]
TRIE = Trie.build(np.array(SIDS, dtype=np.int32), (3, 2, 2))


def tree_of(*groups: list[int]) -> CandidateTree:
    """Groups of rows of ``SIDS``; -1 where there is no candidate."""
    leaves = TRIE.leaf(torch.tensor(groups))
    return CandidateTree.build(TRIE, leaves, torch.zeros(*leaves.shape, 3))


def node(tree: CandidateTree, *prefix: int, row: int = 0) -> int:
    """The place of a prefix among the nodes of a tree."""
    (sid,) = [index for index, sid in enumerate(SIDS) if sid[: len(prefix)] == [*prefix]][:1]
    state = TRIE.prefixes(TRIE.leaf(torch.tensor(sid)))[len(prefix) - 1]
    return tree.states[row].tolist().index(int(state))


ONE_LEVEL = Trie.build(np.arange(20, dtype=np.int32)[:, None], (20,))
"""Twenty SIDs of one code: a candidate's log-probability is its only node's."""


def group_of(probabilities: list[float], hit: int | None) -> tuple[CandidateTree, torch.Tensor]:
    """One group, and its target: candidate i is SID i, ``hit`` the target, or none of them."""
    sids = torch.tensor([[i if p > 0 else -1 for i, p in enumerate(probabilities)]])
    log_probs = torch.tensor(probabilities).clamp(min=1e-9).log().view(1, -1, 1)
    tree = CandidateTree.build(ONE_LEVEL, ONE_LEVEL.leaf(sids), log_probs)
    return tree, ONE_LEVEL.leaf(torch.tensor([19 if hit is None else hit]))
