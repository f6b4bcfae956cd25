"""SRPO: sparse-regularized group policy optimization, GREAM's (Hong et al. 2025, arXiv 2510.20815).

Differences from GRPO, whose loss is Eq. 22 too:

1. ``residual``: the reward is the share of leading codes that are right, to a power (Eq. 13 and
   14), so that groups without a hit still say which codes are better. Else it is one of GRPO's.
2. ``bonus``: the chance that k candidates of the group hold a hit gives each candidate a bonus on
   top of GRPO's advantage of that reward (Eq. 15 to 21).
3. ``dynamic_sampling`` (the constraint of Eq. 22): groups whose rewards do not vary teach nothing;
   others roll out in their place, at most ``most_refills`` times. Both count against the budget.
4. ``rollout_by``: candidates are samples, at the temperature and top-p of §6.1.3, inside the trie.
   The paper's groups are of ten: set ``group_size=10``, until a preset of its settings does so.
5. A rollout is cut into two minibatches (§6.1.3: 256 prompts, 128 at a time), so that clipping is
   live, and the divergence from a frozen reference weighs beta.

The stages of the paper's Table 3 are ``reward=rule residual=false bonus=false`` (GRPO),
``bonus=false`` (with the residual reward), and the default (with the bonus).

Where the paper leaves a choice, or the authors' released code makes another:

* k: the paper gives none; the code has 4 for groups of 10, and we as many of ours (6 of 16).
* Eq. 17 divides by the deviation alone; the code adds 1e-6 to it, and has n - 1 in its denominator:
  so do we. It adds as much under the bonus, which we leave exact.
* Eq. 14: the code divides by 4 for SIDs of five codes, whose last one tells apart the items that
  share the others, and gives 0.95 to four right codes of five. Our L is the number of all codes.
* The code's mean over all codes of a batch is Eq. 22's over candidates: all have L codes. It also
  bounds the loss of a candidate that has become likely against its advantage (dual clip).
* The code cuts a rollout into four (``minibatches=4``), samples at temperature 1, and without a
  trie. It generates nine times the prompts of a step and drops what it does not need; here as many
  are drawn as are missing, so that no accepted group is paid for in vain.
* ``tempered``: the code's loss reads policy and reference at the temperature of the draws (verl
  divides their logits by it); by default ours does at 1, where evaluation reads the policy.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import (
    CandidateTree,
    Policy,
    Prompts,
    Seen,
    fixed,
    hyperparameter,
    sample,
    weight,
)
from genrec_bench.algorithms.grpo import GRPO, REWARDS, GRPOHyperparameters


@dataclass(frozen=True)
class SRPOHyperparameters(GRPOHyperparameters):
    """GRPO's, and one switch and its constants for each part of SRPO."""

    # The residual reward is one too.
    reward: str = fixed("rule", choices=REWARDS, help="as in grpo", needs={"residual": False})
    # Clipping is live here (5); the range holds the bounds of the code and of DAPO.
    clip_low: float = hyperparameter(0.2, low=0, high=1, search=(0.1, 0.4), help="c: rho > 1 - c")
    clip_high: float = hyperparameter(0.2, low=0, high=10, search=(0.1, 0.4), help="c: rho < 1 + c")
    beta: float = weight(0.001, high=1, log=True, search=(1e-4, 0.04), help="weight of k3")
    minibatches: int = fixed(2, low=1, high=64, help="parts of a pass, a step each; code: 4")
    epsilon: float = fixed(1e-6, low=0, high=1, help="eps in the advantage's denominator")
    residual: bool = fixed(True, help="whether Eq. 14 is the reward, and not one of grpo's")
    # 1 rewards every code alike; much below the paper's half, all but the first count for little.
    power: float = hyperparameter(0.5, low=0.01, high=1, search=(0.25, 1), help="beta of Eq. 14")
    bonus: bool = fixed(True, help="whether Eq. 21 adds the bonus of the group's success")
    # Drawn whole, every group with a hit holds it, which leaves no bonus.
    k: int | None = fixed(
        None, low=1, high=64, below="group_size", help="k of Eq. 15; by default 0.4 group_size"
    )
    dynamic_sampling: bool = fixed(True, help="whether groups with equal rewards are replaced")
    most_refills: int = fixed(9, low=0, high=1000, help="draws of further prompts a step, at most")
    rollout_by: str = fixed("sample", choices=("sample", "beam"), help="how candidates are found")
    # The paper's and the code's differ, 0.5 and 1: both are in the range.
    temperature: float = hyperparameter(0.5, low=0.01, high=100, search=(0.4, 1.2), help="of draws")
    top_p: float = fixed(1.0, low=1e-6, high=1, help="share of the probability to draw from")
    tempered: bool = fixed(
        False,
        help="whether the loss too divides logits by the temperature",
        needs={"rollout_by": "sample"},
    )


