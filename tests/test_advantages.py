"""Numbers worked out by hand from the formulas in the papers."""

import pytest
import torch

from genrec_bench.advantages import difficulty_weight, group_advantage

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
