"""The command ``genrec-bench sweep``: tune an algorithm's hyperparameters within a total budget.

What is slow to import is imported when needed.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

from genrec_bench.runs.jobs import Context
from genrec_bench.runs.options import add_context_options, context_of, one_seed
from genrec_bench.training.budgets import parse_budget

if TYPE_CHECKING:
    from genrec_bench.studies.sweeps.result import SweepResult

    # argparse's own class is generic in the type checker's eyes only.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

MOST_WORKERS, MOST_TRIALS = 64, 100_000

# As in study.py, which takes long to import.
SAMPLERS, PRUNERS = ("tpe", "random", "qmc"), ("halving", "none")
SEED = 1000

THREADS = "OMP_NUM_THREADS"

SECONDS_TO_END = 30.0
"""How long other workers have to close what is open, when the first one is interrupted."""


def add_sweep_parser(subparsers: Subparsers) -> None:
    """Add ``sweep``, which sets ``handler``, a function of the arguments."""
    parser = subparsers.add_parser(
        "sweep",
        help="tune an algorithm's hyperparameters within a total budget",
        description="Tune an algorithm's hyperparameters by validation NDCG@10, in trials on a "
        "small budget each, until a total budget is spent; test examples are never read. Given "
        "again, the command goes on where it was cut short.",
    )
    parser.add_argument("algorithm", metavar="ALGO", help="name, or path of a Python file")
    add_context_options(parser, budget=False)
    parser.add_argument(
        "--total-budget",
        required=True,
        metavar="B",
        help="of all trials together, those that fail or are pruned too: 2h, 3e14flop or 200Mtok",
    )
    parser.add_argument(
        "--trial-budget", required=True, metavar="b", help="of one trial, in the same unit"
    )
    parser.add_argument(
        "--trials", type=_count(MOST_TRIALS), metavar="N", help="stop after so many trials"
    )
    parser.add_argument(
        "--workers",
        type=_count(MOST_WORKERS),
        default=1,
        metavar="N",
        help="processes that share the study, on this machine; default: 1",
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="database that workers on several machines share, such as "
        "postgresql://USER@HOST/NAME; default: a file in the sweep's folder",
    )
    parser.add_argument(
        "--sampler", choices=SAMPLERS, default=SAMPLERS[0], help=f"default: {SAMPLERS[0]}"
    )
    parser.add_argument(
        "--pruner", choices=PRUNERS, default=PRUNERS[0], help=f"default: {PRUNERS[0]}"
    )
    parser.add_argument(
        "--seed", type=one_seed, default=SEED, metavar="N", help=f"of all trials; default: {SEED}"
    )
    parser.add_argument("--json", action="store_true", help="print JSON, and nothing else")
    parser.set_defaults(handler=_sweep)


def _sweep(args: argparse.Namespace) -> int:
    total, trial = parse_budget(args.total_budget), parse_budget(args.trial_budget)
    with context_of(args) as context:
        from genrec_bench.studies.sweeps.sweep import SweepRequest, sweep

        request = SweepRequest(
            algorithm=args.algorithm,
            total=total,
            trial=trial,
            most=args.trials,
            storage=args.storage,
            sampler=args.sampler,
            pruner=args.pruner,
            seed=args.seed,
        )
        with _others(args, context) as others:
            result = sweep(request, context)
    for number, code in others.items():
        if code:
            print(
                f"worker {number} ended with code {code}; its work was taken over", file=sys.stderr
            )
    print(json.dumps(_plain(result), indent=2) if args.json else _text(args, result))
    return 0


@contextlib.contextmanager
def _others(args: argparse.Namespace, context: Context) -> Iterator[dict[int, int]]:
    """Have further processes work on the study while the body of a ``with`` statement does.

    Yields:
        Their exit codes by number, filled in when the body has ended.
    """
    codes: dict[int, int] = {}
    if args.workers == 1:
        yield codes
        return
    environment = dict(os.environ)
    if THREADS not in os.environ:
        import torch

        threads = max(1, torch.get_num_threads() // args.workers)
        torch.set_num_threads(threads)
        environment[THREADS] = str(threads)
    command = [sys.executable, "-m", "genrec_bench", *words_of_worker(args)]
    started: list[tuple[subprocess.Popen[str], threading.Thread]] = []
    try:
        for number in range(2, args.workers + 1):
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            assert process.stderr is not None
            thread = threading.Thread(
                target=_repeat, args=(number, process.stderr, context), daemon=True
            )
            thread.start()
            started.append((process, thread))
        yield codes
    except BaseException:
        for process, _ in started:
            process.terminate()
        raise
    finally:
        for number, (process, thread) in enumerate(started, start=2):
            try:
                codes[number] = process.wait(timeout=SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[number] = process.wait()
            thread.join(timeout=SECONDS_TO_END)


def words_of_worker(args: argparse.Namespace) -> list[str]:
    """Return the words of the same sweep for one worker alone."""
    words = ["sweep", args.algorithm, "--dataset", args.dataset, "--backbone", args.backbone]
    words += ["--total-budget", args.total_budget, "--trial-budget", args.trial_budget]
    words += ["--sampler", args.sampler, "--pruner", args.pruner, "--seed", str(args.seed)]
    words += ["--output", args.output]
    if args.set:
        words += ["--set", *args.set]
    for name, value in (
        ("--data-dir", args.data_dir),
        ("--storage", args.storage),
        ("--trials", args.trials),
    ):
        if value is not None:
            words += [name, str(value)]
    return [*words, "--no-mlflow"] if args.no_mlflow else words


def _repeat(number: int, lines: IO[str], context: Context) -> None:
    """Show what another worker says; one that is ended with the first says nothing new."""
    for line in lines:
        context.progress.say(f"[worker {number}] {line.rstrip()}")


def _count(most: int) -> Any:
    def read(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or not 1 <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"{text}: must be between 1 and {most}")
        return int(text)

    return read


def _plain(result: SweepResult) -> dict[str, Any]:
    from genrec_bench.studies.sweeps.result import plain

    return {**plain(result), "folder": str(result.folder)}


def _text(args: argparse.Namespace, result: SweepResult) -> str:
    """Return the result as a person reads it."""
    counts = ", ".join(
        f"{result.count(state)} {state}"
        for state in ("complete", "pruned", "failed", "died")
        if result.count(state)
    )
    total = parse_budget(args.total_budget)
    spent = result.charged / total.amount
    lines = [
        f"study {result.study}: {result.started} trials ({counts}), {spent:.1%} of {total.text} "
        "spent",
        f"trials: {result.folder}",
    ]
    if result.best is None:
        lines.append("no trial came to its end: nothing is known that is better than the defaults")
        return "\n".join(lines)
    words: Sequence[str] = ["genrec-bench", "run", args.algorithm, "--dataset", args.dataset]
    if args.backbone != "tiny":
        words = [*words, "--backbone", args.backbone]
    words = [*words, "--set", *args.set, *result.words]
    lines.append(f"best: trial {result.best.number}, validation NDCG@10 {result.best.value:.4f}")
    lines.append(shlex.join(words))
    return "\n".join(lines)
