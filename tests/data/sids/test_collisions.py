"""Items that share a SID: GREAM's slot, TIGER's code, and what makes all SIDs distinct."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench.data.sids.collisions import resolve
from genrec_bench.data.sids.sid_recipe import COLLISIONS
from genrec_bench.errors import UserError

CODES = np.array([[1, 2], [0, 0], [1, 2], [1, 2], [0, 1]], dtype=np.int32)
DISTANCES = np.array([0.5, 9.0, 0.1, 0.5, 0.0])


def test_a_slot_numbers_items_from_the_nearest_on() -> None:
    codes, codes_per_level = resolve(CODES, (3, 4), "level", DISTANCES)
    # Of the items 0, 2 and 3 the second is nearest; the others are equally near.
    assert codes.tolist() == [[1, 2, 1], [0, 0, 0], [1, 2, 0], [1, 2, 2], [0, 1, 0]]
    assert codes_per_level == (3, 4, 4)
    assert codes.dtype == np.int32


def test_an_extra_code_numbers_items_in_the_order_of_the_catalog() -> None:
    codes, codes_per_level = resolve(CODES, (3, 4), "code")
    assert codes.tolist() == [[1, 2, 0], [0, 0, 0], [1, 2, 1], [1, 2, 2], [0, 1, 0]]
    assert codes_per_level == (3, 4, 3), "as many codes as the largest group has items"


def test_items_move_to_the_nearest_free_code_of_the_last_level() -> None:
    codes = np.array([[0, 1], [0, 1], [0, 1], [0, 0], [1, 1]], dtype=np.int32)
    codebook = np.array([[0.0], [1.0], [5.0], [2.0]], dtype=np.float32)
    distances = np.array([0.3, 0.1, 0.2, 0.0, 0.0])
    moved, codes_per_level = resolve(codes, (2, 4), "move", distances, codebook)
    # Item 1 is nearest and stays; item 2 is next and takes code 3, at a distance of 1, since 0 is
    # taken; item 0 gets what is left. Under the prefix 1 nothing collides.
    assert moved.tolist() == [[0, 2], [0, 1], [0, 3], [0, 0], [1, 1]]
    assert codes_per_level == (2, 4)
    # A code without a vector is the last choice.
    moved, _ = resolve(codes, (2, 4), "move", distances, codebook[:3])
    assert moved.tolist() == [[0, 3], [0, 1], [0, 2], [0, 0], [1, 1]]
    with pytest.raises(UserError, match=r"collisions=move: more items share the prefix 0 than the"):
        resolve(codes, (2, 3), "move", distances, codebook[:3])
    with pytest.raises(UserError, match=r"share the empty prefix than the last level's 4 codes"):
        resolve(codes[:, 1:], (4,), "move", distances, codebook)


def test_kept_collisions_change_nothing() -> None:
    codes, codes_per_level = resolve(CODES, [3, 4], "keep", DISTANCES)
    assert codes is CODES
    assert codes_per_level == (3, 4)


def test_the_level_is_added_where_nothing_collides() -> None:
    distinct = np.array([[0, 1], [1, 0]], dtype=np.int32)
    assert resolve(distinct, (2, 2), "code")[1] == (2, 2, 1)
    codes, codes_per_level = resolve(distinct, (2, 2), "level", np.ones(2))
    assert codes.tolist() == [[0, 1, 0], [1, 0, 0]]
    assert codes_per_level == (2, 2, 2)


def test_more_items_than_slots_are_refused_with_what_to_do() -> None:
    with pytest.raises(UserError) as caught:
        resolve(CODES, (3, 2), "level", DISTANCES)
    assert str(caught.value) == (
        "collisions=level: 3 items share the SID 1-2, and the level that tells them apart has 2 "
        "codes; ask for more levels or more codes per level, use collisions=code, or embeddings "
        "that tell these items apart"
    )


def test_a_way_that_does_not_exist_is_refused_with_a_hint() -> None:
    with pytest.raises(UserError, match="unknown way 'levels'; did you mean 'level'"):
        resolve(CODES, (3, 4), "levels")


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1)), min_size=1, max_size=40),
    st.sampled_from(["level", "code"]),
    st.integers(0, 1000),
)
def test_resolved_sids_are_distinct_and_keep_their_prefixes(
    sids: list[tuple[int, int]], how: str, seed: int
) -> None:
    assert how in COLLISIONS
    codes = np.array(sids, dtype=np.int32)
    distances = np.random.default_rng(seed).integers(0, 3, size=len(codes)).astype(np.float64)
    resolved, codes_per_level = resolve(codes, (3, 40), how, distances)
    assert len({tuple(sid) for sid in resolved.tolist()}) == len(sids)
    np.testing.assert_array_equal(resolved[:, :2], codes)
    assert (resolved.max(axis=0) < codes_per_level).all()
    for sid in set(sids):
        group = [item for item, other in enumerate(sids) if other == sid]
        assert sorted(resolved[group, 2].tolist()) == list(range(len(group)))
        if how == "level":
            in_order = sorted(group, key=lambda item: int(resolved[item, 2]))
            assert in_order == sorted(group, key=lambda item: (float(distances[item]), item))


@given(
    st.lists(st.tuples(*[st.integers(0, 1)] * 2, st.integers(0, 3)), min_size=1, max_size=30),
    st.integers(0, 1000),
)
def test_moved_sids_are_distinct_keep_their_prefixes_and_the_nearest_items_stay(
    sids: list[tuple[int, int, int]], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    codes = np.array(sids, dtype=np.int32)
    # Few different distances bring ties; codes beyond the codebook have no vector.
    distances = rng.integers(0, 3, size=len(codes)).astype(np.float64)
    codebook = rng.normal(size=(4, 2)).astype(np.float32)
    num_codes = max(4, *(sum(sid[:2] == other[:2] for other in sids) for sid in sids))
    before = codes.copy()
    moved, codes_per_level = resolve(codes, (2, 2, num_codes), "move", distances, codebook)
    np.testing.assert_array_equal(codes, before)
    assert codes_per_level == (2, 2, num_codes)
    assert len({tuple(sid) for sid in moved.tolist()}) == len(sids)
    np.testing.assert_array_equal(moved[:, :2], codes[:, :2])
    assert (moved >= 0).all() and (moved < codes_per_level).all()
    for sid in set(sids):
        group = [item for item, other in enumerate(sids) if other == sid]
        nearest = min(group, key=lambda item: (float(distances[item]), item))
        assert tuple(moved[nearest].tolist()) == sid
        assert all(tuple(moved[item].tolist()) not in sids for item in group if item != nearest)
