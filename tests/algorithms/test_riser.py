"""RISER: preferences where a group misses, distinct draws, and codes without an alternative."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from small_trees import ONE_LEVEL, TRIE, group_of
from surrogates import gradient, moved

from genrec_bench.algorithm import Batch, CandidateTree, Prompts
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.algorithms.riser import RISER, RISERHyperparameters, distinct_first
from genrec_bench.contract.tiny_world import groups, play, tiny_world

OURS = RISER(RISERHyperparameters())
NOTHING = torch.zeros(1, 0, dtype=torch.long)


def batch_of(tree: CandidateTree, targets: torch.Tensor) -> Batch:
    zeros = torch.zeros(tree.valid.shape)
    return Batch(Prompts(NOTHING, NOTHING.bool()), tree, targets, zeros, zeros)


def scored(tree: CandidateTree, of_target: list[float]) -> Any:
    log_probs = tree.on_paths(tree.log_probs)
    return SimpleNamespace(log_probs=log_probs, target_log_probs=torch.tensor([of_target]).log())


def test_a_target_that_was_missed_is_preferred_to_every_candidate() -> None:
    tree, targets = group_of([0.4, 0.3, 0.0], None)
    scores = scored(tree, [0.2])
    weights = OURS.certainty(tree.trie, tree.on_paths(tree.states))
    assert weights.unique().tolist() == [1.0], "the root has twenty children"
    loss = OURS.preferences(batch_of(tree, targets), scores, weights)
    # -log sigmoid(2 log(0.2 / p) - 0.5) = log(1 + sqrt(e) (p / 0.2)^2), and 0.0 is no candidate.
    e = math.sqrt(math.e)
    assert float(loss) == pytest.approx((math.log(1 + 4 * e) + math.log(1 + 2.25 * e)) / 2)


def test_a_code_without_an_alternative_weighs_a_tenth() -> None:
    # [0,0,1] has a sibling on every level, [0,1,0] none on the last, [1,0,0] on the first alone.
    states = TRIE.prefixes(TRIE.leaf(torch.tensor([1, 2, 3])))
    wanted = torch.tensor([[1, 1, 1], [1, 1, 0.1], [1, 0.1, 0.1]])
    torch.testing.assert_close(OURS.certainty(TRIE, states), wanted)


def test_the_mean_of_a_candidate_is_weighed() -> None:
    leaves = TRIE.leaf(torch.tensor([[2]]))
    tree = CandidateTree.build(TRIE, leaves, torch.tensor([[[-1.0, -2.0, -3.0]]]))
    weights = OURS.certainty(TRIE, tree.on_paths(tree.states))
    targets = TRIE.leaf(torch.tensor([3]))
    loss = OURS.preferences(batch_of(tree, targets), scored(tree, [math.exp(-2.0)] * 3), weights)
    # (-2 - 0.2 - 0.2) / 3 = -0.8 and (-1 - 2 - 0.3) / 3 = -1.1: a margin of 2 * 0.3 - 0.5.
    assert float(loss) == pytest.approx(math.log(1 + math.exp(-0.1)), abs=1e-6)


@pytest.mark.parametrize(("size", "kept"), [(4, [7, 3, 5, 7]), (3, [7, 3, 5]), (2, [7, 3])])
def test_each_sid_is_taken_once_before_any_is_taken_again(size: int, kept: list[int]) -> None:
    sids = torch.tensor([[7, 7, 3, 7, 5]])
    log_probs = -sids.float().unsqueeze(-1)
    drawn = CandidateTree.build(ONE_LEVEL, ONE_LEVEL.leaf(sids), log_probs)
    tree = distinct_first(drawn, size)
    assert tree.trie.sid_index(tree.leaves).tolist() == [kept]
    assert tree.sequence_log_probs().tolist() == [[-float(sid) for sid in kept]]


def test_more_are_drawn_than_are_kept() -> None:
    world = tiny_world()
    torch.manual_seed(0)
    few = RISER(RISERHyperparameters(oversampling=1.0)).rollout(world.policy, world.prompts, 6)
    torch.manual_seed(0)
    many = RISER(RISERHyperparameters(oversampling=20)).rollout(world.policy, world.prompts, 6)
    distinct = [[len(set(row)) for row in tree.leaves.tolist()] for tree in (few, many)]
    assert sum(distinct[0]) < sum(distinct[1]) and few.leaves.shape == many.leaves.shape == (5, 6)


@pytest.mark.parametrize(
    ("share", "chosen"),
    [
        (0.0, [False, False, False]),
        (0.3, [True, False, False]),
        (0.5, [True, False, True]),
        (1.0, [True, False, True]),
    ],
)
def test_codes_of_the_largest_covariance_are_held(share: float, chosen: list[bool]) -> None:
    # Log-probabilities are log 2, 0 and -log 2 from their mean, advantages 2, -1 and -1 from
    # theirs: covariances of 2 log 2, 0 and log 2. What has none is not held.
    tree, _ = group_of([0.4, 0.2, 0.1], 0)
    ours = RISER(RISERHyperparameters(cov_share=share))
    held = ours.outlying(tree, torch.tensor([[3.0, 0.0, 0.0]]))
    assert held.flatten().tolist() == chosen


def test_a_group_that_hits_learns_by_grpo_with_weighed_codes() -> None:
    plain = RISER(RISERHyperparameters(candidates="beam", decay=1.0, cov_weight=0.0))
    weighed = RISER(RISERHyperparameters(candidates="beam", cov_weight=0.0))
    grpo, world = GRPO(GRPOHyperparameters()), tiny_world()
    tree, targets = groups(plain, world)["a hit at the last rank"]
    theirs = play(grpo, world, tree, targets)
    ratios = [1.25, 0.7, 1.0]
    wanted = gradient(grpo, theirs, moved(theirs, ratios))
    for ours in (plain, weighed):
        mine = play(ours, world, tree, targets)
        found = gradient(ours, mine, moved(mine, ratios))
        weights = ours.certainty(tree.trie, tree.on_paths(tree.states))
        torch.testing.assert_close(found, weights * wanted)
    assert weights.unique().numel() == 2 and wanted.abs().sum() > 0


def test_a_group_that_misses_raises_its_target_and_lowers_its_candidates() -> None:
    world = tiny_world()
    ours = RISER(RISERHyperparameters(candidates="beam", simpo_weight=3.0))
    played = play(ours, world, *groups(ours, world)["no hit"])
    weights = ours.certainty(
        world.policy.trie, played.batch.tree.on_paths(played.batch.tree.states)
    )
    wanted = 3.0 * ours.preferences(played.batch, played.scores, weights)
    torch.testing.assert_close(played.losses, wanted)
    target = played.scores.target_log_probs
    assert target is not None
    (slope,) = torch.autograd.grad(played.losses.sum(), [target], retain_graph=True)
    assert (slope < 0).all() and (gradient(ours, played) > 0).all()
    assert played.figures["misses"].tolist() == [1.0] * 5


def test_a_code_that_moved_far_is_held_back() -> None:
    held = RISER(RISERHyperparameters(candidates="beam", cov_share=1.0, cov_weight=1.0))
    free = RISER(RISERHyperparameters(candidates="beam", cov_weight=0.0))
    world = tiny_world()
    played = play(held, world, *groups(held, world)["a hit at rank 0"])
    still = gradient(held, played) - gradient(free, played)
    torch.testing.assert_close(still, torch.zeros_like(still), atol=1e-5, rtol=0)
    batch = moved(played, [1.1, 1.1, 1.1])
    more = gradient(held, played, batch) - gradient(free, played, batch)
    # k3 of a ratio r has the slope 1 - 1 / r.
    chosen = held.outlying(batch.tree, batch.advantages)
    weights = held.certainty(batch.tree.trie, batch.tree.on_paths(batch.tree.states))
    torch.testing.assert_close(more, chosen * weights * (1 - 1 / 1.1) / 18, atol=1e-5, rtol=1e-3)
    assert chosen.any()
