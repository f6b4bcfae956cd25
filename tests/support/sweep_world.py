"""Quick sweeps, and an algorithm that fails: what tests of sweeps share."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from genrec_bench.runs.jobs import Context
from genrec_bench.studies.sweeps.result import SweepResult
from genrec_bench.studies.sweeps.sweep_request import SweepRequest
from genrec_bench.training.budgets import parse_budget

TOTAL, TRIAL = "900Mflop", "200Mflop"

FAILS = '''
"""GRPO with a choice that no run survives.

It is there to be found out.
"""

from dataclasses import dataclass

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.algorithm import hyperparameter


@dataclass(frozen=True)
class Choices(GRPOHyperparameters):
    """One more."""

    beta: float = hyperparameter(0.0, low=0, high=1, search=False, help="none")
    strength: float = hyperparameter(DEFAULT, low=0, high=2, search=(0, 2), help="how much")


class Fails(GRPO):
    """GRPO, told again."""

    hyperparameters_class = Choices

    def loss(self, batch, scores):
        """Divide by nothing where much is asked for."""
        loss, figures = super().loss(batch, scores)
        return loss / (self.hyperparameters.strength < 0.5), figures
'''

Make = Callable[..., Context]


def request(algorithm: str = "grpo", **changed: Any) -> SweepRequest:
    budgets = {"total": parse_budget(TOTAL), "trial": parse_budget(TRIAL)}
    return SweepRequest(algorithm, **{**budgets, "sampler": "random", **changed})


def table(result: SweepResult) -> pd.DataFrame:
    """All trials but for what differs between two equal sweeps."""
    return pd.read_csv(result.folder / "trials.csv").drop(columns="seconds")
