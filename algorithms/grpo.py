"""GRPO: group relative policy optimization (Shao et al. 2024), as generative recommenders use it.

For a prompt, beam search finds G candidates y_1 .. y_G of L codes. With rewards r_i,

    A_i  = (r_i - mean(r)) / (std(r) + eps)                                    (UGR Eq. 6)
    rho  = pi(y_it | x, y_i<t) / pi_old(y_it | x, y_i<t)
    loss = 1/G sum_i 1/L sum_t [ -min(rho A_i, clip(rho, 1 - c, 1 + c) A_i) + beta k3_it ]

where k3 = exp(d) - d - 1, d = log pi_ref - log pi, estimates the divergence from a reference.

Choices that papers and released code make differently are hyperparameters:

1. ``reward``: the hit alone (UGR Eq. 2), rank penalties (UGR Eq. 3), or MiniOneRec's sum of the
   hit and normalised rank penalties. A random reward is the control.
2. ``beta``: UGR and this default have no reference policy; MiniOneRec has 0.001, and mixes the
   policy into the reference (``sync_every``, ``sync_mix``), as TR-DPO does.
3. With one update per rollout rho is 1 and clipping idle, as in the released code of UGR and
   MiniOneRec; ``updates_per_rollout`` and ``minibatches`` make it live.
"""

from dataclasses import dataclass
from typing import cast

from torch import Tensor

from genrec_bench.algorithm import Algorithm, Batch, no_gradient_figures
from genrec_bench.policy.scoring import Scores
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.advantages import group_advantage
from genrec_bench.training.hyperparameters import Hyperparameters, hyperparameter
from genrec_bench.training.losses import clipped_objective, group_mean, k3_divergence
from genrec_bench.training.rewards import (
    random_reward,
    rank_reward,
    rule_and_rank_reward,
    rule_reward,
)


@dataclass(frozen=True)
class GRPOHyperparameters(Hyperparameters):
    """GRPO's choices."""

    reward: str = hyperparameter(
        "rule",
        choices=("rule", "rank", "rule+rank", "random"),
        search=False,
        help="rule: Eq. 2 of UGR; rank: its Eq. 3; rule+rank: MiniOneRec's; random: a control",
    )
    # With one update per rollout there is nothing to clip (3), so that a sweep has no use for c.
    clip_low: float = hyperparameter(
        0.2, low=0, high=1, search=False, help="c below 1: how far rho may fall"
    )
    clip_high: float = hyperparameter(
        0.2, low=0, high=10, search=False, help="c above 1: how far rho may rise"
    )
    # In steps, so that a sweep comes back to 0, which saves the reference's pass; 0.04 is the
    # weight of the paper that brought GRPO up, and the largest in use.
    beta: float = hyperparameter(
        0.0,
        low=0,
        high=1,
        search=(0, 0.04, 0.01),
        help="beta: weight of the divergence from the reference policy",
    )
    sync_every: int = hyperparameter(
        0, low=0, search=False, help="rollouts between updates of the reference; 0 keeps it frozen"
    )
    sync_mix: float = hyperparameter(
        0.6, low=0, high=1, search=False, help="share of the policy mixed into the reference"
    )
    updates_per_rollout: int = hyperparameter(
        1, low=1, high=64, search=False, help="how often the policy learns from one rollout"
    )
    minibatches: int = hyperparameter(
        1, low=1, high=64, search=False, help="parts a rollout is cut into, a step each"
    )
    epsilon: float = hyperparameter(
        1e-4, low=0, high=1, search=False, help="eps in the advantage's denominator"
    )
    # A switch between two papers' algorithms: a sweep finds an algorithm's constants, not another.
    divide_by_std: bool = hyperparameter(
        True, search=False, help="false leaves the division out (Dr. GRPO)"
    )


class GRPO(Algorithm):
    """Clipped policy gradient on advantages within the group."""

    hyperparameters_class = GRPOHyperparameters
    is_baseline = True

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        """Tell the harness how often to update."""
        super().__init__(hyperparameters)
        self.chosen = cast(GRPOHyperparameters, hyperparameters)
        self.updates_per_rollout = self.chosen.updates_per_rollout
        self.minibatches = self.chosen.minibatches

    @property
    def uses_reference(self) -> bool:
        """A divergence that weighs nothing is not computed."""
        return self.chosen.beta > 0

    def reference_mix(self, step: int) -> float:
        """Follow the policy every ``sync_every`` rollouts."""
        every = self.chosen.sync_every
        return self.chosen.sync_mix if every and step % every == 0 else 0.0

    def reward(self, tree: CandidateTree, targets: Tensor) -> Tensor:
        """Apply the chosen reward."""
        name = self.chosen.reward
        if name == "random":
            return random_reward(tree)
        return {"rule": rule_reward, "rank": rank_reward, "rule+rank": rule_and_rank_reward}[name](
            tree, targets
        )

    def advantage(self, tree: CandidateTree, targets: Tensor, rewards: Tensor) -> Tensor:
        """Compare within the group (UGR Eq. 6)."""
        return group_advantage(
            rewards,
            tree.valid,
            epsilon=self.chosen.epsilon,
            divide_by_std=self.chosen.divide_by_std,
        )

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Clip, and keep near the reference policy."""
        tree = batch.tree
        per_code = clipped_objective(
            scores.log_probs,
            tree.on_paths(tree.log_probs),
            batch.advantages.unsqueeze(-1),
            self.chosen.clip_low,
            self.chosen.clip_high,
        )
        figures = {}
        if batch.reference_log_probs is not None:
            divergence = k3_divergence(scores.log_probs, batch.reference_log_probs)
            per_code = per_code + self.chosen.beta * divergence
            figures["divergence"] = group_mean(divergence, tree.valid)
        return group_mean(per_code, tree.valid), no_gradient_figures(**figures)
