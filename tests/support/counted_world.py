"""A training split over five SIDs, small enough to be counted by hand."""

import torch
from small_trees import SIDS, TRIE

from genrec_bench.algorithm import Prompts, TrainingData
from genrec_bench.data.dataset import Examples

HISTORIES = [[0], [4, 0], [0], [1], [2], []]
TARGETS = [1, 1, 2, 2, 3, 1]
"""Item i has the SID i, of [0,0,0], [0,0,1], [0,1,0], [1,0,0] and [2,0,0]; nobody's target is 0."""


def training_data() -> TrainingData:
    """Targets are SID 1 three times, SID 2 twice, SID 3 once; 1, 1, 2 followed 0."""
    examples = Examples.from_lists(range(len(TARGETS)), HISTORIES, TARGETS)
    return TrainingData(examples, TRIE, TRIE.leaf(torch.arange(len(SIDS))))


def prompts_of(*histories: list[int]) -> Prompts:
    """Prompts that are nothing but their histories."""
    width = max(len(history) for history in histories)
    rows = torch.tensor([history + [-1] * (width - len(history)) for history in histories])
    return Prompts(rows.clamp(min=0), rows >= 0, rows)
