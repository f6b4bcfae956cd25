"""The command `genrec-bench leaderboard`: boards of records, and the verification of records."""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tabulate import tabulate

from genrec_bench.errors import UserError, nearest, no_folder

BOARDS = "boards"
"""The folder of boards among a user's results."""

VERIFY = "verify"
"""The word in place of a dataset's name that asks for verification."""

ADD = "add"
"""The word that takes records into the folder of boards that come with the repository."""

SHIPPED = Path("leaderboards")
"""Where the boards that come with the repository lie, with their records."""

RENEW = "renew"
"""The word that makes all boards of a folder anew, from the records below it alone."""

NOT_ALTERED = (
    "What contradicts may be honest: runs that should be equal can differ by rounding, as with "
    "another number of threads, which not every record states. It stops nothing."
)

NOT_RECOMPUTED = (
    "Not recomputed, since outcomes do not determine them: coverage and Gini (but where lists were "
    "kept), diversity, popularity lift, unique candidates, invalid rate, regret, metrics of one's "
    "own, and the ceiling."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``leaderboard``."""
    parser.description = (
        "Compare the records of each dataset, or verify them. A board is written as Markdown, CSV "
        "and HTML. `leaderboard verify [FOLDER ...]` recomputes what records state from the "
        "per-user outcomes beside them. `leaderboard add FOLDER ...` verifies records, copies what "
        f"boards need of them (no policies) into {SHIPPED}/ (--to) and makes its boards anew; "
        "`leaderboard renew` does the last alone: the boards, the page of claims, and the first "
        "screen of the README beside, from the records in that folder and from no others."
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="NAME | verify [FOLDER ...] | add FOLDER ... | renew",
        help="the dataset (default: all), or folders of records to verify (default: all that "
        "boards are made from) or to add",
    )
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="results (default: runs)"
    )
    parser.add_argument(
        "--records",
        type=Path,
        nargs="+",
        default=[],
        metavar="DIR",
        help=f"more folders of records, such as {SHIPPED}",
    )
    parser.add_argument(
        "--to",
        type=Path,
        metavar="DIR",
        help=f"where boards are written; default: {BOARDS}/ in the results, and {SHIPPED} for add "
        "and renew",
    )
    printed = parser.add_mutually_exclusive_group()
    printed.add_argument("--json", action="store_true", help="print JSON instead of tables")
    printed.add_argument("--csv", action="store_true", help="print CSV instead of tables")
    printed.add_argument(
        "--latex",
        action="store_true",
        help="print tables for a paper (booktabs), and how they were measured, as LaTeX",
    )
    parser.add_argument(
        "--figures",
        type=Path,
        metavar="DIR",
        help="also write figures for a paper there, as PDF and SVG",
    )


def execute(args: argparse.Namespace) -> int:
    """Make boards, or verify records."""
    folders = [args.output, *(_named("--records", folder) for folder in args.records)]
    word, *more = args.words or [None]
    given = [_named(word, Path(each)) for each in more if word in (VERIFY, ADD)]
    if word in (VERIFY, ADD, RENEW) and (args.csv or args.latex or args.figures):
        raise UserError(f"{word}: the options --csv, --latex and --figures are of boards")
    if word == VERIFY:
        known = [args.to or SHIPPED, *folders]
        return _verify(given or known, args.json)
    if word in (ADD, RENEW):
        _check_writable(args.to or SHIPPED, "--to")
    if word == ADD:
        return _add(given, args.to or SHIPPED)
    if word == RENEW and not more:
        return _renew(args.to or SHIPPED)
    if more:
        after = ", ".join(map(repr, (VERIFY, ADD)))
        raise UserError(
            f"{' '.join(more)!r}: one dataset at most; several folders only after {after}"
        )
    args.to = args.to or args.output / BOARDS
    _check_writable(args.to, "--to")
    if args.figures:
        _check_writable(args.figures, "--figures")
    _check_apart(args.to, folders)
    return _boards(word, folders, args)


def _named(what: str, path: Path) -> Path:
    """Return the folder that a user named; of a record its own.

    Raises:
        UserError: there is none.
    """
    from genrec_bench.runs.records import RECORD_FILE

    if path.name == RECORD_FILE and path.is_file():
        return path.parent
    if not path.is_dir():
        raise UserError(f"{what} {path}: {no_folder(path)}")
    return path


def _check_writable(folder: Path, option: str) -> None:
    """Refuse, before records are read, a folder that boards could not be written to."""
    from genrec_bench.storage.folders import check_writable

    check_writable(folder, f"{option} {folder}")


def _check_apart(to: Path, folders: Sequence[Path]) -> None:
    """Refuse to write boards beside records that they would be mixed with, or leave out."""
    from genrec_bench.boards.collecting import record_paths

    beside = {path.resolve() for path in record_paths([to])}
    if beside and beside != {path.resolve() for path in record_paths(folders)}:
        raise UserError(
            f"--to {to}: it holds records, and boards there are made from these alone: "
            f"`leaderboard {RENEW} --to {to}` makes them, `leaderboard {ADD} FOLDER --to {to}` "
            f"adds records; --records {to} reads them for a board elsewhere"
        )


def _boards(name: str | None, folders: Sequence[Path], args: argparse.Namespace) -> int:
    from genrec_bench.boards.collecting import (
        collect,
        record_paths,
        tell_left_out,
        write_boards,
    )
    from genrec_bench.boards.csv_table import to_csv
    from genrec_bench.boards.paper import to_latex
    from genrec_bench.boards.paper_figures import write_figures
    from genrec_bench.boards.sections import make_board
    from genrec_bench.boards.tables import to_text
    from genrec_bench.data.cards import MARK, card_names
    from genrec_bench.runs.registry import default_hyperparameters

    evidence, wrong = collect(record_paths(folders))
    tell_left_out(wrong)
    datasets = sorted({one.record["dataset"] for one in evidence if one.on_test})
    if name is not None and name not in datasets:
        known = card_names()
        if name.partition(MARK)[0] not in known:
            hint = nearest(name, [*datasets, *known, VERIFY, ADD, RENEW])
            raise UserError(f"no record of dataset {name!r}, and no such dataset{hint}")
        hint = nearest(name, datasets)
        raise UserError(f"no record of dataset {name!r}{hint}; {_remedy(folders, name)}")
    if not datasets:
        if wrong:
            raise UserError("no record is left, as the lines above say")
        raise UserError(f"no record was found; {_remedy(folders, 'synthetic')}")
    usual = default_hyperparameters()
    names = datasets if name is None else [name]
    boards = [make_board(evidence, each, usual, args.to) for each in names]
    if args.json:
        print(json.dumps([_finite(asdict(board)) for board in boards], indent=2, sort_keys=True))
    elif args.csv:
        tables = [to_csv(board).split("\n", 1) for board in boards]
        print("\n".join([tables[0][0], "".join(lines for _, lines in tables)]), end="")
    else:
        write = to_latex if args.latex else to_text
        print("\n".join(write(board) for board in boards), end="")
    for board in boards:
        paths = write_boards(board, args.to)
        if args.figures:
            paths += write_figures(board, args.figures)
        for path in paths:
            print(f"written: {path}", file=sys.stderr)
    return 0


def _add(sources: Sequence[Path], folder: Path) -> int:
    from genrec_bench.boards.adding import add_records

    if not sources:
        raise UserError(f"{ADD}: name the folders whose records are to be added")
    added = add_records(sources, folder)
    for path in added.copied:
        print(f"added: {path}")
    for line in added.notes:
        print(line)
    return _renew(folder) if added.copied else 0


def _renew(folder: Path) -> int:
    from genrec_bench.boards.shipped import renew

    changed, stayed = renew(folder)
    for path in changed:
        print(f"written: {path}")
    if stayed or not changed:
        print(f"{stayed} {'file says' if stayed == 1 else 'files say'} the same as before")
    return 0


def _verify(folders: Sequence[Path], as_json: bool) -> int:
    from genrec_bench.boards.collecting import CONTRADICTS, refuse, verify_folders

    found = verify_folders(folders)
    if not found.lines and not found.wrong:
        raise UserError(f"no record was found; {_remedy(folders, 'synthetic')}")
    contrary = [str(finding) for finding in found.contradictions]
    if as_json:
        told = {"records": found.lines, "wrong": found.wrong, "contradictions": contrary}
        print(json.dumps(_finite(told), indent=2))
    else:
        lines = [_shown(line) for line in found.lines]
        print(tabulate(lines, headers="keys", disable_numparse=True))
        print(f"\n{NOT_RECOMPUTED}")
    for finding in contrary:
        print(f"{CONTRADICTS}: {finding}", file=sys.stderr)
    if contrary:
        print(NOT_ALTERED, file=sys.stderr)
    refuse(found.wrong, f"{found.holding} others do")
    return 0


def _shown(line: dict[str, Any]) -> dict[str, str]:
    share = line["budget"]
    cells = {key: str(value) for key, value in line.items()}
    cells["SFT start's"] = str(line["SFT start's"] or "–")
    cells["budget"] = "–" if share is None else f"{share:.1%}"
    return cells


def _finite(value: Any) -> Any:
    """Infinite and undefined numbers as null, which is all that JSON has for them."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _remedy(folders: Sequence[Path], dataset: str) -> str:
    where = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    shipped = ""
    if SHIPPED.is_dir() and SHIPPED not in folders:
        shipped = f", or read those that come with the repository by --records {SHIPPED}"
    return (
        f"looked below {where}; make one with `genrec-bench run grpo --dataset {dataset}`{shipped}"
    )
