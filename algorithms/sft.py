"""SFT continued: the control that every other algorithm has to beat.

Reinforcement learning costs device time, and so would more supervised training. This control spends
the same budget on the likelihood of the targets, with the harness's own supervised loss, from the
same SFT start.

Differences from the SFT stage: (1) learning rate and weight decay are an RL run's; (2) it stops at
the budget, not when validation NDCG@10 stops rising.
"""

from dataclasses import dataclass

from genrec_bench.algorithm import Algorithm
from genrec_bench.training.hyperparameters import Hyperparameters, Times, hyperparameter


@dataclass(frozen=True)
class SFTHyperparameters(Hyperparameters):
    """The learning rate alone."""

    learning_rate: float | None = hyperparameter(
        None,
        low=1e-8,
        high=1.0,
        log=True,
        # The loss is that of its own stage, whose rate is the most that is known to suit it; a
        # range around an RL run's would end far below. RL rates of all backbones lie inside.
        search=Times(0.005, 1, of="sft_learning_rate", default="learning_rate"),
        help="peak learning rate; by default that of the backbone's RL runs",
    )


class SFT(Algorithm):
    """Supervised fine-tuning, continued for the budget of an RL run."""

    hyperparameters_class = SFTHyperparameters
    on_policy = False
