"""What tests of comparisons share: the command with quick settings, and stand-ins."""

import json
from pathlib import Path
from typing import Any

import pytest
from board_world import comparable
from tiny_runs import SETTINGS, Called, call, once_each

from genrec_bench.runs.jobs import Context
from genrec_bench.runs.records import read_record
from genrec_bench.studies.attempts import Failure
from genrec_bench.studies.comparison import calibration
from genrec_bench.studies.comparison import compare as compare_module
from genrec_bench.studies.comparison.calibration import Calibration
from genrec_bench.studies.comparison.comparison_result import Tuned
from genrec_bench.studies.comparison.pace import RowCost
from genrec_bench.studies.comparison.plan import Plan, PlanRow
from genrec_bench.training import steps
from genrec_bench.training.ledger import Cost

BUDGET = "100Mflop"
"""Of some three steps."""

WORDS = (
    *(word for word in SETTINGS if not word.startswith("steps=")),
    "validations=2",
    "validation_examples=16",
    "pass_samples=0",
)


TUNING = ("--seeds", "1", "--trials", "3", "--tuning-budget", "400Mflop", "--trial-budget")
"""Words of a short sweep; the budget of its trials comes next."""


class StudyCommand:
    """Calls the command of a study with quick settings; `place` is the folder of its kind."""

    place = ""

    def __init__(self, capsys: pytest.CaptureFixture[str], data: Path, output: Path) -> None:
        self.capsys, self.data, self.output = capsys, data, output

    def words(self, name: str, *more: str) -> list[str]:
        raise NotImplementedError

    def call(self, name: str, *more: str) -> Called:
        return call(self.capsys, self.words(name, *more))

    def json(self, name: str, *more: str, code: int = 0) -> dict[str, Any]:
        called = self.call(name, "--json", *more)
        assert called.code == code, called.err
        told: dict[str, Any] = json.loads(called.out)
        return told

    def folder(self) -> Path:
        """The one study's."""
        (found,) = (self.output / "industrial" / self.place).iterdir()
        return found


class Compare(StudyCommand):
    """Compares the algorithms that are named."""

    place = "comparisons"

    def words(self, name: str, *more: str) -> list[str]:
        words = ["compare", "--dataset", "industrial", "--algorithms", name, "--no-mlflow"]
        words += ["--data-dir", str(self.data), "--output", str(self.output), "--budget", BUDGET]
        words += ["--tuning-budget", "400Mflop"]
        words += [word for word in more if "=" not in word]
        return [*once_each(words), "--set", *WORDS, *(word for word in more if "=" in word)]

    def records(self) -> dict[tuple[str, int], dict[str, Any]]:
        """By name of the row and seed, read through the paths that the result gives."""
        result = json.loads((self.folder() / "result.json").read_text())
        return {
            (cell["name"], cell["seed"]): read_record(self.folder() / cell["record"])
            for cell in result["cells"]
        }

    def comparable_records(self) -> dict[tuple[str, int], dict[str, Any]]:
        """The same without times and names of runs."""
        return {key: comparable(record) for key, record in self.records().items()}


class Sweeps:
    """Stands for sweeps, which have tests of their own: knows each algorithm's best at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.failure: Failure | None = None
        self.flops = 3e8
        self.trials = 3
        self.study = "study"

    def __call__(
        self, row: PlanRow, plan: Plan, context: Context, storage: str | None, retry_failed: bool
    ) -> Tuned:
        self.asked.append(row.name)
        spent = {"seconds": 0.5, "flops": self.flops, "tokens": 1000}
        counts = {"trials": self.trials, "failed": 1, "pruned": 0}
        bill = {
            "limit": plan.tuning.text,
            **spent,
            **counts,
            "study": f"{self.study} of {row.name}",
        }
        words = () if self.failure else (f"learning_rate={0.001 * len(row.name)}",)
        return Tuned(row.name, words, None if self.failure else 0.25, bill, self.failure)


def stand_in(patch: pytest.MonkeyPatch) -> Sweeps:
    """Put the stand-in for sweeps in their place."""
    sweeps = Sweeps()
    patch.setattr(compare_module, "tune", sweeps)
    return sweeps


def measure_nothing(patch: pytest.MonkeyPatch) -> None:
    """Leave out the steps that are taken to see what they cost, which have tests of their own."""
    cost = RowCost({"seconds": 0.01, "flops": 1e6, "tokens": 100}, 0.1, 0.1, 0.001, 0.001)

    def calibrate(plan: Plan, context: Context) -> Calibration:
        return Calibration(Cost(flops=1e8), {row.name: cost for row in plan.rows})

    patch.setattr(calibration, "calibrate", calibrate)


def count_steps(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Count the steps of rollouts in `taken`; `raise` says at which one to raise what."""
    real = steps.RolloutStepper.step
    state: dict[str, Any] = {"taken": 0, "raise": {}}

    def step(self: Any, index: int, share: float, part: float = 1.0) -> dict[str, float]:
        state["taken"] += 1
        if state["taken"] in state["raise"]:
            raise state["raise"][state["taken"]]
        return real(self, index, share, part)

    patch.setattr(steps.RolloutStepper, "step", step)
    return state
