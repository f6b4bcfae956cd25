"""Curves of training: windows of the budget and seeds, by hand; what cannot be compared."""

import argparse

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench.errors import UserError
from genrec_bench.studies.analyses import dynamics
from genrec_bench.studies.analyses.dynamics import over_seeds, windows


def curves(share: list[float], hits: list[float]) -> pd.DataFrame:
    return pd.DataFrame({"step": range(1, len(share) + 1), "share": share, "HR@1": hits})


def test_a_step_belongs_to_the_window_that_it_ends_in() -> None:
    # Halves of the budget: the first holds the steps that end at 0.2 and at exactly 0.5.
    found = windows(curves([0.2, 0.5, 0.7, 1.0], [0.1, 0.3, 0.4, 0.8]), 2, ["HR@1"])
    assert found["share"].tolist() == [0.5, 1.0]
    assert found["HR@1"].tolist() == pytest.approx([0.2, 0.6])
    assert list(found.columns) == ["share", "HR@1"]


def test_ends_of_windows_that_binary_numbers_miss_are_ends() -> None:
    # 0.15 * 20 is a little more than 3 in binary: it is the end of the third window all the same.
    share = [step / 20 for step in range(1, 21)]
    found = windows(curves(share, list(range(20))), 20, ["HR@1"])
    assert found["HR@1"].tolist() == list(range(20))
    assert found["share"].tolist() == pytest.approx(share)


def test_windows_without_a_step_are_left_out() -> None:
    found = windows(curves([0.4, 1.0], [0.5, 0.25]), 10, ["HR@1"])
    assert found["share"].tolist() == [0.4, 1.0]


@given(st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=30), st.integers(1, 40))
def test_no_step_is_lost_and_every_window_holds_its_steps(share: list[float], count: int) -> None:
    found = windows(curves(sorted(share), sorted(share)), count, ["HR@1"])
    # With the share itself as the figure, a window's mean lies inside it.
    assert (found["HR@1"] <= found["share"] + 1e-6).all()
    assert (found["HR@1"] > found["share"] - 1 / count - 1e-6).all()
    assert found["share"].is_monotonic_increasing and found["share"].max() <= 1


def test_seeds_are_averaged_where_they_have_steps() -> None:
    first = pd.DataFrame({"share": [0.5, 1.0], "HR@1": [0.1, 0.4]})
    second = pd.DataFrame({"share": [1.0], "HR@1": [0.2]})
    both = over_seeds([first, second])
    assert both["seeds"].tolist() == [1, 2]
    assert both["HR@1"].tolist() == pytest.approx([0.1, 0.3])
    # Sample standard deviation of 0.4 and 0.2: each is 0.1 off, so sqrt(2 * 0.01 / 1).
    assert np.isnan(both["HR@1 std"][0]) and both["HR@1 std"][1] == pytest.approx(0.02**0.5)
    assert "HR@1 std" not in over_seeds([first])


def options(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    dynamics.add_options(parser)
    return parser.parse_args(words)


def test_alphas_are_short_for_values_of_alpha_min() -> None:
    assert options().vary == "alpha_min=0,0.5,1"
    assert options("--alphas", "0,1").vary == options("--vary", "alpha_min=0,1").vary
    for words in (("--alphas", "0", "--vary", "beta=0"), ("--windows", "0"), ("--seeds", "1,1")):
        with pytest.raises(SystemExit):
            options(*words)


@pytest.mark.parametrize(
    ("vary", "said"),
    [
        ("alpha_min", "must be key=v1,v2"),
        ("=1", "must be key=v1,v2"),
        ("beta=1,,2", "must be key=v1,v2"),
        ("beta=1,1", "given twice"),
        ("beta=1,2,3,4,5,6,7,8", "can be told apart"),
    ],
)
def test_values_that_cannot_be_compared(vary: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        dynamics._jobs("ugr", vary, (0,))


def test_each_value_runs_with_each_seed() -> None:
    jobs = dynamics._jobs("ugr", "reward=rule, rank", (0, 3))
    assert list(jobs) == ["reward=rule", "reward=rank"]
    assert [(job.assignments, job.seed) for job in jobs["reward=rank"]] == [
        (("reward=rank",), 0),
        (("reward=rank",), 3),
    ]
