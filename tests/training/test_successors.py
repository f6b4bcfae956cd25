"""What followed what, counted by hand."""

import torch
from counted_world import prompts_of, training_data
from small_trees import SIDS, TRIE

from genrec_bench.training.successors import Successors

COUNTED = Successors.count(training_data())
POPULAR = torch.tensor([1.0, 4, 3, 2, 1]) / 11
"""Targets, each SID once more than it was one."""


def test_followers_of_each_item() -> None:
    assert COUNTED.first.tolist() == [0, 2, 3, 4, 4, 4]
    assert COUNTED.sids.tolist() == [1, 2, 2, 3]
    assert COUNTED.counts.tolist() == [2, 1, 1, 1]
    assert COUNTED.popularity.tolist() == [0, 3, 2, 1, 0]


def test_shares_of_the_newest_and_of_older_items() -> None:
    found = COUNTED.shares(prompts_of([0], [0, 2], [3], []).histories)
    # After 0 stand SID 1 twice and SID 2 once; older by one place they count half.
    counts = [[0, 2, 1, 0, 0], [0, 1, 0.5, 1, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    wanted = torch.tensor(counts) + POPULAR
    torch.testing.assert_close(found, wanted / wanted.sum(dim=1, keepdim=True))
    newest = COUNTED.shares(prompts_of([0, 2]).histories, recency=0.0, prior=2.0)
    wanted = torch.tensor([[0, 0, 0, 1.0, 0]]) + 2 * POPULAR
    torch.testing.assert_close(newest, wanted / 3)


def test_an_item_that_stands_twice_counts_twice() -> None:
    found = COUNTED.shares(prompts_of([1, 1]).histories, recency=1.0)
    wanted = torch.tensor([[0, 0, 2.0, 0, 0]]) + POPULAR
    torch.testing.assert_close(found, wanted / 3)


def test_mass_of_prefixes() -> None:
    shares = torch.tensor([[0.1, 0.2, 0.3, 0.4, 0.0]])
    mass = Successors.mass(TRIE, shares)
    for state in range(TRIE.num_states):
        below = [
            sid
            for sid in range(len(SIDS))
            if state in [0, *TRIE.prefixes(TRIE.leaf(torch.tensor(sid))).tolist()]
        ]
        torch.testing.assert_close(mass[0, state], shares[0, below].sum())
    assert mass[0, 0] == 1 and mass[0, TRIE.dead] == 0


def test_counts_come_back_from_their_tensors() -> None:
    again = Successors(**COUNTED.tensors())
    histories = prompts_of([0], [4, 0]).histories
    assert torch.equal(again.shares(histories), COUNTED.shares(histories))
