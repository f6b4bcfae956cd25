"""Metrics against numbers worked out by hand, and against what must hold of any list."""

import math
import time
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_lists import CATALOG, POPULARITY, SIDS, items, lists, make_catalog
from numpy.typing import NDArray

from genrec_bench.data.dataset import Catalog
from genrec_bench.training.candidate_lists import expand, item_ranks, sampled_hits, sid_ranks
from genrec_bench.training.list_figures import Lists
from genrec_bench.training.metrics import (
    METRICS,
    evaluate_lists,
    find_metric,
    list_metrics,
    rank_metrics,
    sample_metrics,
    values_of,
)

Case = tuple[Catalog, NDArray[np.int32], NDArray[np.int32]]


def test_item_ranks_count_every_item_of_a_shared_sid() -> None:
    # SIDs 2, 1, 0 expand to the items 3 | 4, 1, 2 | 0.
    candidates = lists([2, 1, 0]).repeat(6, axis=0)
    targets = items(0, 1, 2, 3, 4, 5)
    assert item_ranks(candidates, targets, CATALOG).tolist() == [4, 2, 3, 0, 1, -1]
    assert sid_ranks(candidates, targets, CATALOG).tolist() == [2, 1, 1, 0, 1, -1]


def test_the_cards_rule_orders_the_items_of_a_shared_sid() -> None:
    catalog = make_catalog(SIDS, POPULARITY, rule="index")
    candidates = lists([1, -1]).repeat(3, axis=0)
    assert item_ranks(candidates, items(1, 2, 4), catalog).tolist() == [0, 1, 2]


def test_empty_places_take_no_rank() -> None:
    candidates = lists([-1, 3, -1, 0], [-1, -1, -1, -1])
    assert item_ranks(candidates, items(0, 0), CATALOG).tolist() == [1, -1]
    assert sid_ranks(candidates, items(0, 0), CATALOG).tolist() == [1, -1]


def test_ranking_metrics_by_hand() -> None:
    # Ranks 0, 2, 6 and a miss. NDCG: 1/log2(2) = 1, 1/log2(4) = 0.5, 1/log2(8) = 1/3.
    metrics = rank_metrics(np.array([0, 2, 6, -1]), 10)
    expected = {
        "HR@1": 1 / 4,
        "NDCG@1": 1 / 4,
        "HR@3": 2 / 4,
        "NDCG@3": 1.5 / 4,
        "HR@5": 2 / 4,
        "NDCG@5": 1.5 / 4,
        "HR@10": 3 / 4,
        "NDCG@10": (1 + 0.5 + 1 / 3) / 4,
        "MRR": (1 + 1 / 3 + 1 / 7) / 4,
    }
    assert metrics == pytest.approx(expected)
    assert all(type(value) is float for value in metrics.values())


def test_rank_k_is_just_outside_the_first_k() -> None:
    assert values_of("HR@10", np.array([9, 10])).tolist() == [1, 0]


def test_no_example_is_an_error_not_a_nan() -> None:
    with pytest.raises(ValueError, match="no example"):
        rank_metrics(np.array([], dtype=np.int32), 10)
    with pytest.raises(ValueError, match="no example"):
        sample_metrics(np.array([], dtype=np.int32), 10)


def test_pass_at_k_by_hand() -> None:
    # Ten samples. C(10, 5) = 252; without one hit C(9, 5) = 126 choices miss, without two
    # C(8, 5) = 56, without six C(4, 5) = 0.
    hits = np.array([0, 1, 2, 6])
    metrics = sample_metrics(hits, 10)
    assert metrics == pytest.approx(
        {
            "Pass@1": (0 + 1 + 2 + 6) / 40,
            "Pass@5": (0 + 126 / 252 + 196 / 252 + 1) / 4,
            "Pass@10": 3 / 4,
        }
    )
    assert all(type(value) is float for value in metrics.values())
    assert sample_metrics(np.array([2]), 4) == {"Pass@1": 1 / 2}, "five are more than were drawn"


@given(st.lists(st.booleans(), min_size=1, max_size=12))
def test_pass_at_k_is_the_share_of_choices_with_a_hit(drawn: list[bool]) -> None:
    found = sample_metrics(np.array([sum(drawn)]), len(drawn))
    assert found.keys() == {f"Pass@{k}" for k in (1, 5, 10) if k <= len(drawn)}
    for name, value in found.items():
        chosen = [any(some) for some in combinations(drawn, int(name.partition("@")[2]))]
        assert value == pytest.approx(sum(chosen) / len(chosen))


def test_many_samples_are_counted_exactly() -> None:
    # 1 - C(4095, 10) / C(4096, 10) = 10 / 4096, between numbers of more than thirty digits.
    assert sample_metrics(np.array([1]), 4096)["Pass@10"] == pytest.approx(10 / 4096)


