"""SFT continued: the control that every other algorithm has to beat.

Reinforcement learning costs device time, and so would more supervised training. This control spends
the same budget on the likelihood of the targets, with the harness's own supervised loss, from the
same SFT start.

Differences from the SFT stage: (1) learning rate and weight decay are an RL run's; (2) it stops at
the budget, not when validation NDCG@10 stops rising.
"""

from dataclasses import dataclass

from genrec_bench.algorithm import Algorithm, Hyperparameters, Times, rate

# The loss is that of the SFT stage, whose rate is the largest that is known to suit it; a range
# around an RL run's rate would end far below. The RL rates of all backbones lie inside.
RANGE = Times(0.005, 1, of="sft_learning_rate", default="learning_rate")


@dataclass(frozen=True)
class SFTHyperparameters(Hyperparameters):
    """The learning rate alone."""

    learning_rate: float | None = rate(search=RANGE, help="peak; by default that of RL runs")


class SFT(Algorithm):
    """Supervised fine-tuning, continued for the budget of an RL run."""

    hyperparameters_class = SFTHyperparameters
    on_policy = False
