"""Analyses: what the papers look at beside their main tables, from runs of this harness.

Each module of this package is one analysis, its name the analysis's name, found by being there. It
holds ``ANALYSIS``: which options it takes, and a function that makes the runs it needs (or finds
them, when equal ones are finished) and returns a `Result`: a table, a figure and what a reader must
know. ``genrec-bench analyze`` prints the result and writes it.

A module is loaded when its analysis is asked for. What is slow to import is better left to ``run``:
a mistake in the options should not wait for it.
"""

from __future__ import annotations

import argparse
import importlib
import json
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec_bench.boards.text_cells import spreadsheet_text
from genrec_bench.errors import UserError, nearest
from genrec_bench.runs.jobs import split_words
from genrec_bench.runs.options import one_seed, whole_number
from genrec_bench.storage.bounded_json import decode_json
from genrec_bench.storage.figures import VECTORS, to_png, to_vector
from genrec_bench.studies.text_tables import table_text

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from genrec_bench.runs.jobs import Context
    from genrec_bench.studies.attempts import Failure


DIGITS, LARGE = 4, 1e5
"""Decimals of a table that is shown, and from where on these are significant digits instead."""


@dataclass(frozen=True)
class Result:
    """What an analysis found.

    Attributes:
        table: numbers as they are, unrounded, one plain name a column; the index is left out.
        draw: draws the figure into an empty one of `SIZE` with a constrained layout; may call
            ``figure.set_size_inches``. Labels carry their units; the title above all axes is set
            already: it names the analysis and the dataset.
        notes: what a reader must know, a sentence or two each.
        records: of the runs that were used.
        failures: why runs are missing from it.
    """

    table: pd.DataFrame
    draw: Callable[[Figure], None]
    notes: tuple[str, ...] = ()
    records: tuple[Path, ...] = ()
    failures: tuple[Failure, ...] = ()


@dataclass(frozen=True)
class Analysis:
    """One kind of analysis.

    Attributes:
        name: that of its module.
        help: one line: what it shows, and which table or figure of which paper it is.
        add_options: adds its own options to a parser that has those of every analysis (dataset,
            backbone, budget, settings, folders). Their values must be plain (numbers, text, lists):
            they are part of the name of the folder that is written.
        run: does the work. Called with what all its jobs share and with the parsed options. Raises
            UserError on what cannot be analysed.
        plan: what ``--plan`` prints: the number of runs and their price, from the same arguments;
            trains nothing. None if there is no such option.
        one_budget: whether all its runs have the budget that ``--budget`` gives.
    """

    name: str
    help: str
    add_options: Callable[[argparse.ArgumentParser], None]
    run: Callable[[Context, argparse.Namespace], Result]
    plan: Callable[[Context, argparse.Namespace], str] | None = None
    one_budget: bool = True


def analysis_names() -> list[str]:
    """Return the names of the analyses, in order, without loading any."""
    found = (module.name for module in pkgutil.iter_modules(__path__))
    return sorted(name for name in found if not name.startswith("_"))


def find_analysis(name: str) -> Analysis:
    """Return an analysis by its name.

    Raises:
        UserError: there is none of this name.
    """
    known = analysis_names()
    if name not in known:
        raise UserError(
            f"there is no analysis {name!r}{nearest(name, known)} (found: {', '.join(known)})"
        )
    analysis: Analysis = importlib.import_module(f"{__name__}.{name}").ANALYSIS
    return analysis


def check_free(context: Context, *keys: str) -> None:
    """Make sure that the user leaves to the analysis what it must choose itself.

    Raises:
        UserError: ``--set`` gives one of them.
    """
    for key in split_words(context.assignments):
        if key in keys:
            raise UserError(f"--set {key}: this analysis chooses it itself; leave it out")


def add_query_options(parser: argparse.ArgumentParser, size: str) -> None:
    """Add the number of candidates, of queries, and the seed of the training; ``size``: of what."""
    parser.add_argument(
        "--size", type=whole_number(2), default=64, metavar="N", help=f"{size}; default: 64"
    )
    parser.add_argument(
        "--examples",
        type=whole_number(0),
        default=1000,
        metavar="N",
        help="number of test examples, the same ones for all policies; 0: all; default: 1000",
    )
    parser.add_argument(
        "--seed", type=one_seed, default=0, metavar="N", help="of the training; default: 0"
    )


def markdown_table(table: pd.DataFrame) -> str:
    """Return the table as Markdown: numbers rounded for readers, empty where undefined."""
    import pandas as pd

    rows = [[_shown(value) for value in row] for row in table.itertuples(index=False, name=None)]
    align = "".join("r" if pd.api.types.is_numeric_dtype(kind) else "l" for kind in table.dtypes)
    return table_text([str(name) for name in table.columns], rows, "pipe", align)


def rows_and_notes(result: Result) -> str:
    """Return the rows of the table, and the notes, as JSON; null where a number is undefined."""
    rows = decode_json(result.table.to_json(orient="records", double_precision=15))
    return json.dumps({"rows": rows, "notes": list(result.notes)}, indent=2, ensure_ascii=False)


def analysis_files(result: Result, title: str, description: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the contents of a result's files by their names, in the order of writing.

    Args:
        title: of the Markdown page and of the figure.
        description: what was asked for and which records were used; it comes last: where its file
            is, the other files are its.
    """
    from genrec_bench.runs.record_schema import plain

    page = "\n\n".join([f"# {title}", markdown_table(result.table), *result.notes]) + "\n"
    text = json.dumps(plain(dict(description)), indent=2, sort_keys=True, ensure_ascii=False)
    return {
        "table.csv": result.table.map(spreadsheet_text).to_csv(index=False).encode(),
        "table.md": page.encode(),
        "figure.png": to_png(result.draw, title),
        **{f"figure.{kind}": to_vector(result.draw, kind) for kind in VECTORS},
        "analysis.json": f"{text}\n".encode(),
    }


def _shown(value: Any) -> str:
    import pandas as pd

    if pd.isna(value):
        return ""
    if isinstance(value, float):
        # FLOPs and the like would be a row of digits.
        small = abs(value) < LARGE
        return f"{value:.{DIGITS}f}" if small else f"{value:.{DIGITS}g}"
    return str(value)
