"""Runs in a world: which form of feedback they had, and who says so."""

import argparse
import dataclasses
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_runs import SETTINGS

from genrec_bench.boards.evidence import read_evidence
from genrec_bench.boards.verify import verify
from genrec_bench.data.dataset import Examples
from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Context, Job, do
from genrec_bench.runs.options import add_context_options, context_of
from genrec_bench.runs.records import read_record

ALGORITHM = "grpo"


@dataclasses.dataclass(frozen=True)
class Circle:
    """A world in which, for sure, the item is wanted that lies some steps behind the last one."""

    num_items: int
    steps: int
    feedback: str = "drawn"

    def utilities(self, examples: Examples) -> NDArray[np.float64]:
        """As a world says."""
        last = examples.history_items[examples.history_offsets[1:] - 1]
        return np.eye(self.num_items)[(last + self.steps) % self.num_items]


@pytest.fixture
def plain(data: Path, tmp_path: Path) -> Context:
    parser = argparse.ArgumentParser()
    add_context_options(parser)
    given = ["--dataset", "industrial", "--data-dir", str(data), "--no-mlflow"]
    given += ["--output", str(tmp_path / "runs"), "--set", *SETTINGS]
    with context_of(parser.parse_args(given)) as opened:
        return opened


@pytest.fixture
def world(plain: Context) -> Context:
    """The same data, in a world that wants the opposite of what is logged."""
    dataset = plain.dataset
    circle = Circle(dataset.catalog.num_items, dataset.catalog.num_items // 2)
    contents = dataclasses.replace(dataset.contents, world=circle)
    return dataclasses.replace(plain, dataset=dataclasses.replace(dataset, contents=contents))


def test_feedback_is_part_of_the_track_and_the_runs_differ(world: Context) -> None:
    drawn, told, logged, sft = (
        read_record(do(Job("a run", algorithm, words), world))
        for algorithm, words in (
            (ALGORITHM, ()),
            (ALGORITHM, ("feedback=drawn",)),
            (ALGORITHM, ("feedback=logged",)),
            ("sft", ()),
        )
    )
    assert drawn["track"]["feedback"] == "drawn for each visit of a prompt; logged in SFT"
    assert "feedback" not in logged["track"]
    assert drawn["track_id"] != logged["track_id"]
    # What is learned from the log stands beside it, on the same track.
    assert sft["track_id"] == told["track_id"] == drawn["track_id"]
    assert drawn["metrics"] == told["metrics"]
    assert drawn["metrics"] != logged["metrics"]
    for split in ("valid", "test"):
        for figures in (drawn["metrics"][split], drawn["sft"][split]):
            # Of a world without chance the best list is worth 1.
            assert figures["utility@5"] + figures["regret@5"] == pytest.approx(1)


def test_a_record_of_a_world_is_verified(world: Context) -> None:
    record = do(Job("a run", ALGORITHM), world)
    assert not verify(read_evidence(record)).findings


def test_nobody_draws_purchases_where_nobody_knows_what_users_want(plain: Context) -> None:
    with pytest.raises(UserError, match="feedback=drawn: industrial is not drawn from a known"):
        do(Job("a run", ALGORITHM, ("feedback=drawn",)), plain)
    record = read_record(do(Job("a run", ALGORITHM), plain))
    assert "feedback" not in record["track"]
    assert not [name for name in record["metrics"]["test"] if name.startswith("utility")]
