"""SRPO whole: the numbers of its equations, its stages, and what its gradients have in common."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from small_trees import group_of
from torch import Tensor

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.algorithms.srpo import SRPO, SRPOHyperparameters
from genrec_bench.contract.tiny_world import Play, play, roll_out, tiny_world
from genrec_bench.decoding.beam import beam_search
from genrec_bench.decoding.sampling import sample
from genrec_bench.errors import UserError
from genrec_bench.policy.scoring import Scores, score
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie
from genrec_bench.training.groups import Seen

# The target is 1 2 3 4. Wrong at once (though right later), after one code, two, three; the target;
# and once more wrong after one.
SIDS = np.array(
    [[0, 2, 3, 4], [1, 0, 3, 4], [1, 2, 0, 4], [1, 2, 3, 0], [1, 2, 3, 4], [1, 3, 3, 4]],
    dtype=np.int32,
)
TRIE = Trie.build(SIDS, (5, 5, 5, 5))
NOTHING, ONE, TWO, THREE, TARGET, ALSO_ONE, EMPTY = 0, 1, 2, 3, 4, 5, -1


def algorithm(**values: Any) -> SRPO:
    return SRPO(SRPOHyperparameters(**values))


def group(*sids: int) -> tuple[CandidateTree, Tensor]:
    leaves = TRIE.leaf(torch.tensor([sids]))
    tree = CandidateTree.build(TRIE, leaves, torch.full((1, len(sids), 4), -0.5))
    return tree, TRIE.leaf(torch.tensor([TARGET]))


def rewards(*sids: int, **values: Any) -> list[float]:
    found: list[float] = algorithm(**values).reward(Seen.bare(*group(*sids)))[0].tolist()
    return found


def credit(chosen: SRPO, *sids: int) -> list[float]:
    tree, targets = group(*sids)
    found: list[float] = chosen.advantage(
        Seen.bare(tree, targets), chosen.reward(Seen.bare(tree, targets))
    )[0].tolist()
    return found


def accepted(chosen: SRPO, *sids: int) -> bool:
    tree, targets = group(*sids)
    return bool(chosen.accepts(Seen.bare(tree, targets), chosen.reward(Seen.bare(tree, targets))))


# Eq. 13 and 14


def test_the_residual_reward_is_a_power_of_the_share_of_leading_codes() -> None:
    # sqrt(0), sqrt(1/4), sqrt(2/4), sqrt(3/4), sqrt(4/4).
    found = rewards(NOTHING, ONE, TWO, THREE, TARGET)
    assert found == pytest.approx([0.0, 0.5, 0.70710678, 0.86602540, 1.0])
    # Of empty places and of equal candidates.
    assert rewards(ONE, EMPTY, TARGET, ONE, TARGET) == [0.5, 0.0, 1.0, 0.5, 1.0]
    assert rewards(NOTHING, ONE, TWO, THREE, TARGET, power=1.0) == [0.0, 0.25, 0.5, 0.75, 1.0]
    # (1/4)^0.25 is the root of 0.5.
    assert rewards(ONE, TARGET, power=0.25) == pytest.approx([0.70710678, 1.0])
    # Of one code it is the hit.
    assert algorithm().reward(Seen.bare(*group_of([0.4, 0.3, 0.2], hit=1))).tolist() == [[0, 1, 0]]


# Eq. 15 to 20


def bonus_of(hits: int, size: int, k: int, empty: int = 0) -> tuple[float, float]:
    """The bonus of the first candidate and of the last real one; hits come first."""
    place = torch.arange(size + empty).unsqueeze(0)
    found = SRPO.success_bonus(place < hits, place < size, k)[0]
    assert found[size:].tolist() == [0.0] * empty
    return float(found[0]), float(found[size - 1])


@pytest.mark.parametrize(
    ("hits", "size", "k", "hit_gets", "other_gets"),
    [
        # n = 10, k = 4: C(10, 4) = 210 and C(9, 3) = 84.
        # c = 1: 1 - rho = C(9, 4) / 210 = 126 / 210 = 0.6, sigma = sqrt(0.24),
        # delta = C(8, 3) / 84 = 56 / 84: 0.6 / sigma and (0.6 - 0.66667) / sigma.
        (1, 10, 4, 1.224745, -0.136083),
        # c = 2: 70 / 210 = 1/3, sigma = sqrt(2) / 3, delta = 35 / 84 = 5/12: minus 1/12.
        (2, 10, 4, 0.707107, -0.176777),
        # c = 5: 5 / 210 = 1/42, sigma = sqrt(41) / 42, delta = C(4, 3) / 84 = 1/21: minus 1/42.
        (5, 10, 4, 0.156174, -0.156174),
        # c = 6: 1 / 210, sigma = sqrt(209) / 210, delta = C(3, 3) / 84 = 1 / 84.
        # 1/210 - 1/84 = -1/140, and 210 / (140 sqrt(209)) = 1.5 / sqrt(209).
        (6, 10, 4, 0.069171, -0.103757),
        # Without a hit no draw succeeds; with seven of ten no four are all wrong.
        *((hits, 10, 4, 0, 0) for hits in (0, 7, 8, 9, 10)),
        # These groups are drawn whole.
        *((hits, 5, k, 0, 0) for hits in (0, 1, 4, 5) for k in (5, 6, 100)),
        (1, 1, 1, 0, 0),
        # k = 1: delta is 1 and rho = c / n. n = 4, c = 1: (3/4) / (sqrt(3) / 4) and (-1/4) over it.
        (1, 4, 1, 3**0.5, -(3**-0.5)),
        # n = 5, c = 2: sigma = sqrt(6) / 5; 3 / sqrt(6) and -2 / sqrt(6).
        (2, 5, 1, 1.2247449, -0.8164966),
    ],
)
def test_success_bonus_by_hand(
    hits: int, size: int, k: int, hit_gets: float, other_gets: float
) -> None:
    found = bonus_of(hits, size, k)
    assert found == pytest.approx((hit_gets, other_gets), abs=1e-6 if hit_gets else 0)


def test_success_bonus_counts_real_candidates_only() -> None:
    assert bonus_of(1, 10, 4, empty=6) == bonus_of(1, 10, 4)
    # Three real ones cannot give four; they give three, which is all of them.
    assert bonus_of(1, 3, 4, empty=7) == (0.0, 0.0)
    nobody = torch.zeros(1, 3).bool()
    assert SRPO.success_bonus(nobody, nobody, 2).tolist() == [[0] * 3]


def test_success_bonus_takes_each_group_for_itself() -> None:
    hits = torch.tensor([[1, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1]]).bool()
    valid = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 1, 1]]).bool()
    found = SRPO.success_bonus(hits, valid, 2)
    # n = 4, c = 1: 1 - rho = 3/6, sigma = 1/2, delta = 2/3: 1 and -1/3.
    assert found[0].tolist() == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3])
    # c = 2: 1/6, sigma = sqrt(5) / 6, delta = 1/3: 1 / sqrt(5) and -1 / sqrt(5).
    assert found[1].tolist() == pytest.approx([5**-0.5, 5**-0.5, -(5**-0.5), -(5**-0.5)])
    assert found[2].tolist() == [0, 0, 0, 0]


@given(st.integers(1, 40), st.integers(0, 40), st.integers(1, 40))
@settings(max_examples=200)
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


# Eq. 17, 21 and 22


def test_the_advantage_of_eq_21() -> None:
    # Rewards 1, 0.5, 0, 0: mean 0.375, squared distances 0.390625 + 0.015625 + 2 * 0.140625 =
    # 0.6875, a third of which is the variance; deviation 0.4787136.
    dense = [1.3055824, 0.2611165, -0.7833495, -0.7833495]
    group_of_four = (TARGET, ONE, NOTHING, NOTHING)
    assert credit(algorithm(bonus=False), *group_of_four) == pytest.approx(dense, abs=1e-5)
    # k = 2 of n = 4 with c = 1: rho = 1 - 3/6 and sigma = 1/2, so 1 for the hit; delta = 2/3, so
    # (1/2 - 2/3) / (1/2) = -1/3 for the others. k = 3: rho = 1 - 1/4, sigma = sqrt(3) / 4, delta =
    # C(2, 2) / C(3, 2) = 1/3.
    for k, of_hit in ((2, 1.0), (3, 3**-0.5)):
        bonus = [of_hit, *[-of_hit / 3] * 3]
        expected = [one + other for one, other in zip(dense, bonus, strict=True)]
        assert credit(algorithm(k=k), *group_of_four) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("k", "sids", "expected"),
    [
        # Equal candidates count as often as they were drawn. Rewards 1, 1, 0.5, 0.5: mean 0.75,
        # variance 4/16 / 3 = 1/12: 0.25 * sqrt(12) = 0.8660254. k = 1, c = 2 of 4: rho = 1/2, so 1
        # for hits and (1/2 - 1) / (1/2) = -1 for others.
        (1, (TARGET, TARGET, ONE, ONE), [1.8660254, 1.8660254, -1.8660254, -1.8660254]),
        # Without a hit prefixes still give credit. Rewards 0.5, 0, 0: mean 1/6, variance
        # (1/9 + 2/36) / 2 = 1/12; 1/3 * sqrt(12) = 1.1547005.
        (2, (ONE, NOTHING, NOTHING), [1.1547005, -0.5773503, -0.5773503]),
        # Groups that are rejected would have taught nothing.
        *((1, sids, [0.0] * 2) for sids in ((NOTHING, NOTHING), (TARGET, TARGET))),
        *((1, sids, [0.0] * 2) for sids in ((ONE, ALSO_ONE), (ONE, EMPTY))),
    ],
)
def test_credit_by_hand(k: int, sids: tuple[int, ...], expected: list[float]) -> None:
    found = credit(algorithm(k=k), *sids)
    assert found == pytest.approx(expected, abs=1e-5 if any(expected) else 0)


def test_a_bonus_that_is_saturated_leaves_the_dense_advantage() -> None:
    # Three hits of four: no two are both wrong (the degeneration that §5.2 is about).
    hits = (TARGET, TARGET, TARGET, ONE)
    assert credit(algorithm(k=2), *hits) == credit(algorithm(bonus=False), *hits)
    assert abs(credit(algorithm(k=2), *hits)[3]) > 1


def test_empty_places_get_no_credit_and_change_none() -> None:
    padded = credit(algorithm(k=2), TARGET, EMPTY, ONE, NOTHING, NOTHING, EMPTY)
    plain = credit(algorithm(k=2), TARGET, ONE, NOTHING, NOTHING)
    assert [padded[i] for i in (0, 2, 3, 4)] == pytest.approx(plain)
    assert padded[1] == padded[5] == 0


@pytest.mark.parametrize(
    ("sids", "residual", "varies"),
    [
        ((TARGET, NOTHING, NOTHING), True, True),
        ((ONE, NOTHING, NOTHING), True, True),
        ((NOTHING, NOTHING, NOTHING), True, False),
        ((TARGET, TARGET, TARGET), True, False),
        # Different candidates of equal worth; their square roots may differ by nothing either.
        ((ONE, ALSO_ONE, ONE), True, False),
        ((ONE, EMPTY, EMPTY), True, False),
        ((EMPTY, ONE, ALSO_ONE), True, False),
        ((EMPTY, ONE, TARGET), True, True),
        # What varies depends on the reward: here it is the hit.
        ((ONE, NOTHING), False, False),
        ((TARGET, ONE), False, True),
    ],
)
def test_groups_whose_rewards_vary_are_accepted(
    sids: tuple[int, ...], residual: bool, varies: bool
) -> None:
    assert accepted(algorithm(residual=residual), *sids) is varies


@pytest.mark.parametrize("power", [0.25, 0.3, 0.45, 0.5, 0.6, 0.9, 1.0])
def test_rounding_is_no_variance(power: float) -> None:
    """Powers of equal shares may differ in the last bit: by the place in a vector, on any machine.

    Seven groups of ten, as for instance 0.6 makes them: (1/4)^0.6 is 0.43527526 in vectors of eight
    and 0.43527529 in the six numbers that are left over, all of them of the last group.
    """
    tree, targets = group(*[ONE, ALSO_ONE] * 5)
    tree = CandidateTree.join([tree] * 7, torch.arange(7))
    targets, chosen = targets.expand(7), algorithm(power=power)
    found = chosen.reward(Seen.bare(tree, targets))
    assert not chosen.accepts(Seen.bare(tree, targets), found).any()
    # As if it had happened, whatever this machine does.
    found[:, 3] = torch.nextafter(found[:, 3], torch.tensor(1.0))
    assert (found.amax(dim=1) > found.amin(dim=1)).all()
    assert not chosen.accepts(Seen.bare(tree, targets), found).any()
    # Rewards that are none of ours are compared as they are.
    other = algorithm(power=power, residual=False)
    assert other.accepts(Seen.bare(tree, targets), found).all()


@pytest.mark.parametrize(
    ("size", "k"), [(1, 1), (2, 1), (4, 2), (5, 2), (8, 3), (10, 4), (16, 6), (20, 8), (40, 16)]
)
def test_k_keeps_its_share_of_the_group(size: int, k: int) -> None:
    sids = [TARGET, *[NOTHING] * (size - 1)]
    assert credit(algorithm(), *sids) == credit(algorithm(k=k), *sids)
    if size > 2:
        assert credit(algorithm(), *sids) != credit(algorithm(k=k + 1), *sids)


def test_empty_places_count_for_k() -> None:
    """The group's size is that of the setting: two of five places, though two are empty."""
    sids = (TARGET, NOTHING, EMPTY, NOTHING, EMPTY)
    assert credit(algorithm(), *sids) == credit(algorithm(k=2), *sids)


