"""How training goes: first hits, coverage and candidates as the budget is spent (UGR, Figs. 3, 5).

The paper trains UGR with several ``alpha_min``, where 1 weighs all prompts alike (the same as
``difficulty=false``), and follows HR@1, HR@G and the unique candidates of a rollout. Any algorithm
and any of its hyperparameters can be compared in the same way.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Context, Job, configure
from genrec_bench.runs.options import add_seeds_options, whole_number
from genrec_bench.runs.records import read_record
from genrec_bench.storage.figures import MARKERS, PALETTE
from genrec_bench.studies.analyses import Analysis, Result, check_free
from genrec_bench.studies.parallel import do_all

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_VARIANTS = len(PALETTE)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add what is compared, over which seeds, and how finely."""
    parser.add_argument("--algorithm", default="ugr", metavar="ALGO", help="default: ugr")
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--vary",
        default="alpha_min=0,0.5,1",
        metavar="key=v1,v2",
        help="a hyperparameter or setting and its values; default: alpha_min=0,0.5,1",
    )
    which.add_argument(
        "--alphas",
        dest="vary",
        type=lambda text: f"alpha_min={text}",
        metavar="v1,v2",
        help="short for --vary alpha_min=v1,v2",
    )
    add_seeds_options(parser, 1, 1)
    parser.add_argument(
        "--windows",
        type=whole_number(1, 10_000),
        default=20,
        metavar="N",
        help="equal parts of the budget, each a row of the table; default: 20",
    )


def windows(curves: pd.DataFrame, count: int, columns: Sequence[str]) -> pd.DataFrame:
    """Average a run's curves over equal parts of its budget.

    Args:
        curves: one row for each step, with the share of the budget that was spent after it.
        count: number of parts. A step belongs to the part that its end lies in.
        columns: what to average; each step counts alike.

    Returns:
        One row for each part that a step ended in: its end as ``share``, and the means.
    """
    # The small number keeps a share such as 0.15, in binary a little more, in its own part.
    part = np.ceil(curves["share"].to_numpy() * count - 1e-9).clip(1, count)
    means = curves[list(columns)].groupby(part).mean()
    means.insert(0, "share", means.index.to_numpy() / count)
    return means.reset_index(drop=True)


