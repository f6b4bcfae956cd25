"""Algorithms whose steps two processes share, chosen for what may go wrong between them."""

import torch
from torch import Tensor

from genrec_bench.algorithm import Algorithm, Batch, Scores, Seen
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.algorithms.ppo import PPO, PPOHyperparameters
from genrec_bench.algorithms.sprec import SPRec, SPRecHyperparameters
from genrec_bench.algorithms.srpo import SRPO, SRPOHyperparameters
from genrec_bench.algorithms.ugr import UGR, UGRHyperparameters
from genrec_bench.algorithms.vstar import VSTAR, VSTARHyperparameters


class Picky(GRPO):
    """Rejects groups so that refills are few prompts, and one process may keep none at all."""

    most_refills = 4

    def accepts(self, seen: Seen, rewards: Tensor) -> Tensor:
        return seen.targets % 5 == 0


class Batchwise(Picky):
    """Its baseline is the batch's mean; a process that kept no group has to join the sum."""

    scores_targets = True

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        valid = seen.tree.valid
        total, count = seen.sum(torch.stack([rewards.sum(), valid.sum()])).tolist()
        spread = seen.sum((seen.reference_target_log_probs.sum(dim=1) ** 2).sum()[None])
        return torch.mul(rewards - total / count, valid / spread.sqrt())

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        assert scores.target_log_probs is not None and batch.target_log_probs is not None
        ratio = (scores.target_log_probs - batch.target_log_probs).exp()
        return super().loss(batch, scores)[0] - ratio.sum(dim=1), {}


class Often(PPO):
    """Every other SID is a hit: those of PPO's own reward are too few to be drawn here."""

    def reward(self, seen: Seen) -> Tensor:
        return (seen.tree.leaves % 2).float() * seen.tree.valid


# Three prompts do not divide by two processes; a minibatch of one leaves one process without any.
ALGORITHMS: dict[str, Algorithm | None] = {
    "sft": None,
    "grpo": GRPO(GRPOHyperparameters(reward="rank", minibatches=3, updates_per_rollout=2)),
    "reference": GRPO(GRPOHyperparameters(reward="rank", beta=0.1, sync_every=1)),
    "ugr": UGR(UGRHyperparameters(minibatches=2)),
    "srpo": SRPO(SRPOHyperparameters(beta=0.1, k=2, temperature=2.0)),
    "picky": Picky(GRPOHyperparameters(reward="rank", beta=0.1, minibatches=2)),
    "batchwise": Batchwise(GRPOHyperparameters(reward="rank", beta=0.1, minibatches=2)),
    # It whitens credit over all processes, and trains a critic.
    "ppo": Often(PPOHyperparameters(beta=0.1, updates_per_rollout=2, minibatches=2)),
    # A step of SFT, then one of DPO against the start.
    "sprec": SPRec(SPRecHyperparameters(half_steps=1, beta=1.0)),
    # Its head learns at a rate of its own, and its searches draw by a key. Its own reward leaves a
    # minibatch without a hit, of which Adam would make a step of rounding errors.
    "vstar": VSTAR(
        VSTARHyperparameters(
            reward="rank",
            beta=0.1,
            minibatches=2,
            initial_beam=1,
            token_budget=2.0,
            head_learning_rate=0.03,
        )
    ),
}

READ_AGAIN = {"vstar", "ppo"}
"""Those with heads, for which the backbone has passes of their own."""
