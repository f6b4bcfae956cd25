import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie

SIDS = np.array([[0, 0], [0, 1], [1, 0], [1, 2], [2, 0]], dtype=np.int32)
TRIE = Trie.build(SIDS, (3, 3))
DEAD = TRIE.dead


def leaves(*rows: list[int]) -> torch.Tensor:
    """Leaf states of SID rows; -1 for no candidate."""
    return TRIE.leaf(torch.tensor(rows))


def test_each_distinct_prefix_is_one_node() -> None:
    # Prompt 0: SIDs (0,1), (1,0), (0,0): two prefixes and three leaves. Prompt 1: one candidate.
    log_probs = torch.tensor(
        [
            [[-0.1, -1.0], [-0.2, -2.0], [-0.1, -3.0]],
            [[-0.5, -0.6], [0.0, 0.0], [0.0, 0.0]],
        ]
    )
    tree = CandidateTree.build(TRIE, leaves([1, 2, 0], [4, -1, -1]), log_probs)

    assert tree.states.tolist() == [[1, 2, 4, 5, 6], [3, 8, DEAD, DEAD, DEAD]]
    assert tree.parents.tolist() == [[-1, -1, 0, 0, 1], [-1, 0, -1, -1, -1]]
    assert tree.paths.tolist() == [[[0, 3], [1, 4], [0, 2]], [[0, 1], [0, 0], [0, 0]]]
    assert tree.valid.tolist() == [[True, True, True], [True, False, False]]
    assert torch.equal(
        tree.log_probs, torch.tensor([[-0.1, -0.2, -3.0, -1.0, -2.0], [-0.5, -0.6, 0, 0, 0]])
    )
    total = tree.sequence_log_probs()
    assert torch.allclose(total[0], torch.tensor([-1.1, -2.2, -3.1]))
    assert total[1].tolist() == [-0.5 + -0.6000000238418579, -torch.inf, -torch.inf]
    assert tree.ranks().tolist() == [[0, 1, 2], [0, 1, 2]]


def test_questions_about_the_target() -> None:
    tree = CandidateTree.build(TRIE, leaves([1, 2, 0], [4, -1, -1]), torch.zeros(2, 3, 2))
    targets = TRIE.leaf(torch.tensor([0, 3]))

    assert tree.hits(targets).tolist() == [[False, False, True], [False] * 3]
    assert tree.matched_levels(targets).tolist() == [[1, 0, 2], [0, 0, 0]]
    assert torch.equal(tree.leaves, leaves([1, 2, 0], [4, -1, -1]))


def test_equal_candidates_share_their_nodes() -> None:
    tree = CandidateTree.build(TRIE, leaves([3, 3, 3]), torch.full((1, 3, 2), -0.5))

    assert tree.states.tolist() == [[2, 7]]
    assert tree.paths.tolist() == [[[0, 1]] * 3]
    assert torch.equal(tree.leaves, leaves([3, 3, 3]))


def test_each_of_equal_candidates_is_a_hit_with_a_rank_of_its_own() -> None:
    # SIDs (1,2), (0,0), (1,2), (1,0): log-probabilities -1, -2, -1, -3 in all.
    log_probs = torch.tensor([[[-0.5, -0.5], [-1.0, -1.0], [-0.5, -0.5], [-0.5, -2.5]]])
    tree = CandidateTree.build(TRIE, leaves([3, 0, 3, 2]), log_probs)
    target = TRIE.leaf(torch.tensor([3]))

    assert tree.hits(target).tolist() == [[True, False, True, False]]
    assert tree.matched_levels(target).tolist() == [[2, 0, 2, 1]]
    assert tree.sequence_log_probs().tolist() == [[-1.0, -2.0, -1.0, -3.0]]
    assert tree.ranks().tolist() == [[0, 2, 1, 3]], "the second copy stands behind the first"
    assert tree.states.tolist() == [[1, 2, 4, 6, 7]]


@given(st.lists(st.lists(st.integers(-1, 4), min_size=4, max_size=4), min_size=1, max_size=5))
def test_the_tree_holds_what_was_put_in(rows: list[list[int]]) -> None:
    wanted = leaves(*rows)
    generator = torch.Generator().manual_seed(0)
    by_state = torch.rand(len(TRIE.code), generator=generator)
    log_probs = by_state[TRIE.prefixes(wanted)]
    tree = CandidateTree.build(TRIE, wanted, log_probs)

    assert torch.equal(tree.leaves, wanted)
    real = tree.valid.unsqueeze(-1).expand_as(log_probs)
    assert torch.equal(tree.on_paths(tree.log_probs)[real], log_probs[real])
    for row, states, parents in zip(
        wanted.tolist(), tree.states.tolist(), tree.parents.tolist(), strict=True
    ):
        prefixes = TRIE.prefixes(torch.tensor([leaf for leaf in row if leaf != DEAD] or [DEAD]))
        nodes = [state for state in states if state != DEAD]
        assert nodes == sorted(set(prefixes.flatten().tolist()) - {DEAD})
        for state, parent in zip(nodes, parents, strict=False):
            above = int(TRIE.parent[state])
            assert (parent == -1) if above == 0 else (states[parent] == above)


@given(st.permutations(range(4)))
def test_parts_put_together_are_the_whole(order: list[int]) -> None:
    rows = leaves([1, 2, 0], [4, -1, -1], [0, 1, 2], [3, 4, -1])
    whole = CandidateTree.build(TRIE, rows, torch.zeros(4, 3, 2))
    index = torch.tensor(order)

    joined = CandidateTree.join([whole.select(index[:1]), whole.select(index[1:])], index)

    for name in ("states", "parents", "paths", "valid", "log_probs"):
        assert torch.equal(getattr(joined, name), getattr(whole, name)), name


def test_what_stands_at_empty_places_is_in_no_bucket() -> None:
    tree = CandidateTree.build(TRIE, leaves([0, -1, 1, 2]), torch.zeros(1, 4, 2))
    found = tree.bucket_mean(torch.tensor([[[1.0], [torch.nan], [4.0], [6.0]]]))
    # The prefixes (0) and (1), and the leaves (0, 0), (0, 1) and (1, 0).
    assert found[0, :, 0].tolist() == [2.5, 6.0, 1.0, 4.0, 6.0]


def test_siblings_have_one_parent_and_one_prompt() -> None:
    rows = leaves([0, 1, 2], [4, -1, -1])
    tree = CandidateTree.build(TRIE, rows, torch.zeros(2, 3, 2))
    found = tree.sibling_sums(torch.arange(10.0).view(2, 5))
    # (0) and (1) are siblings, and so are the leaves (0, 0) and (0, 1); (1, 0) has none.
    assert found.tolist() == [[1, 1, 5, 5, 4], [5, 6, 0, 0, 0]]