def test_a_sample_recommends_the_first_item_of_its_sid() -> None:
    # The SID of items 4, 1, 2 is drawn twice, that of item 0 once, that of item 3 never.
    samples = lists([1, 0, 1]).repeat(5, axis=0)
    by_item, by_sid = sampled_hits(samples, items(0, 1, 2, 3, 4), CATALOG)
    assert by_item.tolist() == [1, 0, 0, 0, 2]
    assert by_sid.tolist() == [1, 2, 2, 0, 2]
    by_index = make_catalog(SIDS, POPULARITY, rule="index")
    assert sampled_hits(samples, items(0, 1, 2, 3, 4), by_index)[0].tolist() == [1, 2, 0, 0, 0]


def test_expand_fills_places_in_order_and_cuts_a_shared_sid() -> None:
    expanded = expand(lists([0, 1, 3], [2, -1, -1]), CATALOG, 3)
    assert expanded.tolist() == [[0, 4, 1], [3, -1, -1]]


def test_list_metrics_by_hand() -> None:
    # Ten wide, so that the figures at 10 are given. The lists hold items 0, 3 and 5, 3.
    candidates = lists([0, 2] + [-1] * 8, [3, 2] + [-1] * 8)
    metrics = list_metrics(Lists(candidates, items(1, 5), CATALOG))
    assert metrics == pytest.approx(
        {
            "unique_candidates": 2.0,
            "coverage@10": 3 / 6,
            # Exposure 0 0 0 1 1 2 with the weights -5 -3 -1 1 3 5.
            "gini@10": (1 + 3 + 10) / (6 * 4),
            # (0,0) and (1,0) have no prefix in common; (1,1) and (1,0) have half of it.
            "diversity@10": (1.0 + 0.5) / 2,
            # Recommended: 4, 0, 3, 0; targets: 2, 3.
            "popularity_lift@10": (7 / 4) / (5 / 2),
        }
    )


def test_items_that_share_a_sid_are_not_diverse() -> None:
    candidates = lists([1] + [-1] * 9)
    assert list_metrics(Lists(candidates, items(0), CATALOG))["diversity@10"] == 0.0


def test_figures_that_do_not_exist_are_left_out() -> None:
    catalog = make_catalog(SIDS, [0] * 6)
    one_item = lists([0] + [-1] * 9)
    found = list_metrics(Lists(one_item, items(1), catalog))
    assert set(found) == {"unique_candidates", "coverage@10", "gini@10"}
    narrow = list_metrics(Lists(lists([0, 2]), items(1), catalog))
    assert set(narrow) == {"unique_candidates"}


def test_utility_and_regret_by_hand() -> None:
    # The lists hold the items 0, 4, 3 and 3, as SID 0 stands for two items; 3 in a list twice.
    worth = np.array([[0.3, 0.1, 0.2, 0.05, 0.15, 0.2], [0.0, 0.6, 0.0, 0.3, 0.1, 0.0]])
    candidates = lists([0, 2, -1, -1, -1], [2, 2, -1, -1, -1])
    found, outcomes = evaluate_lists(Lists(candidates, items(1, 5), CATALOG, utilities=worth))
    first, second = [expand(candidates, CATALOG, 3)[row] for row in (0, 1)]
    assert first.tolist()[:1] == [0] and second.tolist()[:2] == [3, 3]
    of_first = sum(worth[0, item] for item in first if item >= 0)
    assert found["utility@1"] == pytest.approx((0.3 + 0.3) / 2)
    assert found["utility@3"] == pytest.approx((of_first + 0.3) / 2)
    # Each example's is kept, in single precision, and the figure is its mean to the last bit.
    assert outcomes["utility@1"].tolist() == pytest.approx([0.3, 0.3])
    assert outcomes["utility@1"].dtype == np.float32
    assert found["utility@1"] == outcomes["utility@1"].to_numpy(np.float64).mean()
    assert "utility@3" not in outcomes, "no board shows it"
    # The best of one history: 0.3, and 0.3 + 0.2 + 0.2; of the other 0.6, and all there is.
    assert found["regret@1"] == pytest.approx((0.3 - 0.3 + 0.6 - 0.3) / 2)
    assert found["regret@3"] == pytest.approx((0.7 - of_first + 1.0 - 0.3) / 2)
    assert not [name for name in found if name.endswith("@10")]
    without, rows = evaluate_lists(Lists(candidates, items(1, 5), CATALOG))
    names = [*without, *rows.columns]
    assert not [name for name in names if name.startswith(("utility", "regret"))]


