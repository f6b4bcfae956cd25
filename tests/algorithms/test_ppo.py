"""PPO: GAE by hand, what the critic reads, whom it teaches, and REINFORCE where it says nothing."""

from dataclasses import replace

import pytest
import torch
from surrogates import gradient
from torch import Tensor

from genrec_bench.algorithm import Seen
from genrec_bench.algorithms.ppo import PPO, PPOHyperparameters, gae
from genrec_bench.contract.stated import run_check
from genrec_bench.contract.tiny_world import GROUP_SIZE, TinyWorld, groups, play, tiny_world
from genrec_bench.contract.trained import Training, check_chunks


@pytest.mark.parametrize(
    ("discount", "trace", "wanted"),
    [
        # d = 0.1, 0.2, 0.2: 0.2; 0.2 + 0.95 * 0.2; 0.1 + 0.95 * 0.39.
        (1.0, 0.95, [0.4705, 0.39, 0.2]),
        # The return, 1, less the value.
        (1.0, 1.0, [0.5, 0.4, 0.2]),
        # The errors alone: 0.9 * 0.6 - 0.5, 0.9 * 0.8 - 0.6, 1 - 0.8.
        (0.9, 0.0, [0.04, 0.12, 0.2]),
        (0.9, 0.5, [0.04 + 0.45 * 0.21, 0.12 + 0.45 * 0.2, 0.2]),
    ],
)
def test_gae(discount: float, trace: float, wanted: list[float]) -> None:
    rewards, values = torch.tensor([[[0.0, 0.0, 1.0]]]), torch.tensor([[[0.5, 0.6, 0.8]]])
    assert gae(rewards, values, discount, trace)[0, 0].tolist() == pytest.approx(wanted)


def awake(ours: PPO) -> TinyWorld:
    """A world whose critic says something."""
    world = tiny_world(ours)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        for weight in world.policy.heads["critic"].parameters():
            weight.normal_(std=0.5)
    return world


def test_the_critic_reads_the_prompt_and_the_codes_before() -> None:
    ours = PPO(PPOHyperparameters())
    world = awake(ours)
    played = play(ours, world)
    scores, critic = played.scores, world.policy.heads["critic"]
    found, tree = ours._critic(scores), played.batch.tree
    root: Tensor = critic(scores.root_hidden)
    assert torch.allclose(found[..., 0], root.expand(-1, GROUP_SIZE), atol=1e-6)
    for place in (1, 2):
        rows = tree.paths[..., place - 1].unsqueeze(-1).expand(-1, -1, 16)
        wanted: Tensor = critic(scores.node_hidden.gather(1, rows)).squeeze(-1)
        assert torch.allclose(found[..., place], wanted, atol=1e-6)
    assert found.std() > 0.1


def test_credit_is_whitened_over_all_codes() -> None:
    ours = PPO(PPOHyperparameters())
    credit = play(ours, awake(ours)).batch.advantages[..., 0]
    assert float(credit.mean()) == pytest.approx(0, abs=1e-6)
    assert float(credit.std(correction=0)) == pytest.approx(1, abs=1e-4)


def test_returns_are_the_divergence_of_each_code_and_the_hit_at_the_last() -> None:
    # Whose V is 0, so that with lambda of 1 a return is the sum of what is to come.
    ours = PPO(PPOHyperparameters(beta=0.1, trace=1.0))
    world = tiny_world(ours)
    played = play(ours, world)
    returns, reference = played.batch.advantages[..., 2], played.batch.reference_log_probs
    assert reference is not None and played.batch.rewards.any()
    gap = played.scores.log_probs.detach() - reference
    wanted = played.batch.rewards.unsqueeze(-1) - 0.1 * gap.flip(-1).cumsum(-1).flip(-1)
    assert torch.allclose(returns, wanted * played.batch.tree.valid.unsqueeze(-1), atol=1e-5)


