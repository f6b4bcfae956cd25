"""A collaborative model that needs no training: what users took next after each item.

It stands where papers bring a second recommender, such as SASRec, beside the language model.

Shapes: B prompts, H items of a history, S SIDs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from genrec_bench.policy.trie import Trie
from genrec_bench.training.training_data import TrainingData


@dataclass(frozen=True, eq=False)
class Successors:
    """How often each SID followed each item in the training split.

    Attributes:
        first: [num_items + 1] where the followers of each item begin among the next two.
        sids: rows of ``unique_sids`` that followed.
        counts: how often they did.
        popularity: [S] how often each SID was a target, whatever it followed.
    """

    first: Tensor
    sids: Tensor
    counts: Tensor
    popularity: Tensor

    @classmethod
    def count(cls, data: TrainingData) -> Successors:
        """Count the last item of each example's history with its target."""
        examples, num_sids = data.examples, data.trie.num_leaves
        known = examples.history_lengths > 0
        last = examples.history_items[examples.history_offsets[1:][known] - 1].astype(np.int64)
        target = data.trie.sid_index(data.targets).cpu().numpy()[known]
        pairs, counts = np.unique(last * num_sids + target, return_counts=True)
        of_item = np.bincount(pairs // num_sids, minlength=len(data.item_leaves))
        first = np.concatenate([[0], of_item.cumsum()])
        device = data.targets.device
        begins, sids, often = (
            torch.from_numpy(each).to(device) for each in (first, pairs % num_sids, counts)
        )
        return cls(begins, sids, often, data.sid_counts)

    def tensors(self) -> dict[str, Tensor]:
        """Return the counts by name, for ``Algorithm.state``; ``Successors(**tensors)`` is back."""
        return dict(vars(self))

    def shares(self, histories: Tensor, recency: float = 0.5, prior: float = 1.0) -> Tensor:
        """Return [B, S] the probability of each SID to be next, none of them 0.

        The followers of all items of a history are added up. To them come ``prior`` draws by
        popularity, in which every SID counts once more than it was a target.

        Args:
            histories: [B, H] items, oldest first, -1 behind the last; as ``Prompts`` has them.
            recency: what followers of an item count, of those of the next newer one; 0 leaves the
                newest item alone.
            prior: above 0.
        """
        real = histories >= 0
        age = real.sum(dim=1, keepdim=True) - 1 - torch.arange(real.shape[1], device=real.device)
        rows, places = real.nonzero(as_tuple=True)
        items = histories[rows, places].to(self.first.device)
        begins = self.first[items]
        lengths = self.first[items + 1] - begins
        # Where each follower of each item stands: its item's first, and so many after it.
        steps = torch.arange(int(lengths.sum()), device=items.device)
        steps = steps - (lengths.cumsum(dim=0) - lengths).repeat_interleave(lengths)
        at = begins.repeat_interleave(lengths) + steps
        weights = (recency ** age[rows, places].float()).repeat_interleave(lengths)
        popular = self.popularity + 1.0
        found = (prior * popular / popular.sum()).repeat(len(histories), 1)
        where = (rows.repeat_interleave(lengths), self.sids[at])
        found.index_put_(where, weights * self.counts[at], accumulate=True)
        return found / found.sum(dim=1, keepdim=True)

    @staticmethod
    def mass(trie: Trie, shares: Tensor) -> Tensor:
        """Return [B, num_states + 1] the sum of shares [B, S] under each prefix; 0 for ``dead``."""
        bounds = (*trie.first_of_level, trie.dead)
        mass = shares.new_zeros(len(shares), trie.dead + 1)
        mass[:, bounds[-2] : trie.dead] = shares
        for level in range(trie.num_levels, 0, -1):
            own = slice(bounds[level], bounds[level + 1])
            mass.index_add_(1, trie.parent[own], mass[:, own].clone())
        return mass
