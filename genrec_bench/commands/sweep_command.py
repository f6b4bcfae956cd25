"""The command ``genrec-bench sweep``: tune an algorithm's hyperparameters within a total budget."""

from __future__ import annotations

import argparse
import json
import shlex
from typing import TYPE_CHECKING

from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Job, exact_budget
from genrec_bench.runs.options import (
    add_algorithm,
    add_context_options,
    add_crew_options,
    context_of,
    crew_of,
    one_seed,
    whole_number,
)
from genrec_bench.studies.sweeps.sweep_request import PRUNERS, SAMPLERS, TUNING_SEED, SweepRequest
from genrec_bench.tracking.tracker import Tracker
from genrec_bench.training.budgets import parse_budget

if TYPE_CHECKING:
    from genrec_bench.studies.sweeps.result import SweepResult

MOST_TRIALS = 100_000


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``sweep``."""
    parser.description = (
        "Tune an algorithm's hyperparameters by validation NDCG@10, in trials on a small budget "
        "each, until a total budget is spent; test examples are never read. The same command "
        "again goes on where it was cut short."
    )
    add_algorithm(parser)
    add_context_options(parser, budget=False)
    parser.add_argument(
        "--total-budget",
        required=True,
        metavar="B",
        help="of all trials together, those that fail or are pruned too: 6xsft, 2h, 3e14flop or "
        "200Mtok",
    )
    parser.add_argument(
        "--trial-budget", required=True, metavar="b", help="of one trial, in the same unit"
    )
    add_crew_options(parser, "trials")
    parser.add_argument(
        "--seed",
        type=one_seed,
        default=TUNING_SEED,
        metavar="N",
        help=f"of all trials; default: {TUNING_SEED}",
    )
    add_search_options(parser)
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")


def add_search_options(parser: argparse.ArgumentParser) -> None:
    """Add how a sweep searches, which a comparison's sweeps are told too."""
    parser.add_argument(
        "--trials",
        type=whole_number(1, MOST_TRIALS),
        metavar="N",
        help="most trials to run; default: as many as the budget pays for",
    )
    for name, choices, what in (
        ("--sampler", SAMPLERS, "how hyperparameters of a trial are chosen"),
        ("--pruner", PRUNERS, "which trials are given up early"),
    ):
        parser.add_argument(
            name, choices=choices, default=choices[0], help=f"{what}; default: {choices[0]}"
        )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="database of the trials, which workers on several machines can share, such as "
        "postgresql://USER@HOST/NAME; default: a file in the sweep's folder",
    )


def execute(args: argparse.Namespace) -> int:
    """Tune, and print the best configuration."""
    total = parse_budget(args.total_budget, "--total-budget")
    trial = parse_budget(args.trial_budget, "--trial-budget")
    if total.kind != trial.kind:
        # Before the SFT start is trained for a budget that is a multiple of its cost.
        raise UserError(
            f"--trial-budget {trial.shown}: is in {trial.kind}, --total-budget {total.shown} in "
            f"{total.kind}; give both in one unit"
        )
    if args.storage:
        # Imported here: what it stands on takes its time.
        from genrec_bench.studies.sweeps.database import check_address

        check_address(args.storage)
    crew_of(args).check(total)
    job = Job(args.algorithm, args.algorithm)
    with context_of(args, Tracker, [job]) as context:
        request = SweepRequest(
            algorithm=args.algorithm,
            total=exact_budget(total, job, context),
            trial=exact_budget(trial, job, context),
            most=args.trials,
            storage=args.storage,
            sampler=args.sampler,
            pruner=args.pruner,
            seed=args.seed,
        )
        from genrec_bench.studies.sweeps.sweep import sweep, sweep_together

        if not context.crew.alone:
            sweep_together(request, context)
        result = sweep(request, context)
    if args.json:
        print(json.dumps({**result.plain(), "folder": str(result.folder)}, indent=2))
    else:
        print(_summary(args, request, result))
    return 0


def _summary(args: argparse.Namespace, request: SweepRequest, result: SweepResult) -> str:
    """Return what came of a sweep, and the command that runs its best configuration."""
    counts = ", ".join(
        f"{result.count(state)} {state}"
        for state in ("complete", "pruned", "failed", "died")
        if result.count(state)
    )
    spent = result.charged / request.total.amount
    lines = [
        f"study {result.study}: {result.started} trials ({counts}), {spent:.1%} of "
        f"{request.total.text} spent",
        f"trials: {result.folder}",
    ]
    if result.best is None:
        lines.append("no trial came to its end: nothing is known that is better than the defaults")
        return "\n".join(lines)
    words = ["genrec-bench", "run", args.algorithm, "--dataset", args.dataset]
    for option in ("backbone", "preset"):
        if getattr(args, option) is not None:
            words += [f"--{option}", getattr(args, option)]
    words += ["--set", *args.set, *result.words]
    lines.append(f"best: trial {result.best.number}, validation NDCG@10 {result.best.value:.4f}")
    lines.append(shlex.join(words))
    return "\n".join(lines)
