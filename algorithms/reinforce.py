"""REINFORCE (Williams 1992) with the mean of the batch as its baseline.

Candidates are drawn from the policy inside the trie. With b the mean reward of all candidates of
all prompts of a step,

    A_i  = r_i - b
    loss = -1/G sum_i A_i 1/L log pi(y_i | x)

Differences from GRPO:

1. The baseline is one number for all prompts (Williams' reinforcement baseline, §4 there), so that
   a prompt whose candidates all hit is credited too, and one whose candidates all miss is blamed.
2. There is neither a ratio nor clipping nor a reference: one update a rollout, on the policy.
3. Candidates are samples, with replacement: a beam's are no draws of the policy.
4. ``whiten`` divides by the deviation of all advantages of the step, as REINFORCE++ does (Hu 2025,
   arXiv 2501.03262).

The 1 / L is a constant, as all SIDs have L codes; with it ``anchor`` and the clipping of gradients
mean what they do in GRPO. Draws are from the codes that the trie allows, and the log-probabilities
are over ``logprob_space``: with ``logprob_space=trie`` both are one distribution, as in the theory.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.algorithm import (
    Algorithm,
    Batch,
    CandidateTree,
    Hyperparameters,
    Policy,
    Prompts,
    Scores,
    Seen,
    fixed,
    group_mean,
    rule_reward,
    sample,
)


@dataclass(frozen=True)
class ReinforceHyperparameters(Hyperparameters):
    """The learning rate, and a switch."""

    whiten: bool = fixed(False, help="whether advantages are divided by their deviation in a step")


def of_batch(seen: Seen, values: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of values [B, G, K] of all real candidates of all processes."""
    real = seen.tree.valid.unsqueeze(-1).expand_as(values)
    # As double: sums over more and over fewer processes shall give one mean.
    kept = values.double() * real
    sums = seen.sum(torch.stack([kept.sum(), real.sum().double()]))
    count = sums[1].clamp(min=1)
    mean = sums[0] / count
    squares = seen.sum(((kept - mean).square() * real).sum().reshape(1))[0]
    return mean, squares / count


def whitened(seen: Seen, values: Tensor) -> Tensor:
    """Return values [B, G, K] less their mean, over their deviation; 0 where not real."""
    mean, variance = of_batch(seen, values)
    scaled = (values - mean) * (variance + 1e-8).rsqrt()
    return (scaled * seen.tree.valid.unsqueeze(-1)).to(values.dtype)


class Reinforce(Algorithm):
    """Log-probability times credit, on samples."""

    hyperparameters_class = ReinforceHyperparameters
    hyperparameters: ReinforceHyperparameters

    def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
        """Draw from the policy inside the trie, at temperature 1."""
        return sample(policy, prompts, group_size)

    def reward(self, seen: Seen) -> Tensor:
        """Return the hit."""
        return rule_reward(seen.tree, seen.targets)

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return r - b."""
        if self.hyperparameters.whiten:
            return whitened(seen, rewards.unsqueeze(-1)).squeeze(-1)
        mean, _ = of_batch(seen, rewards.unsqueeze(-1))
        return ((rewards - mean) * seen.tree.valid).to(rewards.dtype)

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Return -A log pi, per code and candidate."""
        weighted = -batch.advantages.unsqueeze(-1) * scores.log_probs
        return group_mean(weighted, batch.tree.valid), {}
