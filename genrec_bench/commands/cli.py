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
import re
import signal
import sys
from collections.abc import Iterator, Sequence
from importlib import import_module
from itertools import pairwise
from typing import Any, NoReturn

from genrec_bench import __version__
from genrec_bench.commands.examples import HEAD, examples_of
from genrec_bench.commands.told_streams import told_streams
from genrec_bench.errors import UserError, cut_off, nearest, storage_errors
from genrec_bench.storage.python_files import foreign_ends
from genrec_bench.training.budgets import meant_budget
from genrec_bench.training.launchers import ALONE, MEMBER, OthersGone, check_alone

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
    "presets": "list the papers' own settings, or print one with what it needs",
    "runs": "list earlier runs: state, result, size",
    "policy": "merge a policy that is stored as an adapter into a model that stands alone",
    "clean": "say what can go of earlier runs, and remove it with --yes",
    "baseline": "run a simple or a classical recommender, for the dataset's board",
    "export": "write a dataset's split for programs of others, which are then scored",
    "score": "evaluate the ranked lists of any other system, for the dataset's board",
    "diff": "show where two records differ: settings, data, code, results",
    "leaderboard": "compare the records of each dataset, or verify them",
    "bench": "measure the speed of rollout and update against plain transformers",
    "resend": "send to MLflow what it missed, or all runs to another server",
}
"""What ``genrec-bench --help`` says of each command."""

NO_TEXT = re.compile("[\0\ud800-\udfff]")
"""NUL, and what stands for bytes that are no text: no file and no record can hold it."""

SAFE = "PYTHONSAFEPATH"
"""Says to all Pythons that come of this process what the option -P says to one."""

SHARED = "run"
"""The command whose work several processes of a launcher share."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return its exit code.

    Args:
        argv: the words after the program's name; those of the process by default.
    """
    if "_ARGCOMPLETE" in os.environ:
        _complete(os.environ.get("COMP_LINE", ""))
    if argv is None:
        # What libraries start imports nothing of the folder where this process happens to stand.
        os.environ.setdefault(SAFE, "1")
    with told_streams():
        return _carried_out(sys.argv[1:] if argv is None else list(argv))


