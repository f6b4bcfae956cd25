"""What a comparison ends with: the board in its folder, and a summary of it with the bill."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from genrec_bench.boards.board import Board, BoardRow
from genrec_bench.boards.collecting import collect, refuse, write_boards
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import apart_statement, rank_text, seeds_text, titled
from genrec_bench.boards.text_cells import NONE
from genrec_bench.boards.units import with_unit
from genrec_bench.boards.verdict import verdict
from genrec_bench.runs.registry import default_hyperparameters
from genrec_bench.studies.attempts import exit_code
from genrec_bench.studies.comparison.comparison_result import ComparisonResult
from genrec_bench.studies.comparison.plan import price_of, total_price
from genrec_bench.studies.text_tables import table_text

BOARD = "board"
"""The name of its files, but for their endings."""


def write_board(result: ComparisonResult, folder: Path, note: str = "") -> Board:
    """Make the board, write it into the comparison's folder, and return it.

    Args:
        note: to be told with the notes of every section.

    Raises:
        UserError: a record does not hold; what is wrong is printed, line by line.
        StorageError: the disk refuses.
    """
    evidence, wrong = collect([run.record for run in result.runs])
    refuse(wrong, "no board is made until they are restored, or deleted and run again")
    board = make_board(evidence, result.plan.dataset, default_hyperparameters(), folder)
    if note:
        sections = [replace(one, notes=(*one.notes, note)) for one in board.sections]
        board = replace(board, sections=tuple(sections))
    write_boards(board, folder, BOARD)
    return board


def result_values(result: ComparisonResult, folder: Path) -> dict[str, Any]:
    """Return what came of a comparison, as JSON holds it; paths are relative to its folder."""
    return {
        "plan": result.plan.as_dict(),
        "tuned": [
            {
                "name": tuned.name,
                "set": list(tuned.words),
                "valid NDCG@10": tuned.value,
                "bill": tuned.bill,
                "failure": tuned.failure.reason if tuned.failure else None,
            }
            for tuned in result.tuned
        ],
        "cells": [
            {
                "name": run.name,
                "seed": run.seed,
                "record": f"../../{run.record.relative_to(folder.parent.parent).as_posix()}",
                "spent": run.spent,
                "wasted": run.wasted,
                "step": run.step,
                "failure": run.failure.reason if run.failure else None,
            }
            for run in result.runs
        ],
        "announced": {part.what: part.total for part in price_of(result.plan)},
        "paid": result.paid,
        "exit_code": exit_code(failure for _, _, failure in result.failures),
    }


def summary(result: ComparisonResult, folder: Path, board: Board) -> str:
    """Return the end of it as text for a terminal: the rows, what failed, and the bill."""
    heads = [titled(result.plan.dataset, result.plan.partial)]
    ranked = list(dict.fromkeys(name for section in board.sections for name in section.ranked))
    for metric in ranked:
        heads += [metric, "95%", "rank"]
    rows = [row for section in board.sections for row in section.rows]
    table = table_text(
        [*heads, "seeds"],
        [[row.name, *_figures(row, ranked), seeds_text(row)] for row in rows],
        "simple",
    )
    said = [text for section in board.sections for text in verdict(board, section)]
    notes = [apart_statement(section, metric) for section in board.sections for metric in ranked]
    failed = [f"failed: {what}: {failure.reason}" for _, what, failure in result.failures]
    failed += _what_retrying_does(result)
    files = ", ".join(sorted(file.name for file in folder.glob(f"{BOARD}.*")))
    parts = [
        "\n".join(said),
        table,
        *notes,
        *result.coarse.values(),
        "\n".join(failed),
        _bill(result),
    ]
    return "\n\n".join(part for part in [*parts, f"written: {folder}: {files}"] if part)


def _what_retrying_does(result: ComparisonResult) -> list[str]:
    """Return what ``--retry-failed`` would do about the rows that failed."""
    names = dict.fromkeys(name for name, _, _ in result.failures)
    final = [name for name in names if not result.can_retry(name)]
    lines = [f"{', '.join(final)}: not tuned again: the tuning budget is spent."] if final else []
    if len(names) > len(final):
        lines.append(f"--retry-failed tries {'the others' if final else 'these'} again.")
    return lines


def _bill(result: ComparisonResult) -> str:
    """Return the price that was paid beside the one that was announced."""
    plan, paid = result.plan, result.paid

    def both(*amounts: float) -> str:
        return " of ".join(with_unit(amount, plan.unit) for amount in amounts)

    parts = [f"{part.what} {both(paid[part.what], part.total)}" for part in price_of(plan)]
    total = both(sum(paid.values()), total_price(plan))
    return f"Paid, of what was announced: {total} ({'; '.join(parts)})."


def _figures(row: BoardRow, ranked: Sequence[str]) -> list[str]:
    """Return mean, interval and rank of a row for each metric that rows are ranked by."""
    cells = []
    for metric in ranked:
        mean, estimate = row.means.get(metric), row.estimates.get(metric)
        cells.append(NONE if mean is None else f"{mean:.4f}")
        cells.append(
            f"{estimate.interval.low:.4f} .. {estimate.interval.high:.4f}" if estimate else NONE
        )
        cells.append(rank_text(row.ranks.get(metric)))
    return cells
