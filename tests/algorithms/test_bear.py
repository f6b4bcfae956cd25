"""BEAR: the last code that a beam keeps, and how far a target's code stands from it."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from genrec_bench.algorithms.bear import BEAR, BEARHyperparameters, last_kept
from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.policy.prompts import Chains
from genrec_bench.policy.supervised import score_targets

NOTHING = -math.inf


def scored(of_target: list[float], children: list[list[float]]) -> Any:
    """One target, the probabilities of its codes, and those of all codes that may stand there."""
    own = torch.tensor([of_target]).log().requires_grad_()
    others = torch.tensor([children]).log().requires_grad_()
    return SimpleNamespace(log_probs=own, children=lambda: (None, others), others=others)


@pytest.mark.parametrize(
    ("beam", "kept"), [(1, [-1.0, -3.0]), (2, [-2.0, -3.0]), (3, [-4.0, -3.0]), (9, [-4.0, -3.0])]
)
def test_the_last_on_the_beam_or_the_least_probable(beam: int, kept: list[float]) -> None:
    children = torch.tensor([[-2.0, -1.0, -4.0], [NOTHING, -3.0, NOTHING]])
    assert last_kept(children, beam).squeeze(-1).tolist() == kept


def test_the_papers_loss() -> None:
    # At the first level the target is last of three and the beam keeps two, at the second first.
    scores = scored([0.1, 0.6], [[0.3, 0.2, 0.1], [0.6, 0.3, 0.0]])
    ours = BEAR(BEARHyperparameters(beam=2, strength=4.0, softness=2.0))
    loss = ours.target_loss(scores)
    # sigmoid(log(r) / 2) = sqrt(r) / (1 + sqrt(r)), with r = 0.2 / 0.1 and r = 0.3 / 0.6.
    first = math.log(math.sqrt(2) / (1 + math.sqrt(2)))
    second = math.log(math.sqrt(0.5) / (1 + math.sqrt(0.5)))
    wanted = [-math.log(0.1) + 4 * first, -math.log(0.6) + 4 * second]
    assert loss.tolist()[0] == pytest.approx(wanted)
    own, others = torch.autograd.grad(loss.sum(), [scores.log_probs, scores.others])
    # -(1 + lambda / xi sigmoid((log p - log beta) / xi)), and the same with + at the last kept.
    pulls = [2 / (1 + math.sqrt(2)), 2 / (1 + math.sqrt(0.5))]
    assert own.tolist()[0] == pytest.approx([-1 - pulls[0], -1 - pulls[1]])
    assert others.flatten().tolist() == pytest.approx([0, pulls[0], 0, 0, pulls[1], 0])


def test_the_codes_weights_have_the_papers_gradient_at_the_target() -> None:
    given = ([0.1, 0.6, 0.5], [[0.3, 0.2, 0.1], [0.6, 0.3, 0.0], [0.5, 0.0, 0.0]])
    scores = scored(*given)
    ours = BEAR(BEARHyperparameters(beam=2, strength=4.0, softness=2.0, form="weights"))
    (own,) = torch.autograd.grad(ours.target_loss(scores).sum(), [scores.log_probs])
    weights = [1 + 2 / (1 + math.sqrt(2)), 1 + 2 / (1 + math.sqrt(0.5))]
    mean = sum(weights) / 2
    # The third code has no alternative: its weight 1 + 2 / 2 is in no mean and is not divided.
    assert own.tolist()[0] == pytest.approx([-weights[0] / mean, -weights[1] / mean, -2.0])


def test_without_strength_it_is_sft_and_inside_the_trie_of_the_codes_that_it_allows() -> None:
    scores = scored([0.1, 0.6], [[0.3, 0.2, 0.1], [0.6, 0.3, 0.0]])
    plain = BEAR(BEARHyperparameters(strength=0.0)).target_loss(scores)
    assert torch.equal(plain, -scores.log_probs)
    inside = BEAR(BEARHyperparameters(strength=0.0, normalized="trie")).target_loss(scores)
    assert inside.tolist()[0] == pytest.approx([math.log(6), math.log(1.5)])


@pytest.mark.parametrize("form", ["paper", "weights"])
def test_in_trie_space_normalizing_again_changes_nothing(form: str) -> None:
    catalog = tiny_catalog()
    policy, examples = tiny_policy(catalog, logprob_space="trie"), tiny_examples(catalog)
    scores = score_targets(policy, examples, Chains.single(examples), np.arange(5))
    losses = [
        BEAR(BEARHyperparameters(beam=2, normalized=each, form=form)).target_loss(scores)
        for each in ("policy", "trie")
    ]
    torch.testing.assert_close(*losses)
    assert losses[0].shape == (5, 3)
