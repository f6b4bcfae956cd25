"""The command line: which command there is, and what its exit code says.

0: done. 1: a mistake of ours, with a traceback. 2: a mistake of the user's, in one line.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from genrec_bench import __version__
from genrec_bench.commands.ablate_command import add_ablate_parser
from genrec_bench.commands.algorithms_command import add_algorithms_parser
from genrec_bench.commands.analyze_command import add_analyze_parser
from genrec_bench.commands.compare_command import add_compare_parser
from genrec_bench.commands.data_command import add_data_parser
from genrec_bench.commands.leaderboard_command import add_leaderboard_parser
from genrec_bench.commands.resend_command import add_resend_parser
from genrec_bench.commands.run_command import add_bench_parser, add_run_parser, defaults
from genrec_bench.commands.sids_command import add_sids_parser
from genrec_bench.commands.sweep_command import add_sweep_parser
from genrec_bench.errors import UserError, storage_errors


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: the words after the program's name; those of the process by default.
    """
    args = make_parser().parse_args(argv)
    # A scheduler's polite end is an interruption: what is open gets closed.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with storage_errors():
            code = args.handler(args)
            sys.stdout.flush()
        return int(code)
    except UserError as error:
        print(f"genrec-bench: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(
            "genrec-bench: interrupted; the command given again goes on",
            file=sys.stderr,
        )
        return 130
    except BrokenPipeError:
        # The reader has seen enough (``| head``). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, as for every other mistake; ``--help`` shows the usage."""

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"genrec-bench: error: {message} (see {self.prog} --help)\n")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands; what it reads has a ``handler``."""
    parser: argparse.ArgumentParser = _Parser(
        prog="genrec-bench",
        description="Which RL algorithm makes a generative recommender better, for the same money?",
    )
    parser.add_argument("--version", action="version", version=f"genrec-bench {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    add_run_parser(commands)
    add_sweep_parser(commands)
    add_compare_parser(commands)
    add_ablate_parser(commands)
    add_analyze_parser(commands)
    add_data_parser(commands)
    add_sids_parser(commands)
    add_algorithms_parser(commands)
    add_leaderboard_parser(commands, defaults)
    add_bench_parser(commands)
    add_resend_parser(commands)
    return parser


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