def _carried_out(words: list[str]) -> int:
    for word in words:
        if NO_TEXT.search(word):
            print(
                f"genrec-bench: error: {cut_off(repr(word))}: is no text in UTF-8", file=sys.stderr
            )
            return 2
    args = make_parser().parse_args(words)
    # A scheduler ends a job politely with SIGTERM: open files and runs get closed.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        if args.typed[0] != SHARED:
            check_alone(args.typed[0])
        with storage_errors(), foreign_ends():
            code = args.execute(args)
            sys.stdout.flush()
        return int(code)
    except UserError as error:
        if isinstance(error, OthersGone) and MEMBER in os.environ:
            return ALONE
        print(f"genrec-bench: error: {cut_off(str(error))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("genrec-bench: interrupted; the same command again goes on", file=sys.stderr)
        return 130
    except BrokenPipeError:
        # The reader has seen enough (``| head``). Python would complain once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


class _Help(argparse.HelpFormatter):
    """Keeps the lines of examples as they are."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        if text.startswith(HEAD):
            return text
        return super()._fill_text(text, width, indent)


class _Once(argparse._StoreAction):
    """Refuses an option that is given twice with two values; argparse would take the last one."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Keep the value, unless there is another one."""
        if option_string is not None and parser.given.setdefault(self.dest, values) != values:
            earlier = parser.given[self.dest]
            raise argparse.ArgumentError(
                self, f"given twice, as {_words(earlier)} and as {_words(values)}: once is right"
            )
        super().__call__(parser, namespace, values, option_string)


def _words(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong; argparse alone would print the usage first."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"formatter_class": _Help, **options})
        self.epilog = examples_of(self.prog)
        self.given: dict[str, Any] = {}
        for action in (None, "store"):
            self.register("action", action, _Once)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Name the nearest choice beside those there are."""
        try:
            super()._check_value(action, value)
        except argparse.ArgumentError as error:
            hint = nearest(str(value), map(str, action.choices or ()))
            raise argparse.ArgumentError(action, f"{error.message}{hint}") from None

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Refuse flags that are unknown with the nearest ones; nobody else would read them."""
        self.given = {}
        first = sys.argv[1:2] if args is None else args[:1]
        # Without this, what is missed is the command that they stand in the place of.
        early = self._subparsers is not None and bool(first) and first[0].startswith("--")
        if early and first[0].partition("=")[0] not in self._option_string_actions:
            found, rest = namespace, first
        else:
            found, rest = super().parse_known_args(args, namespace)
        if rest:
            wrong = [word.partition("=")[0] for word in rest if word.startswith("-")]
            hints = [nearest(word, self._option_string_actions) for word in wrong]
            hint = next(filter(None, hints), "") + (_others_with(wrong[0]) if wrong else "")
            hint += "".join(self._in_one_word(sys.argv[1:] if args is None else args, rest))
            self.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
        return found, rest

    def _in_one_word(self, words: Sequence[str], rest: Sequence[str]) -> Iterator[str]:
        """Say which options took one word where several were meant, such as ``--budget 2 xsft``."""
        places = [place for place, word in enumerate(words) if word.startswith("-")]
        for first, end in pairwise([*places, len(words)]):
            option, joined, value = words[first].partition("=")
            action = self._option_string_actions.get(option)
            values = [value, *words[first + 1 : end]] if joined else words[first + 1 : end]
            if action is None or action.nargs is not None or not {*values[1:]} & {*rest}:
                continue
            one = ""
            if action.dest.endswith("budget"):
                # What a budget does not need may be the command's own word.
                spelled = ("".join(values[:count]) for count in range(len(values), 1, -1))
                one = next(filter(None, map(meant_budget, spelled)), "")
            elif "," in (values[0][-1:], values[1][:1]):
                one = "".join(values)
            if one:
                yield f"; {option} takes one word: {option} {one}"
            elif values[1] in rest:
                yield f"; {option} takes one word: quote a value that has spaces"

    def error(self, message: str) -> NoReturn:
        """Exit with code 2."""
        self.exit(2, f"genrec-bench: error: {cut_off(message)} (see {self.prog} --help)\n")


class _Commands(argparse._SubParsersAction):  # type: ignore[type-arg]
    """Imports the module of the command that is named."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Let the module add its options, before they are read."""
        command = self.choices[values[0]]
        _load(values[0], command)
        command.set_defaults(typed=list(values))
        super().__call__(parser, namespace, values, option_string)


def _others_with(option: str) -> str:
    """Say which commands have an option that this one does not know."""
    having = []
    for action in make_parser(load=list(COMMANDS))._actions:
        if isinstance(action, _Commands):
            parsers = action._name_parser_map.items()
            having += [name for name, one in parsers if option in one._option_string_actions]
    return f" ({option} is an option of {', '.join(having)})" if having else ""


def _load(name: str, command: argparse.ArgumentParser) -> None:
    """Give a command's parser its options, unless it has them."""
    if command.get_default("execute") is None:
        module = import_module(f"genrec_bench.commands.{name}_command")
        module.add_options(command)
        command.set_defaults(execute=module.execute)


def _complete(line: str) -> NoReturn:
    """Tell a shell how a line can go on."""
    import argcomplete

    # Its parsers are watched from the beginning, and so must have their options.
    argcomplete.autocomplete(make_parser(load=line.split()[1:2]))
    sys.exit(0)


def make_parser(load: Sequence[str] = ()) -> argparse.ArgumentParser:
    """Return the parser of all commands.

    Args:
        load: commands that get their options now, and not when they are named.

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
        command = commands.add_parser(name, help=text)
        if name in load:
            _load(name, command)
    return parser


def _interrupt(signum: int, frame: Any) -> None:
    raise KeyboardInterrupt
