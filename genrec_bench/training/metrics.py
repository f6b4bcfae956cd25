"""The one table of metrics, which evaluation, verification, boards and analyses read.

To add a metric is to add an entry to `METRICS`. All but those of whole lists follow from the
outcomes that a record keeps of each example, so that they are recomputed when the record is
verified.
Metrics are counted by item; those of ranks and samples are counted by SID as well, which is what
most published numbers are, and then carry the prefix `sid/`.

Shapes: n examples, W beam width, S samples, L levels, K the cutoff of a metric.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import comb

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genrec_bench.training.candidate_lists import MISSING, sampled_hits
from genrec_bench.training.list_figures import (
    Lists,
    coverage,
    diversity,
    gini,
    in_tail,
    invalid_rate,
    popularity_lift,
    regret,
    unique_candidates,
)

CUTOFFS = (1, 3, 5, 10, 20, 50)
"""List lengths at which metrics are reported, as far as the beam is wide."""

LIST_LENGTH = 10
"""Length of the item lists that coverage, evenness, diversity and popularity are taken of."""

TAIL = "tail"
"""Column of the outcomes: whether the target is in the long tail of the catalog."""

WHOLE = int(np.iinfo(np.int32).max)
"""The cutoff of a metric that has none in its name."""

BY_SID = "sid/"


@dataclass(frozen=True, kw_only=True)
class MetricEntry:
    """What all entries of the table say.

    Attributes:
        name: without its cutoff.
        cutoffs: K, each of which gives a figure `name@K`; empty: one figure, of the whole list.
        higher_is_better: None where neither is.
        on_boards: the figures that are columns of a board, `sid/` included where wanted.
    """

    name: str
    cutoffs: tuple[int, ...] = ()
    higher_is_better: bool | None = True
    on_boards: tuple[str, ...] = ()

    def figures(self, longest: int, cutoffs: Sequence[int] = CUTOFFS) -> Iterator[tuple[str, int]]:
        """The name and the cutoff of each figure that needs no more than `longest` places.

        Args:
            cutoffs: take the place of `CUTOFFS`, for metrics that have these.
        """
        if not self.cutoffs:
            yield self.name, WHOLE
        chosen = cutoffs if self.cutoffs is CUTOFFS else self.cutoffs
        yield from ((f"{self.name}@{k}", k) for k in chosen if k <= longest)


@dataclass(frozen=True, kw_only=True)
class RankMetric(MetricEntry):
    """A mean over examples of something that follows from the target's rank."""

    of_example: Callable[[NDArray[np.integer], int], NDArray[np.float64]]
    """Takes [n] zero-based ranks, -1 where the target is missing, and K; returns [n]."""


@dataclass(frozen=True, kw_only=True)
class TailMetric(MetricEntry):
    """The mean of a metric of ranks over the examples whose target is in the long tail."""

    of_example: Callable[[NDArray[np.integer], int], NDArray[np.float64]]
    """As that of `RankMetric`."""


@dataclass(frozen=True, kw_only=True)
class WorthMetric(MetricEntry):
    """A mean over examples of what their lists are worth, which worlds alone know.

    No rank tells it. So each example's worth at the K that boards show is a column of the outcomes,
    named as the figure; of other K there is the mean alone, as columns of many digits take space.
    """


@dataclass(frozen=True, kw_only=True)
class SampleMetric(MetricEntry):
    """Something that follows from how many of an example's samples hit."""

    mean: Callable[[NDArray[np.integer], int, int], float]
    """Takes [n] hits, S and K; returns the mean over examples."""


@dataclass(frozen=True, kw_only=True)
class ListMetric(MetricEntry):
    """A figure of whole lists, which the outcomes of examples do not determine."""

    of_lists: Callable[[Lists, int], float | None]
    """Takes the lists and K; returns None where the figure does not exist."""


