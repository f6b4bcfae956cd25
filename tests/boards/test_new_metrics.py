"""A metric is one entry of one table: evaluation, verification and boards need no more."""

from collections.abc import Iterator

import numpy as np
import pytest
from board_world import whole

from genrec_bench.boards.board import Board
from genrec_bench.boards.csv_table import to_csv
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.rows import user_values
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import to_markdown
from genrec_bench.boards.verify import verify
from genrec_bench.contract.tiny_world import tiny_catalog
from genrec_bench.training.list_figures import Lists
from genrec_bench.training.metrics import (
    METRICS,
    ListMetric,
    MetricEntry,
    RankMetric,
    evaluate_lists,
)

RANKS = (0, 1, 3, 12, -1, 2)

PRECISION = RankMetric(
    name="Precision",
    cutoffs=(5, 10),
    of_example=lambda ranks, k: np.where((ranks >= 0) & (ranks < k), 1 / k, 0.0),
    on_boards=("Precision@5", "sid/Precision@10"),
)
REPEATS = ListMetric(
    name="repeats",
    cutoffs=(10,),
    higher_is_better=False,
    of_lists=lambda lists, k: float(np.mean(lists.candidates[:, 0] == lists.candidates[0, 0])),
    on_boards=("repeats@10",),
)


@pytest.fixture(params=[PRECISION, REPEATS], ids=lambda metric: str(metric.name))
def added(request: pytest.FixtureRequest) -> Iterator[MetricEntry]:
    """An entry that stands in the table for one test."""
    METRICS.append(request.param)
    yield request.param
    METRICS.remove(request.param)


def evaluated() -> dict[str, float]:
    catalog = tiny_catalog()
    candidates = np.tile(np.arange(10, dtype=np.int32), (6, 1))
    return evaluate_lists(Lists(candidates, np.arange(6, dtype=np.int32), catalog))[0]


def recorded(metric: MetricEntry, **changes: float) -> Evidence:
    """A record as evaluation would write it, but for some figures."""
    one = whole("ugr", RANKS)
    if isinstance(metric, ListMetric):
        changes |= {"repeats@10": 0.25}
    metrics = {split: one.record["metrics"][split] | changes for split in ("valid", "test")}
    return whole("ugr", RANKS, metrics=metrics)


def board(one: Evidence) -> Board:
    return make_board([one], "industrial")


def test_it_is_evaluated(added: MetricEntry) -> None:
    named = [name for name in evaluated() if added.name in name]
    by_sid = ["sid/Precision@5", "sid/Precision@10"]
    expected = [f"{added.name}@{k}" for k in added.cutoffs]
    assert named == expected + (by_sid if added is PRECISION else [])
    METRICS.remove(added)
    assert not any(added.name in name for name in evaluated())
    METRICS.append(added)


def test_it_is_verified(added: MetricEntry) -> None:
    """From outcomes where they determine it; where they do not, any figure of its name passes."""
    one = recorded(added)
    assert verify(one).findings == ()
    METRICS.remove(added)
    unknown = {finding.key for finding in verify(one).findings}
    METRICS.append(added)
    assert {f"metrics.test.{added.name}@{k}" for k in added.cutoffs} <= unknown
    (stated, *_) = added.on_boards
    forged = [finding.key for finding in verify(recorded(added, **{stated: 0.9})).findings]
    assert forged == ([f"metrics.{s}.{stated}" for s in ("valid", "test")] * (added is PRECISION))


def test_it_is_on_the_board(added: MetricEntry) -> None:
    made = board(recorded(added))
    for name in added.on_boards:
        assert f",test/{name}," in to_csv(made)
        heading = name if added.higher_is_better else f"{name} (lower is better)"
        assert f" {heading} |" in to_markdown(made) and f">{heading}<" in to_html(made)


def test_its_values_are_its_own_and_not_those_of_hits(added: MetricEntry) -> None:
    """Every metric of ranks but NDCG was once taken for HR when rows were compared."""
    runs = [recorded(added)]
    assert user_values(runs, "MRR") == pytest.approx(
        np.array([[1, 1 / 2, 1 / 4, 1 / 13, 0, 1 / 3]])
    )
    if added is PRECISION:
        found = user_values(runs, "sid/Precision@5", "start_")
        assert found == pytest.approx(np.array([[0.2, 0, 0.2, 0, 0, 0.2]]))
    else:
        with pytest.raises(ValueError, match="'repeats@10' is no metric of ranks"):
            user_values(runs, "repeats@10")
