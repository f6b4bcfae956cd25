"""The weights of the best look at validation data, for those who judge them, not the last ones."""

from __future__ import annotations

import math
from collections.abc import Sequence

from genrec_bench.policy.policy import Policy
from genrec_bench.training.kept_weights import KeptWeights, trained_tensors

SCORE = "valid/NDCG@10"
"""Column of the curves that says which look is the best."""


class BestWeights:
    """What is trained of a policy, at its best look after the first step; of equals the first.

    The start is never kept: what is judged has been trained, and heads are untrained before.

    Attributes:
        module: the copy; a checkpoint has to hold it.
    """

    def __init__(self, policy: Policy, curves: Sequence[dict[str, float]]) -> None:
        """Prepare to copy a policy.

        Args:
            curves: of its training, to which each look's figures are added before it is told; with
                those of a checkpoint, a resumed training knows the best look so far.
        """
        self.module = KeptWeights(trained_tensors(policy))
        self._policy, self._curves = policy, curves

    def looks(self) -> list[tuple[int, float]]:
        """Return step and score of each look, as they came."""
        rows = (row for row in self._curves if SCORE in row and row["step"])
        return [(int(row["step"]), row[SCORE]) for row in rows]

    def told(self) -> None:
        """Copy the policy if the last look is the best."""
        *before, (_, last) = self.looks()
        if last > max((score for _, score in before), default=-math.inf):
            self.module.copy_from(self._policy.state_dict())

    def put_back(self) -> int:
        """Give the policy the weights of its best look, and return that look's step."""
        self.module.copy_to(self._policy.state_dict())
        looks = self.looks()
        best = max(score for _, score in looks)
        return next(step for step, score in looks if score == best)
