"""SFT continued: the control that every other algorithm has to beat.

Reinforcement learning costs device time, and so would more supervised training. This control spends
the same budget on the likelihood of the targets, with the harness's own supervised loss, from the
same SFT start.

Differences from the SFT stage: (1) learning rate and weight decay are an RL run's; (2) it stops at
the budget, not when validation NDCG@10 stops rising.
"""

from genrec_bench.algorithm import Algorithm


class SFT(Algorithm):
    """Supervised fine-tuning, continued for the budget of an RL run."""

    on_policy = False
