"""A beam that ranks children by another score than the policy's probability."""

import torch
from torch import Tensor

from genrec_bench.contract.tiny_world import tiny_world
from genrec_bench.decoding.beam import beam_search
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import score

WIDE = 20
"""As many as there are SIDs: nothing is pruned."""


def test_the_policys_own_score_changes_nothing() -> None:
    world = tiny_world()
    plain = beam_search(world.policy, world.prompts, 5)
    same = beam_search(world.policy, world.prompts, 5, lambda prompts, states, scores: scores)
    assert torch.equal(plain.leaves, same.leaves)
    assert torch.equal(plain.log_probs, same.log_probs)


def test_candidates_stand_in_the_order_of_the_other_score_and_keep_the_policys() -> None:
    world = tiny_world()
    policy, prompts = world.policy, world.prompts
    policy.tokens_per_forward = 40
    # Of each state, and of the first item of the history: both are there to be looked at.
    liked = torch.randn(policy.trie.num_states + 1, generator=torch.Generator().manual_seed(0))

    def other(of: Tensor, first: Tensor) -> Tensor:
        return liked[of] * (1 + first % 3)

    def rescore(some: Prompts, states: Tensor, log_probs: Tensor) -> Tensor:
        assert states.shape == log_probs.shape and len(some) == len(states)
        assert (states == policy.trie.dead).equal(log_probs == -torch.inf)
        return 0.2 * log_probs + 0.8 * other(states, some.histories[:, :1].unsqueeze(-1))

    tree = beam_search(policy, prompts, WIDE, rescore)
    path = tree.on_paths(tree.states)
    with torch.no_grad():
        log_probs = score(policy, prompts, tree).log_probs
    torch.testing.assert_close(tree.on_paths(tree.log_probs), log_probs, rtol=1e-4, atol=1e-5)
    first = prompts.histories[:, :1].unsqueeze(-1)
    totals = (0.2 * log_probs + 0.8 * other(path, first)).sum(dim=-1)
    assert (totals[:, 1:] <= totals[:, :-1] + 1e-5).all() and tree.valid.all()
    plain = beam_search(policy, prompts, WIDE)
    assert not torch.equal(plain.leaves, tree.leaves)
    assert torch.equal(plain.leaves.sort(dim=1).values, tree.leaves.sort(dim=1).values)


def test_a_score_that_is_infinite_shuts_a_branch_out() -> None:
    world = tiny_world()
    trie = world.policy.trie
    shut = trie.first_of_level[1]

    def rescore(some: Prompts, states: Tensor, log_probs: Tensor) -> Tensor:
        return log_probs.masked_fill(states == shut, -torch.inf)

    tree = beam_search(world.policy, world.prompts, WIDE, rescore)
    assert not tree.valid.all()
    first = trie.prefixes(tree.leaves[tree.valid])[:, 0]
    assert (first != shut).all()
