"""Temperature, top-k and top-p against numbers worked out by hand."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench.decoding.sampling import sampling_log_probs

HALF_QUARTER = (0.5, 0.25, 0.15, 0.1)


def share(chances: tuple[float, ...], **how: Any) -> list[float]:
    """What is drawn from children of these probabilities."""
    log_probs = torch.tensor(chances, dtype=torch.double).log()
    return [float(chance) for chance in sampling_log_probs(log_probs, **how).exp()]


@pytest.mark.parametrize(
    ("chances", "how", "expected"),
    [
        # 1 / T = 2 squares: .25, .0625, .0225, .01, which add up to .345.
        (HALF_QUARTER, {"temperature": 0.5}, [x / 0.345 for x in (0.25, 0.0625, 0.0225, 0.01)]),
        # 1 / T = 1 / 2 takes roots; of two children with 0.8 and 0.2, twice as much for the first.
        ((0.8, 0.2), {"temperature": 2.0}, [2 / 3, 1 / 3]),
        # The temperature comes first. Squared: .7246, .1812, .0652, .0290. Two reach .9 (.9058),
        # which without squaring takes three.
        (HALF_QUARTER, {"temperature": 0.5, "top_p": 0.9}, [0.8, 0.2, 0, 0]),
        # Then top-k: of the best two the first has 4/7, more than one half; of all it has only .4.
        ((0.4, 0.3, 0.2, 0.1), {"top_k": 2, "top_p": 0.5}, [1, 0, 0, 0]),
        ((0.4, 0.3, 0.2, 0.1), {"top_p": 0.5}, [4 / 7, 3 / 7, 0, 0]),
        ((0.4, 0.3, 0.2, 0.1), {"top_k": 3}, [4 / 9, 3 / 9, 2 / 9, 0]),
        # Of equals the first are kept.
        ((0.25,) * 4, {"top_k": 2}, [0.5, 0.5, 0, 0]),
    ],
)
def test_temperature_then_top_k_then_top_p_by_hand(
    chances: tuple[float, ...], how: dict[str, float], expected: list[float]
) -> None:
    assert share(chances, **how) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("top_p", "kept"),
    # .5 reaches .3 and .45; .75 reaches .6 and .74; .9 reaches .8; all are needed for .95.
    [(0.3, 1), (0.45, 1), (0.6, 2), (0.74, 2), (0.8, 3), (0.95, 4), (1.0, 4), (1e-9, 1)],
)
def test_the_nucleus_is_the_smallest_set_that_reaches_top_p(top_p: float, kept: int) -> None:
    total = sum(HALF_QUARTER[:kept])
    expected = [p / total for p in HALF_QUARTER[:kept]] + [0.0] * (4 - kept)
    assert share(HALF_QUARTER, top_p=top_p) == pytest.approx(expected)


def test_children_need_not_be_sorted_nor_sum_to_one_nor_exist() -> None:
    # A fifth of the mass is on codes that are no children; the third place has no child.
    log_probs = torch.tensor([[0.1, 0.2, 0.0, 0.5], [0.0, 0.0, 0.0, 0.0]]).log()
    found = sampling_log_probs(log_probs, 1.0, 2).exp()
    assert found[0].tolist() == pytest.approx([0, 2 / 7, 0, 5 / 7])
    assert found[1].tolist() == [0.0] * 4, "a place without a node has no children"
    assert sampling_log_probs(log_probs).exp()[0].tolist() == pytest.approx(
        [1 / 8, 2 / 8, 0, 5 / 8]
    )


def test_a_temperature_near_zero_leaves_probabilities_that_numbers_can_hold() -> None:
    log_probs = torch.tensor([-1.0, -21.0, -100.0])
    found = sampling_log_probs(log_probs, 0.01)
    assert found.tolist() == pytest.approx([0.0, -2000.0, -9900.0])


@pytest.mark.parametrize(
    "how",
    [{"temperature": 0.0}, {"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.01}],
)
def test_numbers_out_of_range_are_refused(how: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        share(HALF_QUARTER, **how)


@given(
    st.lists(st.floats(-30, 0), min_size=1, max_size=12),
    st.floats(0.05, 10),
    st.integers(0, 14),
    st.floats(0.01, 1),
)
def test_what_is_kept_is_the_best_and_no_more_than_needed(
    values: list[float], temperature: float, top_k: int, top_p: float
) -> None:
    log_probs = torch.tensor(values, dtype=torch.double)
    plain = sampling_log_probs(log_probs, temperature).exp()
    found = sampling_log_probs(log_probs, temperature, top_k, top_p).exp()
    kept = found > 0
    assert float(found.sum()) == pytest.approx(1.0)
    assert 1 <= int(kept.sum()) <= (top_k or len(values))
    if not kept.all():
        assert plain[kept].min() >= plain[~kept].max()
    within = plain.sort(descending=True).values[: top_k or len(values)]
    mass = plain[kept].sum() / within.sum()
    if int(kept.sum()) < len(within):
        assert mass >= top_p - 1e-9, "the nucleus stops when it has reached top_p"
    if int(kept.sum()) > 1:
        assert mass - plain[kept].min() / within.sum() < top_p + 1e-9, "and not later"
