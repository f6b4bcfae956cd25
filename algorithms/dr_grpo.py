"""Dr. GRPO: GRPO done right (Liu et al. 2025, arXiv 2503.20783, "Understanding R1-Zero-Like").

Differences from GRPO, the two terms that the paper takes out as biases (its §3.2 and figure 1):

1. The advantage is not divided by the deviation of its group: A_i = r_i - mean(r). A prompt whose
   candidates mostly miss, or mostly hit, weighs no more than others.
2. A candidate's codes are added up and not averaged over its own length. All SIDs of a catalog
   have L codes, so that this is the constant 1 / L, as the T_max by which the authors' code
   divides. We keep it, and the scale of GRPO's loss with it: ``anchor``, the divergence and the
   clipping of gradients mean the same in both.

So here this is GRPO but for the division. The paper has no divergence, which GRPO's ``beta`` is by
default, and samples; candidates are those of a beam, as GRPO's are here.
"""

from dataclasses import dataclass

from genrec_bench.algorithm import fixed
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters


@dataclass(frozen=True)
class DrGRPOHyperparameters(GRPOHyperparameters):
    """GRPO's, but for the division."""

    divide_by_std: bool = fixed(False, help="true divides by std once more, which makes it grpo")


class DrGRPO(GRPO):
    """Credit in the units of the reward."""

    hyperparameters_class = DrGRPOHyperparameters
    hyperparameters: DrGRPOHyperparameters
