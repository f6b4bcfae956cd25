"""SRPO: sparse-regularized group policy optimization, GREAM's (Hong et al. 2025, arXiv 2510.20815).

Differences from GRPO:

1. Reward (Eq. 13 and 14). With l the length of the longest common prefix of candidate and target,
   r = (l / L)^power: groups without a hit still say which codes are better. ``residual`` switches
   it off, and one of GRPO's rewards takes its place.
2. Advantage (Eq. 15 to 21). To GRPO's, of r, the bonus of a group's success is added. With c hits
   among n candidates and rho = 1 - C(n - c, k) / C(n, k), the chance that k of them hold one,

       hit:    (1 - rho) / sqrt(rho (1 - rho))
       other:  (1 - rho - C(n - c - 1, k - 1) / C(n - 1, k - 1)) / sqrt(rho (1 - rho))

   and 0 where the root is 0. ``bonus`` switches it off.
3. Dynamic sampling (the constraint of Eq. 22). Groups whose rewards do not vary teach nothing; they
   are rejected, and further prompts roll out in their place, at most ``most_refills`` times. What
   rejected groups cost counts against the budget. ``dynamic_sampling`` switches it off.
4. Rollouts are samples, at the temperature and top-p of §6.1.3, inside the trie. Their group size
   there is the setting ``group_size=10``.
5. A rollout is cut into two minibatches (§6.1.3: 256 prompts, 128 at a time), so that clipping is
   live, and the divergence from a frozen reference weighs beta.

The loss is GRPO's. The stages of the paper's Table 3 are ``reward=rule residual=false bonus=false``
(GRPO), ``bonus=false`` (with the residual reward), and the default (with the bonus).

Where the paper leaves a choice, or the authors' released code makes another:

* k: the paper gives none; the code has 4 for groups of 10.
* Eq. 17 divides by the deviation alone; the code adds 1e-6, and has n - 1 in the deviation's
  denominator: so do we. The code adds as much to the bonus's denominator, which we leave exact.
* Eq. 14: the code divides by 4 for SIDs of five codes, whose last one tells apart the items that
  share the others, and gives 0.95 to four right codes of five. Our L is the number of all codes.
* The code takes the mean over all codes of a batch, which is Eq. 22's mean over candidates, since
  all have L codes; it also bounds the loss of a candidate that has become likely against its
  advantage (dual clip), which Eq. 22 does not.
* The code cuts a rollout into four (``minibatches=4``), samples at temperature 1, and without a
  trie. It generates nine times the prompts of a step at once and drops what it does not need; here
  as many are drawn as are missing, so that no accepted group is paid for in vain.
* The ratio compares the policy's own log-probabilities, at temperature 1, whatever the candidates
  were drawn at: the temperature decides which candidates there are, not what is learned of them.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.decoding.sampling import sample
from genrec_bench.errors import UserError
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.advantages import success_bonus
from genrec_bench.training.hyperparameters import Hyperparameters, hyperparameter
from genrec_bench.training.rewards import residual_reward


@dataclass(frozen=True)
class SRPOHyperparameters(GRPOHyperparameters):
    """GRPO's, and one switch and its constants for each part of SRPO."""

    reward: str = hyperparameter(
        "rule",
        choices=("rule", "rank", "rule+rank", "random"),
        search=False,
        help="as in grpo; asked only with residual=false",
    )
    # Clipping is live here (5); the range holds the bounds of the code and of DAPO.
    clip_low: float = hyperparameter(
        0.2, low=0, high=1, search=(0.1, 0.4), help="c below 1: how far rho may fall"
    )
    clip_high: float = hyperparameter(
        0.2, low=0, high=10, search=(0.1, 0.4), help="c above 1: how far rho may rise"
    )
    # From what hardly weighs to the largest weight in use.
    beta: float = hyperparameter(
        0.001,
        low=0,
        high=1,
        log=True,
        search=(1e-4, 0.04),
        help="beta: weight of the divergence from the reference policy",
    )
    minibatches: int = hyperparameter(
        2, low=1, high=64, search=False, help="parts a rollout is cut into; code: 4"
    )
    epsilon: float = hyperparameter(
        1e-6, low=0, high=1, search=False, help="eps in the advantage's denominator"
    )
    residual: bool = hyperparameter(
        True, search=False, help="whether Eq. 14 is the reward, and not one of grpo's"
    )
    # 1 rewards every code alike; much below the paper's half, all but the first count for little.
    power: float = hyperparameter(0.5, low=0.01, high=1, search=(0.25, 1), help="beta of Eq. 14")
    bonus: bool = hyperparameter(
        True, search=False, help="whether Eq. 21 adds the bonus of the group's success"
    )
    # From the hit of each candidate alone to the largest k below the paper's groups of ten.
    k: int = hyperparameter(
        4,
        low=1,
        high=64,
        search=(1, 8),
        help="k of Eq. 15; a group of no more candidates gets no bonus",
    )
    dynamic_sampling: bool = hyperparameter(
        True, search=False, help="whether groups whose rewards do not vary are replaced"
    )
    most_refills: int = hyperparameter(
        9, low=0, high=1000, search=False, help="how often further prompts are drawn in a step"
    )
    rollout_by: str = hyperparameter(
        "sample",
        choices=("sample", "beam"),
        search=False,
        help="whether candidates are drawn or searched for",
    )
    # The paper's and the code's differ, 0.5 and 1: both are in the range.
    temperature: float = hyperparameter(
        0.5, low=0.01, high=100, search=(0.4, 1.2), help="of the samples"
    )
    top_p: float = hyperparameter(
        1.0, low=1e-6, high=1, search=False, help="share of the probability to draw from"
    )

    def __post_init__(self) -> None:
        """Check every value, and that two rewards are not asked for at once.

        Raises:
            UserError: naming the value, and what would be right.
        """
        super().__post_init__()
        if self.residual and self.reward != "rule":
            raise UserError(
                f"reward={self.reward}: the residual reward stands in its place; set residual=false"
            )


class SRPO(GRPO):
    """Reward for every code that is right, and a bonus for groups that hold the target."""

    hyperparameters_class = SRPOHyperparameters

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        """Tell the harness how often to refill."""
        super().__init__(hyperparameters)
        self.own = cast(SRPOHyperparameters, hyperparameters)
        self.most_refills = self.own.most_refills if self.own.dynamic_sampling else 0

    def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
        """Sample, or search with a beam."""
        if self.own.rollout_by == "beam":
            return super().rollout(policy, prompts, group_size)
        return sample(
            policy, prompts, group_size, temperature=self.own.temperature, top_p=self.own.top_p
        )

    def reward(self, tree: CandidateTree, targets: Tensor) -> Tensor:
        """Reward the prefix shared with the target (Eq. 14)."""
        if not self.own.residual:
            return super().reward(tree, targets)
        return residual_reward(tree, targets, power=self.own.power)

    def accepts(self, tree: CandidateTree, targets: Tensor, rewards: Tensor) -> Tensor:
        """Ask that the rewards of a group vary (Eq. 22)."""
        least = rewards.masked_fill(~tree.valid, torch.inf).amin(dim=1)
        most = rewards.masked_fill(~tree.valid, -torch.inf).amax(dim=1)
        return most > least

    def advantage(self, tree: CandidateTree, targets: Tensor, rewards: Tensor) -> Tensor:
        """Add the bonus of the group's success to the advantage within the group (Eq. 21)."""
        dense = super().advantage(tree, targets, rewards)
        if not self.own.bonus:
            return dense
        return dense + success_bonus(tree.hits(targets), tree.valid, self.own.k)
