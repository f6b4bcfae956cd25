"""UGR: uncertainty-aware generative recommendation (Fan et al. 2026, arXiv 2602.11719).

Differences from GRPO:

1. Reward (Eq. 5). The target earns 1; a wrong candidate is punished by the share of probability
   that the policy gives it among the wrong ones, -exp s(y) / sum exp s. ``reward`` puts one of
   GRPO's rewards in its place.
2. Difficulty (Eq. 7 and 9). A prompt's loss is weighted by
   alpha_min + (1 - alpha_min) rank(y*) / (G - 1). ``difficulty`` switches it off.
3. Confidence (Eq. 10 to 12). After a finished candidate the policy is asked for two tokens, high
   and low; c(y) is the share of high. With P the wrong candidates that share a prefix with the
   target, W those that do not, and m(y) = log(1 + exp(c(y) - c(y*))), the loss gains

       gamma_1 / |P| sum_P m(y) + gamma_2 / |W| sum_W m(y)

   for prompts whose target is among the candidates. The question is asked at the leaves of the same
   packed forward. ``confidence`` switches it off.
4. Total (Eq. 13): the sum of both, averaged over prompts.
5. At inference candidates can be ranked by exp s(y) + weight c(y) (appendix C): ``rerank``.

The rows of the paper's Table 2 are ``run sft`` or any record's SFT start (a); ``run ugr`` with
``difficulty=false confidence=false`` and ``reward=rule`` (b1), ``reward=rank`` (b2), or as it is
(b3); ``confidence=false`` alone (c); and without switches (d).

Where the paper leaves a choice, or the authors' released code makes another:

* The paper tunes alpha_min over 0, 0.5 and 0.8, and analyses 0, as the released script has it: the
  default. It asks for gamma_2 > gamma_1 in the text, which the grids it prints for them exclude if
  taken in the order printed; the default is the pair of the grids' values that obeys the text and
  that the released script has: 0 and 0.5. The code's own defaults are 0.01 and 0.1.
* ``length_penalty``: 0 in Eq. 5; the code's beam search divides s(y) by L + 1.
* ``without_hit``: Eq. 5 punishes the wrong candidates of every group; the code gives 0 to groups
  that miss the target.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from genrec_bench.algorithm import Batch, no_gradient_figures
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.policy.scoring import Scores
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.advantages import difficulty_weight
from genrec_bench.training.hyperparameters import Hyperparameters, hyperparameter
from genrec_bench.training.losses import pairwise_ranking_loss
from genrec_bench.training.rewards import uncertainty_reward

HIGH, LOW = "[C_HIGH]", "[C_LOW]"


@dataclass(frozen=True)
class UGRHyperparameters(GRPOHyperparameters):
    """GRPO's, and one switch and its constants for each part of UGR."""

    reward: str = hyperparameter(
        "uncertainty",
        choices=("uncertainty", "rule", "rank", "rule+rank", "random"),
        search=False,
        help="uncertainty: Eq. 5; the others as in grpo",
    )
    length_penalty: float = hyperparameter(
        0.0, low=0, high=2, search=False, help="s(y) is divided by (L + 1) to this power; code: 1"
    )
    without_hit: bool = hyperparameter(
        True, search=False, help="whether Eq. 5 punishes groups that miss the target; code: false"
    )
    difficulty: bool = hyperparameter(True, search=False, help="whether Eq. 7 weighs prompts")
    # The paper's grid for alpha_min ends at 0.8, those for both gammas at 1.
    alpha_min: float = hyperparameter(
        0.0, low=0, high=1, search=(0, 0.8), help="alpha_min of Eq. 7"
    )
    confidence: bool = hyperparameter(True, search=False, help="whether Eq. 11 is part of the loss")
    gamma_partial: float = hyperparameter(
        0.0,
        low=0,
        high=10,
        search=(0, 1),
        help="gamma_1 of Eq. 11, for candidates that share a prefix",
    )
    gamma_wrong: float = hyperparameter(
        0.5,
        low=0,
        high=10,
        search=(0, 1),
        help="gamma_2 of Eq. 11, for candidates that share none",
    )
    rerank: bool = hyperparameter(
        False, search=False, help="whether evaluation ranks by the hybrid score of appendix C"
    )
    rerank_weight: float = hyperparameter(
        0.5, low=0, high=100, search=False, help="lambda of the hybrid score"
    )


class UGR(GRPO):
    """Uncertainty in the reward, in the weight of a prompt, and in words."""

    hyperparameters_class = UGRHyperparameters

    def __init__(self, hyperparameters: Hyperparameters) -> None:
        """Keep UGR's own hyperparameters at hand."""
        super().__init__(hyperparameters)
        self.own = cast(UGRHyperparameters, hyperparameters)

    @property
    def tokens(self) -> tuple[str, ...]:
        """The two confidence tokens of §3.4."""
        return (HIGH, LOW) if self.own.confidence else ()

    @property
    def scores_leaves(self) -> bool:
        """Confidence is asked for after the last code."""
        return self.own.confidence

    @property
    def reranks(self) -> bool:
        """The hybrid score needs a trained confidence."""
        return self.own.rerank and self.own.confidence

    def reward(self, tree: CandidateTree, targets: Tensor) -> Tensor:
        """Punish confident errors more than tentative ones (Eq. 5)."""
        if self.own.reward != "uncertainty":
            return super().reward(tree, targets)
        return uncertainty_reward(
            tree,
            targets,
            length_penalty=self.own.length_penalty,
            without_hit=self.own.without_hit,
        )

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Add up Eq. 13 for each prompt."""
        loss, figures = super().loss(batch, scores)
        tree, hits = batch.tree, batch.tree.hits(batch.targets)
        if self.own.difficulty:
            weight = difficulty_weight(hits, tree.ranks(), self.own.alpha_min)
            loss = weight * loss
            figures |= no_gradient_figures(difficulty=weight)
        if self.own.confidence:
            confidence = self.confidence(scores)
            wrong = tree.valid & ~hits
            shares_prefix = tree.matched_levels(batch.targets) > 0
            partial_loss = pairwise_ranking_loss(confidence, hits, wrong & shares_prefix)
            wrong_loss = pairwise_ranking_loss(confidence, hits, wrong & ~shares_prefix)
            loss = loss + self.own.gamma_partial * partial_loss + self.own.gamma_wrong * wrong_loss
            count = wrong.sum(dim=1).clamp(min=1)
            figures |= no_gradient_figures(
                confidence_loss=partial_loss + wrong_loss,
                confidence_of_hit=(confidence * hits).sum(dim=1),
                confidence_of_wrong=(confidence * wrong).sum(dim=1) / count,
            )
        return loss, figures

    def confidence(self, scores: Scores) -> Tensor:
        """Return [B, G] how sure the policy says it is: the share of high among both (Eq. 10)."""
        tokens = [scores.policy.extra_tokens[name] for name in (HIGH, LOW)]
        return scores.leaf_logits(tokens).softmax(dim=-1)[..., 0]

    def rerank(self, tree: CandidateTree, scores: Scores) -> Tensor:
        """Return exp s(y) + lambda c(y) (appendix C)."""
        likelihood = scores.log_probs.sum(dim=-1).exp()
        hybrid = likelihood + self.own.rerank_weight * self.confidence(scores)
        return hybrid.masked_fill(~tree.valid, -torch.inf)