def test_the_stages_of_table_3() -> None:
    tree, targets = group(TARGET, ONE, NOTHING, NOTHING)
    grpo = GRPO(GRPOHyperparameters(epsilon=1e-6))
    first = algorithm(reward="rule", residual=False, bonus=False)
    rewards = first.reward(Seen.bare(tree, targets))
    assert rewards.tolist() == [[1, 0, 0, 0]]
    assert torch.equal(
        first.advantage(Seen.bare(tree, targets), rewards),
        grpo.advantage(Seen.bare(tree, targets), rewards),
    )
    second, third = algorithm(bonus=False), algorithm()
    assert second.reward(Seen.bare(tree, targets)).tolist() == [[1, 0.5, 0, 0]]
    assert torch.equal(
        second.reward(Seen.bare(tree, targets)), third.reward(Seen.bare(tree, targets))
    )
    assert all(stage.most_refills == 9 for stage in (first, second, third))
    assert algorithm(dynamic_sampling=False).most_refills == 0


def test_two_rewards_at_once_are_refused() -> None:
    with pytest.raises(UserError, match=r"^reward=random: .*residual=false$"):
        algorithm(reward="random")
    assert algorithm(reward="random", residual=False).hyperparameters.reward == "random"


def test_candidates_are_drawn_or_searched_for() -> None:
    chosen = algorithm(temperature=0.7, top_p=0.8)
    world = tiny_world(chosen)
    found = roll_out(chosen, world)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = sample(world.policy, world.prompts, 6, temperature=0.7, top_p=0.8)
    assert torch.equal(found.leaves, drawn.leaves)
    searched = roll_out(algorithm(rollout_by="beam"), world)
    assert torch.equal(searched.leaves, beam_search(world.policy, world.prompts, 6).leaves)
    assert not torch.equal(found.leaves, searched.leaves)


