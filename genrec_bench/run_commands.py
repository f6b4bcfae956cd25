"""``run`` and ``bench`` on the command line. What is slow to import is imported when needed."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec_bench.budget import parse_budget
from genrec_bench.errors import UserError, nearest
from genrec_bench.store import data_directory, load_dataset

if TYPE_CHECKING:
    from genrec_bench.registry import Entry
    from genrec_bench.run import Request

Subparsers = Any


def add_run_parser(subparsers: Subparsers) -> None:
    """Add ``run``."""
    parser = subparsers.add_parser(
        "run",
        help="train an algorithm from the SFT start and evaluate it",
        description="Train an algorithm from the SFT start, evaluate it, and write a record.",
    )
    parser.add_argument("algorithm", metavar="ALGO", help="name, or path of a Python file")
    parser.add_argument("--dataset", default="synthetic", metavar="NAME", help="default: synthetic")
    parser.add_argument(
        "--backbone", default="tiny", metavar="tiny|PATH|HUB_ID", help="default: tiny"
    )
    parser.add_argument(
        "--budget", metavar="B", help="90s, 2h, 3e13flop or 20Mtok; default: a number of steps"
    )
    parser.add_argument("--seed", type=_seed, default=0, metavar="N", help="default: 0")
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="key=value",
        help="hyperparameters and settings; `genrec-bench algorithms NAME` lists them",
    )
    parser.add_argument("--data-dir", metavar="DIR", help="prepared data and SFT starts")
    parser.add_argument("--output", default="runs", metavar="DIR", help="default: runs")
    parser.add_argument("--no-mlflow", action="store_true", help="do not log to MLflow")
    parser.add_argument("--json", action="store_true", help="print the record, and nothing else")
    parser.set_defaults(handler=_run)


def add_bench_parser(subparsers: Subparsers) -> None:
    """Add ``bench``."""
    parser = subparsers.add_parser(
        "bench",
        help="measure rollout and update against what transformers does",
        description="Measure rollout and update: speedup over transformers' way and share of peak.",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=_bench)


def _seed(text: str) -> int:
    if not text.isdecimal() or int(text) >= 2**31:
        raise argparse.ArgumentTypeError(f"{text}: must be between 0 and {2**31 - 1}")
    return int(text)


def _run(args: argparse.Namespace) -> int:
    # Cheap checks first: a typo should not wait for torch.
    budget = None if args.budget is None else parse_budget(args.budget)
    data_dir = data_directory(args.data_dir)
    # Standard output is for the record; libraries may say what they like elsewhere.
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        dataset = load_dataset(args.dataset, data_dir)
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        from transformers.utils import logging as transformers_logging

        from genrec_bench.progress import Progress
        from genrec_bench.registry import find
        from genrec_bench.run import Request, run
        from genrec_bench.settings import SETTING_NAMES
        from genrec_bench.tracking import NullTracker, Tracker
        from genrec_bench.workers import Workers

        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
        # What libraries tell each other's authors is not for the person who waits for a run.
        warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
        entry = find(args.algorithm, SETTING_NAMES)
        algorithm, settings = _configure(entry, args.set)
        request = Request(
            entry=entry,
            algorithm=algorithm,
            dataset=dataset,
            backbone=args.backbone,
            settings=settings,
            budget=budget,
            seed=args.seed,
            data_dir=data_dir,
            output=Path(args.output),
        )
        workers = Workers()
        _check(request, workers.count)
        progress = Progress(quiet=not workers.is_main)
        tracked = workers.is_main and not args.no_mlflow
        tracker = Tracker(request.output, dataset.name) if tracked else NullTracker()
        path = run(request, workers, progress, tracker)
    if workers.is_main:
        print(path.read_text() if args.json else f"record: {path}")
    return 0


def _configure(entry: Entry, assignments: list[str]) -> tuple[Any, Any]:
    """Sort ``key=value`` words into the algorithm's hyperparameters and the settings."""
    import dataclasses

    from genrec_bench.hyperparameters import build
    from genrec_bench.settings import SETTING_NAMES, Settings

    hyperparameters_class = entry.algorithm.hyperparameters_class
    own = [field.name for field in dataclasses.fields(hyperparameters_class)]
    texts: dict[str, dict[str, str]] = {"own": {}, "settings": {}}
    for assignment in assignments:
        name, equals, text = assignment.partition("=")
        if not equals:
            raise UserError(f"--set {assignment}: must be key=value")
        if name not in own and name not in SETTING_NAMES:
            hint = nearest(name, [*own, *SETTING_NAMES])
            raise UserError(
                f"--set {name}: neither a hyperparameter of {entry.name} nor a setting{hint}"
            )
        kind = "own" if name in own else "settings"
        if name in texts[kind]:
            raise UserError(f"--set {name}: given twice")
        texts[kind][name] = text
    hyperparameters = build(hyperparameters_class, texts["own"])
    return entry.algorithm(hyperparameters), build(Settings, texts["settings"])


def _check(request: Request, processes: int) -> None:
    settings, minibatches = request.settings, request.algorithm.minibatches
    if settings.prompts_per_step < max(processes, minibatches):
        raise UserError(
            f"prompts_per_step={settings.prompts_per_step}: must be at least "
            f"{max(processes, minibatches)}, one for each process and minibatch"
        )
    for split, examples in request.dataset.splits.items():
        if not len(examples):
            raise UserError(f"dataset {request.dataset.name}: its {split} split has no examples")
    try:
        request.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--output {request.output}: cannot be a folder: {reason}") from None


def _bench(args: argparse.Namespace) -> int:
    with contextlib.redirect_stdout(sys.stderr):
        from genrec_bench.bench import bench, render

        result = bench()
    print(json.dumps(result, indent=2) if args.json else render(result))
    return 0


def defaults() -> Mapping[str, Mapping[str, Any]]:
    """Return the default hyperparameters of every algorithm that is found, for boards."""
    import dataclasses

    from genrec_bench.registry import discover

    return {
        entry.name: dataclasses.asdict(entry.algorithm.hyperparameters_class())
        for entry in discover().entries
    }
