"""What explicit confidence is good for at inference (UGR, section 4.5, Table 3 and Figure 4).

A candidate's hybrid score is exp s(y) + lambda c(y) (appendix C): its likelihood and what the
policy says of it. One trained policy's candidates for the test split are

1. ranked by it instead of by likelihood,
2. held back as a whole where the best score of a request is low, and
3. held back one by one where their own score is low.

All is counted by item, as in ``candidate_lists``: a SID that several items share stands for all of
them.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Context, Job, configure, do, load_policy
from genrec_bench.runs.options import one_seed
from genrec_bench.storage.figures import MARKERS, PALETTE
from genrec_bench.studies.analyses import Analysis, Result, check_free
from genrec_bench.training.candidate_lists import MISSING, expand, item_ranks
from genrec_bench.training.metrics import LIST_LENGTH, values_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from genrec_bench.data.dataset import Catalog, Dataset
    from genrec_bench.policy.policy import Policy
    from genrec_bench.training.base_algorithm import Algorithm

KS = (1, 3, 5, 10)
"""List lengths of Table 3."""

CUTS = tuple(range(0, 100, 10))
"""Percent of requests, or of items, that are held back."""

TRUNCATION = ("precision", "mean length", "empty lists", "recall kept")

PUBLISHED = (
    ("original", (0.0904, 0.1102, 0.1169, 0.1231)),
    ("re-ranked", (0.0933, 0.1121, 0.1185, 0.1245)),
)
"""NDCG@1, 3, 5 and 10 of the paper's Table 3."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add which algorithm is trained, and lambda."""
    parser.add_argument("--algorithm", default="ugr", metavar="ALGO", help="default: ugr")
    parser.add_argument("--seed", type=one_seed, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--weight",
        default="0.5",
        metavar="LAMBDA",
        help="weight of the confidence in the score; default: 0.5",
    )
    parser.add_argument(
        "--length-penalty",
        metavar="P",
        help="s(y) in the score is over (L + 1)^P, in UGR's code 1; default: 0, as in the paper",
    )


