"""D3: debiasing-diversifying decoding (Bao et al. 2024, arXiv 2406.14900).

Nothing is learned: the SFT start is decoded in another way. A beam ranks prefixes by the sum of

    alpha log p(v | prefix) + (1 - alpha) log p_cf(v | prefix)

where p_cf is a collaborative model's mass on the items under a child v, over its mass on all
siblings, so that what the language model writes too rarely comes up. Differences from a beam:

1. The second term. ``alpha`` is 0.8, 0.9 or 1 in the paper; the released script has 1, which turns
   the model off and leaves an ordinary beam.
2. There is no length normalization, which favours items that end in codes without an alternative
   (the paper's ghost tokens). The harness has none anyway.

The paper's model is SASRec. Ours is counts of what followed each item of the history
(``Successors``), as no second network belongs to a run; another one is a class of its own that
overrides ``shares``. The released code takes the largest of an item's logits under a child, and
asks in a comment whether it should be their sum; the paper's sum stands here.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import (
    Algorithm,
    CandidateTree,
    Hyperparameters,
    Policy,
    Prompts,
    Successors,
    TrainingData,
    beam_search,
    fixed,
)


@dataclass(frozen=True)
class D3Hyperparameters(Hyperparameters):
    """The mixture, and the counts."""

    alpha: float = fixed(0.9, low=0, high=1, help="weight of the policy; 1: an ordinary beam")
    recency: float = fixed(0.5, low=0, high=1, help="weight of an item, of that of the next newer")
    prior: float = fixed(1.0, low=1e-6, high=1e6, help="draws by popularity added to the counts")


class D3(Algorithm):
    """The policy as it is, on a beam that counts have a say in."""

    hyperparameters_class = D3Hyperparameters
    hyperparameters: D3Hyperparameters
    trains = False
    decoding = "d3"

    def __init__(self, hyperparameters: D3Hyperparameters) -> None:
        super().__init__(hyperparameters)
        self.successors: Successors | None = None

    def begin(self, data: TrainingData) -> None:
        """Count what followed what."""
        self.successors = Successors.count(data)

    def state(self) -> Mapping[str, Tensor]:
        """Return the counts."""
        return {} if self.successors is None else self.successors.tensors()

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take the counts up."""
        self.successors = Successors(**state)

    def shares(self, prompts: Prompts) -> Tensor:
        """Return [B, num_sids] the collaborative model's probability of each SID, above 0."""
        hp = self.hyperparameters
        assert self.successors is not None, "begin or load_state comes first"
        return self.successors.shares(prompts.histories, hp.recency, hp.prior)

    def decode(self, policy: Policy, prompts: Prompts, width: int) -> CandidateTree:
        """Search by the mixture."""
        alpha, trie = self.hyperparameters.alpha, policy.trie

        def rescore(some: Prompts, states: Tensor, log_probs: Tensor) -> Tensor:
            mass = Successors.mass(trie, self.shares(some))
            row = torch.arange(len(states), device=states.device).view(-1, 1, 1)
            above = mass[row, trie.parent[states]]
            return alpha * log_probs + (1 - alpha) * (mass[row, states] / above).log()

        return beam_search(policy, prompts, width, rescore=rescore)