def _hit(ranks: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """1 where the target is among the first K."""
    return np.where((ranks >= 0) & (ranks < k), 1.0, 0.0)


def _discounted_gain(ranks: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    """1 / log2(rank + 2) among the first K: the ideal DCG of one relevant item is 1."""
    hits = (ranks >= 0) & (ranks < k)
    return np.where(hits, 1.0 / np.log2(np.where(hits, ranks, 0) + 2.0), 0.0)


def _reciprocal_rank(ranks: NDArray[np.integer], k: int) -> NDArray[np.float64]:
    hits = (ranks >= 0) & (ranks < k)
    return np.where(hits, 1.0 / (np.where(hits, ranks, 0) + 1.0), 0.0)


def _pass(hits: NDArray[np.integer], num_samples: int, k: int) -> float:
    """How probable it is that one of K samples hits.

    With c hits among S samples, 1 - C(S - c, K) / C(S, K) is its unbiased estimate (Chen et al.
    2021, "Evaluating Large Language Models Trained on Code", Eq. 1).
    """
    ways = comb(num_samples, k)
    missed = [comb(num_samples - c, k) / ways for c in range(num_samples + 1)]
    return float(1.0 - np.array(missed)[hits].mean())


METRICS: list[MetricEntry] = [
    # The target is among the first K.
    RankMetric(
        name="HR",
        cutoffs=CUTOFFS,
        of_example=_hit,
        on_boards=("HR@1", "HR@5", "HR@10", "HR@20", "HR@50", "sid/HR@10"),
    ),
    # Jaervelin and Kekaelaeinen, 2002.
    RankMetric(
        name="NDCG",
        cutoffs=CUTOFFS,
        of_example=_discounted_gain,
        on_boards=("NDCG@5", "NDCG@10", "sid/NDCG@10"),
    ),
    RankMetric(name="MRR", of_example=_reciprocal_rank, on_boards=("MRR",)),
    # HR over the targets outside of the head of the catalog, see `in_tail`.
    TailMetric(name="tail_HR", cutoffs=(LIST_LENGTH,), of_example=_hit, on_boards=("tail_HR@10",)),
    # GREAM, 6.1.2.
    SampleMetric(name="Pass", cutoffs=(1, 5, 10), mean=_pass, on_boards=("Pass@1", "Pass@10")),
    # Of worlds alone, exactly: no target is drawn.
    WorthMetric(
        name="utility", cutoffs=CUTOFFS, on_boards=("utility@1", "utility@10", "utility@50")
    ),
    ListMetric(
        name="regret",
        cutoffs=CUTOFFS,
        higher_is_better=False,
        of_lists=regret,
        on_boards=("regret@10",),
    ),
    ListMetric(name="unique_candidates", of_lists=unique_candidates),
    ListMetric(
        name="coverage", cutoffs=(LIST_LENGTH,), of_lists=coverage, on_boards=("coverage@10",)
    ),
    ListMetric(
        name="gini",
        cutoffs=(LIST_LENGTH,),
        higher_is_better=False,
        of_lists=gini,
        on_boards=("gini@10",),
    ),
    ListMetric(name="diversity", cutoffs=(LIST_LENGTH,), of_lists=diversity),
    ListMetric(
        name="popularity_lift",
        cutoffs=(LIST_LENGTH,),
        higher_is_better=None,
        of_lists=popularity_lift,
    ),
    ListMetric(name="invalid_rate", higher_is_better=False, of_lists=invalid_rate),
]


def find_metric(figure: str) -> tuple[MetricEntry, int] | None:
    """The entry and the cutoff of a figure such as `sid/HR@10`; None where the table has none.

    Any cutoff will do, so that figures of records that were made with others are known too.
    """
    name, at, cutoff = figure.removeprefix(BY_SID).partition("@")
    metric = next((metric for metric in METRICS if metric.name == name), None)
    if metric is None or bool(at) is not bool(metric.cutoffs):
        return None
    if figure.startswith(BY_SID) and not isinstance(metric, RankMetric | SampleMetric):
        return None
    if not at:
        return metric, WHOLE
    return (metric, int(cutoff)) if cutoff.isdecimal() and int(cutoff) > 0 else None


def values_of(figure: str, ranks: NDArray[np.integer]) -> NDArray[np.float64]:
    """[n] the value of each example, of which a figure of ranks such as `NDCG@10` is the mean.

    Args:
        ranks: [n] zero-based ranks, -1 where the target is missing; by SID for `sid/NDCG@10`.

    Raises:
        ValueError: the table has no such metric of ranks.
    """
    metric, k = find_metric(figure) or (None, 0)
    if not isinstance(metric, RankMetric):
        raise ValueError(f"{figure!r} is no metric of ranks")
    return metric.of_example(ranks, k)


def rank_metrics(
    ranks: NDArray[np.integer], longest: int, cutoffs: Sequence[int] = CUTOFFS
) -> dict[str, float]:
    """All metrics of ranks [n] with cutoffs up to `longest`; -1, a missing target, counts as zero.

    Raises:
        ValueError: there is no example, so that the means do not exist.
    """
    if len(ranks) == 0:
        raise ValueError("no example to take a metric of")
    return {
        name: float(metric.of_example(ranks, k).mean())
        for metric in METRICS
        if isinstance(metric, RankMetric)
        for name, k in metric.figures(longest, cutoffs)
    }


def sample_metrics(hits: NDArray[np.integer], num_samples: int) -> dict[str, float]:
    """All metrics of hits [n] among S samples; larger cutoffs are left out.

    Raises:
        ValueError: there is no example, so that the means do not exist.
    """
    if len(hits) == 0:
        raise ValueError("no example to take a metric of")
    return {
        name: metric.mean(hits, num_samples, k)
        for metric in METRICS
        if isinstance(metric, SampleMetric)
        for name, k in metric.figures(num_samples)
    }


def list_metrics(lists: Lists, cutoffs: Sequence[int] = CUTOFFS) -> dict[str, float]:
    """All metrics of whole lists; those that do not exist, and cutoffs above W, are left out."""
    found = {
        name: metric.of_lists(lists, k)
        for metric in METRICS
        if isinstance(metric, ListMetric)
        for name, k in metric.figures(lists.candidates.shape[1], cutoffs)
    }
    return {name: value for name, value in found.items() if value is not None}


def tail_metrics(
    ranks: NDArray[np.integer], tail: NDArray[np.bool_], longest: int
) -> dict[str, float]:
    """All metrics of the long tail, of ranks [n] and whether targets are in it, [n].

    Returns:
        Nothing where no target is.
    """
    if not tail.any():
        return {}
    return {
        name: float(metric.of_example(ranks[tail], k).mean())
        for metric in METRICS
        if isinstance(metric, TailMetric)
        for name, k in metric.figures(longest)
    }


def is_worth(column: str) -> bool:
    """Whether a column of the outcomes says what each list is worth, such as `utility@10`."""
    return isinstance((find_metric(column) or (None,))[0], WorthMetric)


def outcome_metrics(
    outcomes: pd.DataFrame,
    width: int,
    num_samples: int,
    prefix: str = "",
    cutoffs: Sequence[int] = CUTOFFS,
) -> dict[str, float]:
    """All metrics that the outcomes of one split determine, by item and by SID.

    Args:
        outcomes: [n] rows, see `evaluate_lists`; at least one.
        width: W, the largest cutoff.
        num_samples: S; 0 where nothing was drawn.
        prefix: of the columns: `start_` for the SFT start.
        cutoffs: of the metrics that have `CUTOFFS`.
    """
    found: dict[str, float] = {}
    for by, ranks, hits in (
        ("", "item_rank", "sampled_hits"),
        (BY_SID, "sid_rank", "sid_sampled_hits"),
    ):
        figures = rank_metrics(outcomes[prefix + ranks].to_numpy(), width, cutoffs)
        drawn = outcomes[prefix + hits].to_numpy()
        # A damaged file may state hits that no number of samples can have.
        if num_samples and np.all((drawn >= 0) & (drawn <= num_samples)):
            figures |= sample_metrics(drawn, num_samples)
        found |= {by + name: value for name, value in figures.items()}
    if TAIL in outcomes:
        of_item = outcomes[prefix + "item_rank"].to_numpy()
        found |= tail_metrics(of_item, outcomes[TAIL].to_numpy(np.bool_), width)
    own = (name for name in map(str, outcomes) if name.startswith(prefix))
    worths = (name.removeprefix(prefix) for name in own if is_worth(name.removeprefix(prefix)))
    found |= {name: float(outcomes[prefix + name].to_numpy(float).mean()) for name in worths}
    return found


def evaluate_lists(
    lists: Lists,
    samples: NDArray[np.int32] | None = None,
    cutoffs: Sequence[int] = CUTOFFS,
) -> tuple[dict[str, float], pd.DataFrame]:
    """All metrics of one split, and the outcome of each example.

    Args:
        samples: [n, S] SID indices of candidates that were drawn.
        cutoffs: of the metrics that have `CUTOFFS`.

    Returns:
        The metrics, by item (`HR@10`), by SID (`sid/HR@10`) and of the lists. The outcomes: one row
        for each example, columns `example` (row number), `item_rank`, `sid_rank`, `sampled_hits`,
        `sid_sampled_hits`, `tail`; hits are -1 where nothing was drawn. In a world also what each
        list is worth, `utility@10` and others.

    Raises:
        ValueError: there is not one list for each target, or no target at all.
    """
    candidates, targets = lists.candidates, lists.targets
    if candidates.ndim != 2 or len(candidates) != len(targets):
        raise ValueError(
            f"candidates {candidates.shape} are not one list for each of {len(targets)} targets"
        )
    hits = sid_hits = np.full(len(targets), MISSING, dtype=np.int32)
    if samples is not None:
        hits, sid_hits = sampled_hits(samples, targets, lists.catalog)
    outcomes = pd.DataFrame(
        {
            "example": np.arange(len(targets), dtype=np.int32),
            "item_rank": lists.item_ranks(),
            "sid_rank": lists.sid_ranks(),
            "sampled_hits": hits,
            "sid_sampled_hits": sid_hits,
            TAIL: in_tail(lists.catalog)[targets],
        }
    )
    means: dict[str, float] = {}
    if lists.utilities is not None:
        for metric in METRICS:
            if isinstance(metric, WorthMetric):
                for name, k in metric.figures(candidates.shape[1], cutoffs):
                    if name in metric.on_boards:
                        outcomes[name] = lists.worth(k)
                    else:
                        means[name] = float(lists.worth(k).mean(dtype=np.float64))
    num_samples = 0 if samples is None else samples.shape[1]
    metrics = outcome_metrics(outcomes, candidates.shape[1], num_samples, cutoffs=cutoffs)
    return metrics | means | list_metrics(lists, cutoffs), outcomes
