"""DAPO: decoupled clip and dynamic sampling policy optimization (Yu et al. 2025, arXiv 2503.14476).

Differences from GRPO, in the order of §3:

1. Clip-higher (Eq. 10): the ratio may rise further than it may fall, by ``clip_high`` = 0.28 and
   ``clip_low`` = 0.2, so that codes that were unlikely can still grow.
2. ``dynamic_sampling`` (the constraint of Eq. 11): groups that are all right or all wrong teach
   nothing; other prompts roll out in their place, at most ``most_refills`` times. What rejected
   groups cost is spent all the same. A beam has each SID once, so that a group is kept if it holds
   the target and anything else.
3. Token-level loss (Eq. 12): the mean over all codes of a group, 1 / sum |y_i| sum_i sum_t. All
   candidates have L codes, so that this is GRPO's mean of means.
4. No divergence from a reference (§2.3), and sixteen updates a rollout (§4.1: 512 prompts at a
   time), in each of which clipping is live: ``minibatches``.

The overlong reward of §3.4 has nothing to punish. A hit earns 1 and a miss 0; the paper's -1 for a
miss gives the same advantages but for ``epsilon``. The paper samples; here candidates are those of
a beam, as GRPO's are.
"""

from dataclasses import dataclass

from torch import Tensor

from genrec_bench.algorithm import Seen, fixed, hyperparameter
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters


@dataclass(frozen=True)
class DAPOHyperparameters(GRPOHyperparameters):
    """GRPO's, with bounds apart and a rule for prompts."""

    # Both around the paper's; what clips more than half of it is another method.
    clip_low: float = hyperparameter(0.2, low=0, high=1, search=(0.1, 0.4), help="epsilon_low")
    clip_high: float = hyperparameter(0.28, low=0, high=10, search=(0.1, 0.6), help="epsilon_high")
    beta: float = fixed(0.0, low=0, high=1, help="weight of k3, which the paper leaves out")
    minibatches: int = fixed(16, low=1, high=64, help="parts of a rollout, an optimizer step each")
    dynamic_sampling: bool = fixed(True, help="whether groups without or full of hits are replaced")
    most_refills: int = fixed(9, low=0, high=1000, help="draws of further prompts a step, at most")


class DAPO(GRPO):
    """More room upwards, and only prompts that teach."""

    hyperparameters_class = DAPOHyperparameters
    hyperparameters: DAPOHyperparameters

    def __init__(self, hyperparameters: DAPOHyperparameters) -> None:
        super().__init__(hyperparameters)
        self.most_refills = hyperparameters.most_refills if hyperparameters.dynamic_sampling else 0

    def accepts(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Ask that some candidate is right and another one wrong (Eq. 11)."""
        hits = seen.tree.hits(seen.targets)
        return hits.any(dim=1) & (seen.tree.valid & ~hits).any(dim=1)
