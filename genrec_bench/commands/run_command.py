"""The command ``genrec-bench run``: one algorithm trained, evaluated and recorded."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Job, split_words, words_of
from genrec_bench.runs.options import (
    BACKBONE,
    MOST_WORKERS,
    add_algorithm,
    add_context_options,
    asked_backbone,
    asked_preset,
    context_of,
    one_seed,
    whole_number,
)
from genrec_bench.tracking.tracker import Tracker
from genrec_bench.training.process_group import share_run

if TYPE_CHECKING:
    from genrec_bench.runs.record_schema import Record


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``run``."""
    parser.description = "Train an algorithm from the SFT start, evaluate it, and write a record."
    add_algorithm(parser, optional=True)
    add_context_options(parser)
    parser.add_argument("--seed", type=one_seed, default=0, metavar="N", help="default: 0")
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        help="take what is not said here from a file, as --print-config writes it",
    )
    source.add_argument(
        "--from-record",
        type=Path,
        metavar="RECORD",
        help="take what is not said here from an earlier run, and say where the two differ",
    )
    parser.add_argument(
        "--processes",
        type=whole_number(1, MOST_WORKERS),
        metavar="N",
        help="of this machine, that share each batch: one for each GPU, or on CPUs; default: 1, or "
        "those that a launcher started",
    )
    parser.add_argument(
        "--print-config",
        action="store_true",
        help="print the run as a file, with all hyperparameters and settings, and stop",
    )
    parser.add_argument(
        "--plan", action="store_true", help="print what it needs in memory, work and time, and stop"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the record, or the plan, and nothing else"
    )


def execute(args: argparse.Namespace) -> int:
    """Run it, and print where the record is, what was seen, and what to do next."""
    args, former = _completed(args)
    if args.algorithm is None:
        raise UserError("run: name an algorithm, or give --config or --from-record")
    job = Job(args.algorithm, args.algorithm, seed=args.seed)
    if args.print_config:
        print(_config(args, job), end="")
        return 0
    shared = share_run(args.processes, args.typed)
    if shared is not None:
        return shared
    if former is not None:
        # What a record says of its hyperparameters' origin is part of its track.
        control, tuning = former.get("control", ""), former.get("tuning")
        job = Job(args.algorithm, args.algorithm, seed=args.seed, control=control, tuning=tuning)
    if args.plan:
        print(_plan(args, job))
        return 0
    from genrec_bench.runs.jobs import do

    with context_of(args, Tracker, [job]) as context:
        path = do(job, context, reuse=False)
    if context.workers.is_main:
        # Imported here: a mistake is told before anything slow is.
        from genrec_bench.runs.run_folder import saw

        print(path.read_text() if args.json else f"record: {path}", flush=True)
        lines: list[str] = []
        if former is not None:
            lines = _compared(former, path)
        elif not args.json:
            from genrec_bench.boards.closing import closing
            from genrec_bench.boards.evidence import read_evidence

            lines = closing(read_evidence(path), args.algorithm, args.dataset)
        for line in lines:
            print(line, file=sys.stderr)
        saw(path)
    return 0


def _completed(args: argparse.Namespace) -> tuple[argparse.Namespace, Record | None]:
    """Return the options with what a file says for those that were not given, and its record.

    Raises:
        UserError: the file cannot be used.
    """
    from genrec_bench.runs.preset_files import LENGTHS
    from genrec_bench.runs.run_config import config_of, read_config

    former = None
    if args.config is not None:
        config = read_config(args.config)
    elif args.from_record is not None:
        from genrec_bench.runs.records import read_record

        former = read_record(args.from_record)
        config = config_of(former)
    else:
        return args, None
    # Read once more, with what the file says as defaults: what was typed counts.
    parser = argparse.ArgumentParser()
    add_options(parser)
    parser.set_defaults(**config.defaults())
    given = parser.parse_args(args.typed[1:], argparse.Namespace(typed=args.typed))
    try:
        one_seed(str(given.seed))
    except argparse.ArgumentTypeError as error:
        raise UserError(f"--config {args.config}: seed {error}") from None
    words, typed = split_words(words_of(config.set)), split_words(given.set)
    if not typed.keys().isdisjoint(LENGTHS):
        # The other one was the file's.
        words = {name: text for name, text in words.items() if name not in LENGTHS}
    words |= typed
    given.set = [f"{name}={text}" for name, text in words.items()]
    if former is not None:
        _check_backbone(given)
    return given, former


def _plan(args: argparse.Namespace, job: Job) -> str:
    """Return what a run needs, refused where it cannot work; nothing is trained."""
    with context_of(args, jobs=[job]) as context:
        from genrec_bench.policy.backbones import find_backbone
        from genrec_bench.runs.jobs import request_of
        from genrec_bench.runs.run_needs import run_needs
        from genrec_bench.training.sft_start import told_cost

        request = request_of(job, context)
        what = (find_backbone(context.backbone), context.dataset, request.settings)
        trained = told_cost(*what, context.data_dir)
        needs = run_needs(request, context.workers.device, trained)
    return json.dumps(dataclasses.asdict(needs), indent=2) if args.json else str(needs)


def _check_backbone(args: argparse.Namespace) -> None:
    """Refuse a record's backbone of which only the folder's name is known."""
    known = args.backbone == BACKBONE or "/" in args.backbone or Path(args.backbone).exists()
    if not known:
        raise UserError(
            f"--from-record {args.from_record}: its backbone was a folder or file called "
            f"{args.backbone!r}; say where it is by --backbone"
        )


def _config(args: argparse.Namespace, job: Job) -> str:
    from genrec_bench.runs.run_config import config_text

    backbone, preset = asked_backbone(args), asked_preset(args)
    return config_text(job, backbone, args.budget, args.dataset, args.set, preset)


def _compared(former: Record, path: Path) -> list[str]:
    """Say how the record of a run compares with the one that it was taken from."""
    from genrec_bench.boards.marks import comparability
    from genrec_bench.commands.diff_command import outcome, tables
    from genrec_bench.runs.record_diff import differences
    from genrec_bench.runs.records import read_record

    again = read_record(path)
    told = ("settings", "data", "code", "results")
    found = [one for one in differences(former, again) if one.section in told]
    return [comparability(former, again), *tables(found), *outcome(former, again)]
