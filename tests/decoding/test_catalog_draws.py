"""Draws from the catalog: distinct, uniform, and those of a prompt alone."""

from itertools import combinations

import numpy as np
import pytest
import torch
from small_trees import TRIE

from genrec_bench.contract.tiny_world import tiny_world
from genrec_bench.decoding.catalog_draws import catalog_draws
from genrec_bench.policy.prompts import Prompts

MANY = 4000
PROMPTS = Prompts(
    torch.arange(MANY).unsqueeze(1), torch.ones(MANY, 1, dtype=torch.bool), torch.zeros(MANY, 0)
)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_every_set_of_sids_is_as_likely_as_any(count: int) -> None:
    tree = catalog_draws(TRIE, PROMPTS, 4, count, key=7)
    assert tree.valid.sum(dim=1).tolist() == [count] * MANY and not tree.log_probs.any()
    first = TRIE.first_of_level[-1]
    found = (tree.leaves[:, :count] - first).sort(dim=1).values
    sets = [tuple(each) for each in found.tolist()]
    every = list(combinations(range(5), count))
    assert set(sets) == set(every), "distinct ones, and all of them"
    shares = np.array([sets.count(each) for each in every]) / MANY
    # Four deviations of a share.
    near = 4 * np.sqrt(1 / len(every) / MANY)
    assert np.abs(shares - 1 / len(every)).max() < near


def test_a_small_catalog_fills_what_it_can() -> None:
    tree = catalog_draws(TRIE, PROMPTS.select(torch.arange(3)), 8, 7, key=0)
    assert tree.valid.tolist() == [[True] * 5 + [False] * 3] * 3
    assert (
        tree.leaves[:, :5].sort(dim=1).values.tolist()
        == [[TRIE.first_of_level[-1] + sid for sid in range(5)]] * 3
    )


def test_draws_are_those_of_a_prompt_and_a_key() -> None:
    whole = catalog_draws(TRIE, PROMPTS, 3, 2, key=1).leaves
    rows = torch.tensor([17, 5])
    assert torch.equal(catalog_draws(TRIE, PROMPTS.select(rows), 3, 2, key=1).leaves, whole[rows])
    assert not torch.equal(catalog_draws(TRIE, PROMPTS, 3, 2, key=2).leaves, whole)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = [catalog_draws(TRIE, PROMPTS, 3, 2).leaves for _ in range(2)]
        torch.manual_seed(0)
        again = catalog_draws(TRIE, PROMPTS, 3, 2).leaves
    assert torch.equal(drawn[0], again) and not torch.equal(*drawn)


def test_a_tree_with_more_places_has_the_same_candidates() -> None:
    world = tiny_world()
    tree = catalog_draws(world.policy.trie, world.prompts, 4, 4, key=3)
    wider = tree.with_places(6)
    assert wider.group_size == 6 and wider.valid.tolist() == [[True] * 4 + [False] * 2] * 5
    assert torch.equal(wider.leaves[:, :4], tree.leaves) and torch.equal(wider.states, tree.states)
