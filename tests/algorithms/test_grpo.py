"""GRPO's rewards in numbers worked out by hand, and gradients that other methods share with it.

All candidates have L codes. GSPO (Zheng et al. 2025) weighs a candidate by one ratio, the geometric
mean of its codes'. RLOO (Ahmadian et al. 2024) compares it with the mean of the others. Both are
written out here once more, apart from ``gspo`` and ``rloo``.
"""

from dataclasses import replace

import pytest
import torch
from small_trees import group_of
from torch import Tensor

from genrec_bench.algorithms.grpo import (
    GRPO,
    GRPOHyperparameters,
    rank_reward,
    rule_and_rank_reward,
)
from genrec_bench.contract.tiny_world import (
    GROUP_SIZE,
    Play,
    TinyWorld,
    groups,
    play,
    tiny_world,
)
from genrec_bench.training.groups import Seen

NUM_LEVELS = 3

# Rewards


def test_rank_reward_divides_by_the_logarithm_of_rank_plus_one() -> None:
    # Ranks 1, 2, 3: 1 / log2(2), 1 / log2(3), 1 / log2(4).
    found = rank_reward(*group_of([0.4, 0.3, 0.2], hit=None))
    assert found[0].tolist() == pytest.approx([-1.0, -0.6309298, -0.5])


def test_rank_is_by_probability_and_not_by_place() -> None:
    found = rank_reward(*group_of([0.2, 0.4, 0.3], hit=1))
    assert found[0].tolist() == pytest.approx([-0.5, 1.0, -0.6309298])


def test_rule_and_rank_reward_of_sixteen() -> None:
    # The sum over 16 places of 1 / log2(i + 2) is 6.1058.
    probabilities = [0.5 / (i + 2) for i in range(16)]
    found = rule_and_rank_reward(*group_of(probabilities, hit=7))[0]
    assert found[[0, 1, 2, 15]].tolist() == pytest.approx(
        [-0.1638, -0.1033, -0.0819, -0.0401], abs=5e-5
    )
    assert found[7] == 1


def test_rule_and_rank_reward_without_a_hit_is_nothing() -> None:
    assert rule_and_rank_reward(*group_of([0.4, 0.3, 0.2], hit=None)).tolist() == [[0, 0, 0]]


@pytest.mark.parametrize("reward", ["rule", "rank", "rule+rank", "random"])
def test_places_without_a_candidate_earn_nothing_and_change_nothing(reward: str) -> None:
    grpo = GRPO(GRPOHyperparameters(reward=reward))
    padded = grpo.reward(Seen.bare(*group_of([0.4, 0.3, 0.2, 0.0, 0.0], hit=1)))
    assert padded[0, 3:].tolist() == [0, 0]
    if reward != "random":
        plain = grpo.reward(Seen.bare(*group_of([0.4, 0.3, 0.2], hit=1)))
        assert padded[0, :3].tolist() == pytest.approx(plain[0].tolist())


# Gradients


def grpo(**values: object) -> GRPO:
    return GRPO(GRPOHyperparameters(reward="rank", **values))  # type: ignore[arg-type]


def gradient(world: TinyWorld, loss: Tensor) -> Tensor:
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
    old_of_nodes = torch.zeros_like(tree.log_probs).scatter(
        1, tree.paths.flatten(1), old.flatten(1)
    )
    before = replace(tree, log_probs=old_of_nodes)
    losses, _ = grpo(clip_low=1.0, clip_high=10.0).loss(replace(played.batch, tree=before), scores)
    mean_ratio = (scores.log_probs - old).mean(dim=-1).exp()
    return losses.mean(), -(mean_ratio * played.batch.advantages).mean()


@pytest.fixture(scope="module")
def world() -> TinyWorld:
    return tiny_world(grpo())


def test_where_the_policy_has_not_moved_gspos_gradient_is_grpos(world: TinyWorld) -> None:
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
    world: TinyWorld, ratios: list[float], equal: bool
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
    world: TinyWorld,
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


def test_without_the_division_each_prompts_gradient_is_scaled(world: TinyWorld) -> None:
    """Dr. GRPO: the same direction, as many times as long as the rewards' deviation."""
    found: list[Tensor] = []
    for values in (GRPOHyperparameters(epsilon=0.0), GRPOHyperparameters(divide_by_std=False)):
        chosen = GRPO(values)
        played = play(chosen, world, *groups(chosen, world)["a hit at the last rank"])
        found += torch.autograd.grad(played.losses.sum(), [played.scores.log_probs])
    # One hit among six: mean 1/6, variance (25 + 5) / 36 / 5 = 1/6.
    assert torch.allclose(found[1], found[0] * 6**-0.5, atol=1e-6) and found[0].any()
