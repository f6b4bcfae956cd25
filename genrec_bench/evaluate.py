"""Evaluation: the same beam for every algorithm, over every example of a split."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genrec_bench.algorithm import Algorithm
from genrec_bench.dataset import Catalog, Examples
from genrec_bench.decode import beam_search, chunks
from genrec_bench.metrics import evaluate_lists, invalid_rate
from genrec_bench.policy import Policy
from genrec_bench.progress import Progress
from genrec_bench.prompts import Prompts
from genrec_bench.scoring import score
from genrec_bench.tree import CandidateTree
from genrec_bench.workers import Workers

PROMPTS_AT_ONCE = 512


@dataclass(frozen=True)
class Evaluation:
    """What was found on one split.

    Attributes:
        metrics: by name, see ``metrics.evaluate_lists``; and ``invalid_rate``.
        outcomes: one row for each example.
    """

    metrics: dict[str, float]
    outcomes: pd.DataFrame


@torch.no_grad()
def evaluate(
    policy: Policy,
    examples: Examples,
    catalog: Catalog,
    workers: Workers,
    beam_width: int,
    progress: Progress,
    *,
    title: str,
    algorithm: Algorithm | None = None,
) -> Evaluation:
    """Rank the catalog for every history by constrained beam search and compare with the targets.

    Args:
        policy: runs without gradients.
        examples: a split; all of it counts.
        catalog: whose items are ranked.
        workers: share the examples; each gets the whole result.
        beam_width: W, the length of the lists.
        progress: shows how far it is.
        title: for the progress bar.
        algorithm: ranks the beam's candidates anew if it has a way to.
    """
    policy.eval()
    mine = workers.mine(np.arange(len(examples)))
    # Histories of one length share a grid, so that little of it is padding.
    order = np.argsort(examples.history_lengths[mine], kind="stable")
    num_levels = catalog.num_levels
    # For each list: W rows of the catalog's SIDs, then the codes that were really written.
    lists = np.empty((len(mine), beam_width * (1 + num_levels)), dtype=np.int32)
    with progress.bar(title, len(mine)) as bar:
        for start in range(0, len(mine), PROMPTS_AT_ONCE):
            part = order[start : start + PROMPTS_AT_ONCE]
            prompts = policy.prompt_format.encode(examples, mine[part]).to(policy.device)
            if algorithm is None or algorithm.decoding == "beam":
                tree = beam_search(policy, prompts, beam_width)
            else:
                tree = algorithm.decode(policy, prompts, beam_width)
            leaves = tree.leaves
            if algorithm is not None and algorithm.reranks:
                leaves = leaves.gather(1, _new_order(policy, prompts, tree, algorithm))
            codes = policy.trie.code[policy.trie.prefixes(leaves)].flatten(1)
            found = torch.cat([policy.trie.sid_index(leaves), codes], dim=1)
            lists[part] = found.cpu().numpy()
            bar.advance(len(part))
    lists = workers.interleave(lists)
    candidates = lists[:, :beam_width]
    written = lists[:, beam_width:].reshape(len(lists), beam_width, num_levels)
    metrics, outcomes = evaluate_lists(candidates, examples.targets, catalog)
    metrics["invalid_rate"] = invalid_rate(written, candidates >= 0, catalog)
    return Evaluation(metrics, outcomes)


def _new_order(
    policy: Policy, prompts: Prompts, tree: CandidateTree, algorithm: Algorithm
) -> Tensor:
    """Return [B, W] the places of candidates, best first, by the algorithm's own score."""
    ranked = torch.full(tree.valid.shape, -torch.inf, device=tree.valid.device)
    for rows in chunks(prompts.lengths + tree.is_node.sum(dim=1), policy.tokens_per_forward):
        part = tree.select(rows)
        scores = score(policy, prompts.select(rows), part, leaves=True)
        ranked[rows] = algorithm.rerank(part, scores)
    return ranked.argsort(dim=1, descending=True, stable=True)
