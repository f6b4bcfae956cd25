"""ECPO: early-clipped GRPO (OneRec, Deng et al. 2025, arXiv 2506.13695, the section on its RL).

Differences from GRPO:

1. The old policy is raised before the ratio is taken and clipped,

       pi'_old = max(sg(pi) / (1 + e + delta), pi_old)

   where e is ``clip_high``. A positive candidate is clipped at 1 + e anyway. GRPO does not bound
   the ratio of a negative one, whose gradient explodes as it grows; here it is at most
   1 + e + delta, and keeps that gradient.
2. ``minibatches``: with one update a rollout the ratio is 1 and this is GRPO. The report does not
   say how often it uses a rollout; two parts are our choice, so that there is something to bound.
3. There is no divergence from a reference. The report trains on SFT's loss at the same time: the
   setting ``anchor`` of every run is its weight, 0 by default.

delta is 0.1, as in a re-implementation; the report's was not found. Its format reward, for SIDs
that exist, has no work inside a trie. The report writes pi of whole outputs; ours is code by code,
as GRPO's is here.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import fixed, hyperparameter
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters


@dataclass(frozen=True)
class ECPOHyperparameters(GRPOHyperparameters):
    """GRPO's, and how far a negative candidate's ratio may rise."""

    # Clipping is live here (2).
    clip_low: float = hyperparameter(0.2, low=0, high=1, search=(0.1, 0.4), help="e: rho > 1 - e")
    clip_high: float = hyperparameter(0.2, low=0, high=10, search=(0.1, 0.4), help="e: rho < 1 + e")
    delta: float = hyperparameter(0.1, low=0, high=10, search=(0, 0.5), help="room above 1 + e")
    beta: float = fixed(0.0, low=0, high=1, help="weight of k3, which the report leaves out")
    minibatches: int = fixed(2, low=1, high=64, help="parts of a rollout, an optimizer step each")


class ECPO(GRPO):
    """A bound for negative candidates too, before the clipping."""

    hyperparameters_class = ECPOHyperparameters
    hyperparameters: ECPOHyperparameters

    def surrogate(self, log_probs: Tensor, old: Tensor, advantages: Tensor) -> Tensor:
        """Return GRPO's, to the raised old policy."""
        most = 1.0 + self.hyperparameters.clip_high + self.hyperparameters.delta
        raised = torch.maximum(log_probs.detach() - math.log(most), old)
        return super().surrogate(log_probs, raised, advantages)
