import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench.policy.trie import Trie

SIDS = np.array([[0, 1], [0, 3], [2, 0], [2, 1], [2, 2]], dtype=np.int32)


def test_states_are_numbered_level_by_level() -> None:
    trie = Trie.build(SIDS, (3, 4))

    # Root 0; prefixes (0) and (2) are 1 and 2; the five SIDs are 3 to 7; 8 is dead.
    assert trie.first_of_level == (0, 1, 3)
    assert trie.num_states == 8
    assert trie.dead == 8
    assert trie.num_leaves == 5
    assert trie.fan_out == (2, 3)
    assert trie.code.tolist() == [0, 0, 2, 1, 3, 0, 1, 2, 0]
    assert trie.parent.tolist() == [0, 0, 0, 1, 1, 2, 2, 2, 8]
    assert trie.level.tolist() == [0, 1, 1, 2, 2, 2, 2, 2, 0]


def test_children_beyond_a_states_own_are_dead() -> None:
    trie = Trie.build(SIDS, (3, 4))

    children, real = trie.children(torch.tensor([1, 2, 3, 8]), width=3)

    assert children.tolist() == [[3, 4, 8], [5, 6, 7], [8, 8, 8], [8, 8, 8]]
    assert real.sum(dim=1).tolist() == [2, 3, 0, 0]


def test_prefixes_lead_from_the_first_code_to_the_leaf() -> None:
    trie = Trie.build(SIDS, (3, 4))

    assert trie.prefixes(torch.tensor([4, 7, 8])).tolist() == [[1, 4], [2, 7], [8, 8]]
    assert trie.sid_index(torch.tensor([4, 7, 8])).tolist() == [1, 4, -1]
    assert trie.leaf(torch.tensor([1, 4, -1])).tolist() == [4, 7, 8]


@pytest.mark.parametrize(
    ("sids", "codes"),
    [
        ([[0, 1], [0, 1]], (3, 4)),
        ([[1, 0], [0, 1]], (3, 4)),
        ([[0, 4]], (3, 4)),
        ([[-1, 0]], (3, 4)),
        (np.empty((0, 2)), (3, 4)),
    ],
)
def test_what_is_no_catalog_is_refused(sids: object, codes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"SID|code"):
        Trie.build(np.asarray(sids, dtype=np.int32), codes)


@st.composite
def catalogs(draw: st.DrawFn) -> tuple[np.ndarray, tuple[int, ...]]:
    codes = tuple(draw(st.lists(st.integers(1, 5), min_size=1, max_size=5)))
    sid = st.tuples(*(st.integers(0, count - 1) for count in codes))
    sids = sorted(draw(st.sets(sid, min_size=1, max_size=40)))
    return np.array(sids, dtype=np.int32), codes


@given(catalogs())
def test_walking_the_trie_spells_exactly_the_catalog(
    catalog: tuple[np.ndarray, tuple[int, ...]],
) -> None:
    sids, codes = catalog
    trie = Trie.build(sids, codes)

    def walk(state: int) -> list[list[int]]:
        if trie.level[state] == len(codes):
            return [[]]
        children, real = trie.children(torch.tensor([state]))
        return [
            [int(trie.code[child]), *rest]
            for child in children[real].tolist()
            for rest in walk(child)
        ]

    assert walk(0) == sids.tolist()
    spelled = trie.code[trie.prefixes(trie.leaf(torch.arange(len(sids))))]
    assert spelled.tolist() == sids.tolist()


def test_a_code_leads_to_the_child_that_it_leads_to() -> None:
    generator = np.random.default_rng(0)
    sids = np.unique(generator.integers(0, (3, 9, 5), size=(60, 3)), axis=0).astype(np.int32)
    trie = Trie.build(sids, (3, 9, 5))
    states = torch.arange(trie.num_states + 1)
    for code in range(9):
        children, real = trie.children(states)
        right = real & (trie.code[children] == code)
        wanted = torch.where(right, children, -1).amax(dim=1)
        wanted = torch.where(wanted < 0, trie.dead, wanted)
        assert trie.child(states, torch.full_like(states, code)).equal(wanted)
