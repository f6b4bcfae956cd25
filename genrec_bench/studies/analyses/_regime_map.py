"""What the runs of `regime` come to: a table, a heat map, and words."""

from __future__ import annotations

import math
import statistics
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from genrec_bench.boards.board import ORDER_BY, RANKED
from genrec_bench.boards.evidence import Evidence, read_evidence
from genrec_bench.boards.rows import user_values
from genrec_bench.boards.text_cells import NONE
from genrec_bench.errors import UserError
from genrec_bench.statistics.conclusions import Entrant, Pair, conclude, family
from genrec_bench.studies.analyses._regime_grid import Cell, Grid
from genrec_bench.studies.analyses._regime_options import variant_name
from genrec_bench.studies.text_tables import table_text
from genrec_bench.training.collapse import signs_of_collapse
from genrec_bench.training.ledger import of_training

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from genrec_bench.statistics.conclusions import Conclusions

OVER = {"control": "", "start": " on start"}
"""How the columns end that hold the gain over the one or the other."""

GAIN, LOW, HIGH, VISIBLE, APART = "gain", "low", "high", "visible", "apart"

ABOVE, BELOW, UNTESTED = "above", "below", "untested"
"""In the columns ``apart``; `NONE` for what cannot be told apart."""

Row = Mapping[Hashable, Any]
"""Of the table: values by column."""

COLOURS = "RdBu"
"""Losses red, gains blue."""


def compare_cells(grid: Grid, runs: Mapping[tuple[Cell, int], Path]) -> pd.DataFrame:
    """Compare the cells of each variant with their controls and with their starts.

    Args:
        runs: records of the runs that ended, by cell and seed.

    Returns:
        A row for each variant, stop and budget, with `ORDER_BY` on the test split. What is told
        apart is corrected over all cells of the grid, once for the controls and once for the
        starts (Holm); intervals are not corrected. Numbers of what did not run are missing.

    Raises:
        UserError: the outcomes of a run are missing or damaged.
    """
    found = {
        cell: {seed: read_evidence(runs[cell, seed]) for seed in grid.seeds if (cell, seed) in runs}
        for cell in grid.cells
    }
    pairs: list[Pair] = []
    means: dict[str, float] = {}
    for times in grid.budgets:
        for stop in grid.stops:
            rows_of = [Cell(stop, times, variant) for variant in (None, *grid.variants)]
            concluded = _conclude(grid, {cell: found[cell] for cell in rows_of})
            if concluded is not None:
                pairs += concluded.pairs
                means |= {name: one.mean for name, one in concluded.estimates.items()}
    cells = [
        Cell(stop, times, variant)
        for variant in grid.variants
        for stop in grid.stops
        for times in grid.budgets
    ]
    over: dict[str, dict[str, Pair]] = {}
    for part in OVER:
        wanted = [(grid.name(cell), _other(grid, cell, part)) for cell in cells]
        over[part] = {pair.first: pair for pair in family(pairs, wanted)}
    rows = []
    for cell in cells:
        evidence = list(found[cell].values())
        row: dict[str, Any] = {
            "variant": variant_name(cell.variant or ()),
            "SFT": cell.stop,
            "budget": cell.times,
            "seeds": len(evidence),
            "start": means.get(_other(grid, cell, "start"), math.nan),
            "continued": means.get(_other(grid, cell, "control"), math.nan),
            "trained": means.get(grid.name(cell), math.nan),
        }
        for part, end in OVER.items():
            pair = over[part].get(grid.name(cell))
            row |= {f"{key}{end}": value for key, value in _of_pair(pair).items()}
        row["collapsed"] = sum(bool(signs_of_collapse(one.curves)) for one in evidence)
        spent = [one.record["budget"]["spent"] for one in evidence]
        row["SFT FLOPs"] = _mean([each["sft"]["flops"] for each in spent])
        row["RL FLOPs"] = _mean([of_training(each, "flops") for each in spent])
        rows.append(row)
    return pd.DataFrame(rows)


def _other(grid: Grid, cell: Cell, part: str) -> str:
    """Return the name of what a cell is compared with."""
    control = grid.name(Cell(cell.stop, cell.times, None))
    return control if part == "control" else f"start of {control}"


