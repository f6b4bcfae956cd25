"""The command ``genrec-bench compare``: a fair comparison, from tuning to the board, as one job."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING

from genrec_bench.commands.sweep_command import add_search_options
from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Context, Job, configure, exact_budget
from genrec_bench.runs.options import (
    BUDGET_HELP,
    DATASET,
    add_context_options,
    add_crew_options,
    add_seeds_options,
    context_of,
)
from genrec_bench.storage.bounded_json import decode_json
from genrec_bench.studies.comparison.pace import Pace
from genrec_bench.studies.comparison.plan import (
    Plan,
    control_job,
    control_row,
    make_rows,
    more_text,
    plan_text,
    scaled,
)
from genrec_bench.studies.sweeps.sweep_request import TUNING_SEED
from genrec_bench.tracking.tracker import Tracker
from genrec_bench.training.budgets import Budget, parse_budget

if TYPE_CHECKING:
    from genrec_bench.boards.board import Board
    from genrec_bench.studies.comparison.comparison_result import ComparisonResult

ALGORITHMS = "grpo,ugr,srpo,vstar"
CONTROLS = "sft,grpo:reward=random"
BUDGET = "2xsft"
SEEDS = 10
"""Defaults. Published runs spend 3 to 11 times SFT's time; at 1.3 times gains show on `synthetic`
that were not there at 0.07 times. All of it takes a night on two cores."""

QUICK_BUDGET, QUICK_CONTROLS, QUICK_SEEDS = "0.5xsft", "sft", 3
"""Defaults of ``--quick``: no tuning, and the least budget that moves a policy, so that `synthetic`
takes half an hour on two cores. The verdict needs a spread over seeds, and SFT continued."""

TUNING_SHARE, TRIAL_SHARE = 3.0, 0.5
"""Default budgets of a sweep and of a trial, as shares of the training's: a trial that is too short
favours large learning rates, and tuning that costs far more than training nobody would pay."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``compare``."""
    parser.description = (
        "Tune every algorithm within the same budget, run the best configuration of each on fresh "
        "seeds at equal training budget, with controls beside them, and make the board. The plan "
        "and its price are printed first. The same command again goes on where it was cut short; "
        "more seeds can be added later."
    )
    add_context_options(parser, budget=False)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="a first answer: every algorithm with its default hyperparameters unless a tuning "
        f"budget is given, and other defaults: --budget {QUICK_BUDGET} --seeds {QUICK_SEEDS} "
        f"--controls {QUICK_CONTROLS}; says what the full comparison adds and costs",
    )
    parser.add_argument(
        "--budget",
        metavar="B",
        help=f"of each training: {BUDGET_HELP}; default: {BUDGET}",
    )
    parser.add_argument(
        "--algorithms",
        default=ALGORITHMS,
        metavar="ALGO,ALGO,...",
        help=f"names, or paths of Python files; default: {ALGORITHMS}",
    )
    parser.add_argument(
        "--controls",
        metavar="ALGO[:key=value...],...",
        help="what every algorithm has to beat, not tuned; one that is among --algorithms too is "
        f"left out; default: {CONTROLS}",
    )
    parser.add_argument(
        "--tuning-budget",
        metavar="T",
        help=f"of all trials of one algorithm; default: {TUNING_SHARE:g} times --budget",
    )
    parser.add_argument(
        "--trial-budget",
        metavar="b",
        help=f"of the training of one trial; default: {TRIAL_SHARE:g} times --budget",
    )
    add_seeds_options(parser, None, SEEDS)
    parser.add_argument(
        "--suite",
        choices=("claims",),
        help="in place of one --dataset: claims compares in the four worlds that were made for the "
        "papers' claims, and writes one page of verdicts",
    )
    add_search_options(parser)
    add_crew_options(parser, "sweeps and runs")
    parser.add_argument("--plan", action="store_true", help="print plan and price, and stop")
    parser.add_argument(
        "--retry-failed", action="store_true", help="try again what failed when it was run before"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")


def execute(args: argparse.Namespace) -> int:
    """Compare, or print the plan of it; return 0 if nothing failed."""
    if args.suite:
        return _execute_suite(args)
    with context_of(args, Tracker, first_jobs(args)) as context:
        from genrec_bench.studies.attempts import exit_code
        from genrec_bench.studies.comparison.compare import first_pace
        from genrec_bench.studies.comparison.report import result_values, summary

        if args.plan:
            plan, full = _plans(args, context)
            pace = first_pace(plan, context)
            text, code = _told(plan, pace, context, args.json), 0
            more = more_text(plan, full, pace) if full else ""
        else:
            result, folder, board, more = compared(args, context)
            if args.json:
                values = result_values(result, folder) | {"folder": folder.as_posix()}
                text = json.dumps(values, indent=2, ensure_ascii=False)
            else:
                text = summary(result, folder, board)
            code = exit_code(failure for _, _, failure in result.failures)
        if more and not args.json:
            text += f"\n\n{more}"
    print(text)
    return code


def compared(
    args: argparse.Namespace, context: Context
) -> tuple[ComparisonResult, Path, Board, str]:
    """Carry a comparison out.

    Args:
        args: of this command's options.

    Returns:
        What came of it, its folder, its board, and for a quick one what the full one adds.

    Raises:
        UserError: a mistake in what was asked for.
    """
    from genrec_bench.studies.comparison.compare import compare, first_pace
    from genrec_bench.studies.comparison.report import write_board

    plan, full = _plans(args, context)
    pace = first_pace(plan, context)
    result, folder, board = compare(
        plan, context, pace, storage=args.storage, retry_failed=args.retry_failed
    )
    more = more_text(plan, full, pace) if full else ""
    if more:
        board = write_board(result, folder, more)
    return result, folder, board, more


def _plans(args: argparse.Namespace, context: Context) -> tuple[Plan, Plan | None]:
    """Return the plan, and for a quick comparison the full one's."""
    plan = _plan(args, context, quick=args.quick)
    return plan, _plan(args, context, quick=False) if args.quick else None


def _told(plan: Plan, pace: Pace, context: Context, as_json: bool) -> str:
    """Return the plan and its price; where there is an SFT start, what it means for each row."""
    from genrec_bench.studies.comparison import calibration
    from genrec_bench.studies.comparison.power import outlook_on_power

    known = calibration.check_budgets(plan, context)
    rows = calibration.outlook(plan, known, pace) if known else []
    if as_json:
        told = [dataclasses.asdict(row) for row in rows]
        return json.dumps(plan.as_dict() | {"rows": told}, indent=2)
    parts = [plan_text(plan, pace), calibration.outlook_text(rows) if rows else ""]
    parts += [outlook_on_power(plan, context) if known else ""]
    return "\n\n".join(part for part in parts if part)


def _execute_suite(args: argparse.Namespace) -> int:
    """Compare in all worlds of a suite, or print the plans; return 0 if nothing failed."""
    from genrec_bench.boards.claims import SUITES, verdict_table
    from genrec_bench.studies.attempts import exit_code
    from genrec_bench.studies.comparison import suites
    from genrec_bench.studies.comparison.compare import first_pace

    if args.dataset != DATASET:
        raise UserError(f"--suite {args.suite} brings its own datasets; leave out --dataset")
    with contextlib.ExitStack() as stack:
        worlds = []
        for claim in SUITES[args.suite]:
            words = argparse.Namespace(**{**vars(args), "dataset": claim.dataset})
            context = stack.enter_context(context_of(words, Tracker, first_jobs(words)))
            plan = _plan(words, context, quick=args.quick)
            worlds.append(suites.SuitePart(claim, plan, context, first_pace(plan, context)))
        if args.plan:
            told = [_told(one.plan, one.pace, one.context, args.json) for one in worlds]
            text, code = "\n\n".join([*told, suites.suite_price_text(worlds)]), 0
            if args.json:
                text = json.dumps([decode_json(one) for one in told], indent=2)
        else:
            done, folder = suites.compare_suite(
                args.suite, worlds, storage=args.storage, retry_failed=args.retry_failed
            )
            results = [world.done[0] for world in done if world.done]
            code = exit_code(failure for one in results for _, _, failure in one.failures)
            if args.json:
                values = {"verdicts": suites.suite_values(done), "folder": folder.as_posix()}
                text = json.dumps(values, indent=2, ensure_ascii=False)
            else:
                table = verdict_table([one.tried(folder) for one in done], "simple")
                text = f"{table}\n\nwritten: {folder / suites.PAGE}"
    print(text)
    return code


def first_jobs(args: argparse.Namespace) -> list[Job]:
    """Return the algorithms and the controls that are given, as what they will be run as."""
    controls = _listed(QUICK_CONTROLS if args.quick else CONTROLS)
    if args.controls is not None:
        controls = _listed(args.controls)
    tuned = [Job(word, word) for word in _listed(args.algorithms)]
    return [*tuned, *map(control_job, controls)]


def _plan(args: argparse.Namespace, context: Context, *, quick: bool) -> Plan:
    """Return what the options ask for, with the defaults of a quick comparison or the full one.

    Raises:
        UserError: they do not fit each other, or name what is not there.
    """
    from genrec_bench.policy.backbones import backbone_name
    from genrec_bench.training.evaluate import judged

    given = _listed(args.algorithms)
    if not given:
        raise UserError("--algorithms: name at least one")
    usual = (QUICK_BUDGET, QUICK_CONTROLS, QUICK_SEEDS) if quick else (BUDGET, CONTROLS, SEEDS)
    found = [configure(Job(word, word), context) for word in given]
    wanted: str = usual[1] if args.controls is None else args.controls
    # Before an SFT start is trained for a budget that is a multiple of its cost.
    known = [control_row(text, context) for text in _listed(wanted)]
    settings, dataset = found[0][2], context.dataset

    def read(text: str, option: str) -> Budget:
        return exact_budget(parse_budget(text, option), Job(given[0], given[0]), context)

    seeds: tuple[int, ...] = args.seeds or tuple(range(usual[2]))
    if TUNING_SEED in seeds:
        raise UserError(f"--seeds: {TUNING_SEED} is the seed of tuning, whose luck must not count")
    untuned = quick and args.tuning_budget is None and args.trials is None
    budget = read(usual[0] if args.budget is None else args.budget, "--budget")
    context.crew.check(budget)
    tuning, trial = (
        scaled(budget, share, option) if text is None else read(text, option)
        for option, text, share in (
            ("--tuning-budget", args.tuning_budget, TUNING_SHARE),
            ("--trial-budget", args.trial_budget, TRIAL_SHARE),
        )
    )
    tuned, controls = make_rows([entry.name for entry, _, _ in found], given, known)
    return Plan(
        dataset=dataset.name,
        partial=dataset.partial,
        backbone=backbone_name(context.backbone),
        tuned=tuned,
        controls=controls,
        seeds=seeds,
        tuning=tuning,
        trial=trial,
        budget=budget,
        most_trials=0 if untuned else args.trials,
        sampler=args.sampler,
        pruner=args.pruner,
        assignments=context.assignments,
        examples={split: len(judged(dataset, split, settings)) for split in ("valid", "test")},
        validations=settings.validations,
        validation_examples=min(settings.validation_examples, len(dataset.valid)),
        preset=context.preset.name if context.preset else "",
    )


def _listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]
