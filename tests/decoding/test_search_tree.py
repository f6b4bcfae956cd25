"""The formulas that lead a search, by hand."""

import numpy as np
import pytest
import torch

from genrec_bench.decoding.search_tree import SearchTree
from genrec_bench.policy.trie import Trie


def three_codes() -> SearchTree:
    """A root whose children are 0.5, 0.3 and 0.2 probable; the first two are in the tree."""
    sids = np.array([[0, 0], [0, 1], [1, 0], [2, 0]], dtype=np.int32)
    trie = Trie.build(sids, (3, 2))
    tree = SearchTree(trie, 1, 6, torch.zeros(1, 4))
    root = torch.tensor([0])
    tree.open_up(root, root, torch.tensor([[0.5, 0.3, 0.2]]).log())
    tree.rate(root, root, torch.tensor([0.0]), torch.tensor([0.0]))
    both = torch.tensor([0, 0])
    nodes = tree.add(both, both, torch.tensor([0, 1]))
    assert nodes.tolist() == [1, 2]
    tree.rate(both, nodes, torch.tensor([0.2, 0.6]), torch.tensor([0.2, 0.6]))
    return tree


def test_entropy_is_that_of_the_valid_children() -> None:
    tree = three_codes()
    one = torch.tensor([0])
    # -(0.5 ln 0.5 + 0.3 ln 0.3 + 0.2 ln 0.2) = 0.34657 + 0.36119 + 0.32189
    entropy = tree.open_up(one, one, torch.tensor([[0.5, 0.3, 0.2]]).log())
    assert float(entropy) == pytest.approx(1.02965, abs=1e-4)
    # 0.06 and 0.02, renormalised 0.75 and 0.25: 0.21576 + 0.34657
    entropy = tree.open_up(one, one, torch.tensor([[0.06, 0.0, 0.02]]).log())
    assert float(entropy) == pytest.approx(0.56234, abs=1e-4)


def test_upper_bounds_and_the_way_that_they_lead() -> None:
    tree = three_codes()
    on = torch.tensor([True])

    # N_root = 0: ln 1 = 0, so U = G, and 0.6 > 0.2.
    assert tree.upper_bounds(1.0)[0, 1:3].tolist() == pytest.approx([0.2, 0.6])
    path, on_path = tree.traverse(on, 1.0)
    assert path[0, :2].tolist() == [0, 2] and on_path.tolist() == [[True, True, False]]

    # N_root = 1: 0.2 + sqrt(ln 2 / 1) = 1.03255 and 0.6 + sqrt(ln 2 / 2) = 1.18871.
    expected = pytest.approx([1.03255, 1.18871], abs=1e-4)
    assert tree.upper_bounds(1.0)[0, 1:3].tolist() == expected
    assert tree.traverse(on, 1.0)[0][0, 1] == 2

    # N_root = 2: 0.2 + sqrt(ln 3 / 1) = 1.24815 and 0.6 + sqrt(ln 3 / 3) = 1.20515.
    expected = pytest.approx([1.24815, 1.20515], abs=1e-4)
    assert tree.upper_bounds(1.0)[0, 1:3].tolist() == expected
    assert tree.traverse(on, 1.0)[0][0, 1] == 1
    assert tree.visits[0, :3].tolist() == [3, 1, 2]

    # Trees that are not active are not walked; beta scales the bonus alone.
    assert not tree.traverse(torch.tensor([False]), 1.0)[1].any()
    assert tree.upper_bounds(0.0)[0, 1:3].tolist() == pytest.approx([0.2, 0.6])


def test_the_gate_is_the_mean_of_the_level() -> None:
    tree = three_codes()
    # Level 1: (0.2 + 0.6) / 2 = 0.4. The root is alone at its level.
    assert tree.decisive()[0, :3].tolist() == [True, False, True]
    # A third of 0.4 leaves the mean at 0.4, and reaches it; all equal ones do.
    node = tree.add(torch.tensor([0]), torch.tensor([0]), torch.tensor([2]))
    assert not tree.decisive()[0, 3]
    tree.rate(torch.tensor([0]), node, torch.tensor([0.1]), torch.tensor([0.1]))
    assert tree.decisive()[0, 1:4].tolist() == [False, True, False]


def test_equal_priorities_all_pass() -> None:
    # 0.1 as float32, summed and divided again, must not exceed itself.
    trie = Trie.build(np.arange(7, dtype=np.int32)[:, None], (7,))
    tree = SearchTree(trie, 1, 8, torch.zeros(1, 4))
    root = torch.tensor([0])
    tree.open_up(root, root, torch.zeros(1, 7))
    rows = torch.zeros(7, dtype=torch.long)
    nodes = tree.add(rows, rows, torch.arange(7))
    tree.rate(rows, nodes, torch.full((7,), 0.1), torch.full((7,), 0.1))
    assert tree.decisive()[0, 1:].all()
