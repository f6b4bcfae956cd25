"""Quality of SIDs: figures by hand, agreement by its definition, and what cannot be known."""

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec_bench.data.sids.quality_figure import quality_png
from genrec_bench.data.sids.sid_quality import (
    Quality,
    format_quality,
    perplexity,
    quality,
    quality_of,
)

CODES = np.array([[0, 0], [0, 1], [1, 0], [1, 0]], dtype=np.int32)
VECTORS = np.array([[1, 0], [2, 1], [0, 1], [1, 4]], dtype=np.float32)


def judge(
    codes: Sequence[Sequence[int]],
    categories: Sequence[tuple[str, ...]] | None = None,
    vectors: np.ndarray[tuple[int, int], np.dtype[np.float32]] | None = None,
) -> Quality:
    array = np.array(codes, dtype=np.int32)
    return quality(array, (array.max(axis=0) + 1).tolist(), vectors, None, categories)


def test_collisions_and_codes_by_hand() -> None:
    found = quality(CODES, (2, 3), None, None, None)
    assert (found.items, found.distinct, found.sharing, found.largest) == (4, 3, 0.5, 2)
    first, second = found.levels
    assert (first.level, first.num_codes, first.used, first.prefixes) == (1, 2, 2, 2)
    assert first.perplexity == pytest.approx(2.0)
    assert (second.level, second.num_codes, second.used, second.prefixes) == (2, 3, 2, 3)
    # Three items have code 0, one has code 1.
    assert second.perplexity == pytest.approx(4 / 27**0.25)
    assert second.counts == (3, 1)
    # Of six pairs two share the first code, and one of these both.
    assert found.strangers == pytest.approx((2 + 1) / 6 / 2)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [([5], 1.0), ([3, 3, 3], 3.0), ([1, 0, 1], 2.0), ([2, 1, 1], math.sqrt(8))],
)
def test_perplexity_of_known_counts(counts: list[int], expected: float) -> None:
    assert perplexity(np.array(counts)) == pytest.approx(expected)


def test_reconstruction_error_by_hand() -> None:
    # Means 1 and 1.5; squared distances to them 2 and 9.
    reconstruction = VECTORS + np.array([[1, 0], [0, 0], [0, 0], [0, 2]], dtype=np.float32)
    found = quality(CODES, (2, 2), VECTORS, reconstruction, None, errors=[0.75])
    assert found.error == pytest.approx(5 / 11)
    assert [level.error for level in found.levels] == [0.75, None]


def test_neighbours_by_hand() -> None:
    # By the angle 0 and 1 are each other's nearest, and so are 2 and 3, whatever their lengths.
    found = quality(CODES, (2, 2), VECTORS, None, None)
    assert found.neighbours == pytest.approx((0.5 + 0.5 + 1 + 1) / 4)


def test_items_of_which_nothing_is_known_are_nobodys_neighbours() -> None:
    vectors = np.concatenate([VECTORS, np.zeros((1, 2), dtype=np.float32)])
    codes = np.concatenate([CODES, CODES[:1]])
    assert quality(codes, (2, 2), vectors, None, None).neighbours == pytest.approx(0.75)
    alone = quality(codes, (2, 2), np.eye(5, 2, dtype=np.float32)[:, :1] * 0, None, None)
    assert alone.neighbours is None


def test_an_item_is_not_its_own_neighbour() -> None:
    vectors = np.ones((2, 3), dtype=np.float32)
    assert judge([[0], [1]], vectors=vectors).neighbours == 0.0
    assert judge([[0], [0]], vectors=vectors).neighbours == 1.0


@given(st.lists(st.tuples(*[st.integers(0, 2)] * 3), min_size=2, max_size=20))
def test_any_two_items_share_what_all_pairs_share(sids: list[tuple[int, int, int]]) -> None:
    def lcp(one: Sequence[int], other: Sequence[int]) -> int:
        return next((i for i in range(3) if one[i] != other[i]), 3)

    expected = np.mean([lcp(one, other) / 3 for one, other in combinations(sids, 2)])
    assert judge(sids).strangers == pytest.approx(expected)


