"""RLOO: REINFORCE with a leave-one-out baseline (Ahmadian et al. 2024, arXiv 2402.14740).

    R_i  = r_i - beta log(pi_old(y_i | x) / pi_ref(y_i | x))                (§2, the reward with KL)
    A_i  = R_i - 1 / (G - 1) sum_{j != i} R_j                               (§3.2, RLOO)
    loss = -1/G sum_i A_i 1/L log pi(y_i | x)

Differences from REINFORCE (``reinforce``): the baseline is the mean of the prompt's other
candidates, and the divergence from the reference is part of the reward.

Differences from GRPO:

1. No candidate is its own baseline, and nothing is divided by the deviation: A is G / (G - 1) times
   that of Dr. GRPO, so that without ``beta`` the gradients differ by this factor alone.
2. The divergence is k1 of whole candidates, in the reward, and not k3 beside the loss.
3. Candidates are samples; there is no ratio and no clipping, as there is one update a rollout.

``beta`` is 0.03, with which TRL reports the paper's settings; TRL's own default is 0.05. What the
docstring of ``reinforce`` says of 1 / L and ``logprob_space`` holds here too.
"""

from dataclasses import dataclass

from torch import Tensor

from genrec_bench.algorithm import Seen, group_advantage, weight
from genrec_bench.algorithms.reinforce import Reinforce, ReinforceHyperparameters, whitened


@dataclass(frozen=True)
class RLOOHyperparameters(ReinforceHyperparameters):
    """The weight of the divergence, and REINFORCE's."""

    # In steps, so that a sweep tries 0 too, which saves the reference's pass; TRL's is near.
    beta: float = weight(0.03, high=1, search=(0, 0.09, 0.01), help="weight of k1 in the reward")


class RLOO(Reinforce):
    """Each candidate against the others of its prompt."""

    hyperparameters_class = RLOOHyperparameters
    hyperparameters: RLOOHyperparameters

    @property
    def uses_reference(self) -> bool:
        """Only if the divergence has a weight."""
        return self.hyperparameters.beta > 0

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return R less the mean of the others' R; 0 to a candidate without others."""
        tree, beta = seen.tree, self.hyperparameters.beta
        if beta > 0:
            gap = tree.on_paths(tree.log_probs) - seen.reference_log_probs
            rewards = rewards - (beta * gap.sum(dim=-1)).masked_fill(~tree.valid, 0.0)
        count = tree.valid.sum(dim=1, keepdim=True)
        centered = group_advantage(rewards, tree.valid, divide_by_std=False)
        credit = centered * count / (count - 1).clamp(min=1)
        if self.hyperparameters.whiten:
            return whitened(seen, credit.unsqueeze(-1)).squeeze(-1)
        return credit
