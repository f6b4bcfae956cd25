"""BEAR: beam-search-aware regularization (Yang et al. 2026, arXiv 2601.22925).

A control without reinforcement learning: supervised, at the price of SFT. A beam of width B keeps a
target only if each of its codes is among the B most probable after its prefix. With p_t the
probability of the target's code at level t, and beta_t that of the B-th,

    loss = -sum_t log p_t + lambda sum_t log sigmoid((log beta_t - log p_t) / xi)

Differences from SFT continued (``sft``): the second sum. The formula is from an account of the
paper; the released code was read.

* beta_t is that of the B-th among the codes that the trie allows, as nothing else can be on the
  beam; where fewer than B are, nothing is pruned, and beta_t is that of the least probable.
* ``normalized=trie``: all probabilities are normalised over the codes that the trie allows, as in
  the code, whatever ``logprob_space`` says.
* ``form=weights``: the code keeps beta_t out of the gradient, so that the second sum is a weight
  1 + lambda / xi sigmoid((log p_t - log beta_t) / xi) of each code, and divides weights by their
  mean over codes that have an alternative. The code's mean is over a batch, ours over a target.
* The default lambda / xi is the code's factor, in which it has absorbed 1 / xi.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from genrec_bench.algorithm import TargetScores, fixed, hyperparameter, weight
from genrec_bench.algorithms.sft import SFT, SFTHyperparameters


@dataclass(frozen=True)
class BEARHyperparameters(SFTHyperparameters):
    """SFT's learning rate, and those of the regularizer."""

    beam: int = fixed(10, low=1, high=10_000, help="B: width of the beam that is to keep targets")
    # From none to four times the code's.
    strength: float = weight(0.6875, high=1000, search=(0, 2.75), help="lambda")
    # Log-probabilities differ by a few nats: far below the sigmoid is a step, far above it is flat.
    softness: float = hyperparameter(
        2.75, low=1e-3, high=1e3, search=(0.5, 10), log=True, help="xi: temperature of the sigmoid"
    )
    normalized: str = fixed(
        "policy", choices=("policy", "trie"), help="over what; policy: over logprob_space"
    )
    form: str = fixed(
        "paper", choices=("paper", "weights"), help="weights: without a gradient through beta_t"
    )


def last_kept(children: Tensor, beam: int) -> Tensor:
    """Return [..., 1] the B-th largest of [..., F], or the smallest that is not -inf."""
    least = children.masked_fill(children == -torch.inf, torch.inf).amin(dim=-1, keepdim=True)
    kept = children.topk(min(beam, children.shape[-1]), dim=-1).values[..., -1:]
    return torch.where(kept == -torch.inf, least, kept)


class BEAR(SFT):
    """SFT that also asks of each code to survive the beam."""

    hyperparameters_class = BEARHyperparameters
    hyperparameters: BEARHyperparameters

    def target_loss(self, scores: TargetScores) -> Tensor:
        """Return [T, L]: the loss of each code."""
        hp, own = self.hyperparameters, scores.log_probs
        _, children = scores.children()
        if hp.normalized == "trie":
            within = children.logsumexp(dim=-1, keepdim=True)
            own, children = own - within.squeeze(-1), children - within
        margins = (last_kept(children, hp.beam).squeeze(-1) - own) / hp.softness
        if hp.form == "paper":
            return hp.strength * logsigmoid(margins) - own
        weights = 1 + hp.strength / hp.softness * (-margins.detach()).sigmoid()
        has_choice = (children > -torch.inf).sum(dim=-1) > 1
        count = has_choice.sum(dim=-1, keepdim=True).clamp(min=1)
        mean = (weights * has_choice).sum(dim=-1, keepdim=True) / count
        return -torch.where(has_choice, weights / mean.clamp(min=1), weights) * own
