"""Do probability and value rank prefixes as the reward does, level by level? (V-STAR, Figure 3).

For each query a pool of SIDs is sampled at a high temperature from three policies: the SFT start,
one trained by GRPO on beams, and one trained by V-STAR; or all are asked about the SFT start's.
Prefixes of a level are ranked by their log-probability, and for V-STAR by its value too, and by the
mean reward of the pool's SIDs that share the prefix; Spearman's correlation of both rankings is
averaged over queries.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING

import pandas as pd

from genrec_bench.errors import UserError
from genrec_bench.progress import Progress
from genrec_bench.runs.jobs import Context, Job, configure, load_policy, start_policy
from genrec_bench.storage.figures import MARKERS, PALETTE
from genrec_bench.studies.analyses import Analysis, Result, add_query_options, check_free
from genrec_bench.studies.parallel import do_all

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from genrec_bench.data.dataset import Examples
    from genrec_bench.policy.policy import Policy
    from genrec_bench.training.base_algorithm import Algorithm

KEY = 0
"""Of the draws: pools are repeatable, and torch's generator is left alone."""

GRPO = {"training": "beam", "objective": "grpo", "value_weight": "0"}
"""What turns V-STAR into GRPO on beams."""

PROBABILITY, VALUE = "probability", "value"

