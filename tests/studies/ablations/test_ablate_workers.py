"""An ablation by several processes: what they make is what this process shows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from sweep_world import Make
from tiny_runs import run_folders

from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Context, Crew
from genrec_bench.studies.ablations import ablate as ablate_module
from genrec_bench.studies.ablations.ablate import ablate
from genrec_bench.studies.ablations.ablation_file import load_ablation
from genrec_bench.studies.parallel import Lost
from genrec_bench.studies.worker import Task

FILE = """
title: With and without
paper: nobody 2026
setting: another one
algorithm: grpo
tables:
  - name: "1"
    metrics: [HR@10, MRR]
    rows:
      - {label: start, sft: true}
      - {label: plain}
      - {label: other, set: ["beta=0.1"]}
  - name: "2"
    metrics: [HR@10]
    rows:
      - {label: again}
      - {label: narrower, evaluate: [pass_samples=3]}
"""


def test_processes_make_the_runs_and_their_evaluations(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text(FILE)
    ablation = load_ablation(str(tmp_path / "mine.yaml"))[1]
    context = make()
    wanted = ablate(ablation, (0, 1), context)
    labels: list[str] = []

    def backwards(
        tasks: Sequence[Task], context: Context, ended: Callable[[str, object], None]
    ) -> dict[str, Any]:
        labels.extend(task.label for task in tasks)
        values = {}
        for task in reversed(tasks):
            values[task.label] = task.work(context)
            ended(task.label, values[task.label])
        return values

    monkeypatch.setattr(ablate_module, "carry_out", backwards)
    object.__setattr__(context, "crew", Crew(2))
    object.__setattr__(context, "output", tmp_path / "crew")
    found = ablate(ablation, (0, 1), context)
    assert len(labels) == len(run_folders(context.output)) == 4
    assert labels[0] == "plain, seed 0 (1 of 4)" and labels[-1] == "other, seed 1 (4 of 4)"
    for (_, rows), (_, same) in zip(found, wanted, strict=True):
        for row, other in zip(rows, same, strict=True):
            assert row.means == other.means and row.deviations == other.deviations
    # What is finished is not asked for again, but for what its rows evaluate.
    labels.clear()
    ablate(ablation, (0, 1), context)
    assert labels == ["plain, seed 0 (1 of 4)", "plain, seed 1 (3 of 4)"]


def test_a_run_that_processes_die_of_fails_its_rows(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text(FILE.split('  - name: "2"')[0].replace("HR@10", "HR@1"))
    ablation = load_ablation(str(tmp_path / "mine.yaml"))[1]
    context = make()
    object.__setattr__(context, "crew", Crew(2))
    dead = Lost("3 processes died of it")

    def first_dies(tasks: Sequence[Task], context: Context, _: object) -> dict[str, Any]:
        return {t.label: t.work(context) if n else dead for n, t in enumerate(tasks)}

    monkeypatch.setattr(ablate_module, "carry_out", first_dies)
    ((_, rows),) = ablate(ablation, (0,), context)
    failures = [row.failures for row in rows]
    assert [bool(failure) for failure in failures] == [False, True, False]
    assert failures[1][0].reason == "3 processes died of it" and failures[1][0].broken


def test_a_misspelt_metric_ends_the_others(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "mine.yaml").write_text(FILE.replace("MRR", "MRRR"))
    ablation = load_ablation(str(tmp_path / "mine.yaml"))[1]
    context = make()
    object.__setattr__(context, "crew", Crew(2))

    def one(tasks: Sequence[Task], context: Context, ended: Any) -> dict[str, Any]:
        ended(tasks[0].label, tasks[0].work(context))
        raise AssertionError("the second should not begin")

    monkeypatch.setattr(ablate_module, "carry_out", one)
    with pytest.raises(UserError, match="there is no metric 'MRRR'"):
        ablate(ablation, (0,), context)
