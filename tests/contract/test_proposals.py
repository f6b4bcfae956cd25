"""What people wanted to write and the contract was tried on: three proposals, each exact.

The target among its group's candidates, credit that ends at the first wrong code, and a decoder
that nobody has here. Each keeps the contract as it is, and does what is asked and not nearly that.
"""

import dataclasses

import pytest
import torch
from small_trees import tree_of
from torch import Tensor

from genrec_bench.algorithm import (
    Algorithm,
    Batch,
    CandidateTree,
    Policy,
    Prompts,
    Scores,
    Seen,
    beam_search,
    clipped_objective,
    group_advantage,
    group_mean,
    rule_reward,
)
from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.contract.gradients import gradient
from genrec_bench.contract.played import Check
from genrec_bench.contract.stated import checks_for, name_of, run_check
from genrec_bench.contract.tiny_world import groups, play, tiny_world
from genrec_bench.policy.scoring import score


class TargetInserted(Algorithm):
    """GRPO on G - 1 candidates and the target, as MiniOneRec's code does with ``add_gt``."""

    scores_targets = True

    def rollout(self, policy: Policy, prompts: Prompts, group_size: int) -> CandidateTree:
        """Leave the last place to the target; it is scored beside the tree."""
        found = beam_search(policy, prompts, max(1, group_size - 1))
        lack = (0, group_size - found.group_size)
        leaves = torch.nn.functional.pad(found.leaves, lack, value=policy.trie.dead)
        log_probs = torch.nn.functional.pad(found.on_paths(found.log_probs), (0, 0, *lack))
        return CandidateTree.build(policy.trie, leaves, log_probs)

    def reward(self, seen: Seen) -> Tensor:
        """Return the hit."""
        return rule_reward(seen.tree, seen.targets)

    def credit(self, rewards: Tensor, valid: Tensor) -> Tensor:
        """Return [B, G + 1] advantages in the group that the target, worth 1, has joined."""
        own = torch.ones_like(rewards[:, :1])
        return group_advantage(torch.cat([rewards, own], 1), torch.cat([valid, own.bool()], 1))

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return those of the candidates."""
        return self.credit(rewards, seen.tree.valid)[:, :-1]

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Return GRPO's loss over the candidates and the target."""
        tree, own, old = batch.tree, scores.target_log_probs, batch.target_log_probs
        assert own is not None and old is not None
        after = torch.cat([scores.log_probs, own.unsqueeze(1)], dim=1)
        before = torch.cat([tree.on_paths(tree.log_probs), old.unsqueeze(1)], dim=1)
        valid = torch.cat([tree.valid, torch.ones_like(tree.valid[:, :1])], dim=1)
        credit = self.credit(batch.rewards, tree.valid).unsqueeze(-1)
        return group_mean(clipped_objective(after, before, credit, 0.2, 0.2), valid), {}


class FirstWrongCode(GRPO):
    """Credit goes to the codes up to the first wrong one: those after it were never asked for."""

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return [B, G, L]."""
        place = torch.arange(seen.tree.trie.num_levels, device=rewards.device)
        asked = place <= seen.tree.matched_levels(seen.targets).unsqueeze(-1)
        return super().advantage(seen, rewards).unsqueeze(-1) * asked

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Return GRPO's, code by code."""
        tree = batch.tree
        old = tree.on_paths(tree.log_probs)
        return group_mean(self.surrogate(scores.log_probs, old, batch.advantages), tree.valid), {}


class SiblingRanks(Algorithm):
    """Diverse beam search by the rank among siblings (Li et al. 2016, arXiv 1611.08562)."""

    trains = False
    decoding = "sibling-ranks"

    def decode(self, policy: Policy, prompts: Prompts, width: int) -> CandidateTree:
        """Take half a nat off a child for each likelier sibling."""

        def rescore(some: Prompts, states: Tensor, log_probs: Tensor) -> Tensor:
            order = log_probs.argsort(dim=-1, descending=True, stable=True)
            return log_probs - 0.5 * order.argsort(dim=-1)

        return beam_search(policy, prompts, width, rescore=rescore)


PROPOSALS = (TargetInserted, FirstWrongCode, SiblingRanks)


@pytest.mark.parametrize(
    ("proposal", "check"),
    [(proposal, check) for proposal in PROPOSALS for check in checks_for(proposal)],
    ids=lambda value: name_of(value) if callable(value) and not isinstance(value, type) else None,
)
def test_it_keeps_the_contract(proposal: type[Algorithm], check: Check) -> None:
    assert run_check(check, proposal) is None


def test_an_inserted_target_is_a_candidate_like_any_other() -> None:
    """The gradient is that of GRPO on groups that hold the target as their last candidate."""
    ours, world = TargetInserted(TargetInserted.hyperparameters_class()), tiny_world()
    grpo = GRPO(GRPOHyperparameters())
    tree, _ = groups(ours, world)["a rollout"]
    missed = groups(ours, world)["no hit"][1]
    leaves = torch.cat([tree.leaves[:, :-1], missed.unsqueeze(1)], dim=1)
    zeros = torch.zeros(*leaves.shape, 3)
    whole = CandidateTree.build(tree.trie, leaves, zeros)
    with torch.no_grad():
        read = score(world.policy, world.prompts, whole)
    whole = dataclasses.replace(whole, log_probs=read.node_log_probs)
    wanted = gradient(world, play(grpo, world, whole, missed).losses.sum())
    played = play(ours, world, tree, missed)
    found = gradient(world, played.losses.sum())
    assert played.batch.tree.valid.sum(dim=1).tolist() == [5] * 5
    torch.testing.assert_close(found, wanted, atol=1e-4, rtol=1e-3)
    assert float(wanted.norm()) > 1


def test_credit_ends_at_the_first_wrong_code() -> None:
    # The target is [0, 0, 1]; [0, 0, 0] goes wrong at the third code, [0, 1, 0] at the second.
    tree = tree_of([1, 0, 2, 3])
    ours = FirstWrongCode(GRPOHyperparameters(divide_by_std=False))
    seen = Seen.bare(tree, tree.leaves[:, 0])
    found = ours.advantage(seen, ours.reward(seen))
    assert (found * 4).tolist() == [[[3, 3, 3], [-1, -1, -1], [-1, -1, 0], [-1, 0, 0]]]


def test_another_decoder_ranks_by_what_it_says() -> None:
    world = tiny_world()
    tree = SiblingRanks(SiblingRanks.hyperparameters_class()).decode(
        world.policy, world.prompts, 20
    )
    with torch.no_grad():
        own = score(world.policy, world.prompts, tree)
    # All siblings are nodes of a tree that holds every SID.
    siblings = tree.parents.unsqueeze(2) == tree.parents.unsqueeze(1)
    likelier = own.node_log_probs.unsqueeze(1) > own.node_log_probs.unsqueeze(2)
    ranks = (siblings & likelier & tree.is_node.unsqueeze(1)).sum(dim=2)
    totals = (own.log_probs - 0.5 * tree.on_paths(ranks)).sum(dim=-1)
    assert tree.valid.all()
    assert (totals[:, 1:] <= totals[:, :-1] + 1e-5).all()
    plain = beam_search(world.policy, world.prompts, 5).leaves
    assert not torch.equal(plain, tree.leaves[:, :5])