HIT, SEMANTIC = "hit", "semantic"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the pool, the queries, the reward, and what V-STAR alone is told."""
    add_query_options(parser, "SIDs of a pool")
    parser.add_argument(
        "--temperature", type=_temperature, default=1.5, metavar="T", help="default: 1.5"
    )
    parser.add_argument(
        "--reward",
        choices=("both", HIT, SEMANTIC),
        default="both",
        help="hit: 1 for the target's SID; semantic: nearness to it, -(1 - cos), for the others; "
        "default: both",
    )
    parser.add_argument(
        "--shared-pools",
        action="store_true",
        help="ask all policies about the SIDs that the SFT start draws, not about their own",
    )
    parser.add_argument(
        "--vstar",
        nargs="+",
        default=[],
        metavar="key=value",
        help="hyperparameters for V-STAR alone; --set is for all runs",
    )


def correlations(
    policy: Policy,
    examples: Examples,
    progress: Progress,
    *,
    size: int,
    temperature: float,
    rewards: Mapping[str, Tensor | None] = MappingProxyType({HIT: None}),
    valued_by: Algorithm | None = None,
    drawn_by: Policy | None = None,
) -> pd.DataFrame:
    """Sample a pool for each example, and correlate.

    Args:
        policy: in evaluation mode.
        size: SIDs of a pool; one that is drawn twice is there twice.
        temperature: of the draws; log-probabilities are those of temperature 1.
        rewards: embeddings [num_sids, E] for a semantic reward, None for the hit, by its name.
        valued_by: an algorithm that estimates values, to be correlated too.
        drawn_by: the policy that draws the pools, if it is another one.

    Returns:
        One row for each reward, signal and level: ``reward``, ``signal``, ``level``, ``Spearman``
        (mean over the queries where it is defined, nan if there is none), and ``queries``, how
        many these are.
    """
    import torch

    from genrec_bench.decoding.sampling import sample
    from genrec_bench.studies.analyses import _candidate_sets as sets

    found: dict[tuple[str, str, int], list[Tensor]] = {}
    with torch.no_grad(), progress.bar("pools", len(examples)) as bar:
        for prompts, targets in sets.batches(policy, examples):
            tree = sample(drawn_by or policy, prompts, size, temperature=temperature, key=KEY)
            if drawn_by is not None:
                tree = sets.scored_by(policy, prompts, tree)
            signals = {PROBABILITY: sets.prefix_log_probs(tree)}
            if valued_by is not None:
                signals[VALUE] = sets.prefix_values(policy, valued_by, prompts, tree)
            for reward, embeddings in rewards.items():
                worth = sets.candidate_rewards(tree, targets, embeddings)
                worth = sets.prefix_rewards(tree, worth)
                for name, signal in signals.items():
                    for level in range(1, tree.trie.num_levels + 1):
                        of_level = tree.is_node & (tree.levels == level)
                        each = sets.spearman(signal, worth, of_level)
                        found.setdefault((reward, name, level), []).append(each)
            bar.advance(len(prompts))
    rows: list[dict[str, str | int | float]] = []
    for (reward, name, level), parts in found.items():
        each = torch.cat(parts)
        row: dict[str, str | int | float]
        row = {"reward": reward, "signal": name, "level": level, "Spearman": float(each.nanmean())}
        rows.append({**row, "queries": int((~each.isnan()).sum())})
    return pd.DataFrame(rows)


def analyze(context: Context, args: argparse.Namespace) -> Result:
    """Train the three policies, or find them, and correlate.

    Raises:
        UserError: on words that are not known, or a V-STAR without values.
    """
    check_free(context, *GRPO, *(word.partition("=")[0] for word in args.vstar))
    # V-STAR without its parts, so that reward and divergence are the same in both.
    words = tuple(f"{key}={text}" for key, text in GRPO.items())
    grpo = Job("beam + GRPO", "vstar", words, args.seed)
    vstar = Job("V-STAR", "vstar", tuple(args.vstar), args.seed)
    configure(grpo, context)
    _, algorithm, settings = configure(vstar, context)
    if not algorithm.estimates_values:
        raise UserError("--vstar value_weight=0: V-STAR then has no values to correlate")

    from genrec_bench.studies.analyses._candidate_sets import choose

    rewards: dict[str, Tensor | None] = {} if args.reward == SEMANTIC else {HIT: None}
    if args.reward != HIT:
        from genrec_bench.runs.post_training import device_embeddings

        rewards[SEMANTIC] = device_embeddings(
            context.dataset, settings, context.data_dir, context.workers
        )
    examples = choose(context.dataset.test, args.examples)
    measure = partial(
        correlations,
        examples=examples,
        progress=context.progress,
        size=args.size,
        temperature=args.temperature,
        rewards=rewards,
    )
    start = start_policy(context, vstar)
    tables = {"SFT start": measure(start)}
    drawn_by = start if args.shared_pools else None
    records = do_all((grpo, vstar), context)
    for job, record in zip((grpo, vstar), records, strict=True):
        context.progress.say(f"{len(examples)} pools of {args.size} SIDs from {job.label}")
        policy, algorithm = load_policy(record, job, context)
        valued_by = algorithm if algorithm.estimates_values else None
        tables[job.label] = measure(policy, valued_by=valued_by, drawn_by=drawn_by)
    table = pd.concat(
        [each.assign(policy=label) for label, each in tables.items()], ignore_index=True
    )
    table = table[["reward", "policy", "signal", "level", "Spearman", "queries"]]
    table = table.sort_values("reward", kind="stable", ignore_index=True)
    notes = _notes(args, len(examples))
    return Result(table, partial(_draw, table=table), notes, tuple(records))


ANALYSIS = Analysis(
    name="correlation",
    help="how probability and value rank prefixes, beside the reward (V-STAR, Figure 3)",
    add_options=add_options,
    run=analyze,
)


def _notes(args: argparse.Namespace, queries: int) -> tuple[str, ...]:
    meanings = {
        HIT: "1 for the target's SID and else 0; a query whose pool misses the target, or where "
        "all prefixes of a level have the same mean, has no correlation there",
        SEMANTIC: "1 for the target's SID and else -(1 - cos) of the embeddings",
    }
    reward = "; ".join(
        f"{name}: {meaning}" for name, meaning in meanings.items() if args.reward in ("both", name)
    )
    pools = (
        "All policies are asked about the pools of the SFT start."
        if args.shared_pools
        else "Queries differ from row to row: each policy has pools of its own."
    )
    return (
        f"Pools of {args.size} SIDs for {queries} test examples, drawn at the temperature "
        f"{args.temperature:g}. `Spearman`: over the distinct prefixes of a pool, between the "
        "signal and the mean reward of the pool's SIDs that share the prefix, averaged over the "
        f"`queries` where it is defined. Reward: {reward}. The paper does not say which reward it "
        "takes.",
        f"{pools} `beam + GRPO` is V-STAR without its search, siblings and value, so that reward "
        "and divergence are the same.",
        "The paper finds (Figure 3; Qwen2.5-1.5B) that the value ranks best, most clearly so at "
        "the last level, and that the probabilities of V-STAR rank better than those of GRPO on "
        "beams, and these better than those of SFT.",
    )


def _draw(figure: Figure, table: pd.DataFrame) -> None:
    rewards = table["reward"].unique()
    axes = figure.subplots(1, len(rewards), squeeze=False)[0]
    for axis, reward in zip(axes, rewards, strict=True):
        groups = table[table["reward"] == reward].groupby(["policy", "signal"], sort=False)
        for place, ((policy, signal), rows) in enumerate(groups):
            axis.plot(
                rows["level"],
                rows["Spearman"],
                color=PALETTE[place],
                marker=MARKERS[place],
                linestyle="--" if signal == VALUE else "-",
                label=f"{policy}: {signal}",
            )
        axis.axhline(0.0, color="grey", linewidth=0.8)
        axis.set_xticks(sorted(table["level"].unique()))
        axis.set_xlabel("level of the SID (codes in the prefix)")
        axis.set_title(f"reward: {reward}", fontsize="medium")
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("Spearman's correlation with the reward\n(mean over queries)")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text}: must be a positive number")
    return value