def test_the_utility_of_a_list_is_the_hit_rate_that_is_expected_of_it() -> None:
    generator = np.random.default_rng(0)
    worth = generator.dirichlet(np.ones(6), size=40)
    candidates = np.argsort(generator.random((40, 4)), axis=1)[:, :3].astype(np.int32)
    known = Lists(candidates, np.zeros(40, np.int32), CATALOG, utilities=worth)
    expected = evaluate_lists(known)[0]["utility@3"]
    rates = []
    for _ in range(300):
        drawn = np.array([generator.choice(6, p=row) for row in worth], dtype=np.int32)
        metrics, _ = evaluate_lists(Lists(candidates, drawn, CATALOG))
        rates.append(metrics["HR@3"])
    assert float(np.mean(rates)) == pytest.approx(expected, abs=0.02)


def test_unique_candidates_counts_neither_repeats_nor_empty_places() -> None:
    metrics = list_metrics(Lists(lists([3, 0, 3, -1], [2, 1, 0, 3]), items(0, 0), CATALOG))
    assert metrics["unique_candidates"] == 3.0


def test_invalid_rate_reads_codes() -> None:
    catalog = make_catalog([[0, 0], [0, 1], [1, 0], [0, 1]], [1, 1, 1, 1])
    # (1,1) is no SID, though both codes occur at their levels; the last place is not real.
    codes = np.array([[[0, 1], [1, 1]], [[1, 0], [9, 9]]])
    beam = lists([1, 0], [2, -1])

    def invalid_rate(beam: NDArray[np.int32], codes: NDArray[np.int32]) -> float:
        return list_metrics(Lists(beam, items(0, 0), catalog, codes))["invalid_rate"]

    assert invalid_rate(beam, codes) == pytest.approx(1 / 3)
    assert invalid_rate(beam[:, :1], codes[:, :1]) == 0.0
    assert invalid_rate(np.full_like(beam, -1), codes) == 0.0
    assert "invalid_rate" not in list_metrics(Lists(beam, items(0, 0), catalog))


def test_evaluate_lists_gives_both_countings_and_outcomes() -> None:
    beam = lists([1, 0, -1], [2, 3, -1])
    metrics, outcomes = evaluate_lists(Lists(beam, items(0, 1), CATALOG))
    # Item 0 is fourth among items and second among SIDs.
    assert metrics["HR@3"] == 0.0 and metrics["sid/HR@3"] == 0.5
    assert metrics["sid/NDCG@3"] == pytest.approx(0.5 / math.log2(3))
    assert metrics["MRR"] == pytest.approx(0.25 / 2)
    assert not any(key.endswith("@5") for key in metrics), "K above the beam width is not reported"
    assert outcomes.to_dict("list") == {
        "example": [0, 1],
        "item_rank": [3, -1],
        "sid_rank": [1, -1],
        "sampled_hits": [-1, -1],
        "sid_sampled_hits": [-1, -1],
        "tail": [True, True],
    }
    assert not any("Pass" in key for key in metrics), "nothing was drawn"


def test_evaluate_lists_adds_pass_at_k_of_what_was_drawn() -> None:
    samples = lists([0, 1, 0, 2, 2], [1, 1, 1, 3, 0])
    beam = Lists(lists([1, 0], [2, 3]), items(0, 2), CATALOG)
    metrics, outcomes = evaluate_lists(beam, samples)
    # Item 0 is drawn in two of five samples. Item 2 is not the first of its SID, drawn thrice.
    assert outcomes["sampled_hits"].tolist() == [2, 0]
    assert outcomes["sid_sampled_hits"].tolist() == [2, 3]
    assert metrics["Pass@1"] == pytest.approx(0.4 / 2) and metrics["Pass@5"] == 0.5
    assert metrics["sid/Pass@1"] == pytest.approx((0.4 + 0.6) / 2) and metrics["sid/Pass@5"] == 1
    assert "Pass@10" not in metrics, "more than were drawn"
    without, _ = evaluate_lists(beam)
    assert without == {key: value for key, value in metrics.items() if "Pass" not in key}


def test_lists_and_targets_must_match() -> None:
    with pytest.raises(ValueError, match="not one list for each"):
        evaluate_lists(Lists(lists([1, 0]), items(0, 1), CATALOG))