def reranked(
    candidates: NDArray[np.int32], scores: NDArray[np.float64]
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Put candidates [n, W] and scores in descending order of score, list by list.

    Empty places have the SID index -1 and the score -inf. Equal scores keep the order of the beam.
    """
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(candidates, order, 1), np.take_along_axis(scores, order, 1)


def item_scores(
    items: NDArray[np.int32],
    candidates: NDArray[np.int32],
    scores: NDArray[np.float64],
    catalog: Catalog,
) -> NDArray[np.float64]:
    """Give every item of a list the score of its SID.

    Args:
        items: [n, k] what ``candidate_lists.expand`` made of the candidates, -1 in empty places.
        candidates: [n, W] SID indices, each at most once in a list.
        scores: [n, W] of the candidates.

    Returns:
        [n, k]; -inf in empty places.
    """
    same = catalog.sid_of_item[items][:, :, None] == candidates[:, None, :]
    found = np.take_along_axis(scores, same.argmax(axis=2), axis=1)
    return np.where(items >= 0, found, -np.inf)


def rejection(
    ranks: NDArray[np.int32], confidence: NDArray[np.float64], percents: Sequence[int]
) -> pd.DataFrame:
    """Leave the requests unanswered that the policy is least sure of.

    Args:
        ranks: [n] zero-based rank of each target in its list of items, -1 where it is missing.
        percents: of the requests, to be rejected; rounded down to whole requests. Of equal ones
            the first in the split are rejected first.

    Returns:
        One row for each percentage: how many requests are left, and their NDCG.
    """
    least_first = np.argsort(confidence, kind="stable")
    rows = []
    for percent in percents:
        left = ranks[least_first[len(ranks) * percent // 100 :]]
        rows.append({"requests": len(left), **_ndcg(left)})
    return pd.DataFrame(rows)


def truncation(
    hits: NDArray[np.bool_], scores: NDArray[np.float64], percents: Sequence[int]
) -> pd.DataFrame:
    """Show only the items whose score reaches a threshold, the same for all lists.

    Args:
        hits: [n, k] whether an item is the list's target.
        scores: [n, k] of the items, in descending order, so that it is the tail that goes; -inf in
            empty places, which are neither shown nor counted.
        percents: of all items, to be cut; rounded down. The threshold is the lowest score that
            stays, and items that share it stay too, so that fewer may be cut.

    Returns:
        One row for each percentage. Precision is hits among all items shown, over all lists, so
        that a list with nothing left counts for nothing; mean length and empty lists tell how many
        there are. Recall kept is the share of the hits that are still shown; undefined without any.
    """
    real = np.isfinite(scores)
    ascending = np.sort(scores[real])
    rows = []
    for percent in percents:
        shown = real & (scores >= ascending[len(ascending) * percent // 100])
        kept = int((hits & shown).sum())
        rows.append(
            {
                "precision": kept / int(shown.sum()),
                "mean length": float(shown.sum(axis=1).mean()),
                "empty lists": int((~shown.any(axis=1)).sum()),
                "recall kept": kept / int(hits.sum()) if hits.any() else np.nan,
            }
        )
    return pd.DataFrame(rows)


def analyze(context: Context, args: argparse.Namespace) -> Result:
    """Train one policy, or find it, and compare its confidence in candidates with their hits.

    Raises:
        UserError: the algorithm has no score of its own to rank by.
    """
    check_free(context, "rerank", "rerank_weight", "rerank_length_penalty")
    job = Job(args.algorithm, args.algorithm, seed=args.seed)
    words = ["rerank=true", f"rerank_weight={args.weight}"]
    if args.length_penalty is not None:
        words.append(f"rerank_length_penalty={args.length_penalty}")
    hybrid = dataclasses.replace(job, assignments=tuple(words))
    width = _beam_width(hybrid, context)
    path = do(job, context)
    policy, algorithm = load_policy(path, hybrid, context)
    candidates, scores = _search(policy, algorithm, context.dataset, width)
    table, error = _table(candidates, scores, context.dataset)
    return Result(
        table, partial(_draw, table=table), _notes(args.weight, args.length_penalty, error), (path,)
    )


ANALYSIS = Analysis(
    name="risk",
    help="re-ranking, rejection and truncation by confidence (UGR, Table 3 and Figure 4)",
    add_options=add_options,
    run=analyze,
)


def _ndcg(ranks: NDArray[np.int32]) -> dict[str, float]:
    return {name: float(values_of(name, ranks).mean()) for name in (f"NDCG@{k}" for k in KS)}


def _beam_width(job: Job, context: Context) -> int:
    """Refuse what cannot be ranked, before anything is trained; return the beam width."""
    _, algorithm, settings = configure(dataclasses.replace(job, assignments=()), context)
    chosen = vars(algorithm.hyperparameters)
    # What is switched off cannot be asked for, which would be refused in other words.
    knows = {"rerank", "rerank_weight"} <= chosen.keys() and chosen.get("confidence", True)
    if not knows or not configure(job, context)[1].reranks:
        raise UserError(
            f"{job.algorithm}, as it is set, has no confidence to rank by; ugr has, with "
            "confidence=true"
        )
    if settings.beam_width < LIST_LENGTH:
        raise UserError(
            f"beam_width={settings.beam_width}: must be at least {LIST_LENGTH}, the length of the "
            "lists"
        )
    return settings.beam_width


def _search(
    policy: Policy, algorithm: Algorithm, dataset: Dataset, width: int
) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
    """Return [n, W] the beam's candidates for the test split as SID indices, and hybrid scores."""
    import torch

    from genrec_bench.decoding.beam import beam_search, chunks
    from genrec_bench.policy.scoring import score
    from genrec_bench.training.evaluate import PROMPTS_AT_ONCE

    examples = dataset.test
    candidates = np.full((len(examples), width), MISSING, dtype=np.int32)
    scores = np.full(candidates.shape, -np.inf)
    # Histories of one length share a grid, so that little of it is padding.
    order = np.argsort(examples.history_lengths, kind="stable")
    with torch.no_grad():
        for start in range(0, len(order), PROMPTS_AT_ONCE):
            part = order[start : start + PROMPTS_AT_ONCE]
            prompts = policy.prompt_format.encode(examples, part).to(policy.device)
            tree = beam_search(policy, prompts, width)
            candidates[part] = policy.trie.sid_index(tree.leaves).cpu().numpy()
            sizes = prompts.lengths + tree.is_node.sum(dim=1)
            for rows in chunks(sizes, policy.tokens_per_forward):
                some = tree.select(rows)
                view = score(policy, prompts.select(rows), some, leaves=True)
                scores[part[rows.cpu().numpy()]] = (
                    algorithm.rerank(some, view).cpu().double().numpy()
                )
    return candidates, scores


def _table(
    candidates: NDArray[np.int32], scores: NDArray[np.float64], dataset: Dataset
) -> tuple[pd.DataFrame, float]:
    """Return the table, and the standard error of the difference of NDCG@10 that ranking makes."""
    catalog, targets = dataset.catalog, dataset.test.targets
    original = item_ranks(candidates, targets, catalog)
    candidates, scores = reranked(candidates, scores)
    ranks = item_ranks(candidates, targets, catalog)
    items = expand(candidates, catalog, LIST_LENGTH)
    before, after = _ndcg(original), _ndcg(ranks)
    ranking = pd.DataFrame([before, after, {key: after[key] - before[key] for key in after}])
    cuts = [f"{percent}%" for percent in CUTS]
    shown = item_scores(items, candidates, scores, catalog)
    parts = {
        "re-ranking": (ranking.assign(requests=len(ranks)), ["original", "re-ranked", "gain"]),
        "rejection": (rejection(ranks, scores.max(axis=1), CUTS), cuts),
        "truncation": (truncation(items == targets[:, None], shown, CUTS), cuts),
    }
    table = pd.concat(
        [rows.assign(part=part, setting=settings) for part, (rows, settings) in parts.items()],
        ignore_index=True,
    )
    table = table[["part", "setting", "requests", *before, *TRUNCATION]]
    differences = values_of(f"NDCG@{LIST_LENGTH}", ranks)
    differences -= values_of(f"NDCG@{LIST_LENGTH}", original)
    error = float(differences.std(ddof=1) / np.sqrt(len(ranks))) if len(ranks) > 1 else np.nan
    # Whole numbers that are undefined in some rows.
    return table.astype({"requests": "Int64", "empty lists": "Int64"}), error


def _notes(weight: str, length_penalty: str | None, error: float) -> tuple[str, ...]:
    likelihood = f"exp(s(y) / (L + 1)^{length_penalty})" if length_penalty else "exp s(y)"
    published = "; ".join(
        f"{name} {' '.join(f'{value:.4f}' for value in values)}" for name, values in PUBLISHED
    )
    return (
        f"Score: {likelihood} + {weight} c(y), on the test split, by item. Standard error of the "
        f"gain in NDCG@{LIST_LENGTH}, paired by request: {error:.4f}.",
        "rejection: the share of requests whose best score is lowest goes unanswered; the rest is "
        "ranked by the score. Requests rejected at random would on average leave NDCG as it is in "
        "the row of 0%.",
        f"truncation: of the {LIST_LENGTH} best items of each request, all those below one "
        "threshold go, which is set so that the share of the row does. Precision is hits over "
        "items shown, in all lists together. Items cut at random would on average leave "
        "precision as it is, and keep as much of the recall as of the length.",
        "The paper's settings differ (Office, Qwen3-8B): the direction is to be compared, not the "
        f"numbers. Table 3, NDCG@{', '.join(map(str, KS))}: {published}. Figure 4: NDCG@10 rises "
        "with the share of rejected requests, precision with the share of truncated items.",
    )


def _draw(figure: Figure, table: pd.DataFrame) -> None:
    figure.set_size_inches(11.0, 4.0)
    left, middle, right = figure.subplots(1, 3)
    rejected, cut = (table[table["part"] == part] for part in ("rejection", "truncation"))
    left.plot(CUTS, rejected["NDCG@10"], color=PALETTE[0], marker=MARKERS[0])
    left.axhline(
        rejected["NDCG@10"].iloc[0], color="0.5", linestyle="--", label="rejected at random"
    )
    left.set(xlabel="requests rejected (%)", ylabel="NDCG@10 of the rest")
    middle.plot(CUTS, cut["precision"], color=PALETTE[0], marker=MARKERS[0])
    middle.axhline(cut["precision"].iloc[0], color="0.5", linestyle="--", label="cut at random")
    middle.set(xlabel="items cut (%)", ylabel="precision of the rest")
    for axis, column in ((left, rejected["NDCG@10"]), (middle, cut["precision"])):
        # From 0 on, with room for the legend above the highest point; all may be 0.
        axis.set_ylim(0, 1.2 * column.max() or 1.0)
        axis.legend(frameon=False, loc="upper left")
    length = cut["mean length"] / cut["mean length"].iloc[0]
    right.plot(CUTS, 100 * cut["recall kept"], color=PALETTE[1], marker=MARKERS[1], label="hits")
    right.plot(CUTS, 100 * length, color="0.5", linestyle="--", label="items")
    right.set(xlabel="items cut (%)", ylabel="kept (%)", ylim=(0, 105))
    right.legend(frameon=False)
    titles = ("user-level rejection", "item-level truncation", "what truncation keeps")
    for axis, title in zip((left, middle, right), titles, strict=True):
        axis.set_title(title, fontsize="medium")
        axis.grid(alpha=0.3)
