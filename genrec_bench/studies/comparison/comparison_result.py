"""What there is of a comparison: what tuning found, and the runs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec_bench.studies.attempts import Failure
from genrec_bench.studies.comparison.plan import SMALLER_STEPS, Plan, price_of
from genrec_bench.studies.sweeps.admission import SLACK

LARGE_STEP = 0.1
"""Share of the budget; with larger steps a training has so few that it learns from little."""


@dataclass(frozen=True)
class Tuned:
    """What a sweep came to.

    Attributes:
        name: of the row.
        words: of ``--set`` for the best configuration.
        value: its validation NDCG@10; None where no trial came to its end.
        bill: what tuning cost, as records keep it.
        failure: why there is no best configuration.
    """

    name: str
    words: tuple[str, ...]
    value: float | None
    bill: Mapping[str, Any]
    failure: Failure | None


@dataclass(frozen=True)
class ComparisonRun:
    """A run of the comparison, finished or failed.

    Attributes:
        name: of the row.
        record: path of its record, which a run that failed has too.
        spent: by the run, in the budgets' unit.
        failure: why it failed.
        wasted: by equal runs that failed, and that it makes up for; in the same unit.
        step: share of the budget that a step takes; 0 of a run that failed.
    """

    name: str
    seed: int
    record: Path
    spent: float
    failure: Failure | None
    wasted: float = 0.0
    step: float = 0.0


@dataclass(frozen=True)
class ComparisonResult:
    """What is there of a comparison."""

    plan: Plan
    tuned: tuple[Tuned, ...]
    runs: tuple[ComparisonRun, ...]

    @property
    def failures(self) -> list[tuple[str, str, Failure]]:
        """What failed: name of the row, what it was, and why."""
        parts = [(tuned.name, f"tuning {tuned.name}", tuned.failure) for tuned in self.tuned]
        parts += [(run.name, f"{run.name}, seed {run.seed}", run.failure) for run in self.runs]
        return [(name, what, failure) for name, what, failure in parts if failure is not None]

    @property
    def paid(self) -> dict[str, float]:
        """What was spent, by part of the price, in the budgets' unit; failed attempts too."""
        controls = {row.name for row in self.plan.controls}
        spent = {part.what: [0.0] for part in price_of(self.plan)}
        for tuned in self.tuned:
            spent["tuning"].append(tuned.bill[self.plan.unit])
        for run in self.runs:
            what = "controls" if run.name in controls else "training"
            spent[what].append(run.spent + run.wasted)
        return {what: math.fsum(amounts) for what, amounts in spent.items()}

    @property
    def coarse(self) -> dict[str, str]:
        """What to know of each row whose steps are large, by its name."""
        shares: dict[str, float] = {}
        for run in self.runs:
            shares[run.name] = max(run.step, shares.get(run.name, 0.0))
        return {
            name: f"{name}: a step takes {share:.1%} of the budget, which pays for few of them; "
            f"give more, or set {SMALLER_STEPS}"
            for name, share in shares.items()
            if share > LARGE_STEP
        }

    def can_retry(self, name: str) -> bool:
        """Return whether ``--retry-failed`` could do something about a row that failed.

        What could not be tuned needs a further trial, and a tuning budget that pays for it.
        """
        for tuned in self.tuned:
            if tuned.name == name and tuned.failure is not None:
                spent = tuned.bill[self.plan.unit] + self.plan.trial.amount
                return bool(spent <= self.plan.tuning.amount * (1 + SLACK))
        return True
