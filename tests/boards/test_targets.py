"""Budget to reach a target, by hand."""

import numpy as np
import pandas as pd
import pytest

from genrec_bench.boards.board import Reached
from genrec_bench.boards.targets import Looks, curve, reached, read_looks, target_values, unit_of


def seen(*values: float, end: float = 100.0) -> Looks:
    """Looks at equal shares of a budget, from 0 on."""
    return Looks(tuple(np.linspace(0, end, len(values)).tolist()), values)


@pytest.mark.parametrize(
    ("budget", "unit"),
    [
        ("90s", "seconds"),
        ("3Tflop", "flops"),
        ("20Mtok", "tokens"),
        ("160 steps of 64 prompts", "flops"),
        (None, "flops"),
    ],
)
def test_the_unit_is_that_of_the_budget(budget: str | None, unit: str) -> None:
    assert unit_of({"budget": budget}) == unit


def test_looks_are_the_rows_with_a_figure() -> None:
    curves = pd.DataFrame(
        {
            "step": [0, 1, 2, 3],
            "flops": [0.0, 10.0, 20.0, 30.0],
            "valid/NDCG@10": [0.5, np.nan, 0.7, 0.6],
        }
    )
    found = read_looks(curves, "flops")
    assert found == Looks((0.0, 20.0, 30.0), (0.5, 0.7, 0.6))
    assert (found.start, found.best) == (0.5, 0.7)
    assert read_looks(curves, "seconds") is None, "no such column"
    assert read_looks(curves.iloc[1:], "flops") is None, "nobody looked at the start"
    assert read_looks(pd.DataFrame({"step": [1]}), "flops") is None
    assert read_looks(pd.DataFrame(), "flops") is None


def test_targets_are_shares_of_the_median_gain_by_hand() -> None:
    """Bests 0.14, 0.18, 0.30 from 0.10: the median gains 0.08, so 0.12, 0.14, 0.16, 0.18."""
    grpo = [seen(0.10, 0.30, 0.20), seen(0.10, 0.14), seen(0.10, 0.12, 0.18)]
    values = target_values(grpo, 512)
    assert list(values) == ["25%", "50%", "75%", "100%"]
    assert list(values.values()) == pytest.approx([0.12, 0.14, 0.16, 0.18])


def test_with_an_even_number_of_seeds_grpo_still_reaches_its_own() -> None:
    """The middle bests are 0.14 and 0.18; the mean of both would be out of reach for half."""
    grpo = [seen(0.10, best) for best in (0.12, 0.14, 0.18, 0.30)]
    values = target_values(grpo, 512)
    assert values["100%"] == 0.14
    found = reached(grpo, values)["100%"]
    assert found.by_seed == (None, 100.0, 100.0, 100.0) and found.median == 100.0


@pytest.mark.parametrize("start", [0.1, 0.0692110836575474, 0.299])
@pytest.mark.parametrize("best", [0.3, 0.7115301234567891, 0.5 + 1e-12])
def test_all_of_the_gain_is_reached_to_the_last_bit(start: float, best: float) -> None:
    one = seen(start, best)
    assert one.reach(target_values([one], 10**6)["100%"]) == 100.0


def test_without_a_gain_there_are_no_targets() -> None:
    assert target_values([seen(0.2, 0.1), seen(0.2, 0.2), seen(0.2, 0.9)], 512) == {}
    assert target_values([], 512) == {}
    # One example more at the top of 512 is worth 0.00195: less than that is luck.
    assert target_values([seen(0.2, 0.2019)], 512) == {}
    assert target_values([seen(0.2, 0.2020)], 512)["100%"] == 0.2020
    assert target_values([seen(0.2, 0.2019)], 1024)["100%"] == 0.2019
    # 3 hits of 10 after 2, which in floating point is less than a tenth more.
    assert target_values([seen(0.2, 0.3)], 10)["100%"] == 0.3


def test_a_target_is_reached_at_the_first_look_at_or_above_it() -> None:
    one = Looks((0.0, 10.0, 20.0, 30.0), (0.10, 0.12, 0.20, 0.15))
    targets = {"a": 0.12, "b": 0.15, "c": 0.21, "d": 0.05}
    found = reached([one], targets)
    assert found["a"] == Reached(10.0, (10.0,)), "equal is enough"
    assert found["b"] == Reached(20.0, (20.0,)), "what is lost later was reached all the same"
    assert found["c"] == Reached(None, (None,))
    assert found["d"] == Reached(0.0, (0.0,)), "the start is there already"


def test_a_miss_is_worse_than_any_budget() -> None:
    """Sorted: 50, 100, miss gives 100; 100, miss, miss a miss; 50, miss the mean with infinity."""
    early, late, never = seen(0.1, 0.3, 0.3), seen(0.1, 0.1, 0.3), seen(0.1, 0.1, 0.1)
    target = {"x": 0.2}
    assert reached([never, late, early], target)["x"] == Reached(100.0, (None, 100.0, 50.0))
    assert reached([never, late, never], target)["x"] == Reached(None, (None, 100.0, None))
    assert reached([early, never], target)["x"] == Reached(None, (50.0, None))
    assert reached([early, late], target)["x"] == Reached(75.0, (50.0, 100.0))


def test_a_row_that_lacks_curves_reaches_nothing() -> None:
    assert reached([seen(0.1, 0.2), None], {"x": 0.2}) == {}
    assert reached([], {"x": 0.2}) == {}
    assert reached([seen(0.1, 0.2)], {}) == {}


def test_a_curve_is_the_mean_and_the_range_of_seeds() -> None:
    # Looks of the two seeds are at 0, 50, 100 and at 0, 60, 120.
    found = curve([seen(0.1, 0.2, 0.3), seen(0.1, 0.4, 0.5, end=120.0)])
    expected = [(0, 0.1, 0.1, 0.1), (55, 0.3, 0.2, 0.4), (110, 0.4, 0.3, 0.5)]
    assert [pytest.approx(point) for point in found] == expected


def test_a_curve_of_seeds_that_looked_more_and_less_often() -> None:
    # At 50 the first seed is halfway between 0.2 at 25 and 0.4 at 75.
    often = Looks((0.0, 25.0, 75.0, 100.0), (0.1, 0.2, 0.4, 0.5))
    found = curve([often, None, seen(0.1, 0.5, 0.7)])
    expected = [(0, 0.1, 0.1, 0.1), (50, 0.4, 0.3, 0.5), (100, 0.6, 0.5, 0.7)]
    assert [pytest.approx(point) for point in found] == expected
    assert curve([None]) == ()
