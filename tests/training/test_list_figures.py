"""Evenness and the long tail, and the lengths of lists, against numbers worked out by hand."""

import math

import numpy as np
import pytest
from made_lists import CATALOG, SIDS, items, lists, make_catalog

from genrec_bench.training.list_figures import Lists, in_tail
from genrec_bench.training.metrics import evaluate_lists, list_metrics


def test_gini_of_exposure_by_hand() -> None:
    # SIDs 0, 2 and 3 are the items 0, 3 and 5, shown 3, 2 and 1 times; items 1, 2 and 4 never.
    beam = lists([0, 2, -1], [0, 2, -1], [0, 3, -1])
    wide = np.pad(beam, ((0, 0), (0, 7)), constant_values=-1)
    # Ascending 0 0 0 1 2 3 with the weights -5 -3 -1 1 3 5: (1 + 6 + 15) / (6 * 6).
    found = list_metrics(Lists(wide, items(0, 0, 0), CATALOG))
    assert found["gini@10"] == pytest.approx(22 / 36)
    one = make_catalog([[i, 0] for i in range(20)], [1] * 20)
    ten = np.tile(np.arange(10, dtype=np.int32), (4, 1))
    half = np.stack([ten[0], ten[0] + 10])
    # Half of the items have all places; all have one each.
    assert list_metrics(Lists(ten, items(0, 0, 0, 0), one))["gini@10"] == pytest.approx(0.5)
    assert list_metrics(Lists(half, items(0, 0), one))["gini@10"] == pytest.approx(0.0)
    assert "gini@10" not in list_metrics(Lists(np.full_like(ten, -1), items(0, 0, 0, 0), one))


def test_the_tail_is_all_but_the_items_of_a_third_of_the_purchases() -> None:
    # 18 purchases, of which the head has 5.94 or more: item 4 has 7.
    assert in_tail(CATALOG).tolist() == [True, True, True, True, False, True]
    # Of 100 purchases 30 do not make 33, and the second item comes in whole.
    several = make_catalog([[i, 0] for i in range(5)], [10, 30, 20, 20, 20])
    assert in_tail(several).tolist() == [True, False, False, True, True]
    exact = make_catalog([[i, 0] for i in range(3)], [33, 33, 34])
    assert in_tail(exact).tolist() == [True, True, False]
    assert in_tail(make_catalog(SIDS, [0] * 6)).tolist() == [False] * 6


def test_hits_of_the_long_tail_by_hand() -> None:
    # Lists of the items 0, 3, 5 and of 4, 1, 2; the target 4 is popular and does not count.
    beam = np.pad(lists([0, 2, 3], [1, -1, -1], [1, -1, -1], [0, 2, 3]), ((0, 0), (0, 7)))
    beam[:, 3:] = -1
    metrics, outcomes = evaluate_lists(Lists(beam, items(3, 4, 1, 2), CATALOG))
    assert outcomes["tail"].tolist() == [True, False, True, True]
    assert metrics["tail_HR@10"] == pytest.approx(2 / 3) and metrics["HR@10"] == 3 / 4
    popular, _ = evaluate_lists(Lists(beam[:1], items(4), CATALOG))
    assert "tail_HR@10" not in popular, "there is no such target"


def test_cutoffs_follow_the_beam() -> None:
    """Up to 50, where it is that wide."""
    catalog = make_catalog([[i, 0] for i in range(60)], [1] * 60)
    beam = np.tile(np.arange(50, dtype=np.int32), (2, 1))
    wide, _ = evaluate_lists(Lists(beam, items(49, 55), catalog))
    assert wide["HR@50"] == 0.5 and wide["HR@20"] == 0.0
    assert wide["NDCG@50"] == pytest.approx(1 / math.log2(51) / 2)
    narrow, _ = evaluate_lists(Lists(beam[:, :20], items(49, 55), catalog))
    assert not any(name.endswith("@50") for name in narrow)
