"""Evaluation: the same beam and samples for every algorithm, over every example of a split.

An algorithm may decode in a way of its own, which is then part of the track.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from genrec_bench.data.dataset import Catalog, Dataset, Examples, World
from genrec_bench.decoding.beam import beam_search, chunks
from genrec_bench.decoding.sampling import beam_and_samples, sample
from genrec_bench.decoding.thoughts import reason
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import score
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.progress import Progress
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.list_figures import Lists
from genrec_bench.training.metrics import CUTOFFS, evaluate_lists
from genrec_bench.training.out_of_memory import in_smaller_passes
from genrec_bench.training.own_metrics import RankedLists
from genrec_bench.training.returned_shapes import shaped
from genrec_bench.training.settings import Settings
from genrec_bench.training.workers import Workers

PROMPTS_AT_ONCE = 512

SAMPLING_KEY = 0
"""Seeds all samples of an evaluation, which therefore leaves torch's generators alone."""

JUDGED_KEY = 0
"""Seeds the draw of the examples that a run is judged on, where these are not all."""

LOOKED_AT = ("HR@10", "NDCG@10")
"""Metrics of a look at validation data while training."""

LOOK_BEAM = 10
"""Beam width of such a look: these metrics need no wider one, and looks are many."""


@dataclass(frozen=True)
class Evaluation:
    """What was found on one split: figures by name, and a row for each example.

    Attributes:
        lists: what all of it was made of; None where they were not kept.
    """

    metrics: dict[str, float]
    outcomes: pd.DataFrame
    lists: Lists | None = None

    def ranked(self, examples: Examples) -> RankedLists:
        """The lists as metrics of one's own are given them."""
        assert self.lists is not None
        items = self.lists.items(self.lists.candidates.shape[1])
        return RankedLists(items, examples, self.lists.catalog)


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
    sampling: Settings | None = None,
    world: World | None = None,
    cutoffs: Sequence[int] = CUTOFFS,
) -> Evaluation:
    """Rank the catalog for every history, by constrained beam search or as the algorithm decodes.

    Args:
        beam_width: W, the length of the lists.
        algorithm: decodes, or ranks the beam's candidates anew, if it has a way to.
        sampling: settings that say how to draw candidates for Pass@k; None for no such figure.
        world: knows what the lists are worth; None for no such figure.
        cutoffs: K of the metrics.
    """
    policy.eval()
    mine = workers.mine(np.arange(len(examples)))
    # Histories of one length share a grid, so that little of it is padding.
    order = np.argsort(examples.history_lengths[mine], kind="stable")
    num_levels = catalog.num_levels
    num_samples = 0 if sampling is None else sampling.pass_samples
    # For each list: W rows of the catalog's SIDs, the codes that were really written, and S rows of
    # what was drawn.
    columns = beam_width * (1 + num_levels) + num_samples
    lists = np.empty((len(mine), columns), dtype=np.int32)
    with progress.bar(title, len(mine)) as bar:
        for start in range(0, len(mine), PROMPTS_AT_ONCE):
            part = order[start : start + PROMPTS_AT_ONCE]
            prompts = policy.prompt_format.encode(examples, mine[part]).to(policy.device)
            tree, drawn = in_smaller_passes(
                policy, partial(_candidates, policy, prompts, beam_width, algorithm, sampling)
            )
            leaves, _ = in_smaller_passes(
                policy, partial(_ranked, policy, prompts, tree, algorithm)
            )
            codes = policy.trie.code[policy.trie.prefixes(leaves)].flatten(1)
            columns_of_part = [policy.trie.sid_index(leaves), codes]
            if drawn is not None:
                columns_of_part.append(policy.trie.sid_index(drawn))
            lists[part] = torch.cat(columns_of_part, dim=1).cpu().numpy()
            bar.advance(len(part))
    lists = workers.interleave(lists)
    candidates = lists[:, :beam_width]
    written = lists[:, beam_width : columns - num_samples]
    written = written.reshape(len(lists), beam_width, num_levels)
    samples = lists[:, columns - num_samples :] if num_samples else None
    utilities = None if world is None else world.utilities(examples)
    found = Lists(candidates, examples.targets, catalog, written, utilities)
    return Evaluation(*evaluate_lists(found, samples, cutoffs), lists=found)


@torch.no_grad()
def ranked_leaves(
    policy: Policy, prompts: Prompts, width: int, algorithm: Algorithm | None
) -> tuple[Tensor, Tensor]:
    """Find candidates as an evaluation does: by the harness's beam, or as the algorithm decodes.

    Args:
        width: W, how many candidates.
        algorithm: decodes, or ranks the candidates anew, if it has a way to.

    Returns:
        [B, W] leaf states, best first, ``dead`` where there is none, and [B, W] the log-probability
        of each SID, -inf for none.
    """
    tree, _ = _candidates(policy, prompts, width, algorithm, None)
    return _ranked(policy, prompts, tree, algorithm)


