"""Which weights of a run are judged: those at its end, or those of its best look."""

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from tiny_runs import Bench, last_error, record_and_curves

LOOKED = "valid/NDCG@10"

WORDS = ("steps=6", "validations=6", "validation_examples=24", "learning_rate=0.1")
"""A rate at which each step does harm, and looks at all validation examples after each."""


def judged(folder: Path) -> tuple[dict[str, Any], pd.Series, float]:
    """A run's record, its looks after the start by step, and what was found at its end."""
    record, curves = record_and_curves(folder)
    looks = curves[curves["step"] > 0].set_index("step")[LOOKED]
    return record, looks, record["metrics"]["valid"]["NDCG@10"]


@pytest.mark.parametrize("algorithm", ["sft", "grpo"])
def test_the_best_look_is_kept_where_that_is_asked_for(bench: Bench, algorithm: str) -> None:
    record, last, at_end = judged(bench.run(algorithm, *WORDS))
    # The beam of the tiny world is as wide in looks as at the end.
    assert len(last) == 6 and at_end == last.iloc[-1]
    assert "keep" not in record["track"] and record["configuration"]["settings"]["keep"] == "last"

    called = bench.call(algorithm, *WORDS, "keep=best")
    best, looks, kept = judged(Path(called.out.split()[-1]).parent)
    # The training is the same one: only what is judged differs.
    pd.testing.assert_series_equal(looks, last)
    assert kept == looks.max() > at_end
    assert f"kept: the weights after step {looks.idxmax()} of 6" in called.err
    assert best["track"]["keep"] == "best" and best["track_id"] != record["track_id"]


def test_without_looks_there_is_no_best_one(bench: Bench) -> None:
    called = bench.call("grpo", "keep=best", "validations=0")
    assert called.code == 2
    assert last_error(called) == "keep=best: needs looks to choose from; set validations above 0"


def test_the_start_is_no_look_to_be_kept(bench: Bench) -> None:
    record, looks, kept = judged(bench.run("sft", *WORDS, "keep=best"))
    # All that was trained is worse than the start.
    assert looks.max() < record["sft"]["valid"]["NDCG@10"]
    assert kept == looks.max()
