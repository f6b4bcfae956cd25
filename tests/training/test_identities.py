"""Gradients that other methods have in common with GRPO, as all candidates have L codes.

GSPO (Zheng et al. 2025) weighs a candidate by one ratio, the geometric mean of its codes'. RLOO
(Ahmadian et al. 2024) compares it with the mean of the others. Neither is an algorithm here.
"""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.tiny_world import GROUP_SIZE, Play, World, play, tiny_world
from genrec_bench.policy.tree import CandidateTree

NUM_LEVELS = 3


def grpo(**values: object) -> GRPO:
    return GRPO(GRPOHyperparameters(reward="rank", **values))  # type: ignore[arg-type]


def gradient(world: World, loss: Tensor) -> Tensor:
    """Of a loss, with respect to all weights of the policy, in one vector."""
    weights = list(world.policy.parameters())
    found = torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


def close(one: Tensor, other: Tensor) -> bool:
    """Whether two gradients differ by rounding alone."""
    return float((one - other).norm()) < 1e-4 * float(other.norm())


def gspo_loss(played: Play, old_log_probs: Tensor) -> Tensor:
    """GSPO's objective, with the narrow bounds of its experiments."""
    gap = played.scores.log_probs - old_log_probs
    ratio, advantages = gap.mean(dim=-1).exp(), played.batch.advantages
    clipped = ratio.clamp(1 - 3e-4, 1 + 4e-4)
    return -torch.minimum(ratio * advantages, clipped * advantages).mean()


def unclipped_losses(played: Play, ratios: list[float]) -> tuple[Tensor, Tensor]:
    """Losses of GRPO and GSPO, as if each level's codes had changed by such a ratio since."""
    tree, scores = played.batch.tree, played.scores
    old = scores.log_probs.detach() - torch.tensor(ratios).log()
    before = CandidateTree(
        tree.trie,
        tree.states,
        tree.parents,
        tree.paths,
        tree.valid,
        torch.zeros_like(tree.log_probs).scatter(1, tree.paths.flatten(1), old.flatten(1)),
    )
    losses, _ = grpo(clip_low=1.0, clip_high=10.0).loss(replace(played.batch, tree=before), scores)
    mean_ratio = (scores.log_probs - old).mean(dim=-1).exp()
    return losses.mean(), -(mean_ratio * played.batch.advantages).mean()


@pytest.fixture(scope="module")
def world() -> World:
    return tiny_world(grpo())


def test_where_the_policy_has_not_moved_gspos_gradient_is_grpos(world: World) -> None:
    played = play(grpo(), world)
    tree = played.batch.tree
    assert tree.valid.all() and tree.group_size == GROUP_SIZE and tree.paths.shape[-1] == NUM_LEVELS
    assert (played.batch.advantages.abs() > 0.1).any(dim=1).all()
    ours = gradient(world, played.losses.mean())
    theirs = gradient(world, gspo_loss(played, tree.on_paths(tree.log_probs)))
    assert close(theirs, ours) and ours.norm() > 0.1


@pytest.mark.parametrize(
    ("ratios", "equal"),
    [
        # The geometric mean of equal ratios is each of them.
        ([1.5, 1.5, 1.5], True),
        ([0.5, 0.5, 0.5], True),
        # That of these is 1, and GRPO weighs the first codes four times as much as the last.
        ([2.0, 1.0, 0.5], False),
    ],
)
def test_where_it_has_the_two_agree_on_equal_ratios_alone(
    world: World, ratios: list[float], equal: bool
) -> None:
    played = play(grpo(), world)
    ours, theirs = (gradient(world, loss) for loss in unclipped_losses(played, ratios))
    assert close(theirs, ours) is equal
    at_one = gradient(world, played.losses.mean())
    if equal:
        assert close(ours, ratios[0] * at_one)
    else:
        assert close(theirs, at_one)


def test_rloos_gradient_is_that_of_grpo_without_the_division_but_for_a_factor(
    world: World,
) -> None:
    played = play(grpo(divide_by_std=False), world)
    assert played.batch.tree.valid.all()
    rewards = played.batch.rewards
    # No candidate is its own baseline: the sum of the five others over 5.
    others = torch.stack([rewards[:, [j for j in range(6) if j != i]].mean(1) for i in range(6)], 1)
    sequences = played.scores.log_probs.sum(dim=-1)
    theirs = gradient(world, -((rewards - others) * sequences).mean())
    ours = gradient(world, played.losses.mean())
    # r - (S - r) / 5 = 6/5 (r - S / 6); and GRPO takes the mean of three codes, RLOO their sum.
    assert close(theirs, 3 * 6 / 5 * ours) and ours.norm() > 0.01
    assert not close(theirs, 3 * ours)
    # Dividing each group by its own deviation is no matter of one factor.
    divided = gradient(world, play(grpo(), world).losses.mean())
    assert torch.cosine_similarity(divided, theirs, dim=0) < 0.9999