@st.composite
def cases(draw: st.DrawFn) -> Case:
    """Give a catalog with shared SIDs, candidate lists (distinct, then empty), and targets."""
    levels = draw(st.integers(1, 3))
    code = st.integers(0, 2)
    sids = draw(st.lists(st.lists(code, min_size=levels, max_size=levels), min_size=1, max_size=12))
    popularity = draw(st.lists(st.integers(0, 5), min_size=len(sids), max_size=len(sids)))
    catalog = make_catalog(sids, popularity, draw(st.sampled_from(["popularity", "index"])))
    width = draw(st.integers(1, 12))
    rows = draw(st.integers(1, 5))
    candidates = np.full((rows, width), -1, dtype=np.int32)
    for row in range(rows):
        order = draw(st.permutations(range(len(catalog.unique_sids))))
        found = draw(st.integers(0, min(width, len(order))))
        candidates[row, :found] = order[:found]
    item = st.integers(0, len(sids) - 1)
    targets = draw(st.lists(item, min_size=rows, max_size=rows))
    return catalog, candidates, items(*targets)


@given(cases())
def test_ranks_are_places_in_the_written_out_list(case: Case) -> None:
    catalog, candidates, targets = case
    ranks = item_ranks(candidates, targets, catalog)
    expanded = expand(candidates, catalog, 4)
    for row, target in enumerate(targets.tolist()):
        sids = [s for s in candidates[row].tolist() if s >= 0]
        written_out = [int(i) for s in sids for i in catalog.items_of_sid(s)]
        assert ranks[row] == (written_out.index(target) if target in written_out else -1)
        assert expanded[row].tolist() == (written_out + [-1] * 4)[:4]


@given(cases())
def test_an_item_is_never_ranked_above_its_sid(case: Case) -> None:
    catalog, candidates, targets = case
    by_item = item_ranks(candidates, targets, catalog)
    by_sid = sid_ranks(candidates, targets, catalog)
    assert ((by_item >= 0) == (by_sid >= 0)).all()
    assert (by_item >= by_sid).all()
    metrics, _ = evaluate_lists(Lists(candidates, targets, catalog))
    for key in [key for key in metrics if f"sid/{key}" in metrics]:
        assert metrics[key] <= metrics[f"sid/{key}"]


@given(st.lists(st.integers(-1, 40), min_size=1, max_size=30))
def test_longer_lists_never_score_lower_and_ndcg_never_exceeds_hr(ranks: list[int]) -> None:
    hits, gains = (
        [values_of(f"{name}@{k}", np.array(ranks)).mean() for k in range(1, 42)]
        for name in ("HR", "NDCG")
    )
    assert hits == sorted(hits) and gains == sorted(gains)
    assert all(0.0 <= gain <= hit + 1e-12 for gain, hit in zip(gains, hits, strict=True))
    assert hits[0] - 1e-12 <= values_of("MRR", np.array(ranks)).mean() <= hits[-1] + 1e-12


def test_a_figure_is_found_in_the_table_with_any_cutoff() -> None:
    found = [find_metric(figure) for figure in ("sid/HR@50", "NDCG@10", "coverage@10")]
    expected = [("HR", 50), ("NDCG", 10), ("coverage", 10)]
    assert [one and (one[0].name, one[1]) for one in found] == expected


@pytest.mark.parametrize(
    "figure", ["HR", "HR@", "HR@0", "HR@ten", "MRR@5", "sid/coverage@10", "quality", ""]
)
def test_what_the_table_does_not_have_is_no_figure(figure: str) -> None:
    assert find_metric(figure) is None
    with pytest.raises(ValueError, match="is no metric of ranks"):
        values_of(figure, np.array([0]))
    assert len({metric.name for metric in METRICS}) == len(METRICS)


@given(cases())
@settings(max_examples=50)
def test_list_figures_stay_in_their_ranges(case: Case) -> None:
    catalog, candidates, targets = case
    wide = np.full((len(candidates), 12), -1, dtype=np.int32)
    wide[:, : candidates.shape[1]] = candidates
    codes = catalog.unique_sids[np.where(wide >= 0, wide, 0)]
    metrics = list_metrics(Lists(wide, targets, catalog, codes))
    assert 0.0 <= metrics["coverage@10"] <= 1.0
    assert 0.0 <= metrics.get("diversity@10", 0.0) <= 1.0
    assert metrics["unique_candidates"] == pytest.approx((candidates >= 0).sum(axis=1).mean())
    assert metrics["invalid_rate"] == 0.0


def test_a_whole_test_split_takes_well_under_a_second() -> None:
    rng = np.random.default_rng(0)
    sids = rng.integers(0, 16, size=(3686, 3))
    catalog = make_catalog(sids.tolist(), rng.integers(0, 50, size=3686).tolist())
    width = len(catalog.unique_sids)
    candidates = rng.random((4533, width)).argpartition(20, axis=1)[:, :20].astype(np.int32)
    targets = rng.integers(0, 3686, size=4533).astype(np.int32)
    evaluate_lists(Lists(candidates[:10], targets[:10], catalog))
    started = time.process_time()
    evaluate_lists(Lists(candidates, targets, catalog))
    assert time.process_time() - started < 2.0
