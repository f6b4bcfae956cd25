"""GBPO: gradient-bounded policy optimization (OneRec-V2, Zhou et al. 2025, arXiv 2508.20900, §4).

Differences from GRPO:

1. Nothing is clipped. The ratio is to a bounded old policy,

       loss  = - pi / pi'_old A,   pi'_old = max(pi_old, sg(pi))      if A >= 0
                                   pi'_old = max(pi_old, 1 - sg(pi))  if A < 0

   so that every sample keeps a gradient and none is larger than that of binary cross-entropy: a
   wrong code's is at most pi / (1 - pi) |A| times that of log pi. What is improbable is hardly
   pushed down, and so GBPO differs from GRPO with the first update too.
2. ``credit=sign``: A is 1, -1 or 0 and not normalised, as for the paper's feedback of users (liked,
   disliked, neither). There is a target here and no dislike: a candidate whose reward is above its
   group's mean gets 1, below -1, and all get 0 in a group that says nothing. ``credit=group`` is
   GRPO's advantage.

The report writes pi of whole outputs and analyses gradients code by code; ours is code by code.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import Seen, fixed
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters


@dataclass(frozen=True)
class GBPOHyperparameters(GRPOHyperparameters):
    """GRPO's without clipping, and whose credit it is."""

    credit: str = fixed("sign", choices=("sign", "group"), help="sign: 1, -1 or 0; group: grpo's A")


class GBPO(GRPO):
    """Gradients of bounded size in place of clipping."""

    hyperparameters_class = GBPOHyperparameters
    hyperparameters: GBPOHyperparameters

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return the sign of what a reward has over its group's, or GRPO's advantage."""
        credit = super().advantage(seen, rewards)
        if self.hyperparameters.credit == "group":
            return credit
        # Equal rewards differ from their mean by rounding.
        return torch.where(credit.abs() > 1e-3, credit.sign(), 0.0)

    def surrogate(self, log_probs: Tensor, old: Tensor, advantages: Tensor) -> Tensor:
        """Return [B, G, L] -pi / pi'_old A."""
        now = log_probs.detach()
        others = torch.log1p(-now.exp().clamp(max=1.0))
        bounded = torch.maximum(old, torch.where(advantages >= 0, now, others))
        return -(log_probs - bounded).exp() * advantages
