"""What a comparison ends with: the board in its folder, and a summary of it with the bill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tabulate import tabulate

from genrec_bench.boards.board import NONE, RANKED, Board, BoardRow
from genrec_bench.boards.collecting import collect, refuse, write_boards
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import apart_statement, rank_text, seeds_text, titled
from genrec_bench.boards.units import with_unit
from genrec_bench.runs.jobs import Context
from genrec_bench.runs.registry import default_hyperparameters
from genrec_bench.studies.comparison.compare import Cell, Outcome, Tuned, coarse_note
from genrec_bench.studies.comparison.plan import price_of, total_price
from genrec_bench.tracking.tracker import Tracker

BOARD = "board"
"""The name of its files, but for their endings."""


def write_board(outcome: Outcome, folder: Path) -> Board:
    """Write the board of what there is of a comparison into its folder.

    Raises:
        UserError: a record does not hold; what is wrong is printed, line by line.
        StorageError: the disk refuses.
    """
    evidence, wrong = collect(outcome.records)
    refuse(wrong, "no board is made until they are restored, or deleted and run again")
    board = make_board(evidence, outcome.plan.dataset, default_hyperparameters(), folder)
    write_boards(board, folder, BOARD)
    return board


def to_plain(outcome: Outcome, folder: Path) -> dict[str, Any]:
    """Return what came of a comparison, as JSON holds it; paths are relative to its folder."""
    runs = folder.parent.parent
    return {
        "plan": outcome.plan.as_dict(),
        "tuned": [
            {
                "name": tuned.name,
                "set": list(tuned.words),
                "valid NDCG@10": tuned.value,
                "bill": tuned.bill,
                "failure": tuned.failure.reason if tuned.failure else None,
            }
            for tuned in outcome.tuned
        ],
        "cells": [
            {
                "name": cell.name,
                "seed": cell.seed,
                "record": f"../../{cell.record.relative_to(runs).as_posix()}",
                "spent": cell.spent,
                "wasted": cell.wasted,
                "step": cell.step,
                "failure": cell.failure.reason if cell.failure else None,
            }
            for cell in outcome.cells
        ],
        "announced": {part.what: part.total for part in price_of(outcome.plan)},
        "paid": outcome.paid,
        "exit_code": outcome.exit_code,
    }


def log(outcome: Outcome, folder: Path, context: Context) -> None:
    """Show the board in MLflow, beside the runs that it is made of."""
    if not context.tracked:
        return
    plan = outcome.plan
    tags = {"kind": "comparison", "dataset": plan.dataset, "partial": str(plan.partial).lower()}
    with Tracker(context.output, plan.dataset) as tracker:
        # In its folder, so that the same comparison again goes on with its run.
        tracker.start(f"compare-{folder.name}", plan.as_dict(), tags, folder)
        for file in sorted(folder.glob(f"{BOARD}.*")):
            tracker.attach(file)
        tracker.finish(status="FAILED" if outcome.exit_code else "FINISHED")


def report(outcome: Outcome, folder: Path, board: Board) -> str:
    """Return the end of it as text for a terminal: the rows, what failed, and the bill."""
    plan, partial = outcome.plan, outcome.plan.partial
    heads = [titled(plan.dataset, partial)]
    for metric in RANKED:
        heads += [metric, "95%", "rank"]
    rows = [row for section in board.sections for row in section.rows]
    table = tabulate(
        [[row.name, *_figures(row), seeds_text(row)] for row in rows],
        [*heads, "seeds"],
        tablefmt="simple",
        disable_numparse=True,
        colalign=("left", *["right"] * len(heads)),
    )
    notes = [apart_statement(section, metric) for section in board.sections for metric in RANKED]
    failed = [
        f"failed: {what}: {failure.reason}"
        for what, failure in (
            *((f"tuning {tuned.name}", tuned.failure) for tuned in outcome.tuned),
            *((f"{cell.name}, seed {cell.seed}", cell.failure) for cell in outcome.cells),
        )
        if failure is not None
    ]
    failed += _what_retrying_does(outcome)
    notes += [coarse_note(name, step) for name, step in outcome.coarse.items()]
    files = ", ".join(sorted(file.name for file in folder.glob("board.*")))
    parts = [table, *notes, "\n".join(failed), _bill(outcome), f"written: {folder}: {files}"]
    return "\n\n".join(part for part in parts if part)


def _what_retrying_does(outcome: Outcome) -> list[str]:
    """Return what ``--retry-failed`` would do about the rows that failed."""
    parts: tuple[Tuned | Cell, ...] = (*outcome.tuned, *outcome.cells)
    names = [part.name for part in parts if part.failure is not None]
    final = [name for name in dict.fromkeys(names) if not outcome.can_retry(name)]
    lines = [f"{', '.join(final)}: not tuned again: the tuning budget is spent."] if final else []
    if set(names) - set(final):
        lines.append(f"--retry-failed tries {'the others' if final else 'these'} again.")
    return lines


def _bill(outcome: Outcome) -> str:
    """Return the price that was paid beside the one that was announced."""
    plan, paid = outcome.plan, outcome.paid

    def both(spent: float, announced: float) -> str:
        return f"{with_unit(spent, plan.unit)} of {with_unit(announced, plan.unit)}"

    parts = [f"{part.what} {both(paid[part.what], part.total)}" for part in price_of(plan)]
    total = both(sum(paid.values()), total_price(plan))
    return f"Paid, of what was announced: {total} ({'; '.join(parts)})."


def _figures(row: BoardRow) -> list[str]:
    """Return mean, interval and rank of a row for each metric that rows are ranked by."""
    cells = []
    for metric in RANKED:
        mean, estimate = row.means.get(metric), row.estimates.get(metric)
        cells.append(NONE if mean is None else f"{mean:.4f}")
        cells.append(
            f"{estimate.interval.low:.4f} .. {estimate.interval.high:.4f}" if estimate else NONE
        )
        cells.append(rank_text(row.ranks.get(metric)))
    return cells
