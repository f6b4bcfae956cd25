"""What algorithms share, in numbers worked out by hand."""

import math

import numpy as np
import pytest
import torch
from small_trees import ONE_LEVEL, group_of

from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.objectives import (
    clipped_objective,
    group_advantage,
    group_mean,
    k3_divergence,
    masked_softmax,
    random_reward,
    ranking_loss,
    rule_reward,
)

ALL = torch.ones(1, 4, dtype=torch.bool)


def test_rule_reward_is_the_hit() -> None:
    assert rule_reward(*group_of([0.4, 0.3, 0.2], hit=1)).tolist() == [[0, 1, 0]]
    assert rule_reward(*group_of([0.4, 0.3, 0.2], hit=None)).tolist() == [[0, 0, 0]]


def test_random_reward_is_spread_over_the_unit_interval_and_repeats_itself() -> None:
    draws = []
    for seed in range(300):
        chosen = np.random.default_rng(seed).permutation(20)[:10]
        leaves = ONE_LEVEL.leaf(torch.from_numpy(chosen)).unsqueeze(0)
        tree = CandidateTree.build(ONE_LEVEL, leaves, torch.zeros(1, 10, 1))
        assert torch.equal(random_reward(tree), random_reward(tree))
        draws += random_reward(tree)[0].tolist()
    assert 0 <= min(draws)
    assert max(draws) < 1
    # 3,000 uniform draws: the mean's standard error is 0.0053, a tenth's share's 0.0055.
    assert np.mean(draws) == pytest.approx(0.5, abs=0.02)
    shares = np.histogram(draws, bins=10, range=(0, 1))[0] / len(draws)
    assert shares == pytest.approx(np.full(10, 0.1), abs=0.022)
    assert math.isclose(np.std(draws), 1 / math.sqrt(12), rel_tol=0.05)


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


@pytest.mark.parametrize(
    ("ratio", "advantage", "loss", "gradient"),
    [
        # min(rho A, clip(rho) A): the clip holds back gains, never losses.
        (1.5, 1.0, -1.2, 0.0),
        (1.5, -1.0, 1.5, 1.5),
        (0.5, 1.0, -0.5, -0.5),
        (0.5, -1.0, 0.8, 0.0),
        (1.1, 2.0, -2.2, -2.2),
        (1.0, 3.0, -3.0, -3.0),
    ],
)
def test_clipped_objective(ratio: float, advantage: float, loss: float, gradient: float) -> None:
    log_probs = torch.tensor([[[ratio]]]).log().requires_grad_()
    advantages = torch.tensor([[[advantage]]])
    found = clipped_objective(log_probs, torch.zeros(1, 1, 1), advantages, 0.2, 0.2)
    found.sum().backward()

    assert found.item() == pytest.approx(loss)
    assert log_probs.grad is not None
    assert log_probs.grad.item() == pytest.approx(gradient)


def test_clip_bounds_may_differ() -> None:
    log_probs = torch.tensor([[[1.25]]]).log()
    one = torch.ones(1, 1, 1)
    assert clipped_objective(log_probs, 0 * one, one, 0.2, 0.28).item() == pytest.approx(-1.25)
    assert clipped_objective(log_probs, 0 * one, one, 0.2, 0.2).item() == pytest.approx(-1.2)


def test_k3_divergence() -> None:
    policy = torch.tensor([0.0, 0.0, 0.0])
    reference = torch.tensor([0.1, -0.2, 0.0])
    # e^0.1 - 0.1 - 1 and e^-0.2 + 0.2 - 1.
    assert k3_divergence(policy, reference).tolist() == pytest.approx(
        [0.0051709, 0.0187308, 0.0], abs=1e-7
    )


def test_group_mean_averages_codes_then_real_candidates() -> None:
    values = torch.tensor([[[1.0, 3.0], [5.0, 5.0], [100.0, 100.0]]])
    valid = torch.tensor([[True, True, False]])
    assert group_mean(values, valid).tolist() == [3.5]
    assert group_mean(values, torch.zeros_like(valid)).tolist() == [0.0]


def test_masked_softmax() -> None:
    values = torch.tensor([[0.0, 1000.0, 1000.0 + math.log(3.0), 2000.0], [-1e9, 5.0, 6.0, 7.0]])
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    found = masked_softmax(values, mask).tolist()
    assert found == [pytest.approx([0, 0.25, 0.75, 0], abs=1e-4), [1, 0, 0, 0]]
    assert masked_softmax(values, torch.zeros_like(mask)).eq(0).all()


def test_ranking_loss() -> None:
    values = torch.tensor([[0.7, 0.5, 0.2, 0.9]])
    best = torch.tensor([[True, False, False, False]])
    worse = torch.tensor([[False, True, True, False]])
    # log(1 + e^-0.2) = 0.598139 and log(1 + e^-0.5) = 0.474077.
    assert ranking_loss(values, best, worse).item() == pytest.approx(0.536108, abs=1e-6)
    # A hit that was drawn twice is still one value.
    values, best = torch.tensor([[0.7, 0.7, 0.5, 0.2]]), torch.tensor([[True, True, False, False]])
    assert ranking_loss(values, best, ~best).item() == pytest.approx(0.536108, abs=1e-6)
    worse, nobody = ~best, torch.zeros_like(best)
    assert ranking_loss(values, best, nobody).item() == 0
    assert ranking_loss(values, nobody, worse).item() == 0


def test_ranking_loss_moves_both_sides() -> None:
    values = torch.tensor([[0.7, 0.5, 0.2]], requires_grad=True)
    best = torch.tensor([[True, False, False]])
    ranking_loss(values, best, ~best).sum().backward()
    # sigmoid(-0.2) / 2 = 0.225083 and sigmoid(-0.5) / 2 = 0.188770.
    assert values.grad is not None
    assert values.grad[0].tolist() == pytest.approx([-0.413853, 0.225083, 0.188770], abs=1e-6)
