"""The command line: which command there is, and what its exit code says.

0: done. 1: a mistake of ours, with a traceback. 2: a mistake of the user's, in one line.

The command ``NAME`` is the module ``NAME_command.py`` of this folder. It has two functions:
``add_options(parser)``, which says what the command does and what may follow its name, and
``execute(args)``, which does it and returns the exit code. The module is imported when its command
is named, and whatever takes long to import is imported by ``execute``.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Any, NoReturn

from genrec_bench import __version__
from genrec_bench.errors import UserError, storage_errors
from genrec_bench.training.launchers import check_alone

COMMANDS = {
    "run": "train an algorithm from the SFT start and evaluate it",
    "recommend": "recommend items to histories by a run's policy",
    "sweep": "tune an algorithm's hyperparameters within a total budget",
    "compare": "tune algorithms alike, run them on several seeds, and make the board",
    "ablate": "repeat a paper's ablation and print it beside the published one",
    "analyze": "make the table and the figure of a paper's analysis from runs of this benchmark",
    "data": "prepare, import, list, show or verify datasets",
    "sids": "build, import, list or show semantic IDs",
    "sft": "list, export or import SFT starts, which machines that share a board share",
    "algorithms": "list the algorithms, describe one, or check that one keeps the contract",
    "leaderboard": "compare the records of each dataset, or verify them",
    "bench": "measure the speed of rollout and update against plain transformers",
    "resend": "send to MLflow what earlier commands could not, and end runs that were cut short",
}
"""What ``genrec-bench --help`` says of each command."""

SHARED = "run"
"""The command whose work several processes of a launcher share."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: the words after the program's name; those of the process by default.
    """
    args = make_parser().parse_args(argv)
    # A scheduler ends a job politely with SIGTERM: open files and runs get closed.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if args.typed[0] != SHARED:
            check_alone(args.typed[0])
        with storage_errors():
            code = args.execute(args)
            sys.stdout.flush()
        return int(code)
    except UserError as error:
        print(f"genrec-bench: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("genrec-bench: interrupted; the same command again goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has seen enough (``| head``). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong; argparse alone would print the usage first."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"genrec-bench: error: {message} (see {self.prog} --help)\n")


class _Commands(argparse._SubParsersAction):  # type: ignore[type-arg]
    """Imports the module of the command that is named."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Let the module add its options, before they are read."""
        command = self.choices[values[0]]
        if command.get_default("execute") is None:
            module = import_module(f"genrec_bench.commands.{values[0]}_command")
            module.add_options(command)
            command.set_defaults(execute=module.execute, typed=list(values))
        super().__call__(parser, namespace, values, option_string)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands.

    What it reads has beside the command's own options ``execute``, which carries the command out,
    and ``typed``: the command's words.
    """
    parser = _Parser(
        prog="genrec-bench",
        description="Which RL algorithm makes a generative recommender better, for the same money?",
    )
    parser.add_argument("--version", action="version", version=f"genrec-bench {__version__}")
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, action=_Commands
    )
    for name, text in COMMANDS.items():
        commands.add_parser(name, help=text)
    return parser


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
