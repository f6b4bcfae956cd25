"""The command ``genrec-bench compare``: a fair comparison, from tuning to the board, as one job."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genrec_bench.commands.sweep_command import add_search_options
from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Context, Job, configure
from genrec_bench.runs.options import add_context_options, context_of, whole_number
from genrec_bench.studies.comparison.pace import Pace
from genrec_bench.studies.comparison.plan import (
    ALGORITHMS,
    BUDGET,
    SEEDS,
    TRIAL_SHARE,
    TUNING_SHARE,
    Plan,
    make_rows,
    render,
    scaled,
)
from genrec_bench.training.budgets import parse_budget

PLAN_FILE, RESULT_FILE = "plan.json", "result.json"
MOST_SEEDS = 1000


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
        "--budget",
        default=BUDGET,
        metavar="B",
        help=f"of each training: 90s, 2h, 3e13flop or 20Mtok; default: {BUDGET}",
    )
    parser.add_argument(
        "--algorithms",
        default=ALGORITHMS,
        metavar="ALGO,ALGO,...",
        help=f"names, or paths of Python files; default: {ALGORITHMS}",
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
    parser.add_argument(
        "--seeds",
        type=whole_number(1, MOST_SEEDS),
        default=SEEDS,
        metavar="N",
        help=f"number of runs of each algorithm, on the seeds 0 to N-1; default: {SEEDS}",
    )
    add_search_options(parser)
    parser.add_argument("--plan", action="store_true", help="print plan and price, and stop")
    parser.add_argument(
        "--retry-failed", action="store_true", help="try again what failed when it was run before"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")


def execute(args: argparse.Namespace) -> int:
    """Compare, or print the plan of it; return 0 if nothing failed."""
    with context_of(args) as context:
        if context.workers.count > 1:
            raise UserError(
                f"compare runs in one process, not in {context.workers.count}: its sweeps do; "
                "start it without a launcher"
            )
        plan = _plan(args, context)
        pace = _pace(plan, context)
        if args.plan:
            text = render(plan, pace)
            told, code = (json.dumps(plan.as_dict(), indent=2) if args.json else text), 0
        else:
            told, code = _carried_out(plan, pace, args, context)
    print(told)
    return code


def _carried_out(
    plan: Plan, pace: Pace, args: argparse.Namespace, context: Context
) -> tuple[str, int]:
    """Do what is planned; return what to print and the exit code."""
    from genrec_bench.studies.comparison.compare import folder_of, locked
    from genrec_bench.studies.comparison.report import log, report, to_plain, write_board
    from genrec_bench.studies.comparison.work import carry_out

    context.progress.say(render(plan, pace) + "\n")
    # Also refuses words that fit no row, before anything is written.
    folder = folder_of(plan, context)
    with locked(folder):
        _write(folder / PLAN_FILE, plan.as_dict())
        outcome = carry_out(
            plan,
            context,
            pace,
            lambda outcome: write_board(outcome, folder),
            storage=args.storage,
            retry_failed=args.retry_failed,
        )
        board = write_board(outcome, folder)
        result = to_plain(outcome, folder)
        _write(folder / RESULT_FILE, result)
        log(outcome, folder, context)
    if args.json:
        result["folder"] = folder.as_posix()
        return json.dumps(result, indent=2, ensure_ascii=False), outcome.exit_code
    return report(outcome, folder, board), outcome.exit_code


def _plan(args: argparse.Namespace, context: Context) -> Plan:
    """Return what the words ask for.

    Raises:
        UserError: they do not fit each other, or name what is not there.
    """
    given = [word.strip() for word in args.algorithms.split(",") if word.strip()]
    if not given:
        raise UserError("--algorithms: name at least one")
    found = [configure(Job(word, word), context) for word in given]
    settings, dataset, backbone = found[0][2], context.dataset, Path(context.backbone)
    assert context.budget is not None
    budgets = [
        scaled(context.budget, share) if word is None else parse_budget(word)
        for word, share in (
            (args.tuning_budget, TUNING_SHARE),
            (args.trial_budget, TRIAL_SHARE),
        )
    ]
    tuned, controls = make_rows([entry.name for entry, _, _ in found], given)
    for row in controls:
        configure(Job(row.name, row.algorithm, row.assignments), context)
    return Plan(
        dataset=dataset.name,
        partial=dataset.partial,
        # A folder's place is nobody's business.
        backbone=backbone.resolve().name if backbone.is_dir() else context.backbone,
        tuned=tuned,
        controls=controls,
        seeds=tuple(range(args.seeds)),
        tuning=budgets[0],
        trial=budgets[1],
        budget=context.budget,
        most_trials=args.trials,
        sampler=args.sampler,
        pruner=args.pruner,
        assignments=context.assignments,
        examples={"valid": len(dataset.valid), "test": len(dataset.test)},
        validations=settings.validations,
        validation_examples=min(settings.validation_examples, len(dataset.valid)),
    )


def _pace(plan: Plan, context: Context) -> Pace:
    """Return what is known of how fast work goes: the SFT start's rate, if it is trained."""
    from genrec_bench.policy.backbones import find_backbone
    from genrec_bench.training.ledger import Cost
    from genrec_bench.training.sft_start import cost_if_trained

    row, pace = plan.rows[0], Pace(plan.unit)
    settings = configure(Job(row.name, row.algorithm), context)[2]
    backbone = find_backbone(context.backbone)
    cost = cost_if_trained(backbone, context.dataset, settings, context.data_dir) or {}
    pace.saw_start(cost.get("sft", Cost()))
    return pace


def _write(file: Path, content: Mapping[str, Any]) -> None:
    from genrec_bench.storage.files import write_atomically

    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
    write_atomically(file, f"{text}\n".encode())
