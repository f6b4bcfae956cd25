"""Where RL gains: stops of SFT, budgets of RL and variants of the algorithm, each with its control.

*A stop* is an SFT start of its own that costs a share of what the whole one costs. It is trained
for that share of the whole one's epochs, those that it took and not those that it was allowed,
with a whole schedule: warm-up and decay lie within the share. So it is what somebody has who pays
for a quarter of SFT, not what a longer training had a quarter of the way, at a high learning rate.
Like every start it has the weights of its best validation; unlike the whole one it is not ended by
it, since it would then cost less than its share.

*A budget* is a multiple of what the whole start cost, whatever the stop. So cells of one column
cost the same after SFT, and a stop at a quarter with twice the budget has cost 2.25 times SFT.

*The control* of a cell is SFT continued, from the same stop, for the same budget and on the same
seed; it is the same for all variants.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Context, configure, request_of
from genrec_bench.studies.analyses import Analysis, Result
from genrec_bench.studies.analyses._regime_options import add_options, variant_name
from genrec_bench.studies.attempts import Failure

if TYPE_CHECKING:
    from genrec_bench.studies.analyses._regime_grid import Grid


def plan(context: Context, args: argparse.Namespace) -> str:
    """Say how many runs there are and what they cost; nothing is trained for it.

    Raises:
        UserError: as ``make_grid``.
    """
    from genrec_bench.boards.units import with_unit
    from genrec_bench.policy.backbones import find_backbone
    from genrec_bench.training.sft_start import cost_if_trained

    grid, dataset = _grid(context, args), context.dataset
    settings = configure(grid.whole, replace(context, assignments=()))[2]
    backbone = find_backbone(context.backbone)
    cost = cost_if_trained(backbone, dataset, settings, context.data_dir)
    count = len(grid.cells) * len(grid.seeds)
    rows = ", ".join([grid.control, *map(variant_name, grid.variants)])
    price, whole = f"{grid.price:g} times what the whole SFT start costs", ""
    if cost is not None:
        price += f", {with_unit(grid.price * cost.flops, 'flops')}"
        whole = f" The whole start cost {with_unit(cost.flops, 'flops')}."
    looks = min(settings.validation_examples, len(dataset.valid))
    looked = (settings.validations + 1) * looks if settings.validations else 0
    ranked = len(dataset.valid) + len(dataset.test) + looked
    return (
        f"The regime of {grid.algorithm} on {dataset.name}"
        f"{' (partial)' if dataset.partial else ''}: {len(grid.stops)} SFT starts x "
        f"{len(grid.budgets)} budgets x {len(grid.variants) + 1} rows ({rows}) x {len(grid.seeds)} "
        f"seeds: {count} runs.\nThey cost {price}.{whole} SFT starts that are not there yet cost "
        f"up to {sum(grid.stops):g} times as much as the whole one, once. Runs that are finished "
        f"cost nothing more.\nNot counted: a run ranks {ranked} examples, {looked} of them while "
        f"it trains; about {count * ranked} rankings in all."
    )


def analyze(context: Context, args: argparse.Namespace) -> Result:
    """Train the starts and all cells, or find them, and compare each cell with its control.

    Raises:
        UserError: as ``make_grid``; and if there is no SFT, or every run fails.
        StorageError: the disk refuses.
    """
    from genrec_bench.studies.analyses._regime_grid import carried_out, whole_start
    from genrec_bench.studies.analyses._regime_map import compare_cells, draw_map, words_of_map

    grid = _grid(context, args)
    for line in plan(context, args).splitlines():
        context.progress.say(line)
    # Each job has all its words: the control does not know those of the algorithm.
    context = replace(context, assignments=())
    request_of(grid.whole, context)
    whole = whole_start(grid, context)
    # Seed by seed, so that a map of few seeds is there early.
    jobs = {(cell, seed): grid.job(cell, seed, whole) for seed in grid.seeds for cell in grid.cells}
    runs = carried_out(jobs, context)
    made = {key: run for key, run in runs.items() if isinstance(run, Path)}
    failed = {key: run for key, run in runs.items() if isinstance(run, Failure)}
    if not made:
        raise UserError(f"every run failed, the first one: {next(iter(failed.values())).reason}")
    table = compare_cells(grid, made)
    notes = words_of_map(grid, table, args.over)
    for (cell, seed), failure in failed.items():
        notes.append(f"Failed: {grid.name(cell)}, seed {seed}: {failure.reason}")
    draw = partial(draw_map, table=table, grid=grid, over=args.over)
    return Result(table, draw, tuple(notes), tuple(made.values()), tuple(failed.values()))


ANALYSIS = Analysis(
    name="regime",
    help="where RL gains over SFT continued, by how far SFT went and by what RL may spend",
    add_options=add_options,
    run=analyze,
    plan=plan,
    one_budget=False,
)


def _grid(context: Context, args: argparse.Namespace) -> Grid:
    from genrec_bench.studies.analyses._regime_grid import make_grid

    axes = (args.stops, args.budgets, args.variants)
    return make_grid(args.algorithm, *axes, args.seeds, context)