# Identities of the gradient


def gradient(played: Play) -> Tensor:
    """[B, G, L] of the losses with respect to the log-probabilities."""
    (found,) = torch.autograd.grad(played.losses.sum(), [played.scores.log_probs])
    return found


def test_at_the_rollout_the_gradient_is_that_of_the_advantage() -> None:
    """The ratio is 1, and a bound as near as 0.001 is idle: A / (n L) for every code."""
    for clip in (0.001, 10.0):
        chosen = algorithm(k=2, beta=0.0, clip_low=min(clip, 1.0), clip_high=clip)
        played = play(chosen, tiny_world(chosen))
        tree = played.batch.tree
        assert tree.valid.all() and played.batch.advantages.any()
        expected = -played.batch.advantages.unsqueeze(-1) / (tree.group_size * 3)
        assert torch.allclose(gradient(played), expected.expand_as(tree.paths), atol=1e-5)


def test_beyond_its_bounds_the_ratio_gives_no_gradient() -> None:
    chosen = algorithm(k=2, beta=0.0)
    world = tiny_world(chosen)
    played = play(chosen, world)
    batch, tree = played.batch, played.batch.tree
    # As if every code had been half as likely before: a ratio of 2, above 1.2.
    older = replace(tree, log_probs=tree.log_probs - np.log(2))
    moved = replace(batch, tree=older)
    scores = score(world.policy, world.prompts, older)
    losses, _ = chosen.loss(moved, scores)
    (found,) = torch.autograd.grad(losses.sum(), [scores.log_probs])
    gain = batch.advantages > 0
    assert gain.any() and (batch.advantages < 0).any()
    assert found[gain].eq(0).all(), "what has gained enough is left alone"
    # What should lose is pulled down twice as hard.
    expected = -2 * batch.advantages.unsqueeze(-1) / (tree.group_size * 3)
    assert torch.allclose(found[~gain], expected.expand_as(found)[~gain], atol=1e-5)


