"""S-DPO: softmax direct preference optimization (Chen et al. 2024, arXiv 2406.09215).

Differences from DPO:

1. A target is preferred to several SIDs at once, as a softmax over them all would (Plackett-Luce).
   With D(y) = log pi(y) - log pi_ref(y),

       loss = -log sigmoid(-log sum_y exp(beta (D(y) - D(y*))))
            = log(1 + sum_y exp(beta (D(y) - D(y*))))                       (§3.2, L_S-DPO)

   so that hard ones, which are near the target, weigh more. With one y it is DPO.
2. ``negatives`` is 3 and ``beta`` 1, as in the authors' code; MiniOneRec runs it with 0.1. They are
   drawn from the catalog anew in each step; the code draws them once for each example.

The authors score titles, here it is SIDs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import fixed, hyperparameter
from genrec_bench.algorithms.dpo import DPO, DPOHyperparameters


@dataclass(frozen=True)
class SDPOHyperparameters(DPOHyperparameters):
    """DPO's, with the numbers of S-DPO's code."""

    # MiniOneRec's is at the middle of it.
    beta: float = hyperparameter(
        1.0, low=1e-4, high=100, log=True, search=(0.02, 5), help="beta: the less, the further"
    )
    negatives: int = fixed(3, low=1, high=256, help="rejected of a prompt, at most group_size")


class SDPO(DPO):
    """One target before several others."""

    hyperparameters_class = SDPOHyperparameters
    hyperparameters: SDPOHyperparameters

    def preference(self, margins: Tensor, rejected: Tensor) -> Tensor:
        """Return [B] log(1 + sum of exp(-margin)); 0 where nothing is rejected."""
        others = (-margins).masked_fill(~rejected, -torch.inf)
        itself = torch.zeros_like(others[:, :1])
        return torch.cat([itself, others], dim=1).logsumexp(dim=1)