def _conclude(grid: Grid, group: Mapping[Cell, Mapping[int, Evidence]]) -> Conclusions | None:
    """Compare all rows from one start with one budget; None where no run ended."""
    entrants: dict[str, Entrant] = {}
    some: Evidence | None = None
    for cell, by_seed in group.items():
        for one in by_seed.values():
            some = some or one
            start = _other(grid, cell, "start")
            entrants.setdefault(start, Entrant(_values([one], "start_"), (0,), fixed=True))
        if by_seed:
            entrants[grid.name(cell)] = Entrant(_values([*by_seed.values()]), tuple(by_seed))
    if some is None:
        return None
    # As boards draw, so that a cell's figures do not depend on which others there are.
    key = int(some.record["track_id"], 16)
    return conclude(entrants, np.random.default_rng([key, RANKED.index(ORDER_BY)]))


def _values(runs: Sequence[Evidence], prefix: str = "") -> np.ndarray[Any, np.dtype[np.float64]]:
    values = user_values(runs, ORDER_BY, prefix)
    if values is None:
        raise UserError(f"{runs[0].name}: has no outcomes of the test split like the others")
    return values


def _of_pair(pair: Pair | None) -> dict[str, float | str]:
    """Return the columns of a comparison; what is unknown is missing."""
    if pair is None:
        return {**dict.fromkeys((GAIN, LOW, HIGH, VISIBLE), math.nan), APART: UNTESTED}
    tested = pair.parts is not None
    numbers = {
        GAIN: pair.difference,
        LOW: pair.interval.low if tested else math.nan,
        HIGH: pair.interval.high if tested else math.nan,
        VISIBLE: pair.smallest_difference if tested else math.nan,
    }
    apart = (ABOVE if pair.difference > 0 else BELOW) if pair.distinct else NONE
    return {**numbers, APART: apart if tested else UNTESTED}


def _mean(values: Sequence[float]) -> float:
    return statistics.fmean(values) if values else math.nan


def words_of_map(grid: Grid, table: pd.DataFrame, over: str) -> list[str]:
    """Say where RL gains most and where it loses, and how to read the table."""
    end, what = OVER[over], {"control": grid.control, "start": "the SFT start"}[over]
    known = table[table[f"{GAIN}{end}"].notna()]
    ranked = known.sort_values(f"{GAIN}{end}", ascending=False, kind="stable")
    apart = known[f"{APART}{end}"]
    rows = ranked.to_dict("records")
    by_variant = table.groupby("variant", sort=False)
    sentences = []
    if rows:
        first, last = rows[0], rows[-1]
        most = "gains most" if first[f"{GAIN}{end}"] > 0 else "loses least"
        most = f"{grid.algorithm} {most} over {what}"
        sentences.append(f"{most} {_where(first)}: {_gain(first, end)}.")
        if len(rows) > 1:
            worst = "loses most" if last[f"{GAIN}{end}"] < 0 else "gains least"
            sentences.append(f"It {worst} {_where(last)}: {_gain(last, end)}.")
        above, below = (int((apart == side).sum()) for side in (ABOVE, BELOW))
        sentences.append(
            f"Of {len(known)} cells {above} are told apart above {what} and {below} below it."
        )
    visible = known[f"{VISIBLE}{end}"].dropna()
    visible = visible[np.isfinite(visible)]
    if len(visible):
        sentences.append(
            f"Four of five gains of {visible.min():.4f} to {visible.max():.4f}, by cell, would be "
            "told apart with these seeds and users."
        )
    else:
        sentences.append("One seed says nothing of other seeds: there are no intervals.")
    return [
        " ".join(sentences),
        *(_small_map(grid, rows, variant, what, end) for variant, rows in by_variant),
        f"`start`, `continued` ({grid.control}) and `trained` are {ORDER_BY} on the test split, "
        "means over seeds. `SFT` is the share of the whole SFT start's cost that a run's own start "
        "had, trained on a schedule of its own; `budget` is what the run might spend after it, in "
        "multiples of the whole start's cost. `gain` is over SFT continued from the same start for "
        "the same budget, `gain on start` over that start.",
        "`low` and `high` are the ends of a 95% interval over seeds and users, paired by both and "
        "not corrected. `apart` is corrected for all cells (Holm), and `visible` is the gain that "
        "four of five such designs tell apart. `collapsed` counts runs whose curves say so.",
    ]


def _small_map(grid: Grid, rows: pd.DataFrame, variant: object, what: str, end: str) -> str:
    """Return a panel of the figure as a Markdown table; a star where a gain is told apart."""
    cells = _by_place(rows)
    lines = [
        [f"{stop:g}", *(_short(cells[stop, times], end) for times in grid.budgets)]
        for stop in grid.stops
    ]
    heads = ["SFT", *(f"budget {times:g}" for times in grid.budgets)]
    title = f"{variant}: gain in {ORDER_BY} over {what}; * told apart"
    return f"{title}\n\n{table_text(heads, lines, 'pipe')}"


