"""DPO: direct preference optimization (Rafailov et al. 2023, arXiv 2305.18290), of SIDs.

The target y* is preferred to another SID y of the catalog. With D(y) = log pi(y) - log pi_ref(y),
each the sum over L codes,

    loss = -log sigmoid(beta (D(y*) - D(y)))                                        (Eq. 7)

Differences from GRPO:

1. There are no rewards, no credit and no clipping. The target is scored beside the candidates,
   which are the rejected ones.
2. The paper's pairs are drawn from the SFT policy and labelled by people. Here the target is the
   preferred one, and ``rejected`` says where the other is from: ``random``, uniformly from the
   catalog, as recommenders that use DPO do (S-DPO's baseline), ``draws`` of the policy inside the
   trie, or the best of its ``beam``.
3. ``negatives``: how many pairs a prompt has, over which losses are averaged; the paper's one. What
   is drawn and is the target makes no pair.
4. The reference is the SFT start, and always needed.

``beta`` is 0.1, the paper's for most tasks. A budget counts what pairs cost: a random one costs no
rollout.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import logsigmoid

from genrec_bench.algorithm import (
    Algorithm,
    Batch,
    CandidateTree,
    Hyperparameters,
    Policy,
    Prompts,
    Scores,
    Seen,
    beam_search,
    catalog_draws,
    fixed,
    hyperparameter,
    masked_mean,
    no_gradient_figures,
    rule_reward,
    sample,
)

REJECTED = ("random", "draws", "beam")


@dataclass(frozen=True)
class DPOHyperparameters(Hyperparameters):
    """How far from the reference, and what is rejected."""

    # From a tenth of the paper's to S-DPO's and beyond.
    beta: float = hyperparameter(
        0.1, low=1e-4, high=100, log=True, search=(0.01, 2), help="beta: the less, the further"
    )
    rejected: str = fixed("random", choices=REJECTED, help="where from: see 2 above")
    negatives: int = fixed(1, low=1, high=256, help="pairs of a prompt, at most group_size")


class DPO(Algorithm):
    """The target before another one, in units of the reference."""

    hyperparameters_class = DPOHyperparameters
    hyperparameters: DPOHyperparameters
    scores_targets = True
    uses_reference = True

    def __init__(self, hyperparameters: DPOHyperparameters) -> None:
        super().__init__(hyperparameters)
        self.rates_candidates = hyperparameters.rejected != "random"

    def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
        """Draw what is rejected, in the first places of a group."""
        count = min(self.hyperparameters.negatives, group_size)
        if self.hyperparameters.rejected == "random":
            return catalog_draws(policy.trie, prompts, group_size, count)
        find = beam_search if self.hyperparameters.rejected == "beam" else sample
        return find(policy, prompts, count).with_places(group_size)

    def reward(self, seen: Seen) -> Tensor:
        """Return the hit, which makes no pair."""
        return rule_reward(seen.tree, seen.targets)

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return -1 for what is rejected, and 0 for a draw that is the target."""
        return (rewards - 1.0) * seen.tree.valid

    def preference(self, margins: Tensor, rejected: Tensor) -> Tensor:
        """Return [B] the loss of margins beta (D(y*) - D(y)), [B, G], where y is rejected."""
        return masked_mean(-logsigmoid(margins), rejected)

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Prefer the target, more than the reference does."""
        assert scores.target_log_probs is not None and batch.reference_log_probs is not None
        assert batch.reference_target_log_probs is not None
        wanted = (scores.target_log_probs - batch.reference_target_log_probs).sum(dim=-1)
        others = (scores.log_probs - batch.reference_log_probs).sum(dim=-1)
        margins = self.hyperparameters.beta * (wanted.unsqueeze(1) - others)
        rejected = batch.tree.valid & ~batch.tree.hits(batch.targets)
        figures = {
            "margin": masked_mean(margins, rejected),
            "preferred": masked_mean((margins > 0).float(), rejected),
        }
        return self.preference(margins, rejected), no_gradient_figures(**figures)
