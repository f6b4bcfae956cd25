"""D3: a beam by the mixture of the policy and of counts."""

import numpy as np
import pytest
import torch

from genrec_bench.algorithm import Successors, TrainingData, beam_search
from genrec_bench.algorithms.d3 import D3, D3Hyperparameters
from genrec_bench.contract.tiny_world import TinyWorld, tiny_catalog, tiny_examples, tiny_world
from genrec_bench.policy.scoring import score

WIDE = 20
"""As many as there are SIDs: nothing is pruned."""


def begun(world: TinyWorld, alpha: float = 0.9) -> D3:
    catalog, found = tiny_catalog(), D3(D3Hyperparameters(alpha=alpha))
    found.begin(
        TrainingData(tiny_examples(catalog, 60), world.policy.trie, world.policy.item_leaves)
    )
    return found


def test_alone_the_policy_searches_an_ordinary_beam() -> None:
    world = tiny_world()
    plain = beam_search(world.policy, world.prompts, 5)
    ours = begun(world, alpha=1.0).decode(world.policy, world.prompts, 5)
    assert torch.equal(ours.leaves, plain.leaves) and torch.equal(ours.log_probs, plain.log_probs)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 0.9])
def test_what_shares_of_children_come_to_is_the_share_of_the_sid(alpha: float) -> None:
    world = tiny_world()
    ours = begun(world, alpha)
    tree = ours.decode(world.policy, world.prompts, WIDE)
    with torch.no_grad():
        likelihood = score(world.policy, world.prompts, tree).log_probs.sum(dim=-1)
    # Along a path, shares among siblings multiply to that of the SID among all.
    share = ours.shares(world.prompts).gather(1, tree.trie.sid_index(tree.leaves))
    totals = alpha * likelihood + (1 - alpha) * share.log()
    assert tree.valid.all() and (totals[:, 1:] <= totals[:, :-1] + 1e-5).all()
    torch.testing.assert_close(tree.sequence_log_probs(), likelihood, rtol=1e-4, atol=1e-4)


def test_a_prefix_that_counts_favour_is_kept() -> None:
    world = tiny_world()
    plain = beam_search(world.policy, world.prompts, 3).leaves
    found = begun(world, alpha=0.1).decode(world.policy, world.prompts, 3).leaves
    assert not torch.equal(found, plain)


def test_another_one_goes_on_with_the_counts_that_were_kept() -> None:
    world = tiny_world()
    first, second = begun(world), D3(D3Hyperparameters())
    second.load_state(first.state())
    trees = [each.decode(world.policy, world.prompts, 6) for each in (first, second)]
    assert torch.equal(trees[0].leaves, trees[1].leaves)
    assert D3(D3Hyperparameters()).state() == {}
    counted = Successors(**first.state())
    assert np.isclose(float(counted.shares(world.prompts.histories).sum()), 5.0)