def _by_place(rows: pd.DataFrame) -> dict[tuple[float, float], Row]:
    """Return the rows of one variant by stop and budget."""
    return {(row["SFT"], row["budget"]): row for row in rows.to_dict("records")}


def _short(row: Row, end: str) -> str:
    if math.isnan(row[f"{GAIN}{end}"]):
        return NONE
    star = "*" if row[f"{APART}{end}"] in (ABOVE, BELOW) else ""
    return f"{row[f'{GAIN}{end}']:+.4f}{star}"


def _where(row: Row) -> str:
    share, times = f"{row['SFT']:g} of its cost", f"{row['budget']:g} times SFT's cost"
    return f"with {row['variant']} after SFT at {share}, for {times}"


def _gain(row: Row, end: str) -> str:
    text = f"{row[f'{GAIN}{end}']:+.4f} {ORDER_BY}"
    if math.isnan(row[f"{LOW}{end}"]):
        return text
    apart = "not told apart" if row[f"{APART}{end}"] == NONE else "told apart"
    return f"{text} (95%: {row[f'{LOW}{end}']:+.4f} to {row[f'{HIGH}{end}']:+.4f}, {apart})"


def draw_map(figure: Figure, table: pd.DataFrame, grid: Grid, over: str) -> None:
    """Draw a panel for each variant: gains by stop and budget, framed where told apart."""
    from matplotlib import colormaps

    end = OVER[over]
    panels, column = len(grid.variants), f"{GAIN}{end}"
    width, height = 1.1 * len(grid.budgets) * panels, 0.75 * len(grid.stops)
    figure.set_size_inches(2.6 + width, 1.9 + height)
    axes = figure.subplots(1, panels, squeeze=False, sharey=True)[0]
    most = float(table[column].abs().fillna(0.0).max()) or 1.0
    colours = colormaps[COLOURS].with_extremes(bad="0.9")
    for axis, (variant, rows) in zip(axes, table.groupby("variant", sort=False), strict=True):
        cells = _by_place(rows)
        gains = [[cells[stop, times][column] for times in grid.budgets] for stop in grid.stops]
        image = axis.imshow(gains, cmap=colours, vmin=-most, vmax=most, aspect="auto")
        for line, stop in enumerate(grid.stops):
            for place, times in enumerate(grid.budgets):
                _draw_cell(axis, place, line, cells[stop, times], most, end)
        axis.set_title(str(variant), fontsize="medium")
        axis.set_xticks(range(len(grid.budgets)), [f"{times:g}×" for times in grid.budgets])
        starts = rows.groupby("SFT")["start"].max()
        labels = [f"{stop:g}\n({starts[stop]:.4f})" for stop in grid.stops]
        axis.set_yticks(range(len(grid.stops)), labels)
    figure.supxlabel("budget, in multiples of what the whole SFT cost", fontsize="medium")
    axes[0].set_ylabel(f"share of SFT\n(start's {ORDER_BY})")
    what = {"control": grid.control, "start": "the SFT start"}[over]
    figure.colorbar(image, ax=list(axes), label=f"gain in {ORDER_BY} over {what}")


def _draw_cell(axis: Axes, column: int, line: int, row: Row, most: float, end: str) -> None:
    """Write a cell's gain and interval into it; frame it where it is told apart."""
    from matplotlib.patches import Rectangle

    gain, low, high = (float(row[f"{name}{end}"]) for name in (GAIN, LOW, HIGH))
    if math.isnan(gain):
        axis.text(column, line, "failed", ha="center", va="center", fontsize="small")
        return
    distinct = row[f"{APART}{end}"] in (ABOVE, BELOW)
    text = f"{gain:+.4f}"
    if not math.isnan(low):
        text += f"\n{low:+.4f}\nto {high:+.4f}"
    axis.text(
        column,
        line,
        text,
        ha="center",
        va="center",
        fontsize="x-small",
        fontweight="bold" if distinct else "normal",
        color="white" if abs(gain) > 0.65 * most else "black",
    )
    if distinct:
        place = (column - 0.46, line - 0.46)
        axis.add_patch(Rectangle(place, 0.92, 0.92, fill=False, edgecolor="black", linewidth=2))
