"""Targets in the packed tree: what is said of them, and what they leave as it was."""

import pytest
import torch
from torch import Tensor

from genrec_bench.contract.tiny_world import TinyWorld, tiny_world
from genrec_bench.decoding.beam import beam_search
from genrec_bench.policy.policy import LogProbSpace, WorkCount
from genrec_bench.policy.scoring import packed_sizes, score
from genrec_bench.policy.tree import CandidateTree

WIDTH = 4


def as_candidates(tree: CandidateTree, targets: Tensor) -> CandidateTree:
    """The same group with the target as one candidate more."""
    leaves = torch.cat([tree.leaves, targets.unsqueeze(1)], dim=1)
    return CandidateTree.build(tree.trie, leaves, torch.zeros(*leaves.shape, tree.trie.num_levels))


def some_targets(world: TinyWorld, tree: CandidateTree) -> Tensor:
    """Candidates of two prompts, and SIDs that are none for the others."""
    trie = tree.trie
    every = trie.leaf(torch.arange(trie.num_leaves)).expand(len(tree.paths), -1)
    absent = (every.unsqueeze(2) != tree.leaves.unsqueeze(1)).all(dim=2)
    missed = every.gather(1, absent.long().argmax(dim=1, keepdim=True)).squeeze(1)
    return torch.where(torch.arange(len(missed)) < 2, tree.leaves[:, 0], missed)


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("space", ["full", "level", "trie"])
def test_a_target_is_scored_as_a_candidate_of_its_own(leaves: bool, space: LogProbSpace) -> None:
    world = tiny_world(logprob_space=space)
    policy, prompts = world.policy, world.prompts
    tree = beam_search(policy, prompts, WIDTH)
    targets = some_targets(world, tree)
    options = {"leaves": leaves, "temperature": 1.3}
    plain = score(policy, prompts, tree, **options)  # type: ignore[arg-type]
    found = score(policy, prompts, tree, targets=targets, **options)  # type: ignore[arg-type]
    larger = as_candidates(tree, targets)
    whole = score(policy, prompts, larger, **options)  # type: ignore[arg-type]
    assert found.target_log_probs is not None and found.target_hidden is not None
    # The packed sequences hold the same tokens in the same order.
    assert torch.equal(found.target_log_probs, whole.log_probs[:, -1])
    assert torch.equal(found.log_probs, whole.log_probs[:, :-1])
    row = torch.arange(len(targets)).unsqueeze(1)
    path = larger.paths[:, -1] if leaves else larger.paths[:, -1, :-1]
    assert torch.equal(found.target_hidden, whole.node_hidden[row, path])
    # What is said of the candidates differs by rounding alone.
    assert found.tree is tree and torch.equal(
        found.node_log_probs[~tree.is_node], torch.zeros(int((~tree.is_node).sum()))
    )
    for name in ("node_log_probs", "log_probs", "root_hidden"):
        torch.testing.assert_close(getattr(found, name), getattr(plain, name), rtol=1e-4, atol=1e-5)
    read = tree.is_node if leaves else tree.is_node & (tree.levels < tree.trie.num_levels)
    read = read[:, : plain.node_hidden.shape[1]]
    assert found.node_hidden.shape == plain.node_hidden.shape
    torch.testing.assert_close(
        found.node_hidden[read], plain.node_hidden[read], rtol=1e-4, atol=1e-5
    )


def test_gradients_reach_the_backbone_from_the_target_alone() -> None:
    world = tiny_world()
    tree = beam_search(world.policy, world.prompts, WIDTH)
    targets = some_targets(world, tree)
    weights = [p for name, p in world.policy.named_parameters() if ".layers." in name]
    found = score(world.policy, world.prompts, tree, targets=targets).target_log_probs
    alone = score(world.policy, world.prompts, as_candidates(tree, targets)).log_probs[:, -1]
    assert found is not None
    for one, other in zip(
        torch.autograd.grad(found.sum(), weights),
        torch.autograd.grad(alone.sum(), weights),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_targets_cost_the_tokens_that_the_trees_lack() -> None:
    world = tiny_world()
    policy, prompts = world.policy, world.prompts
    tree = beam_search(policy, prompts, WIDTH)
    hits, missed = tree.leaves[:, 0], some_targets(world, tree)

    def work(targets: Tensor | None, of: CandidateTree = tree) -> tuple[int, float]:
        count = policy.meter = WorkCount()
        with torch.no_grad():
            score(policy, prompts, of, targets=targets)
        return count.tokens, count.flops

    assert work(hits) == work(None), "a target that is a candidate costs nothing"
    tokens, flops = work(missed)
    assert (tokens, flops) == work(None, as_candidates(tree, missed))
    plain_tokens, plain_flops = work(None)
    assert 0 < tokens - plain_tokens <= (tree.trie.num_levels - 1) * len(missed)
    assert plain_flops < flops < 1.2 * plain_flops
    most = packed_sizes(prompts, tree, targets=missed)
    assert int(most.sum()) >= tokens and int(packed_sizes(prompts, tree).sum()) == plain_tokens


def test_trees_without_a_candidate_and_of_unequal_size_take_targets_too() -> None:
    world = tiny_world()
    trie, policy = world.policy.trie, world.policy
    leaves = torch.full((5, 3), trie.dead)
    leaves[1, 0] = leaves[2, 1] = trie.leaf(torch.tensor(3))
    tree = CandidateTree.build(trie, leaves, torch.zeros(5, 3, 3))
    found = score(policy, world.prompts, tree, targets=world.targets, leaves=True)
    alone = CandidateTree.build(trie, world.targets.unsqueeze(1), torch.zeros(5, 1, 3))
    expected = score(policy, world.prompts, alone, leaves=True)
    assert found.target_log_probs is not None
    torch.testing.assert_close(
        found.target_log_probs, expected.log_probs[:, 0], rtol=1e-4, atol=1e-5
    )
