"""Numbers worked out by hand from the formulas in the papers."""

import math

import numpy as np
import pytest
import torch

from genrec_bench.errors import UserError
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie
from genrec_bench.training.rewards import (
    level_weights,
    random_reward,
    rank_reward,
    residual_reward,
    rule_and_rank_reward,
    rule_reward,
    uncertainty_reward,
)

# Twenty SIDs of one code: a candidate's log-probability is its only node's.
TRIE = Trie.build(np.arange(20, dtype=np.int32)[:, None], (20,))


def group(probabilities: list[float], hit: int | None) -> tuple[CandidateTree, torch.Tensor]:
    """One group whose candidate i is SID i; ``hit`` is the target, or none of them."""
    sids = torch.tensor([[i if p > 0 else -1 for i, p in enumerate(probabilities)]])
    log_probs = torch.tensor(probabilities).clamp(min=1e-9).log().view(1, -1, 1)
    tree = CandidateTree.build(TRIE, TRIE.leaf(sids), log_probs)
    return tree, TRIE.leaf(torch.tensor([19 if hit is None else hit]))


def test_rule_reward_is_the_hit() -> None:
    assert rule_reward(*group([0.4, 0.3, 0.2], hit=1)).tolist() == [[0, 1, 0]]
    assert rule_reward(*group([0.4, 0.3, 0.2], hit=None)).tolist() == [[0, 0, 0]]


def test_rank_reward_divides_by_the_logarithm_of_rank_plus_one() -> None:
    # Ranks 1, 2, 3: 1 / log2(2), 1 / log2(3), 1 / log2(4).
    found = rank_reward(*group([0.4, 0.3, 0.2], hit=None))
    assert found[0].tolist() == pytest.approx([-1.0, -0.6309298, -0.5])


def test_rank_is_by_probability_and_not_by_place() -> None:
    found = rank_reward(*group([0.2, 0.4, 0.3], hit=1))
    assert found[0].tolist() == pytest.approx([-0.5, 1.0, -0.6309298])


def test_rule_and_rank_reward_of_sixteen() -> None:
    # The sum over 16 places of 1 / log2(i + 2) is 6.1058.
    probabilities = [0.5 / (i + 2) for i in range(16)]
    found = rule_and_rank_reward(*group(probabilities, hit=7))[0]
    assert found[[0, 1, 2, 15]].tolist() == pytest.approx(
        [-0.1638, -0.1033, -0.0819, -0.0401], abs=5e-5
    )
    assert found[7] == 1


def test_rule_and_rank_reward_without_a_hit_is_nothing() -> None:
    assert rule_and_rank_reward(*group([0.4, 0.3, 0.2], hit=None)).tolist() == [[0, 0, 0]]


def test_uncertainty_reward_shares_a_punishment_of_one() -> None:
    # Wrong: 0.4, 0.2, 0.1, together 0.7.
    found = uncertainty_reward(*group([0.4, 0.3, 0.2, 0.1], hit=1))[0]
    assert found.tolist() == pytest.approx([-4 / 7, 1.0, -2 / 7, -1 / 7])


def test_uncertainty_reward_without_a_hit() -> None:
    tree, targets = group([0.4, 0.3, 0.2, 0.1], hit=None)
    assert uncertainty_reward(tree, targets)[0].tolist() == pytest.approx([-0.4, -0.3, -0.2, -0.1])
    assert uncertainty_reward(tree, targets, without_hit=False).tolist() == [[0, 0, 0, 0]]


def test_uncertainty_reward_with_the_released_codes_length_penalty() -> None:
    # One code and one end token: s is halved, so that weights are square roots.
    found = uncertainty_reward(*group([0.36, 0.3, 0.16], hit=1), length_penalty=1.0)[0]
    assert found.tolist() == pytest.approx([-0.6, 1.0, -0.4])


def test_uncertainty_reward_of_the_hit_alone() -> None:
    assert uncertainty_reward(*group([0.4, 0.0, 0.0], hit=0)).tolist() == [[1, 0, 0]]


def test_uncertainty_reward_of_what_is_all_but_impossible() -> None:
    tree, targets = group([1e-9, 1e-9, 0.5], hit=2)
    tree.log_probs.mul_(100)
    assert uncertainty_reward(tree, targets)[0].tolist() == pytest.approx([-0.5, -0.5, 1.0])


# The target is 1 2 3 4. Wrong at once (though right later), after one code, two, three; the target.
DEEP_SIDS = np.array(
    [[0, 2, 3, 4], [1, 0, 3, 4], [1, 2, 0, 4], [1, 2, 3, 0], [1, 2, 3, 4]], dtype=np.int32
)
DEEP = Trie.build(DEEP_SIDS, (5, 5, 5, 5))


