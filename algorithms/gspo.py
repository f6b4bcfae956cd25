"""GSPO: group sequence policy optimization (Zheng et al. 2025, arXiv 2507.18071).

Differences from GRPO:

1. A candidate has one ratio, the geometric mean of its codes' (Eq. 7),

       s_i = (pi(y_i | x) / pi_old(y_i | x))^(1 / L)

   and is clipped as a whole: -min(s_i A_i, clip(s_i, 1 - c, 1 + c) A_i) (Eq. 5). Where the policy
   has not moved, gradients are GRPO's (Eq. 10 to 12).
2. The bounds are far narrower, 3e-4 and 4e-4, and a rollout is cut into four minibatches (§5.1).
3. There is no divergence from a reference; with ``beta`` it is GRPO's, code by code.
"""

from dataclasses import dataclass

from torch import Tensor

from genrec_bench.algorithm import clipped_objective, fixed, hyperparameter
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters


@dataclass(frozen=True)
class GSPOHyperparameters(GRPOHyperparameters):
    """GRPO's, with the numbers of §5.1."""

    # The paper's are for texts of thousands of tokens, whose mean ratio hardly moves; that of a few
    # codes moves more, so that a sweep may widen them up to a tenth of GRPO's.
    clip_low: float = hyperparameter(
        3e-4, low=0, high=1, log=True, search=(1e-4, 2e-2), help="c: s_i > 1 - c"
    )
    clip_high: float = hyperparameter(
        4e-4, low=0, high=10, log=True, search=(1e-4, 2e-2), help="c: s_i < 1 + c"
    )
    beta: float = fixed(0.0, low=0, high=1, help="weight of k3, which the paper leaves out")
    minibatches: int = fixed(4, low=1, high=64, help="parts of a rollout, an optimizer step each")


class GSPO(GRPO):
    """One ratio a candidate."""

    hyperparameters_class = GSPOHyperparameters
    hyperparameters: GSPOHyperparameters

    def surrogate(self, log_probs: Tensor, old: Tensor, advantages: Tensor) -> Tensor:
        """Return [B, G, 1]: the mean of log-ratios is the logarithm of s_i (Eq. 5 and 7)."""
        hp, means = self.hyperparameters, (log_probs.mean(-1, True), old.mean(-1, True))
        return clipped_objective(*means, advantages, hp.clip_low, hp.clip_high)
