"""The command ``genrec-bench algorithms``: list them, describe one, check one."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import keyword
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

if TYPE_CHECKING:
    from genrec_bench.runs.registry import Entry, Registry


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``algorithms``."""
    parser.description = (
        "List the algorithms that are found, or describe one with its hyperparameters."
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a name, or a file: ./mine.py")
    parser.add_argument(
        "new", nargs="?", metavar="MINE", help="after `new`: what ./MINE.py is written for"
    )
    parser.add_argument(
        "--from", dest="parent", metavar="NAME", help="with `new`: the algorithm to derive from"
    )
    parser.add_argument(
        "--check", action="store_true", help="run the contract's checks on it, or on all"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")


def execute(args: argparse.Namespace) -> int:
    """Print what was asked for; 2 if a file cannot be used or a check fails, else 0."""
    if args.name == "new" or args.new or args.parent:
        return _write_new(args)
    # Standard output is for the answer; what algorithms say when they are loaded goes elsewhere.
    with contextlib.redirect_stdout(sys.stderr):
        from genrec_bench.runs.registry import Registry, discover, find
        from genrec_bench.storage.python_files import guarded
        from genrec_bench.training.settings import SETTING_NAMES

        if args.name is None:
            registry = discover(SETTING_NAMES)
            report, text = _listing(registry), _listing_text(registry)
        else:
            registry = Registry((find(args.name, SETTING_NAMES),), ())
            (entry,) = registry.entries
            report, text = guarded(lambda: _described(entry), f"{entry.origin}: ", None)
    if not args.json:
        print(text)
    failed = bool(registry.problems)
    if args.check:
        report["checks"] = []
        for entry in registry.entries:
            for row in _checks(entry, show=not args.json):
                report["checks"].append(row)
                failed |= row["failure"] is not None
    if args.json:
        print(json.dumps(report, indent=2, sort_keys=True))
    return 2 if failed else 0


def _write_new(args: argparse.Namespace) -> int:
    """Write the file of a new algorithm, and say what to do with it."""
    from genrec_bench.commands.algorithm_templates import new_text
    from genrec_bench.errors import UserError
    from genrec_bench.runs.registry import discover, find
    from genrec_bench.storage.files import write_atomically

    if args.name != "new" or not args.new or args.check or args.json:
        raise UserError("algorithms: a new file is written by `algorithms new MINE [--from NAME]`")
    name, file = args.new, Path(f"{args.new}.py")
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise UserError(f"algorithms new {name}: a name of small letters, digits and _ is needed")
    taken = [entry.name for entry in discover().entries]
    if name in taken or name == "new":
        raise UserError(f"algorithms new {name}: there is an algorithm of that name already")
    if file.exists():
        raise UserError(f"algorithms new {name}: {file} is there already, and is left as it is")
    if args.parent is not None and args.parent.endswith(".py"):
        raise UserError(f"--from {args.parent}: a file cannot be derived from; copy it instead")
    parent = None if args.parent is None else find(args.parent)
    write_atomically(file, new_text(name, parent).encode())
    print(f"written: {file}")
    print(f"  genrec-bench algorithms ./{file} --check   # whether it keeps the contract")
    print(f"  genrec-bench run ./{file} --set steps=20   # a first result, on synthetic data")
    return 0


def _checks(entry: Entry, show: bool) -> list[dict[str, Any]]:
    """Run the checks of one algorithm; each is printed when it is done, as some take a second."""
    from genrec_bench.contract.stated import run_checks

    rows: list[dict[str, Any]] = []
    if show:
        print(f"\nchecks of {entry.name}")
    findings = run_checks(entry.algorithm)
    while True:
        with contextlib.redirect_stdout(sys.stderr):
            found = next(findings, None)
        if found is None:
            return rows
        rows.append({"algorithm": entry.name, **dataclasses.asdict(found)})
        if show:
            verdict = "FAILED" if found.failure else "-     " if found.after else "ok    "
            told = found.failure or (f"after {found.after}" if found.after else "")
            print(f"  {verdict}  {found.check}" + (f": {told}" if told else ""), flush=True)


def _listing(registry: Registry) -> dict[str, Any]:
    return {
        "algorithms": [
            {"name": entry.name, "summary": entry.summary, "origin": entry.origin}
            for entry in registry.entries
        ],
        "problems": [dataclasses.asdict(problem) for problem in registry.problems],
    }


def _listing_text(registry: Registry) -> str:
    rows = [(entry.name, entry.summary, entry.origin) for entry in registry.entries]
    lines = [tabulate(rows, headers=("algorithm", "", "from"), maxcolwidths=[None, 70, None])]
    if registry.problems:
        lines.append("\ncannot be used:")
        for problem in registry.problems:
            lines.append(f"  {problem.name} ({problem.origin}): {problem.reason}")
    return "\n".join(lines)


def _described(entry: Entry) -> tuple[dict[str, Any], str]:
    """Return what an algorithm says of itself, for programs and for people."""
    report = _description(entry)
    json.dumps(report)  # raises if it holds what JSON does not
    return report, _description_text(report)


def _description(entry: Entry) -> dict[str, Any]:
    from genrec_bench.runs.registry import source_hash
    from genrec_bench.training.hyperparameters import describe_fields
    from genrec_bench.training.search_space import describe_search
    from genrec_bench.training.settings import Settings

    cls = entry.algorithm.hyperparameters_class
    return {
        "name": entry.name,
        "origin": entry.origin,
        "sha256": source_hash(entry),
        "documentation": entry.documentation,
        "hyperparameters": [
            {**row, "search": describe_search(field)}
            for row, field in zip(describe_fields(cls), dataclasses.fields(cls), strict=True)
        ],
        "settings": describe_fields(Settings),
    }


def _description_text(report: dict[str, Any]) -> str:
    from genrec_bench.training.hyperparameters import written

    tables = [
        # Numbers stay as they are written, so that a value can be copied into --set.
        tabulate(
            [
                (row["name"], written(row["default"]), *(row[column] for column in columns))
                for row in report[kind]
            ],
            headers=(title, "default", *columns),
            maxcolwidths=[None, None, *(50 if name == "meaning" else 30 for name in columns)],
            disable_numparse=True,
        )
        for kind, title, columns in (
            ("hyperparameters", "hyperparameter", ("allowed", "search", "meaning")),
            ("settings", "setting, of any run", ("allowed", "meaning")),
        )
    ]
    title = f"{report['name']} (from {report['origin']})"
    return "\n\n".join([title, report["documentation"], *tables])