def mutual_information(one: Sequence[int], other: Sequence[str]) -> float:
    """2 I / (H + H'), in the words of its definition; both sides must differ somewhere."""

    def entropy(values: Sequence[object]) -> float:
        shares = [count / len(values) for count in Counter(values).values()]
        return -sum(share * math.log(share) for share in shares)

    pairs = list(zip(one, other, strict=True))
    shared = entropy(one) + entropy(other) - entropy(pairs)
    return 2 * shared / (entropy(one) + entropy(other))


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 3), st.sampled_from("xyz")), min_size=3, max_size=30))
def test_agreement_is_normalized_mutual_information(pairs: list[tuple[int, str]]) -> None:
    codes, names = zip(*pairs, strict=True)
    level = judge([[code] for code in codes], [(name,) for name in names]).levels[0]
    if len(set(names)) < 2:
        assert level.agreement is level.chance is None
    else:
        assert level.agreement == pytest.approx(mutual_information(codes, names), abs=1e-9)
        assert level.chance is not None and -1e-9 <= level.chance <= 1


def test_prefixes_that_are_categories_agree_and_chance_is_far_below() -> None:
    categories = [("a",), ("b",), ("c",), ("d",)] * 50
    codes = [["abcd".index(path[0]), item % 3] for item, path in enumerate(categories)]
    first, second = judge(codes, categories).levels
    assert first.agreement == pytest.approx(1.0)
    assert first.chance is not None and 0 < first.chance < 0.1
    assert second.agreement is not None and second.agreement < 1, "finer prefixes than categories"
    assert second.chance is not None and second.chance > first.chance


def test_names_that_all_items_begin_with_are_no_categories() -> None:
    categories = [("all", "shop", "x"), ("all", "shop", "y", "z"), ("all", "shop", "x"), ()]
    found = judge([[0], [1], [0], [1]], categories).levels[0]
    assert found.agreement == pytest.approx(1.0), "the item without a category is left out"


@pytest.mark.parametrize("categories", [None, [()] * 3, [("a",)] * 3, [("a", "b"), ("a",), ("a",)]])
def test_without_two_categories_there_is_no_agreement(
    categories: Sequence[tuple[str, ...]] | None,
) -> None:
    level = judge([[0], [1], [2]], categories).levels[0]
    assert level.agreement is level.chance is None


def test_one_item_and_equal_vectors_have_what_can_be_told() -> None:
    vectors = np.ones((1, 2), dtype=np.float32)
    found = quality(CODES[:1], (2, 2), vectors, vectors, None, errors=[math.nan, math.nan])
    assert (found.items, found.distinct, found.sharing) == (1, 1, 0.0)
    assert found.error is found.neighbours is found.strangers is None
    assert [level.error for level in found.levels] == [None, None]
    assert "1 items, 1 distinct SIDs" in format_quality(found)


def whole() -> Quality:
    categories = [("a",), ("a",), ("b",), ("b",)]
    return quality(CODES, (2, 3), VECTORS, VECTORS * np.float32(0.9), categories, [0.5, 0.25])


def test_json_and_back() -> None:
    found = whole()
    assert quality_of(json.loads(json.dumps(asdict(found), allow_nan=False))) == found


def test_text_says_what_is_known_and_no_more() -> None:
    text = format_quality(whole())
    assert text.startswith("4 items, 3 distinct SIDs; 50.00% of items share theirs, at most 2")
    assert "75.0% of the SID, any two items for 25.0%" in text
    assert "agreement" in text and "error" in text and "counts" not in text
    assert [line.split()[0] for line in text.splitlines()[6:8]] == ["1", "2"]
    bare = format_quality(quality(CODES, (2, 3), None, None, None))
    assert "agreement" not in bare and "error" not in bare and "neighbours" not in bare


def test_figure_is_a_png_and_the_same_for_the_same_quality() -> None:
    content = quality_png(whole(), "synthetic")
    assert content.startswith(b"\x89PNG") and content == quality_png(whole(), "synthetic")
    # A level that resolves collisions has one code here, and no error is known.
    resolved = np.concatenate([CODES, np.zeros((4, 1), dtype=np.int32)], axis=1)
    bare = quality_png(quality(resolved, (2, 3, 1), None, None, None))
    assert bare.startswith(b"\x89PNG") and bare != content
