"""UGR: its formulas in numbers worked out by hand, and that its parts meet as in Eq. 13."""

import math

import pytest
import torch
from small_trees import group_of

from genrec_bench.algorithms.ugr import UGR, UGRHyperparameters
from genrec_bench.contract.tiny_world import Play, TinyWorld, groups, play, tiny_world
from genrec_bench.errors import UserError
from genrec_bench.training.groups import Seen


def algorithm(**values: object) -> UGR:
    return UGR(UGRHyperparameters(**values))  # type: ignore[arg-type]


def with_hit(chosen: UGR, world: TinyWorld) -> Play:
    """Play a group in which every prompt's target has the last rank but one or so."""
    return play(chosen, world, *groups(chosen, world)["a hit at the last rank"])


def reward(probabilities: list[float], hit: int | None, **values: object) -> list[float]:
    found: list[float] = (
        algorithm(**values).reward(Seen.bare(*group_of(probabilities, hit)))[0].tolist()
    )
    return found


# Eq. 5


def test_wrong_candidates_share_a_punishment_of_one() -> None:
    # Wrong: 0.4, 0.2, 0.1, together 0.7.
    assert reward([0.4, 0.3, 0.2, 0.1], hit=1) == pytest.approx([-4 / 7, 1.0, -2 / 7, -1 / 7])
    # The released code's length penalty. One code and one end token: s is halved, so that weights
    # are square roots.
    found = reward([0.36, 0.3, 0.16], hit=1, length_penalty=1.0)
    assert found == pytest.approx([-0.6, 1.0, -0.4])


def test_a_group_that_missed_teaches_nothing_unless_eq_5_is_read_literally() -> None:
    assert reward([0.4, 0.3, 0.2, 0.1], hit=None) == [0, 0, 0, 0]
    found = reward([0.4, 0.3, 0.2, 0.1], hit=None, without_hit=True)
    assert found == pytest.approx([-0.4, -0.3, -0.2, -0.1])
    # A whole update: groups that missed leave the loss, and all gradients, at 0.
    for literally in (False, True):
        chosen = algorithm(without_hit=literally)
        world = tiny_world(chosen)
        played = play(chosen, world, *groups(chosen, world)["no hit"])
        played.losses.sum().backward()
        moved = sum(
            float(p.grad.abs().sum()) for p in world.policy.parameters() if p.grad is not None
        )
        assert (moved > 1e-3) == literally


def test_the_hit_alone_and_empty_places() -> None:
    assert reward([0.4, 0.0, 0.0], hit=0) == [1, 0, 0]
    padded = reward([0.4, 0.3, 0.2, 0.0, 0.0], hit=1)
    assert padded == pytest.approx([*reward([0.4, 0.3, 0.2], hit=1), 0, 0])


def test_what_is_all_but_impossible_is_punished_by_its_share() -> None:
    tree, targets = group_of([1e-9, 1e-9, 0.5], hit=2)
    tree.log_probs.mul_(100)
    assert algorithm().reward(Seen.bare(tree, targets))[0].tolist() == pytest.approx(
        [-0.5, -0.5, 1.0]
    )


# Eq. 7


def test_difficulty_grows_with_the_targets_rank() -> None:
    hits = torch.tensor([[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]).bool()
    ranks = torch.arange(4).expand(4, 4)
    # 0.1 + 0.9 * rank / 3; a miss counts as the last rank.
    found = algorithm(alpha_min=0.1).difficulty(hits, ranks)
    assert found.tolist() == pytest.approx([0.1, 0.4, 1.0, 1.0])
    assert algorithm(alpha_min=1.0).difficulty(hits, ranks).tolist() == [1, 1, 1, 1]


def test_difficulty_goes_by_rank_and_not_by_place_and_is_1_in_a_group_of_one() -> None:
    hits = torch.tensor([[False, False, True]])
    assert algorithm().difficulty(hits, torch.tensor([[2, 1, 0]])).tolist() == [0.0]
    assert algorithm().difficulty(torch.ones(2, 1).bool(), torch.zeros(2, 1)).tolist() == [1, 1]


# The whole


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
        expected = weighted.losses[row].item()
        best = confidence[row][hits[row]].item()
        for gamma, is_member in ((0.3, matched[row] > 0), (0.7, matched[row] == 0)):
            members = confidence[row][is_member & tree.valid[row] & ~hits[row]].tolist()
            if members:
                margins = [math.log1p(math.exp(value - best)) for value in members]
                expected += gamma * sum(margins) / len(margins)
        assert total.losses[row].item() == pytest.approx(expected, abs=1e-5)


def test_confidence_is_trained_only_where_the_target_was_found() -> None:
    chosen = algorithm(gamma_partial=1.0, gamma_wrong=1.0)
    world = tiny_world(chosen)
    found = play(chosen, world, *groups(chosen, world)["no hit"])
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
    # The released code's: with three codes and one end token the fourth root of the likelihood.
    assert played.batch.tree.trie.num_levels == 3
    chosen = algorithm(rerank=True, rerank_weight=0.0, rerank_length_penalty=1.0)
    found = chosen.rerank(played.batch.tree, played.scores)
    likelihood = played.scores.log_probs.sum(dim=-1).exp()
    assert torch.allclose(found[valid], likelihood[valid] ** 0.25)


def test_figures_compare_the_confidence_of_hits_and_wrong_candidates_of_the_same_groups() -> None:
    chosen = algorithm()
    world = tiny_world(chosen)
    played = play(chosen, world)
    tree, confidence = played.batch.tree, chosen.confidence(played.scores)
    hits = tree.hits(played.batch.targets)
    assert 0 < hits.any(dim=1).sum() < len(hits), "some groups have a hit and some have none"
    for row in range(len(hits)):
        wrong = confidence[row][tree.valid[row] & ~hits[row]]
        best = confidence[row][hits[row]]
        expected = (best.mean(), wrong.mean()) if len(best) else torch.zeros(2)
        for name, value in zip(("hit", "wrong"), expected, strict=True):
            figure = played.figures[f"confidence_of_{name}"][row].item()
            assert figure == pytest.approx(float(value.detach()), abs=1e-6)


def test_tokens_start_from_the_codes_words_and_learn_at_a_rate_of_their_own() -> None:
    assert algorithm().tokens == {"[C_HIGH]": " correct", "[C_LOW]": " wrong"}
    assert algorithm().head_learning_rate is None
    assert algorithm(token_learning_rate=0.01).head_learning_rate == 0.01


def test_switched_off_parts_cost_nothing() -> None:
    assert algorithm(confidence=False).tokens == {}
    assert not algorithm(confidence=False).scores_leaves
    with pytest.raises(UserError, match=r"^rerank=true: needs confidence=true$"):
        algorithm(confidence=False, rerank=True)
    assert not algorithm().uses_reference
