"""A comparison: what came of it, and the folder that is its own while it lasts."""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec_bench import benchmark_version
from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Context, Job, configure
from genrec_bench.storage import locks
from genrec_bench.storage.digests import json_digest
from genrec_bench.studies.ablations.ablate import Failure
from genrec_bench.studies.comparison.plan import Plan, Row
from genrec_bench.studies.sweeps.admission import SLACK

FOLDER = "comparisons"
"""Beside the runs of a dataset."""

LOCK_FILE = "lock"

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
class Cell:
    """A run of the comparison, finished or failed.

    Attributes:
        name: of the row.
        seed: of the run.
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

    @property
    def paid(self) -> float:
        """What it cost, failed attempts included."""
        return self.spent + self.wasted


@dataclass(frozen=True)
class Outcome:
    """What is there of a comparison."""

    plan: Plan
    tuned: tuple[Tuned, ...]
    cells: tuple[Cell, ...]

    @property
    def records(self) -> tuple[Path, ...]:
        """Paths of the records, of failed runs too."""
        return tuple(cell.record for cell in self.cells)

    @property
    def paid(self) -> dict[str, float]:
        """What was spent, by part of the price, in the budgets' unit; failed attempts too."""
        controls = {row.name for row in self.plan.controls}
        return {
            "tuning": math.fsum(tuned.bill[self.plan.unit] for tuned in self.tuned),
            "training": math.fsum(c.paid for c in self.cells if c.name not in controls),
            "controls": math.fsum(c.paid for c in self.cells if c.name in controls),
        }

    @property
    def coarse(self) -> dict[str, float]:
        """Rows whose steps are large, and the share of the budget that one takes."""
        shares: dict[str, float] = {}
        for cell in self.cells:
            shares[cell.name] = max(cell.step, shares.get(cell.name, 0.0))
        return {name: share for name, share in shares.items() if share > LARGE_STEP}

    def can_retry(self, name: str) -> bool:
        """Return whether to try a row again, if it failed, is more than to find it failed.

        What could not be tuned needs a further trial, and a tuning budget that pays for it.
        """
        for tuned in self.tuned:
            if tuned.name == name and tuned.failure is not None:
                spent = tuned.bill[self.plan.unit] + self.plan.trial.amount
                return bool(spent <= self.plan.tuning.amount * (1 + SLACK))
        return True

    @property
    def exit_code(self) -> int:
        """0 if nothing failed, 1 if a program did, 2 if only what the user asked for did."""
        parts: tuple[Tuned | Cell, ...] = (*self.tuned, *self.cells)
        failures = [part.failure for part in parts if part.failure is not None]
        if any(failure.broken for failure in failures):
            return 1
        return 2 if failures else 0


def coarse_note(name: str, step: float) -> str:
    """Return what to know of a row with large steps."""
    return (
        f"{name}: a step takes {step:.1%} of the budget, which pays for few of them; give more, or "
        "fewer prompts_per_step"
    )


def folder_of(plan: Plan, context: Context) -> Path:
    """Return the comparison's folder: one for all numbers of seeds, so that seeds can be added.

    Raises:
        UserError: a row cannot be run.
    """
    from genrec_bench.policy.backbones import find_backbone
    from genrec_bench.runs.registry import source_hash

    rows = []
    for row in plan.rows:
        entry, algorithm, settings = configure(job_of(row, 0, None), context)
        code, chosen = source_hash(entry), vars(algorithm.hyperparameters)
        rows.append([row.name, row.control, code, chosen, settings.resolved()])
    what = {
        "backbone": find_backbone(context.backbone).fingerprint,
        "benchmark": benchmark_version(),
        "budgets": [plan.tuning.text, plan.trial.text, plan.budget.text],
        "dataset": context.dataset.fingerprint,
        "rows": sorted(rows, key=json.dumps),
        "sids": context.dataset.sid_fingerprint,
        "sweeps": [plan.sampler, plan.pruner, plan.most_trials],
    }
    digest = json_digest(what)
    return context.output / context.dataset.name / FOLDER / digest[:16]


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep the comparison to this process; the system frees it if the process dies.

    Raises:
        UserError: an equal one is at work.
        StorageError: the disk refuses.
    """
    with locks.locked(folder / LOCK_FILE) as free:
        if not free:
            raise UserError(f"{folder}: an equal comparison is at work on it; wait for its end")
        yield


def job_of(row: Row, seed: int, bill: Mapping[str, Any] | None) -> Job:
    """Return the run of a row and seed, in its usual configuration.

    Args:
        row: of the comparison.
        seed: of the training.
        bill: what tuning cost, for the record.
    """
    return Job(row.name, row.algorithm, row.assignments, seed, row.control, bill)