def deep_group(*sids: int) -> tuple[CandidateTree, torch.Tensor]:
    """One group of some of these SIDs; -1 for places without a candidate."""
    leaves = DEEP.leaf(torch.tensor([sids]))
    log_probs = torch.full((1, len(sids), 4), -1.0)
    return CandidateTree.build(DEEP, leaves, log_probs), DEEP.leaf(torch.tensor([4]))


def test_residual_reward_is_the_root_of_the_share_of_leading_codes() -> None:
    # sqrt(0), sqrt(1/4), sqrt(2/4), sqrt(3/4), sqrt(4/4).
    found = residual_reward(*deep_group(0, 1, 2, 3, 4))[0].tolist()
    assert found == pytest.approx([0.0, 0.5, 0.70710678, 0.86602540, 1.0])


def test_residual_rewards_power_bends_it() -> None:
    linear = residual_reward(*deep_group(0, 1, 2, 3, 4), power=1.0)[0].tolist()
    assert linear == [0.0, 0.25, 0.5, 0.75, 1.0]
    # (1/4)^0.25 is the root of 0.5.
    quarter = residual_reward(*deep_group(1, 4), power=0.25)[0].tolist()
    assert quarter == pytest.approx([0.70710678, 1.0])


def test_residual_reward_of_empty_places_and_of_equal_candidates() -> None:
    found = residual_reward(*deep_group(1, -1, 4, 1, 4))[0].tolist()
    assert found == [0.5, 0.0, 1.0, 0.5, 1.0]


def test_residual_reward_of_one_code_is_the_hit() -> None:
    tree, targets = group([0.4, 0.3, 0.2], hit=1)
    assert torch.equal(residual_reward(tree, targets), rule_reward(tree, targets))


@pytest.mark.parametrize(
    "reward", [rule_reward, rank_reward, rule_and_rank_reward, uncertainty_reward]
)
def test_places_without_a_candidate_earn_nothing_and_change_nothing(reward: object) -> None:
    assert callable(reward)
    padded = reward(*group([0.4, 0.3, 0.2, 0.0, 0.0], hit=1))
    plain = reward(*group([0.4, 0.3, 0.2], hit=1))
    assert padded[0, :3].tolist() == pytest.approx(plain[0].tolist())
    assert padded[0, 3:].tolist() == [0, 0]


def test_random_reward_is_spread_over_the_unit_interval_and_repeats_itself() -> None:
    draws = []
    for seed in range(300):
        chosen = np.random.default_rng(seed).permutation(20)[:10]
        leaves = TRIE.leaf(torch.from_numpy(chosen)).unsqueeze(0)
        tree = CandidateTree.build(TRIE, leaves, torch.zeros(1, 10, 1))
        assert torch.equal(random_reward(tree), random_reward(tree))
        draws += random_reward(tree)[0].tolist()
    assert 0 <= min(draws)
    assert max(draws) < 1
    # 3,000 uniform draws: the mean's standard error is 0.0053, a tenth's share's 0.0055.
    assert np.mean(draws) == pytest.approx(0.5, abs=0.02)
    shares = np.histogram(draws, bins=10, range=(0, 1))[0] / len(draws)
    assert shares == pytest.approx(np.full(10, 0.1), abs=0.022)
    assert math.isclose(np.std(draws), 1 / math.sqrt(12), rel_tol=0.05)


def test_level_weights_of_as_many_levels_are_the_numbers_themselves() -> None:
    assert level_weights("0.3,0.5,1", 3) == [0.3, 0.5, 1.0]
    assert level_weights("1,1,1", 3) == [1.0, 1.0, 1.0]


def test_level_weights_are_stretched_over_more_levels() -> None:
    # Four levels stand at 0, 2/3, 4/3 and 2 of three numbers: 1, 1 + 2/3 of 3, 4 + 1/3 of 6, 10.
    assert level_weights("1,4,10", 4) == pytest.approx([1.0, 3.0, 6.0, 10.0])
    # Of two numbers at 0, 1/3, 2/3 and 1.
    assert level_weights("1,4", 4) == pytest.approx([1.0, 2.0, 3.0, 4.0])


@pytest.mark.parametrize("text", ["1,0.5", "0.3,1,0.5", "0.5,0.3,1"])
@pytest.mark.parametrize("num_levels", [1, 3])
def test_level_weights_that_fall_are_refused(text: str, num_levels: int) -> None:
    with pytest.raises(UserError, match=f"^level_weights={text}: .* do not fall"):
        level_weights(text, num_levels)