def test_where_nothing_is_earned_and_nothing_moved_there_is_no_credit() -> None:
    ours = PPO(PPOHyperparameters())
    world = tiny_world(ours)
    same = replace(world, reference=world.policy)
    tree = groups(ours, world)["no hit"]
    # A rollout rounds otherwise; its noise, whitened, would be credit like any other.
    assert not play(ours, same, *tree).batch.advantages.any()
    assert play(ours, world, *tree).batch.advantages[..., 0].std() > 0.5


@pytest.mark.parametrize(
    ("clip", "value", "wanted"),
    [
        # The return is 1, V was 0.2: 1/2 0.3^2, and within 0.2 of what it was 1/2 0.6^2.
        (0.0, 0.7, 0.045),
        (0.2, 0.7, 0.18),
        # The worse of both: 1/2 1.2^2 is more than 1/2 1.0^2.
        (0.2, -0.2, 0.72),
    ],
)
def test_the_critic_learns_returns_of_before(clip: float, value: float, wanted: float) -> None:
    ours = PPO(PPOHyperparameters(beta=0.0, value_clip=clip))
    world = tiny_world(ours)
    played = play(ours, world)
    with torch.no_grad():
        for weight in world.policy.heads["critic"].parameters():
            weight.fill_(value if weight.shape == (1,) else 0.0)
    told = torch.stack(
        [torch.zeros(5, 6, 3), *torch.tensor([0.2, 1.0]).expand(5, 6, 3, 2).unbind(-1)], -1
    )
    _, figures = ours.loss(replace(played.batch, advantages=told), played.scores)
    assert figures["value_loss"].tolist() == pytest.approx([wanted] * 5)


def test_gradients_with_hits_do_not_depend_on_chunks() -> None:
    class Often(PPO):
        """Every other leaf is a hit: in the check's world nothing is drawn that is one."""

        def reward(self, seen: Seen) -> Tensor:
            return (seen.tree.leaves % 2).float() * seen.tree.valid

    assert run_check(check_chunks, Often) is None


def test_groups_count_as_silent_by_their_credit_alone() -> None:
    class Always(PPO):
        """All is worth the same, so that whitened credit is 0 and returns are not."""

        def reward(self, seen: Seen) -> Tensor:
            return seen.tree.valid.float()

    hyperparameters = PPOHyperparameters(beta=0.0, trace=1.0)
    (figures,) = Training(Always(hyperparameters)).go(0, 1)
    assert figures["zero_advantage"] == 1 and figures["value_loss"] > 0.1


@pytest.mark.parametrize("trains_policy", [False, True])
def test_whom_the_critic_teaches(trains_policy: bool) -> None:
    ours = PPO(PPOHyperparameters(critic_trains_policy=trains_policy))
    world = awake(ours)
    played = play(ours, world)
    told = played.batch.advantages * torch.tensor([0.0, 1.0, 1.0])
    batch = replace(played.batch, advantages=told)
    losses, figures = ours.loss(batch, played.scores)
    losses.sum().backward()
    of = {name: weight.grad for name, weight in world.policy.named_parameters()}
    assert all(of[name] is not None for name in of if name.startswith("heads."))
    layers = [grad for name, grad in of.items() if ".layers." in name and grad is not None]
    assert any(grad.any() for grad in layers) is trains_policy
    assert (figures["value_loss"] > 0).all() and losses.tolist() == pytest.approx(
        (0.1 * figures["value_loss"]).tolist()
    )


def test_without_a_critic_or_divergence_the_first_update_is_reinforce_without_baseline() -> None:
    ours = PPO(PPOHyperparameters(beta=0.0, trace=1.0, whiten=False))
    world = tiny_world(ours)
    played = play(ours, world)
    # V is 0 at first, so that all codes are credited with what their candidate earned.
    rewards = played.batch.rewards
    found = gradient(ours, played)
    wanted = -(rewards / GROUP_SIZE / 3).unsqueeze(-1).expand_as(found)
    assert torch.allclose(found, wanted, atol=1e-6) and rewards.any()
