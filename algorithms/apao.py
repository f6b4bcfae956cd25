"""APAO: adaptive prefix-aware optimization (Yu et al. 2026, arXiv 2603.02730).

A control without reinforcement learning: supervised, at the price of SFT. A beam drops a target as
soon as one of its prefixes is too improbable, so that each prefix has a loss of its own, and the
worst prefix the largest share of it:

    loss = -sum_t log p_t + beta sum_t w_t L_t,    w_t in proportion to L_t exp(eta L_t)
    L_t  = -1/t sum_{m <= t} log p_m                                     (pointwise)
    L_t  = -1/t log(P_t / (P_t + s_t sum_neg P))                         (pairwise)

with p_m the probability of the target's m-th code and P_t that of its prefix; w adds up to 1 and
carries no gradient. Differences from SFT continued (``sft``): the second sum.

The pairwise form draws 100 negatives, whose sum s_t scales up to all other prefixes of length t,
and has a temperature. Here it has all of them and the temperature 1: prefixes of one length then
add up to 1 over the trie, so that P_t / (P_t + rest) is the prefix's probability inside the trie,
which the supervised pass knows. Other temperatures would take passes over other items' prefixes.

The formulas and the form of w are those of the released code, ``beta`` and ``eta`` too; its readme
has 0.3 for ``beta``.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import TargetScores, fixed, weight
from genrec_bench.algorithms.sft import SFT, SFTHyperparameters


@dataclass(frozen=True)
class APAOHyperparameters(SFTHyperparameters):
    """SFT's learning rate, and those of the prefixes."""

    form: str = fixed(
        "pointwise", choices=("pointwise", "pairwise"), help="loss of a prefix, alone or by others"
    )
    # From none to ten times the code's.
    beta: float = weight(0.1, high=1000, search=(0, 1), help="weight of the prefixes' losses")
    eta: float = fixed(1e-4, low=0, high=100, help="how far the worst prefix stands out")


class APAO(SFT):
    """SFT that also asks of each prefix to be probable."""

    hyperparameters_class = APAOHyperparameters
    hyperparameters: APAOHyperparameters

    def prefix_losses(self, scores: TargetScores) -> Tensor:
        """Return [T, L] the losses L_t."""
        own = scores.log_probs
        if self.hyperparameters.form == "pairwise":
            own = own - scores.children()[1].logsumexp(dim=-1)
        lengths = torch.arange(1, own.shape[1] + 1, device=own.device)
        return -own.cumsum(dim=1) / lengths

    def target_loss(self, scores: TargetScores) -> Tensor:
        """Return [T, L]: the loss of each code, and that of the prefix which it ends."""
        hp, losses = self.hyperparameters, self.prefix_losses(scores)
        shares = losses.detach() * (hp.eta * losses.detach()).exp()
        shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=1e-30)
        return hp.beta * shares * losses - scores.log_probs