def _ranked(
    policy: Policy, prompts: Prompts, tree: CandidateTree, algorithm: Algorithm | None
) -> tuple[Tensor, Tensor]:
    leaves = tree.leaves
    log_probs = tree.on_paths(tree.log_probs).sum(dim=-1).masked_fill(~tree.valid, -torch.inf)
    if algorithm is not None and algorithm.reranks:
        order = _new_order(policy, prompts, tree, algorithm)
        leaves, log_probs = leaves.gather(1, order), log_probs.gather(1, order)
    return leaves, log_probs


def _candidates(
    policy: Policy,
    prompts: Prompts,
    beam_width: int,
    algorithm: Algorithm | None,
    sampling: Settings | None,
) -> tuple[CandidateTree, Tensor | None]:
    """Return the lists of some prompts, and [B, S] the leaves drawn for Pass@k if any are."""
    own = None if algorithm is None or algorithm.decoding == "beam" else algorithm
    decode = beam_search if own is None else own.decode
    if sampling is None or not sampling.pass_samples:
        return decode(policy, prompts, beam_width), None
    count, key = sampling.pass_samples, SAMPLING_KEY
    temperature, top_p = sampling.pass_temperature, sampling.pass_top_p
    if sampling.mode == "reason":
        tree, most = decode(policy, prompts, beam_width), sampling.thought_tokens
        drawn = reason(
            policy, prompts, count, most=most, temperature=temperature, top_p=top_p, key=key
        )
        return tree, drawn.leaves
    if own is None:
        tree, samples = beam_and_samples(
            policy, prompts, beam_width, count, temperature=temperature, top_p=top_p, key=key
        )
    else:
        tree = own.decode(policy, prompts, beam_width)
        samples = sample(policy, prompts, count, temperature=temperature, top_p=top_p, key=key)
    return tree, samples.leaves


def judged(dataset: Dataset, split: str, settings: Settings) -> Examples:
    """Return the examples of a split that runs are judged on: all, or ``test_examples`` of them.

    Which ones depends on their number and the split's size alone, and so is equal in all runs.
    """
    examples, most = dataset.splits[split], settings.test_examples
    if not 0 < most < len(examples):
        return examples
    rng = np.random.default_rng(JUDGED_KEY)
    return examples.subset(np.sort(rng.choice(len(examples), size=most, replace=False)))


def validation(
    policy: Policy,
    dataset: Dataset,
    ledger: Ledger,
    workers: Workers,
    num_examples: int,
    seed: int,
    beam_width: int = LOOK_BEAM,
    algorithm: Algorithm | None = None,
) -> Callable[[int], dict[str, float]]:
    """Return what measures a policy while it trains, on the same few validation examples each time.

    Args:
        num_examples: to draw, or all that there are.
        beam_width: at most ``LOOK_BEAM`` is used.
        algorithm: see ``evaluate``; not asked after 0 steps, when its heads are untrained.

    Returns:
        A function that is given the number of steps taken and returns the metrics ``LOOKED_AT``.
    """
    count = min(num_examples, len(dataset.valid))
    chosen = np.random.default_rng(seed).choice(len(dataset.valid), size=count, replace=False)
    examples = dataset.valid.subset(np.sort(chosen))

    def look(step: int) -> dict[str, float]:
        with ledger.phase("evaluation"):
            found = evaluate(
                policy,
                examples,
                dataset.catalog,
                workers,
                min(beam_width, LOOK_BEAM),
                Progress(quiet=True),
                title="validation",
                algorithm=algorithm if step else None,
            )
        return {f"valid/{name}": found.metrics[name] for name in LOOKED_AT if name in found.metrics}

    return look


def _new_order(
    policy: Policy, prompts: Prompts, tree: CandidateTree, algorithm: Algorithm
) -> Tensor:
    """Return [B, W] the places of candidates, best first, by the algorithm's own score."""
    ranked = torch.full(tree.valid.shape, -torch.inf, device=tree.valid.device)
    for rows in chunks(prompts.lengths + tree.is_node.sum(dim=1), policy.tokens_per_forward):
        part = tree.select(rows)
        scores = score(policy, prompts.select(rows), part, leaves=True)
        said, size = algorithm.rerank(part, scores), tuple(part.valid.shape)
        ranked[rows] = shaped(algorithm, "rerank", said, "a score for each candidate, [B, W]", size)
    return ranked.argsort(dim=1, descending=True, stable=True)
