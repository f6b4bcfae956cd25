"""Numbers worked out by hand from the formulas in the papers."""

import pytest
import torch

from genrec_bench.training.losses import (
    clipped_objective,
    group_mean,
    k3_divergence,
    pairwise_ranking_loss,
    sibling_objective,
    temporal_difference_loss,
)


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


def test_pairwise_ranking_loss() -> None:
    values = torch.tensor([[0.7, 0.5, 0.2, 0.9]])
    best = torch.tensor([[True, False, False, False]])
    worse = torch.tensor([[False, True, True, False]])
    # log(1 + e^-0.2) = 0.598139 and log(1 + e^-0.5) = 0.474077.
    assert pairwise_ranking_loss(values, best, worse).item() == pytest.approx(0.536108, abs=1e-6)
    # A hit that was drawn twice is still one value.
    values, best = torch.tensor([[0.7, 0.7, 0.5, 0.2]]), torch.tensor([[True, True, False, False]])
    assert pairwise_ranking_loss(values, best, ~best).item() == pytest.approx(0.536108, abs=1e-6)
    worse, nobody = ~best, torch.zeros_like(best)
    assert pairwise_ranking_loss(values, best, nobody).item() == 0
    assert pairwise_ranking_loss(values, nobody, worse).item() == 0


def test_pairwise_ranking_loss_moves_both_sides() -> None:
    values = torch.tensor([[0.7, 0.5, 0.2]], requires_grad=True)
    best = torch.tensor([[True, False, False]])
    pairwise_ranking_loss(values, best, ~best).sum().backward()
    # sigmoid(-0.2) / 2 = 0.225083 and sigmoid(-0.5) / 2 = 0.188770.
    assert values.grad is not None
    assert values.grad[0].tolist() == pytest.approx([-0.413853, 0.225083, 0.188770], abs=1e-6)


def test_sibling_objective_weighs_each_node_by_its_credit() -> None:
    log_probs = torch.tensor([[1.5, 1.0, 9.0]]).log().requires_grad_()
    advantages = torch.tensor([[1.0, -2.0, 0.0]])
    valid = torch.tensor([[True, True, True, True, False]])
    found = sibling_objective(log_probs, torch.zeros(1, 3), advantages, valid)
    found.sum().backward()
    # -(1 * 1.5 - 2 * 1) / 4: four candidates, three nodes; a node without credit moves nothing.
    assert found.tolist() == pytest.approx([0.125])
    assert log_probs.grad is not None
    assert log_probs.grad[0].tolist() == pytest.approx([-0.375, 0.5, 0.0])


def test_sibling_objective_of_a_prompt_without_candidates() -> None:
    zeros = torch.zeros(1, 2)
    assert sibling_objective(zeros, zeros, zeros, torch.zeros(1, 3).bool()).tolist() == [0.0]


def test_temporal_difference_loss() -> None:
    values = torch.tensor([[[0.5, 0.2, -0.1], [7.0, 7.0, 7.0]]], requires_grad=True)
    rewards = torch.tensor([[[0.3, 0.5, 1.0], [9.0, 9.0, 9.0]]])
    valid = torch.tensor([[True, False]])
    found = temporal_difference_loss(values, rewards, valid, 0.9)
    found.sum().backward()
    # Targets 0.3 + 0.9 * 0.2 = 0.48, 0.5 - 0.9 * 0.1 = 0.41, and 1; errors 0.02, -0.21, -1.1.
    assert found.tolist() == pytest.approx([(0.0004 + 0.0441 + 1.21) / 3])
    # 2 / 3 of the error each: the value that a target is made of is left alone by it.
    assert values.grad is not None
    assert values.grad[0].tolist() == [
        pytest.approx([0.04 / 3, -0.42 / 3, -2.2 / 3]),
        pytest.approx([0.0, 0.0, 0.0]),
    ]


def test_temporal_difference_loss_of_one_level_regresses_the_reward() -> None:
    values, rewards = torch.tensor([[[0.5], [-1.0]]]), torch.tensor([[[1.0], [-1.5]]])
    both = torch.ones(1, 2, dtype=torch.bool)
    assert temporal_difference_loss(values, rewards, both, 0.99).tolist() == [0.25]


def test_values_that_obey_bellman_have_no_temporal_difference() -> None:
    rewards = torch.tensor([[[0.3, -0.5, 1.0]]])
    last = 1.0
    middle = -0.5 + 0.9 * last
    values = torch.tensor([[[0.3 + 0.9 * middle, middle, last]]])
    found = temporal_difference_loss(values, rewards, torch.ones(1, 1).bool(), 0.9)
    assert found.item() == pytest.approx(0.0, abs=1e-12)