def over_seeds(runs: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Average the windows of several seeds.

    Args:
        runs: from ``windows``, with the same columns.

    Returns:
        One row for each window: ``share``, how many seeds have a step in it, the means, and for
        each mean the sample standard deviation over seeds (``… std``), if there are several seeds.
    """
    groups = pd.concat(runs, ignore_index=True).groupby("share")
    table = groups.mean()
    if len(runs) > 1:
        table = table.join(groups.std(ddof=1).add_suffix(" std"))
    table.insert(0, "seeds", groups.size())
    return table.reset_index()


def analyze(context: Context, args: argparse.Namespace) -> Result:
    """Run every value with every seed, and put their curves side by side.

    Raises:
        UserError: on values that cannot be, or an algorithm that makes no rollouts.
    """
    jobs = _jobs(args.algorithm, args.vary, args.seeds)
    check_free(context, args.vary.partition("=")[0])
    group_sizes = set()
    # All are looked at before the first is run.
    for job in (job for same in jobs.values() for job in same):
        _, algorithm, settings = configure(job, context)
        if not algorithm.on_policy:
            raise UserError(f"{args.algorithm} makes no rollouts, so there is nothing to follow")
        group_sizes.add(settings.group_size)
    if len(group_sizes) > 1:
        raise UserError(f"--vary {args.vary}: HR@G means nothing where G differs")
    (group_size,) = group_sizes
    # A group of one has only one of the first two.
    columns = list(dict.fromkeys(["HR@1", f"HR@{group_size}", "unique_candidates"]))
    tables, records = {}, do_all([job for same in jobs.values() for job in same], context)
    paths = iter(records)
    for label, same in jobs.items():
        curves = []
        for path in (next(paths) for _ in same):
            figures = read_record(path).curves
            # The row of the start has nothing of a rollout.
            curves.append(figures[figures["step"] > 0])
        tables[label] = over_seeds([windows(each, args.windows, columns) for each in curves])
    table = pd.concat(
        [each.assign(variant=label) for label, each in tables.items()], ignore_index=True
    )
    table = table[["variant", *(name for name in table.columns if name != "variant")]]
    notes = _notes(tables, columns, group_size, len(args.seeds))
    draw = partial(_draw, tables=tables, columns=columns)
    return Result(table, draw, notes, tuple(records))


ANALYSIS = Analysis(
    name="dynamics",
    help="HR@1, HR@G and unique candidates during training (UGR, Figures 3 and 5)",
    add_options=add_options,
    run=analyze,
)


def _jobs(algorithm: str, vary: str, seeds: Sequence[int]) -> dict[str, list[Job]]:
    """Return the jobs of each variant, by its label."""
    name, _, text = vary.partition("=")
    values = [value.strip() for value in text.split(",")]
    if not name or not all(values):
        raise UserError(f"--vary {vary}: must be key=v1,v2")
    labels = [f"{name}={value}" for value in values]
    if len(set(labels)) < len(labels):
        raise UserError(f"--vary {vary}: a value is given twice")
    if len(labels) > MOST_VARIANTS:
        raise UserError(f"--vary {vary}: at most {MOST_VARIANTS} values can be told apart")
    return {
        label: [Job(f"{algorithm} {label}", algorithm, (label,), seed) for seed in seeds]
        for label in labels
    }


def _notes(
    tables: Mapping[str, pd.DataFrame], columns: Sequence[str], group_size: int, seeds: int
) -> tuple[str, ...]:
    notes = [
        "Each row is the mean over the steps that ended in a window of the budget; `share` is "
        "where the window ends. The figures are those of the rollouts themselves, that is of a "
        "step's training prompts, counted by SID; the paper does not say on which prompts its "
        "curves are. At one seed all variants see the same prompts in the same order, so that "
        "curves are better compared with each other than along themselves.",
        "The paper shows (Figures 3 and 5; Qwen3-8B, Office and Industrial) that without "
        "difficulty weights (alpha_min=1) HR@1, HR@G and the unique candidates fall after an "
        "early peak, and that with alpha_min=0 they keep rising or stay.",
    ]
    unique = pd.concat([table["unique_candidates"] for table in tables.values()])
    if bool((unique == group_size).all()):
        notes.append(
            "Unique candidates cannot fall here: a beam held to the catalog finds as many distinct "
            "candidates as the group has places, unless the catalog has fewer."
        )
    if seeds > 1:
        notes.append("`std`: sample standard deviation over seeds, shaded in the figure.")
    return tuple(notes)


def _draw(figure: Figure, tables: Mapping[str, pd.DataFrame], columns: Sequence[str]) -> None:
    figure.set_size_inches(11.0, 4.2)
    axes = figure.subplots(1, len(columns))
    titles = [*columns[:-1], "unique candidates of a group"]
    for axis, column, title in zip(axes, columns, titles, strict=True):
        for place, (label, table) in enumerate(tables.items()):
            share = 100 * table["share"]
            colour = PALETTE[place]
            axis.plot(
                share,
                table[column],
                color=colour,
                marker=MARKERS[place],
                markersize=4,
                # Thinner from curve to curve, so that equal ones do not hide each other.
                linewidth=1.0 + 1.5 * (len(tables) - 1 - place) / len(tables),
                label=label,
            )
            if f"{column} std" in table:
                low = table[column] - table[f"{column} std"]
                high = table[column] + table[f"{column} std"]
                axis.fill_between(share, low, high, color=colour, alpha=0.15, linewidth=0)
        axis.set_title(title, fontsize="medium")
        axis.set_xlabel("share of the budget (%)")
        axis.set_xlim(0, 103)
        axis.grid(alpha=0.3)
    axes[-1].set_ylim(bottom=0)
    axes[0].set_ylabel("mean over the training prompts of a window")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)
