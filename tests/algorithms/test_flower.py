"""Flower: flows on the SID tree, their balance, and what it leads to."""

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from counted_world import prompts_of, training_data
from small_trees import SIDS, TRIE, tree_of
from torch import Tensor

from genrec_bench.algorithm import Batch, CandidateTree, Seen, Successors
from genrec_bench.algorithms.flower import Flower, FlowerHyperparameters, subtrajectory_balance

EVERY = [1, 2, 3]
"""The SIDs that are somebody's target."""


def begun(personal: str = "none", flow_weight: float = 1.0) -> Flower:
    found = Flower(FlowerHyperparameters(personal=personal, flow_weight=flow_weight))
    found.begin(training_data())
    return found


def seen_of(tree: CandidateTree, *histories: list[int]) -> Seen:
    return replace(Seen.bare(tree, tree.leaves[:, 0]), prompts=prompts_of(*histories))


def played(ours: Flower, tree: CandidateTree, log_probs: Tensor, of_target: Tensor) -> Tensor:
    seen = seen_of(tree, [0])
    rewards = ours.reward(seen)
    batch = Batch(seen.prompts, tree, seen.targets, rewards, ours.advantage(seen, rewards))
    scores: Any = SimpleNamespace(log_probs=log_probs, target_log_probs=of_target)
    return ours.loss(batch, scores)[0]


def test_the_balance_of_all_sub_trajectories() -> None:
    # 1, 2, 3 and 1 + 2, 2 + 3, 1 + 2 + 3 squared: 1, 4, 9, 9, 25, 36.
    assert float(subtrajectory_balance(torch.tensor([1.0, 2, 3]))) == pytest.approx(84 / 6)
    assert float(subtrajectory_balance(torch.tensor([1.0, -1]))) == pytest.approx(2 / 3)


def test_a_code_is_worth_its_share_of_the_flow() -> None:
    tree = tree_of([1, 2, 3, 0, -1])
    found = begun().log_rewards(seen_of(tree, [0]))
    # Five of six targets begin with 0, three of these go on with 0, and all of them with 1.
    ours = [[5 / 6, 3 / 5, 1], [5 / 6, 2 / 5, 1], [1 / 6, 1, 1]]
    torch.testing.assert_close(found[0, :3], torch.tensor(ours).log())
    # Nobody's target ends in the code 0 there, and an empty place has nothing.
    assert found[0, 3].tolist() == pytest.approx([math.log(5 / 6), math.log(3 / 5), -15])
    assert found[0, 4].tolist() == [0, 0, 0]
    total = begun().reward(seen_of(tree, [0]))
    assert total[0, :3].exp().tolist() == pytest.approx([3 / 6, 2 / 6, 1 / 6])


def test_a_users_taste() -> None:
    tree = tree_of([1, 2, 3])
    shares = Successors.count(training_data()).shares(prompts_of([0]).histories)[0]
    least, largest, mean = shares.min(), shares.max(), shares.mean()
    plain = begun().log_rewards(seen_of(tree, [0]))
    divided = begun("divided").log_rewards(seen_of(tree, [0]))
    p = 1 + (shares[EVERY] - mean) / (largest - least)
    torch.testing.assert_close(divided[0], plain[0] / p.unsqueeze(1))
    added = begun("added").log_rewards(seen_of(tree, [0]))
    p = (shares[EVERY] - least) / (largest - least)
    torch.testing.assert_close(added[0], plain[0] + p.unsqueeze(1).log())
    # SID 1 followed 0 most often: its codes earn more than their flow, those of SID 3 less.
    assert (divided[0, 0, :2] > plain[0, 0, :2]).all() and divided[0, 2, 0] < plain[0, 2, 0]


def test_targets_keep_their_part_of_the_loss() -> None:
    tree, of_target = tree_of([1]), torch.tensor([[-1.0, -2.0, -6.0]])
    log_probs = torch.tensor([[[5 / 6, 3 / 5, 1.0]]]).log() + torch.tensor([1.0, 2.0, 3.0])
    loss = played(begun(flow_weight=0.25), tree, log_probs, of_target)
    assert float(loss) == pytest.approx(0.25 * 84 / 6 + 0.75 * 3)


class Table:
    """A policy that is a table: a logit for each state, apart for each parent."""

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        self.logits = torch.randn(TRIE.num_states + 1, generator=generator, dtype=torch.double)
        self.logits.requires_grad_()

    def log_probs(self, tree: CandidateTree) -> Tensor:
        exps = self.logits.exp()
        sums = torch.zeros_like(exps).index_add(0, TRIE.parent[1:-1], exps[1:-1])
        states = tree.on_paths(tree.states)
        return self.logits[states] - sums[TRIE.parent[states]].log()


def test_its_optimum_has_each_sid_as_often_as_it_is_a_target() -> None:
    ours, table, tree = begun(), Table(), tree_of(EVERY)
    every = tree_of(list(range(len(SIDS))))
    optimizer = torch.optim.LBFGS([table.logits], max_iter=500, tolerance_grad=1e-9)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = played(ours, tree, table.log_probs(tree), torch.zeros(1, 3)).sum()
        loss.backward()
        return loss

    before = table.log_probs(every).sum(dim=-1).exp().detach()[0]
    optimizer.step(closure)
    found = table.log_probs(every).sum(dim=-1).exp().detach()[0]
    wanted = torch.tensor([0, 3, 2, 1, 0], dtype=torch.double) / 6
    assert (before - wanted).abs().max() > 0.1
    torch.testing.assert_close(found, wanted, atol=2e-3, rtol=0)


def test_there_the_gradient_is_none() -> None:
    ours, tree = begun(), tree_of(EVERY)
    log_probs = ours.log_rewards(seen_of(tree, [0])).clone().requires_grad_()
    loss = played(ours, tree, log_probs, torch.zeros(1, 3)).sum()
    (slope,) = torch.autograd.grad(loss, [log_probs])
    assert float(loss.detach()) == 0 and not slope.any()
