"""How varied candidate sets are, and how good the best of each set is (V-STAR, Table 6).

One trained V-STAR policy is asked for sets of candidates in three ways: beam, top-k sampling
without replacement, and VED. Each set holds distinct SIDs.
"""

from __future__ import annotations

import argparse
from functools import partial
from typing import TYPE_CHECKING

import pandas as pd

from genrec_bench.progress import Progress
from genrec_bench.runs.jobs import Context, Job, configure, do, load_policy
from genrec_bench.storage.figures import PALETTE
from genrec_bench.studies.analyses import Analysis, Result, add_query_options, check_free

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from genrec_bench.data.dataset import Examples
    from genrec_bench.policy.policy import Policy
    from genrec_bench.training.base_algorithm import Algorithm

DECODERS = ("beam", "top-k", "ved")


def measure(
    policy: Policy,
    algorithm: Algorithm,
    examples: Examples,
    size: int,
    progress: Progress,
    title: str = "sets",
) -> dict[str, float]:
    """Decode a set for each example, as the algorithm's evaluation would.

    Args:
        policy: in evaluation mode; its meter is replaced and taken away.

    Returns:
        ``Div``, mean over sets of the mean distance of two candidates (nan if no set has two);
        ``MaxReward``, mean over sets of the best candidate's reward, 1 if it is the target's SID;
        ``candidates``, mean number of real ones in a set; ``decoding tokens``, mean number of
        tokens beyond the prompt, the first prediction counted as one.
    """
    import torch

    from genrec_bench.decoding.beam import beam_search
    from genrec_bench.policy.policy import WorkCount
    from genrec_bench.studies.analyses._candidate_sets import batches, pair_distances

    count = WorkCount()
    distances, best, real = [], [], []
    prompt_tokens = 0
    policy.meter = count
    try:
        with torch.no_grad(), progress.bar(title, len(examples)) as bar:
            for prompts, targets in batches(policy, examples):
                if algorithm.decoding == "beam":
                    tree = beam_search(policy, prompts, size)
                else:
                    tree = algorithm.decode(policy, prompts, size)
                prompt_tokens += int(prompts.lengths.sum())
                distances.append(pair_distances(tree))
                best.append(tree.hits(targets).any(dim=1).double())
                real.append(tree.valid.sum(dim=1).double())
                bar.advance(len(prompts))
    finally:
        policy.meter = None
    return {
        "Div": float(torch.cat(distances).nanmean()),
        "MaxReward": float(torch.cat(best).mean()),
        "candidates": float(torch.cat(real).mean()),
        "decoding tokens": 1.0 + (count.tokens - prompt_tokens) / len(examples),
    }


def analyze(context: Context, args: argparse.Namespace) -> Result:
    """Train V-STAR, or find it, and decode in the three ways.

    Raises:
        UserError: on words that V-STAR or the settings do not know.
    """
    check_free(context, "inference")
    jobs = {
        decoder: Job(f"vstar, {decoder}", "vstar", (f"inference={decoder}",), args.seed)
        for decoder in DECODERS
    }
    # Only how candidates are found in evaluation differs, so one training serves all.
    record = do(jobs["beam"], context)
    policy, _ = load_policy(record, jobs["beam"], context)

    from genrec_bench.studies.analyses._candidate_sets import choose

    examples = choose(context.dataset.test, args.examples)
    rows = []
    for decoder, job in jobs.items():
        context.progress.say(f"{len(examples)} sets of {args.size} candidates by {decoder}")
        _, algorithm, _ = configure(job, context)
        found = measure(policy, algorithm, examples, args.size, context.progress, decoder)
        rows.append({"decoder": decoder, **found})
    table = pd.DataFrame(rows)
    return Result(table, partial(_draw, table=table), _notes(len(examples), args.size), (record,))


ANALYSIS = Analysis(
    name="diversity",
    help="how varied candidate sets are by beam, top-k and VED (V-STAR, Table 6)",
    add_options=partial(add_query_options, size="candidates of a set"),
    run=analyze,
)


def _notes(queries: int, size: int) -> tuple[str, ...]:
    return (
        f"Sets of {size} candidates for {queries} test examples, from one policy trained by "
        "V-STAR. `Div`: mean over sets of the mean over pairs of 1 - LCP / L, where LCP is how "
        "many leading codes two SIDs share. `MaxReward`: mean over sets of the best reward, here 1 "
        "for the target's SID and else 0; the paper does not say which reward it takes. "
        "`decoding tokens`: per query, beyond the prompt; top-k and beam spend less where the "
        "catalog has fewer prefixes than places, and read no leaves, as VED does for their value. "
        "With `--set counted=beam` VED's leaves come on top of a beam's tokens.",
        "The paper (Table 6; Qwen2.5-1.5B, sets of 64), Div and MaxReward, Industrial then Office: "
        "beam 0.7949 0.2303, 0.8624 0.2321; top-k 0.8089 0.2246, 0.8856 0.2160; VED 0.8167 0.2475, "
        "0.8852 0.2473. Settings differ from ours: compare directions, not numbers.",
    )


def _draw(figure: Figure, table: pd.DataFrame) -> None:
    figure.set_size_inches(8.0, 3.6)
    titles = {
        "Div": "diversity of a set (mean 1 - LCP / L)",
        "MaxReward": "best reward of a set (mean)",
    }
    for axis, (column, title) in zip(figure.subplots(1, 2), titles.items(), strict=True):
        bars = axis.bar(table["decoder"], table[column], color=PALETTE[: len(table)], width=0.6)
        axis.bar_label(bars, fmt="%.3f", padding=2, fontsize="small")
        axis.set_title(title, fontsize="medium")
        axis.set_xlabel("decoder")
        axis.margins(y=0.15)
