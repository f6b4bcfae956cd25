"""Numbers worked out by hand from the formulas in the papers."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec_bench.training.advantages import difficulty_weight, group_advantage, success_bonus

ALL = torch.ones(1, 4, dtype=torch.bool)


def test_group_advantage_is_the_distance_from_the_mean_in_standard_deviations() -> None:
    # UGR's reward for probabilities 0.4, 0.3 (the hit), 0.2, 0.1: mean 0, squares add up to
    # 16/49 + 1 + 4/49 + 1/49 = 10/7, a third of which is the variance: deviation 0.690066.
    rewards = torch.tensor([[-4 / 7, 1.0, -2 / 7, -1 / 7]])
    found = group_advantage(rewards, ALL, epsilon=0.0)
    assert found[0].tolist() == pytest.approx([-0.828079, 1.449138, -0.414039, -0.207020], abs=1e-5)


def test_epsilon_stands_beside_the_deviation() -> None:
    found = group_advantage(torch.tensor([[1.0, 0.0, 0.0, 0.0]]), ALL, epsilon=0.5)
    # Mean 0.25, deviation 0.5.
    assert found[0].tolist() == pytest.approx([0.75, -0.25, -0.25, -0.25])


def test_equal_rewards_give_no_advantage() -> None:
    assert group_advantage(torch.full((1, 4), 0.3), ALL).abs().max() < 1e-3
    assert group_advantage(torch.zeros(1, 4), ALL).tolist() == [[0, 0, 0, 0]]


def test_without_the_division_the_distance_is_left() -> None:
    rewards = torch.tensor([[1.0, 0.0, 0.0, 0.0]])
    found = group_advantage(rewards, ALL, divide_by_std=False)
    assert found.tolist() == [[0.75, -0.25, -0.25, -0.25]]
    # RLOO's baseline leaves the candidate itself out: G / (G - 1) times as much.
    left_out = rewards - (rewards.sum() - rewards) / 3
    assert torch.allclose(left_out, found * 4 / 3)


def test_only_real_candidates_are_compared() -> None:
    rewards = torch.tensor([[1.0, 0.0, 9.0, 9.0]])
    valid = torch.tensor([[True, True, False, False]])
    found = group_advantage(rewards, valid, epsilon=0.0)
    assert found[0].tolist() == pytest.approx([0.5**0.5, -(0.5**0.5), 0, 0])
    alone = group_advantage(rewards, torch.tensor([[True, False, False, False]]))
    assert alone.tolist() == [[0, 0, 0, 0]]


def test_difficulty_grows_with_the_targets_rank() -> None:
    hits = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]).bool()
    ranks = torch.arange(4).expand(4, 4)
    # 0.1 + 0.9 * rank / 3; a miss counts as the last rank.
    found = difficulty_weight(hits, ranks, alpha_min=0.1)
    assert found.tolist() == pytest.approx([0.1, 0.4, 1.0, 1.0])
    assert difficulty_weight(hits, ranks, alpha_min=1.0).tolist() == [1, 1, 1, 1]


def test_difficulty_goes_by_rank_and_not_by_place() -> None:
    hits = torch.tensor([[False, False, True]])
    assert difficulty_weight(hits, torch.tensor([[2, 1, 0]]), alpha_min=0.0).tolist() == [0.0]


def test_difficulty_of_a_group_of_one() -> None:
    assert difficulty_weight(torch.ones(2, 1).bool(), torch.zeros(2, 1), 0.0).tolist() == [1, 1]


def bonus_of(hits: int, size: int, k: int, empty: int = 0) -> tuple[float, float]:
    """The bonus of the first candidate and of the last real one; hits come first."""
    place = torch.arange(size + empty).unsqueeze(0)
    found = success_bonus(place < hits, place < size, k)[0]
    assert found[size:].tolist() == [0.0] * empty
    return float(found[0]), float(found[size - 1])


@pytest.mark.parametrize(
    ("hits", "hit_gets", "other_gets"),
    [
        # n = 10, k = 4: C(10, 4) = 210 and C(9, 3) = 84.
        # c = 1: 1 - rho = C(9, 4) / 210 = 126 / 210 = 0.6, sigma = sqrt(0.24),
        # delta = C(8, 3) / 84 = 56 / 84: 0.6 / sigma and (0.6 - 0.66667) / sigma.
        (1, 1.224745, -0.136083),
        # c = 2: 70 / 210 = 1/3, sigma = sqrt(2) / 3, delta = 35 / 84 = 5/12: minus 1/12.
        (2, 0.707107, -0.176777),
        # c = 5: 5 / 210 = 1/42, sigma = sqrt(41) / 42, delta = C(4, 3) / 84 = 1/21: minus 1/42.
        (5, 0.156174, -0.156174),
        # c = 6: 1 / 210, sigma = sqrt(209) / 210, delta = C(3, 3) / 84 = 1 / 84.
        # 1/210 - 1/84 = -1/140, and 210 / (140 sqrt(209)) = 1.5 / sqrt(209).
        (6, 0.069171, -0.103757),
    ],
)
def test_success_bonus_of_ten(hits: int, hit_gets: float, other_gets: float) -> None:
    assert bonus_of(hits, 10, 4) == pytest.approx((hit_gets, other_gets), abs=1e-6)


@pytest.mark.parametrize("hits", [0, 7, 8, 9, 10])
def test_success_bonus_is_nothing_where_every_draw_says_the_same(hits: int) -> None:
    # Without a hit no draw succeeds; with seven of ten no four are all wrong.
    assert bonus_of(hits, 10, 4) == (0.0, 0.0)


def test_success_bonus_of_one_draw_is_the_distance_in_deviations() -> None:
    # k = 1: delta is 1 and rho = c / n. n = 4, c = 1: (3/4) / (sqrt(3) / 4) and (-1/4) over it.
    assert bonus_of(1, 4, 1) == pytest.approx((math.sqrt(3), -1 / math.sqrt(3)))
    # n = 5, c = 2: sigma = sqrt(6) / 5; 3 / sqrt(6) and -2 / sqrt(6).
    assert bonus_of(2, 5, 1) == pytest.approx((1.2247449, -0.8164966))


@pytest.mark.parametrize("hits", [0, 1, 4, 5])
@pytest.mark.parametrize("k", [5, 6, 100])
def test_success_bonus_of_a_group_that_is_drawn_whole_is_nothing(hits: int, k: int) -> None:
    assert bonus_of(hits, 5, k) == (0.0, 0.0)


def test_success_bonus_counts_real_candidates_only() -> None:
    assert bonus_of(1, 10, 4, empty=6) == bonus_of(1, 10, 4)
    # Three real ones cannot give four; they give three, which is all of them.
    assert bonus_of(1, 3, 4, empty=7) == (0.0, 0.0)
    assert bonus_of(1, 1, 1) == (0.0, 0.0)
    assert success_bonus(torch.zeros(1, 3).bool(), torch.zeros(1, 3).bool(), 2).tolist() == [
        [0] * 3
    ]


def test_success_bonus_takes_each_group_for_itself() -> None:
    hits = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]]).bool()
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]]).bool()
    found = success_bonus(hits, valid, 2)
    # n = 4, c = 1: 1 - rho = 3/6, sigma = 1/2, delta = 2/3: 1 and -1/3.
    assert found[0].tolist() == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])
    # c = 2: 1/6, sigma = sqrt(5) / 6, delta = 1/3: 1 / sqrt(5) and -1 / sqrt(5).
    assert found[1].tolist() == pytest.approx([5**-0.5, 5**-0.5, -(5**-0.5), -(5**-0.5)])
    assert found[2].tolist() == [0, 0, 0, 0]


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 40))
@settings(max_examples=200, deadline=None)
def test_success_bonus_is_that_of_the_binomial_coefficients(size: int, hits: int, k: int) -> None:
    hits, k = min(hits, size), min(k, size)
    all_wrong = math.comb(size - hits, k)
    first, last = bonus_of(hits, size, k)
    if all_wrong in (0, math.comb(size, k)):
        assert (first, last) == (0.0, 0.0)
        return
    miss = all_wrong / math.comb(size, k)
    sigma = math.sqrt(miss * (1 - miss))
    delta = math.comb(size - hits - 1, k - 1) / math.comb(size - 1, k - 1)
    assert first == pytest.approx(miss / sigma, rel=1e-5)
    assert last == pytest.approx((miss - delta) / sigma, rel=1e-5)
    # (1 - rho) c is what hits gain, (delta - (1 - rho)) (n - c) what others lose. They are equal.
    assert first * hits + last * (size - hits) == pytest.approx(0.0, abs=1e-4)
