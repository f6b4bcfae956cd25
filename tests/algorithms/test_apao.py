"""APAO: losses of prefixes, weighed by how bad they are."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from genrec_bench.algorithms.apao import APAO, APAOHyperparameters
from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.policy.prompts import Chains
from genrec_bench.policy.supervised import score_targets


def scored(*of_target: float) -> Any:
    return SimpleNamespace(log_probs=torch.tensor([of_target]).requires_grad_())


def test_a_prefix_loses_the_mean_of_its_codes() -> None:
    found = APAO(APAOHyperparameters()).prefix_losses(scored(-1.0, -3.0, -2.0))
    assert found.tolist()[0] == pytest.approx([1.0, 2.0, 2.0])


def test_the_loss_and_its_gradient_by_hand() -> None:
    scores = scored(-1.0, -3.0, -2.0)
    ours = APAO(APAOHyperparameters(beta=0.5, eta=math.log(2)))
    loss = ours.target_loss(scores)
    # 1 * 2, 2 * 4 and 2 * 4 are the shares: 1/9, 4/9, 4/9.
    wanted = [1 + 0.5 / 9, 3 + 0.5 * 8 / 9, 2 + 0.5 * 8 / 9]
    assert loss.tolist()[0] == pytest.approx(wanted)
    (slope,) = torch.autograd.grad(loss.sum(), [scores.log_probs])
    # A code is part of all longer prefixes: 1/9 + 4/9 / 2 + 4/9 / 3, and so on.
    parts = [1 / 9 + 2 / 9 + 4 / 27, 2 / 9 + 4 / 27, 4 / 27]
    assert slope.tolist()[0] == pytest.approx([-1 - 0.5 * part for part in parts])


def test_a_certain_target_and_no_weight() -> None:
    assert APAO(APAOHyperparameters()).target_loss(scored(0.0, 0.0)).tolist() == [[0.0, 0.0]]
    scores = scored(-1.0, -3.0)
    plain = APAO(APAOHyperparameters(beta=0.0)).target_loss(scores)
    assert torch.equal(plain, -scores.log_probs)


def test_all_other_prefixes_as_negatives_make_it_the_probability_inside_the_trie() -> None:
    catalog = tiny_catalog()
    policy, examples = tiny_policy(catalog), tiny_examples(catalog)
    scores = score_targets(policy, examples, Chains.single(examples), np.arange(5))
    found = APAO(APAOHyperparameters(form="pairwise")).prefix_losses(scores)
    policy.logprob_space = "trie"
    inside = score_targets(policy, examples, Chains.single(examples), np.arange(5))
    alone = APAO(APAOHyperparameters()).prefix_losses(inside)
    torch.testing.assert_close(found, alone)
    # Prefixes of a length add up to 1: the first codes, counted out.
    _, children = inside.children()
    torch.testing.assert_close(children[:, 0].exp().sum(dim=-1), torch.ones(5))
    rest = 1 - inside.log_probs[:, 0].exp()
    own = inside.log_probs[:, 0].exp()
    torch.testing.assert_close(found[:, 0], -(own / (own + rest)).log())