class SRPO(GRPO):
    """Reward for every code that is right, and a bonus for groups that hold the target."""

    hyperparameters_class = SRPOHyperparameters
    hyperparameters: SRPOHyperparameters

    def __init__(self, hyperparameters: SRPOHyperparameters) -> None:
        super().__init__(hyperparameters)
        self.most_refills = hyperparameters.most_refills if hyperparameters.dynamic_sampling else 0
        self.loss_temperature = hyperparameters.temperature if hyperparameters.tempered else 1.0

    def reward(self, seen: Seen) -> Tensor:
        """Return [B, G] (l / L)^power, l being how many leading codes are right (Eq. 13 and 14)."""
        if not self.hyperparameters.residual:
            return super().reward(seen)
        share = seen.tree.matched_levels(seen.targets) / seen.tree.trie.num_levels
        return share**self.hyperparameters.power

    @staticmethod
    def success_bonus(hits: Tensor, valid: Tensor, k: int) -> Tensor:
        """Credit candidates [B, G] for the chance that k of their group hold a hit (Eq. 15 to 20).

        Of n real candidates c are hits, and k are drawn without replacement. With

            rho   = 1 - C(n - c, k) / C(n, k)                the draw holds a hit      (Eq. 15)
            sigma = sqrt(rho (1 - rho))                                                (Eq. 16)
            delta = C(n - c - 1, k - 1) / C(n - 1, k - 1)    all are wrong, if one is  (Eq. 19)

        a hit gets (1 - rho) / sigma (Eq. 18), any other ((1 - rho) - delta) / sigma (Eq. 20). Where
        sigma is 0 so are both: without a hit, and with so many that every draw holds one
        (k > n - c). A group of fewer than k is drawn whole, which leaves no bonus.
        """
        size = valid.sum(dim=1, keepdim=True).double()
        wrong = size - (hits & valid).sum(dim=1, keepdim=True)
        # delta is the product over 0 < j < k of (n - c - j) / (n - j); 1 - rho also has j = 0.
        taken = torch.arange(1, k, device=hits.device)
        factors = (wrong - taken).clamp(min=0) / (size - taken).clamp(min=1)
        delta = factors.masked_fill(taken >= size, 1.0).prod(dim=1, keepdim=True)
        miss = delta * wrong / size.clamp(min=1)
        sigma = (miss * (1.0 - miss)).sqrt()
        bonus = torch.where(hits, miss, miss - delta) / torch.where(sigma > 0, sigma, 1.0)
        return bonus.masked_fill(~valid | (sigma == 0), 0.0).float()

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Add the bonus to the advantage within the group (Eq. 17 and 21)."""
        dense, tree = super().advantage(seen, rewards), seen.tree
        if not self.hyperparameters.bonus:
            return dense
        k = self.hyperparameters.k or max(1, round(0.4 * tree.group_size))
        return dense + self.success_bonus(tree.hits(seen.targets), tree.valid, k)

    def accepts(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Ask that the rewards of a group vary (Eq. 22): equal powers may differ by rounding."""
        tree, residual = seen.tree, self.hyperparameters.residual
        worth = tree.matched_levels(seen.targets).float() if residual else rewards
        least = worth.masked_fill(~tree.valid, torch.inf).amin(dim=1)
        return worth.masked_fill(~tree.valid, -torch.inf).amax(dim=1) > least

    def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
        """Sample, as in §6.1.3, or search with a beam."""
        hp = self.hyperparameters
        if hp.rollout_by == "beam":
            return super().rollout(policy, prompts, group_size)
        at, kept, top_p = hp.temperature, self.loss_temperature, hp.top_p
        return sample(policy, prompts, group_size, temperature=at, top_p=top_p, kept_at=kept)