def test_the_mean_over_all_codes_is_the_mean_over_prompts() -> None:
    """All candidates have L codes: DAPO's and the released code's token mean is GRPO's loss."""
    chosen = algorithm(k=2)
    world = tiny_world(chosen)
    played = play(chosen, world)
    (ours,) = torch.autograd.grad(
        played.losses.mean(), [played.scores.log_probs], retain_graph=True
    )
    log_probs, batch = played.scores.log_probs, played.batch
    assert batch.tree.valid.all() and batch.reference_log_probs is not None
    gap = batch.reference_log_probs - log_probs
    ratio = (log_probs - log_probs.detach()).exp()
    per_code = -ratio * batch.advantages.unsqueeze(-1) + 0.001 * (gap.exp() - gap - 1)
    (theirs,) = torch.autograd.grad(per_code.sum() / per_code.numel(), [log_probs])
    assert torch.allclose(ours, theirs, atol=1e-6) and ours.any()


def test_the_divergence_pulls_towards_the_reference() -> None:
    chosen = algorithm(beta=1.0)
    world = tiny_world(chosen)
    pulled, free = play(chosen, world), play(algorithm(beta=0.0), world)
    gap = pulled.batch.reference_log_probs
    assert gap is not None
    scores: Scores = pulled.scores
    # d/dx of exp(r - x) - (r - x) - 1 is 1 - exp(r - x).
    expected = (1 - (gap - scores.log_probs.detach()).exp()) / (6 * 3)
    assert torch.allclose(gradient(pulled) - gradient(free), expected, rtol=1e-3, atol=1e-5)
