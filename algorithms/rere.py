"""ReRe: the RL of MiniOneRec (Tan et al. 2025, arXiv 2510.12211; Kong et al. 2025, 2510.24431).

Differences from GRPO:

1. ``reward`` is the hit plus a penalty for wrong candidates by rank, the harder the more probable
   they are. With zero-based rank i, a miss earns -(1 / log2(i + 2)) / Z, a hit 1, and a group
   without a hit nothing. The paper's Z is the sum of 1 / log2(j + 2) over the wrong candidates j;
   the code's runs over all places, the hit's included (``penalty_over=all``, which is GRPO's
   ``reward=rule+rank``).
2. ``beta`` is 0.001, and every 512 steps 0.6 of the policy is mixed into the reference, as in the
   code (TR-DPO). Adapters (``lora_rank``) cannot be mixed: set ``sync_every=0`` with them.
3. Candidates come from a constrained beam without a length penalty, as GRPO's do here.
4. ``clipped``: the paper's formula clips the ratio. The code's ratio is to the policy of the
   moment, exp(log pi - sg(log pi)), which is always 1. With one update a rollout, the default of
   both, the gradients are the same.

Left out: the code's ``dynamic_sampling`` (1.5 G samples, of which G are kept), an alternative to
the beam, and its flags for the losses of ``dapo`` and ``gspo``, which are files of their own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import CandidateTree, Seen, fixed, weight
from genrec_bench.algorithms.grpo import GRPO, REWARDS, GRPOHyperparameters


@dataclass(frozen=True)
class ReReHyperparameters(GRPOHyperparameters):
    """GRPO's, with MiniOneRec's numbers."""

    reward: str = fixed("rule+rank", choices=REWARDS, help="rule+rank: 1 above; else as in grpo")
    penalty_over: str = fixed(
        "wrong",
        choices=("wrong", "all"),
        help="what Z adds up: wrong candidates, or all places; code: all",
        needs={"reward": "rule+rank"},
    )
    beta: float = weight(0.001, high=1, log=True, search=(1e-4, 0.04), help="weight of k3")
    sync_every: int = fixed(512, low=0, help="rollouts between reference updates; 0: it is frozen")
    clipped: bool = fixed(True, help="whether the ratio is to the rollout's policy; code: false")


def penalty_of_wrong(tree: CandidateTree, targets: Tensor) -> Tensor:
    """Return [B, G] 1 at hits and the paper's penalty elsewhere; 0 in a group without a hit."""
    hits = tree.hits(targets)
    discount = (1.0 / torch.log2(tree.ranks() + 2.0)).masked_fill(hits | ~tree.valid, 0.0)
    # Above any rounding, and below any sum that is not 0: a hit alone has no wrong ones beside it.
    penalty = -discount / discount.sum(dim=1, keepdim=True).clamp(min=1e-9)
    return torch.where(hits, 1.0, penalty) * hits.any(dim=1, keepdim=True) * tree.valid


class ReRe(GRPO):
    """Hard negatives by rank, and a reference that follows."""

    hyperparameters_class = ReReHyperparameters
    hyperparameters: ReReHyperparameters

    def reward(self, seen: Seen) -> Tensor:
        """Return the hit and the normalised penalty, or one of GRPO's rewards."""
        hp = self.hyperparameters
        if hp.reward == "rule+rank" and hp.penalty_over == "wrong":
            return penalty_of_wrong(seen.tree, seen.targets)
        return super().reward(seen)

    def surrogate(self, log_probs: Tensor, old: Tensor, advantages: Tensor) -> Tensor:
        """Clip as the paper's formula does, or weigh by the ratio 1 as the code does."""
        if self.hyperparameters.clipped:
            return super().surrogate(log_probs, old, advantages)
        return -(log_probs - log_probs.detach()).exp() * advantages
