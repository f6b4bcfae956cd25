"""Quick sweeps, and an algorithm that fails: what tests of sweeps share."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from tiny_runs import SETTINGS

from genrec_bench.runs.jobs import Context
from genrec_bench.runs.options import add_context_options, context_of
from genrec_bench.studies.sweeps.admission import Trial
from genrec_bench.studies.sweeps.result import SweepResult
from genrec_bench.studies.sweeps.study import Study
from genrec_bench.studies.sweeps.sweep_request import SweepRequest
from genrec_bench.tracking.tracker import Tracker
from genrec_bench.training.budgets import parse_exact
from genrec_bench.training.search_space import Dimension

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

SPACE = (
    Dimension("rate", 1e-3, low=1e-4, high=1e-2, log=True),
    Dimension("count", 2, low=1, high=4, whole=True),
    Dimension("divide", True, choices=(True, False)),
)


def quick_context(data: Path, output: Path, *words: str, tracked: bool = False) -> Context:
    """What quick runs share."""
    parser = argparse.ArgumentParser()
    add_context_options(parser)
    given = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(output)]
    args = parser.parse_args([*given, "--set", *SETTINGS, *words])
    with context_of(args, Tracker if tracked else None) as context:
        return context


def request(algorithm: str = "grpo", **changed: Any) -> SweepRequest:
    budgets = {"total": parse_exact(TOTAL), "trial": parse_exact(TRIAL)}
    return SweepRequest(algorithm, **{**budgets, "sampler": "random", **changed})


def open_study(folder: Path, name: str = "s", **changed: Any) -> Study:
    """A study of 100 tokens in trials of 10, in a database of its folder."""
    budgets = {"total": parse_exact("100tok"), "trial": parse_exact("10tok")}
    asked = SweepRequest("grpo", **{**budgets, "sampler": "random", "seed": 1, **changed})
    return Study(f"sqlite:///{folder}/study.db", name, SPACE, asked)


def trial_of(state: Any, charge: float) -> Trial:
    return Trial(0, state, None, {}, None, charge, "")


def table(result: SweepResult) -> pd.DataFrame:
    """All trials but for what differs between two equal sweeps."""
    return pd.read_csv(result.folder / "trials.csv").drop(columns="seconds")
