"""UGR whole: that its parts meet as in Eq. 13, on a world small enough to check."""

import math

import pytest
import torch

from genrec_bench.algorithms.ugr import UGR, UGRHyperparameters
from genrec_bench.contract.tiny_world import Play, World, groups, play, tiny_world


def algorithm(**values: object) -> UGR:
    return UGR(UGRHyperparameters(**values))  # type: ignore[arg-type]


def with_hit(chosen: UGR, world: World) -> Play:
    """Play a group in which every prompt's target has the last rank but one or so."""
    cases = {name: (tree, targets) for name, tree, targets in groups(chosen, world)}
    return play(chosen, world, *cases["a hit at the last rank"])


def test_the_parts_add_up_to_the_total() -> None:
    full = algorithm(alpha_min=0.25, gamma_partial=0.3, gamma_wrong=0.7)
    world = tiny_world(full)
    plain = with_hit(algorithm(difficulty=False, gamma_partial=0.0, gamma_wrong=0.0), world)
    weighted = with_hit(algorithm(alpha_min=0.25, gamma_partial=0.0, gamma_wrong=0.0), world)
    total = with_hit(full, world)

    # Eq. 9: the rank of the hit is that of the last real candidate.
    tree = total.batch.tree
    rank = (tree.valid.sum(dim=1) - 1) / (tree.group_size - 1)
    assert torch.allclose(weighted.losses, (0.25 + 0.75 * rank) * plain.losses, atol=1e-6)
    # Eq. 11 to 13, written out for each prompt.
    confidence = total.scores.leaf_logits(
        [world.policy.extra_tokens[name] for name in ("[C_HIGH]", "[C_LOW]")]
    ).softmax(dim=-1)[..., 0]
    matched = tree.matched_levels(total.batch.targets)
    hits = tree.hits(total.batch.targets)
    for row in range(len(hits)):
        expected = float(weighted.losses[row])
        best = float(confidence[row][hits[row]])
        for gamma, is_member in ((0.3, matched[row] > 0), (0.7, matched[row] == 0)):
            members = confidence[row][is_member & tree.valid[row] & ~hits[row]].tolist()
            if members:
                margins = [math.log1p(math.exp(value - best)) for value in members]
                expected += gamma * sum(margins) / len(margins)
        assert float(total.losses[row]) == pytest.approx(expected, abs=1e-5)


def test_confidence_is_trained_only_where_the_target_was_found() -> None:
    chosen = algorithm(gamma_partial=1.0, gamma_wrong=1.0)
    world = tiny_world(chosen)
    cases = {name: (tree, targets) for name, tree, targets in groups(chosen, world)}
    found = play(chosen, world, *cases["no hit"])
    assert found.figures["confidence_loss"].eq(0).all()


def test_rerank_adds_confidence_to_likelihood() -> None:
    chosen = algorithm(rerank=True, rerank_weight=2.0)
    world = tiny_world(chosen)
    played = play(chosen, world)
    found = chosen.rerank(played.batch.tree, played.scores)
    expected = played.scores.log_probs.sum(dim=-1).exp() + 2.0 * chosen.confidence(played.scores)
    valid = played.batch.tree.valid
    assert torch.allclose(found[valid], expected[valid])
    assert found[~valid].eq(-torch.inf).all()


def test_switched_off_parts_cost_nothing() -> None:
    assert algorithm(confidence=False).tokens == ()
    assert not algorithm(confidence=False).scores_leaves
    assert not algorithm(confidence=False, rerank=True).reranks
    assert not algorithm().uses_reference


def test_gradient_at_the_rollout_is_that_of_the_advantage() -> None:
    """With one update per rollout the ratio is 1 and clipping idle: A times the score function."""
    chosen = algorithm(confidence=False, difficulty=False)
    world = tiny_world(chosen)
    played = with_hit(chosen, world)
    (found,) = torch.autograd.grad(played.losses.sum(), [played.scores.log_probs])
    advantages = played.batch.advantages.unsqueeze(-1)
    count = played.batch.tree.valid.sum(dim=1).view(-1, 1, 1)
    expected = -(advantages / count / 3).expand_as(found) * played.batch.tree.valid.unsqueeze(-1)
    assert torch.allclose(found, expected, atol=1e-4)
