"""What confidence is good for: ranking, rejection and truncation by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tiny_runs import tiny_dataset

from genrec_bench.studies.analyses.risk import item_scores, rejection, reranked, truncation
from genrec_bench.training.candidate_lists import expand

NONE = -np.inf


def test_candidates_are_ranked_by_score_and_equal_ones_keep_the_beam_s_order() -> None:
    candidates = np.array([[5, 2, 9, 4], [7, 3, -1, -1]], dtype=np.int32)
    scores = np.array([[0.2, 0.7, 0.2, 0.9], [0.1, 0.3, NONE, NONE]])
    found, ordered = reranked(candidates, scores)
    assert found.tolist() == [[4, 2, 5, 9], [3, 7, -1, -1]]
    assert ordered.tolist() == [[0.9, 0.7, 0.2, 0.2], [0.3, 0.1, NONE, NONE]]


def test_items_have_the_score_of_their_sid() -> None:
    catalog = tiny_dataset().catalog
    # Items 7 and 8 share a SID, so one candidate becomes both.
    shared, other = catalog.sid_of_item[7], catalog.sid_of_item[20]
    assert catalog.sid_of_item[8] == shared
    candidates = np.array([[other, shared, -1], [shared, -1, -1]], dtype=np.int32)
    scores = np.array([[0.9, 0.4, NONE], [0.3, NONE, NONE]])
    items = expand(candidates, catalog, 4)
    assert [set(row) for row in items.tolist()] == [{20, 7, 8, -1}, {7, 8, -1}]
    found = item_scores(items, candidates, scores, catalog)
    assert found.tolist() == [[0.9, 0.4, 0.4, NONE], [0.3, 0.3, NONE, NONE]]


def test_rejection_leaves_the_requests_of_highest_confidence() -> None:
    ranks = np.array([0, 1, -1, 2], dtype=np.int32)
    confidence = np.array([0.9, 0.2, 0.1, 0.5])
    table = rejection(ranks, confidence, (0, 25, 49, 50, 75))
    assert table["requests"].tolist() == [4, 3, 3, 2, 1]
    # Gains: rank 0 has 1, rank 1 has 1 / log2 3, rank 2 has 1 / log2 4 = 0.5, a miss has 0. First
    # goes the miss, then rank 1, then rank 2.
    second = 1 / np.log2(3)
    all_of_them = [(1.5 + second) / 4, (1.5 + second) / 3, (1.5 + second) / 3, 0.75, 1.0]
    assert table["NDCG@3"].tolist() == pytest.approx(all_of_them)
    assert table["NDCG@1"].tolist() == pytest.approx([1 / 4, 1 / 3, 1 / 3, 1 / 2, 1.0])


def test_of_equally_sure_requests_the_first_are_rejected_first() -> None:
    table = rejection(np.array([0, 0, -1], dtype=np.int32), np.zeros(3), (0, 34, 67))
    assert table["requests"].tolist() == [3, 2, 1]
    assert table["NDCG@1"].tolist() == pytest.approx([2 / 3, 1 / 2, 0])


def test_truncation_cuts_the_tail_of_each_list_below_one_threshold() -> None:
    scores = np.array([[0.9, 0.5, 0.1], [0.6, 0.4, NONE], [0.3, 0.2, NONE]])
    hits = np.array([[False, True, False], [True, False, False], [False, True, False]])
    table = truncation(hits, scores, (0, 30, 60, 85))
    # Seven items. 30% are two: 0.1 and 0.2 go, and with 0.2 a hit. 60% are four: 0.3 and 0.4 go
    # too, so that the third list is empty. 85% are five: 0.5 goes, a hit.
    assert table["precision"].tolist() == pytest.approx([3 / 7, 2 / 5, 2 / 3, 1 / 2])
    assert table["mean length"].tolist() == pytest.approx([7 / 3, 5 / 3, 1.0, 2 / 3])
    assert table["recall kept"].tolist() == pytest.approx([1.0, 2 / 3, 2 / 3, 1 / 3])
    assert table["empty lists"].tolist() == [0, 0, 1, 1]


def test_items_that_share_the_threshold_stay() -> None:
    scores = np.array([[0.5, 0.5, 0.5, 0.2]])
    hits = np.array([[False, False, True, False]])
    table = truncation(hits, scores, (50, 75))
    # Half of four items would go, but three have the score at which the cut would be.
    assert table["mean length"].tolist() == [3.0, 3.0]
    assert table["precision"].tolist() == pytest.approx([1 / 3, 1 / 3])


def test_without_a_hit_there_is_no_recall_to_keep() -> None:
    table = truncation(np.zeros((2, 2), dtype=np.bool_), np.array([[2.0, 1.0], [2.0, 1.0]]), (0,))
    assert table["precision"].tolist() == [0.0] and np.isnan(table["recall kept"][0])


@given(arrays(np.float64, (6, 4), elements=st.floats(0, 1, width=16)), st.integers(0, 99))
def test_no_more_than_the_asked_share_is_cut_and_the_best_item_stays(
    scores: np.ndarray, percent: int
) -> None:
    ordered = -np.sort(-scores, axis=1)
    best = ordered == ordered.max()
    (row,) = truncation(best, ordered, (percent,)).to_dict("records")
    assert row["mean length"] * 6 >= 24 - 24 * percent // 100 - 1e-9
    assert row["recall kept"] == 1.0
