"""What an algorithm may look at before its first step: the training split, counted."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from genrec_bench.data.dataset import Examples
from genrec_bench.policy.trie import Trie


@dataclass(frozen=True, eq=False)
class TrainingData:
    """The training split, as ``begin`` is given it.

    Attributes:
        examples: of the training split; histories and targets are items.
        trie: the catalog's SIDs, on the policy's device.
        item_leaves: [num_items] the leaf state of each item's SID.
    """

    examples: Examples
    trie: Trie
    item_leaves: Tensor

    @cached_property
    def targets(self) -> Tensor:
        """[n] the leaf state of each example's target."""
        items = torch.from_numpy(self.examples.targets.astype(np.int64))
        return self.item_leaves[items.to(self.item_leaves.device)]

    @cached_property
    def prefix_counts(self) -> Tensor:
        """[num_states + 1] how many examples' targets lie under each trie state; 0 for ``dead``.

        The root has them all, a leaf those of its SID.
        """
        trie = self.trie
        path = trie.prefixes(self.targets).flatten()
        counts = torch.bincount(path, minlength=trie.num_states + 1)
        counts[0] = len(self.targets)
        return counts

    @cached_property
    def sid_counts(self) -> Tensor:
        """[num_sids] how many examples have each SID as their target."""
        return self.prefix_counts[self.trie.first_of_level[-1] : self.trie.dead]
