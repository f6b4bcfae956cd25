"""What a sweep is asked for; nothing slow is imported to read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from genrec_bench.errors import UserError
from genrec_bench.training.budgets import Budget

SamplerName = Literal["tpe", "random", "qmc"]
PrunerName = Literal["halving", "none"]

SAMPLERS: tuple[SamplerName, ...] = ("tpe", "random", "qmc")
PRUNERS: tuple[PrunerName, ...] = ("halving", "none")

TUNING_SEED = 1000
"""Of the trials and of the search; a comparison's own seeds begin at 0."""


@dataclass(frozen=True)
class SweepRequest:
    """What a sweep is asked for, beside what its context says; both budgets are of one kind.

    Attributes:
        algorithm: a name, or the path of a Python file.
        total: what all trials may spend together.
        assignments: words of ``--set`` for every trial; a hyperparameter among them, or among the
            context's, is not searched.
        most: how many trials may start; None for as many as the total budget pays for.
        storage: address of the database; None for a file in the sweep's folder.
        seed: of the choices and of each trial's training.
        retry_failed: whether a study whose trials all failed makes a further attempt, with what is
            left of its budget.
    """

    algorithm: str
    total: Budget
    trial: Budget
    assignments: tuple[str, ...] = ()
    most: int | None = None
    storage: str | None = None
    sampler: SamplerName = "tpe"
    pruner: PrunerName = "halving"
    seed: int = TUNING_SEED
    retry_failed: bool = False

    def __post_init__(self) -> None:
        """Check that the budgets fit each other.

        Raises:
            UserError: the total pays for no trial.
        """
        if self.trial.amount > self.total.amount:
            raise UserError(
                f"{self.trial.option} {self.trial.shown}: is more than {self.total.option} "
                f"{self.total.shown}, which would not pay for one trial"
            )
