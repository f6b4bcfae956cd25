"""The command `genrec-bench leaderboard`: boards on the terminal and as Markdown."""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tabulate import tabulate

from genrec_bench.board import METRICS, SAMPLED, Board, Row, Section, abbreviate, leaderboard
from genrec_bench.errors import UserError, nearest
from genrec_bench.record_schema import Record
from genrec_bench.records import find_records, write_atomically

if TYPE_CHECKING:
    # argparse's own class is generic in the type checker's eyes only.
    Subparsers = argparse._SubParsersAction[argparse.ArgumentParser]

Defaults = Callable[[], Mapping[str, Mapping[str, Any]]]

NONE = "–"


def render(board: Board) -> str:
    """The board as text for a terminal."""
    title = _title(board.dataset, board.partial)
    parts = [f"{title}\n{'=' * len(title)}"]
    for section in board.sections:
        parts += [_heading(board, section), _table(board, section, "simple"), *section.notes]
    return "\n\n".join(parts) + "\n"


def to_markdown(board: Board) -> str:
    """The board as a Markdown page; the same for the same records."""
    parts = [
        f"# {_title(board.dataset, board.partial)}",
        f"Made from records by `genrec-bench leaderboard {board.dataset}`; not to be edited.",
    ]
    for section in board.sections:
        parts += [f"## Track {section.track_id}, genrec-bench {section.benchmark}"]
        parts += [_track(board, section), _table(board, section, "pipe"), *section.notes]
    return "\n\n".join(parts) + "\n"


def write_board(board: Board, folder: Path) -> Path:
    """Write `<folder>/<dataset>.md` and return its path.

    Raises:
        UserError: the disk refuses.
    """
    path = folder / f"{board.dataset}.md"
    write_atomically(path, to_markdown(board).encode())
    return path


def collect(folders: Sequence[Path], dataset: str | None = None) -> list[Record]:
    """Read all records below some folders, each run once.

    Args:
        folders: may lie in each other, or be missing.
        dataset: only records of this dataset.

    Raises:
        UserError: a record is damaged, or two different records claim to be one run.
    """
    found: dict[str, tuple[Path, Record]] = {}
    for folder in folders:
        for path, record in find_records(folder, dataset).items():
            known, same = found.setdefault(record["run_id"], (path, record))
            if same != record:
                raise UserError(f"{known} and {path} differ but have one run_id; remove one")
    return [record for _, record in found.values()]


def add_leaderboard_parser(subparsers: "Subparsers", defaults: Defaults | None = None) -> None:
    """Add `leaderboard`, which sets `handler`, a function of the arguments.

    Args:
        subparsers: of the main command.
        defaults: gives each algorithm's default hyperparameters; asked only when a board is made.
    """
    text = "compare the records of each dataset"
    parser = subparsers.add_parser("leaderboard", help=text, description=text.capitalize() + ".")
    parser.add_argument("name", nargs="?", metavar="NAME", help="the dataset; default: all")
    parser.add_argument(
        "--output", type=Path, default=Path("runs"), metavar="DIR", help="results (default: runs)"
    )
    parser.add_argument(
        "--records", type=Path, nargs="+", default=[], metavar="DIR", help="more folders of records"
    )
    parser.add_argument(
        "--to",
        type=Path,
        default=Path("leaderboards"),
        metavar="DIR",
        help="where the tables are written; records below it are read too (default: leaderboards)",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of tables")
    parser.set_defaults(handler=partial(_answer, defaults=defaults))


def _answer(args: argparse.Namespace, defaults: Defaults | None) -> int:
    for folder in args.records:
        if not folder.is_dir():
            raise UserError(f"--records {folder}: there is no such folder")
    folders = [args.output, args.to, *args.records]
    records = collect(folders)
    datasets = sorted({record["dataset"] for record in records})
    if args.name is not None and args.name not in datasets:
        hint = nearest(args.name, datasets)
        raise UserError(f"no record of dataset {args.name!r}{hint}; {_remedy(folders, args.name)}")
    if not datasets:
        raise UserError(f"no record was found; {_remedy(folders, 'synthetic')}")
    usual = defaults() if defaults else None
    names = datasets if args.name is None else [args.name]
    boards = [leaderboard(records, name, usual) for name in names]
    if args.json:
        print(json.dumps([asdict(board) for board in boards], indent=2, sort_keys=True))
    else:
        print("\n".join(render(board) for board in boards), end="")
    for board in boards:
        print(f"written: {write_board(board, args.to)}", file=sys.stderr)
    return 0


def _remedy(folders: Sequence[Path], dataset: str) -> str:
    where = ", ".join(dict.fromkeys(str(folder) for folder in folders))
    return f"looked below {where}; make one with `genrec-bench run grpo --dataset {dataset}`"


def _title(dataset: str, partial_: bool) -> str:
    return f"{dataset} (partial)" if partial_ else dataset


def _heading(board: Board, section: Section) -> str:
    head = f"Track {section.track_id}, genrec-bench {section.benchmark}"
    return f"{head}\n{_track(board, section)}"


def _track(board: Board, section: Section) -> str:
    """State what is fixed; the dataset comes first, with its name."""
    facts = [f"dataset {_title(board.dataset, section.partial)}"]
    for key, value in sorted(
        section.track.items(), key=lambda fact: (fact[0] != "dataset", fact[0])
    ):
        text = "none" if value is None else value
        text = text if isinstance(text, str) else json.dumps(text, sort_keys=True)
        name = "fingerprint" if key == "dataset" else key.replace("_", " ")
        facts.append(f"{name} {abbreviate(text)}")
    return ", ".join(facts)


def _table(board: Board, section: Section, style: str) -> str:
    """Lay out a section; all numbers of one column are in one unit."""
    most = max((row.spent.get("flops", 0.0) for row in section.rows), default=0.0)
    unit, size = ("PFLOP", 1e15) if most >= 1e15 else ("TFLOP", 1e12)
    title = _title(board.dataset, section.partial)
    sampled = [name for name in SAMPLED if any(name in row.means for row in section.rows)]
    metrics = [*METRICS, *sampled]
    headers = [title, *metrics, "seeds", "seconds", unit, "Mtok"]
    lines = []
    for row in section.rows:
        name = row.name.replace("|", "\\|") if style == "pipe" else row.name
        seeds = str(len(row.seeds)) if row.seeds else NONE
        spent = [
            f"{row.spent[key] / scale:.{digits}f}" if row.spent else NONE
            for key, scale, digits in (("seconds", 1.0, 1), ("flops", size, 2), ("tokens", 1e6, 2))
        ]
        lines.append([name, *(_figure(row, metric) for metric in metrics), seeds, *spent])
    return tabulate(
        lines,
        headers,
        tablefmt=style,
        disable_numparse=True,
        colalign=("left", *["right"] * (len(headers) - 1)),
    )


def _figure(row: Row, metric: str) -> str:
    if metric not in row.means:
        return NONE
    mean = f"{row.means[metric]:.4f}"
    return f"{mean} ± {row.deviations[metric]:.4f}" if metric in row.deviations else mean
