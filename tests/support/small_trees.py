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
