"""What a sweep has come to: counts, costs, the best trial, and two files that say so."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec_bench.storage.files import write_atomically, write_json
from genrec_bench.studies.sweeps.admission import Trial
from genrec_bench.studies.text_tables import csv_text
from genrec_bench.training.budgets import parse_exact

BEST_FILE, TABLE_FILE = "best.json", "trials.csv"

OBJECTIVE = "NDCG@10"
"""On all validation examples, by item."""

KINDS = ("seconds", "flops", "tokens")


@dataclass(frozen=True)
class SweepResult:
    """What has become of a sweep so far.

    Attributes:
        folder: holds trials, `best.json`, `trials.csv`, and the database unless that is elsewhere.
        limit: the total budget, as it is written.
        trials: all of them, in the order in which they were asked for.
        best: the complete trial of highest validation NDCG@10, the earliest of equals; None if none
            came to its end.
        words: of ``--set`` for the best trial; those of the context are not repeated.
        finished: whether no trial is running and no further one would start.
    """

    study: str
    folder: Path
    limit: str
    trials: tuple[Trial, ...]
    best: Trial | None
    words: tuple[str, ...]
    finished: bool

    def count(self, state: str) -> int:
        """Return how many trials are in a state: "complete", "pruned", "failed", "died" ..."""
        return sum(trial.state == state for trial in self.trials)

    @property
    def started(self) -> int:
        """How many trials were begun."""
        return len(self.trials) - self.count("refused")

    @property
    def spent(self) -> dict[str, float]:
        """Seconds, flops and tokens of all trials; one that died is known by its charge alone."""
        costs = [trial.cost for trial in self.trials if trial.cost is not None]
        return {kind: float(sum(cost[kind] for cost in costs)) for kind in KINDS}

    @property
    def charged(self) -> float:
        """What counts against the total budget, in its unit; of a running trial all it may cost."""
        return sum(trial.charge for trial in self.trials)

    @property
    def bill(self) -> dict[str, Any]:
        """What tuning cost, as the records of runs with its result keep it."""
        # A trial that died counts as all it may have cost, in the unit of the limit.
        return {
            "limit": self.limit,
            **self.spent,
            parse_exact(self.limit).kind: self.charged,
            "trials": self.started,
            "failed": self.count("failed") + self.count("died"),
            "pruned": self.count("pruned"),
            "study": self.study,
        }

    def plain(self) -> dict[str, Any]:
        """Return what a sweep came to as JSON holds it, without the folder's name."""
        best = self.best
        return {
            **self.bill,
            "charged": self.charged,
            "complete": self.count("complete"),
            "died": self.count("died"),
            "finished": self.finished,
            "value": None if best is None else best.value,
            "trial": None if best is None else best.number,
            "set": list(self.words),
            "table": [dataclasses.asdict(trial) for trial in self.trials],
        }


def write_result(result: SweepResult) -> None:
    """Write what a sweep came to into its folder.

    Raises:
        StorageError: the disk refuses.
    """
    content = {name: value for name, value in result.plain().items() if name != "table"}
    write_json(result.folder / BEST_FILE, content)
    names = list(dict.fromkeys(name for trial in result.trials for name in trial.point))
    rows = [
        [
            *(trial.number, trial.state, trial.value),
            *((trial.cost or {}).get(kind) for kind in KINDS),
            trial.charge,
            *(trial.point.get(name) for name in names),
            trial.reason,
        ]
        for trial in result.trials
    ]
    headers = ["trial", "state", OBJECTIVE, *KINDS, "charge", *names, "reason"]
    write_atomically(result.folder / TABLE_FILE, csv_text(headers, rows).encode())
