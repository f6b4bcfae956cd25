"""The tables of a board's page about quality at the equal budget."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import TYPE_CHECKING

from markupsafe import Markup

from genrec_bench.boards.board import (
    COSTS,
    NONE,
    RANKED,
    BoardRow,
    Section,
    metric_heading,
    metrics_of,
)
from genrec_bench.boards.cells import (
    ALGORITHM,
    UNIT_NAMES,
    Column,
    PageCell,
    PageTable,
    amount_cell,
    figure,
    row_line,
    span,
    styled,
)
from genrec_bench.boards.charts import (
    Scale,
    SeriesStyle,
    axis_strip,
    cell_scale,
    domain,
    interval_plot,
)
from genrec_bench.boards.tables import rank_text, seeds_text
from genrec_bench.boards.units import unit_for

if TYPE_CHECKING:
    from genrec_bench.statistics.resampling import Interval


def quality_table(section: Section) -> PageTable:
    """Rank, mean and interval of the ranked metrics, the seeds' records, and what was spent."""
    rows = section.rows
    scales = {metric: _scale(rows, metric) for metric in RANKED}
    starts = next((row.means for row in rows if row.kind == "start"), {})
    units = {cost: unit_for(cost, (row.spent.get(cost, 0.0) for row in rows)) for cost in COSTS}
    ranked = any(row.ranks.get(metric) for row in rows for metric in RANKED)
    columns = [ALGORITHM]
    for metric in RANKED:
        scale = scales[metric]
        below = axis_strip(scale) if scale else Markup()
        columns.append(Column(metric, "with 95% interval", below=below))
        if ranked:
            columns.append(Column("Rank", metric, "best and worst rank left open"))
    columns.append(Column("Seeds", "records"))
    columns += [Column(UNIT_NAMES[cost], units[cost].symbol) for cost in COSTS]
    lines = []
    for row, style in styled(rows):
        cells = []
        for metric in RANKED:
            cells.append(_metric_cell(row, style, metric, scales[metric], starts.get(metric)))
            if ranked:
                cells.append(_rank_cell(row.ranks.get(metric)))
        cells.append(_seeds_cell(row))
        cells += [amount_cell(units[cost], row.spent.get(cost)) for cost in COSTS]
        lines.append(row_line(row, style, cells, failures=_failures(row)))
    return PageTable("Quality at the equal budget", columns, lines)


def metrics_table(section: Section) -> PageTable:
    """Every metric of the board, and the interquartile means of the ranked ones."""
    robust = [m for m in RANKED if any(m in row.estimates for row in section.rows)]
    metrics = metrics_of(section.rows)
    columns = [
        ALGORITHM,
        *(
            Column(f"IQM {metric}", "with 95% interval", "interquartile mean over seeds")
            for metric in robust
        ),
        *(Column(metric_heading(metric)) for metric in metrics),
    ]
    lines = [
        row_line(
            row,
            style,
            [*(_robust_cell(row, m) for m in robust), *(_plain_cell(row, m) for m in metrics)],
        )
        for row, style in styled(section.rows)
    ]
    return PageTable("Every metric", columns, lines)


def _failures(row: BoardRow) -> list[str]:
    """Which seeds failed, reason by reason."""
    lines = []
    for reason in dict.fromkeys(row.failures.values()):
        seeds = [str(seed) for seed, why in sorted(row.failures.items()) if why == reason]
        lines.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)} failed: {reason}")
    return lines


def _metric_cell(
    row: BoardRow, style: SeriesStyle | None, metric: str, scale: Scale | None, start: float | None
) -> PageCell:
    mean = row.means.get(metric)
    if mean is None:
        return PageCell(NONE)
    estimate = row.estimates.get(metric)
    second, classes = "", style.classes if style else "plain"
    interval: tuple[float, float] | None = None
    points: tuple[float, ...] = ()
    if estimate is not None:
        interval = _ends(estimate.interval)
        second = span(*map(figure, interval)) if interval else "no interval"
        points = estimate.by_seed if len(estimate.by_seed) > 1 else ()
        if interval and not estimate.covers_seeds:
            second += ", users only"
            classes += " partial"
    elif metric in row.deviations:
        second = f"± {figure(row.deviations[metric])}"
    if scale is None:
        return PageCell(figure(mean), mean, second)
    words = f"{row.name}: {metric} {figure(mean)}" + (f", {second}" if second else "")
    plot = interval_plot(
        scale, mean, interval, points=points, reference=start, classes=classes, text=words
    )
    return PageCell(figure(mean), mean, second, plot)


def _robust_cell(row: BoardRow, metric: str) -> PageCell:
    estimate = row.estimates.get(metric)
    if estimate is None:
        return PageCell(NONE)
    ends = _ends(estimate.iqm_interval)
    return PageCell(figure(estimate.iqm), estimate.iqm, span(*map(figure, ends)) if ends else "")


def _plain_cell(row: BoardRow, metric: str) -> PageCell:
    mean, deviation = row.means.get(metric), row.deviations.get(metric)
    if mean is None:
        return PageCell(NONE)
    return PageCell(figure(mean), mean, "" if deviation is None else f"± {figure(deviation)}")


def _ends(interval: Interval) -> tuple[float, float] | None:
    """The ends of an interval; None for one without bounds, which says nothing."""
    ends = (interval.low, interval.high)
    return ends if all(map(isfinite, ends)) else None


def _rank_cell(rank: tuple[int, int] | None) -> PageCell:
    return PageCell(rank_text(rank), None if rank is None else rank[0] + rank[1] / 1000)


def _seeds_cell(row: BoardRow) -> PageCell:
    """How many runs finished, of how many where some did not, with a link to each record."""
    if not (row.seeds or row.links):
        return PageCell(NONE)
    finished = 0 if row.kind == "failed" else len(row.seeds)
    return PageCell(seeds_text(row) if row.seeds else "", finished, links=row.links)


def _scale(rows: Sequence[BoardRow], metric: str) -> Scale | None:
    """The axis of a column: all rows but the ceiling, which is seen where it is not far away."""
    found = domain(
        (value for row in rows if row.kind != "ceiling" for value in _values(row, metric)),
        next((row.means.get(metric) for row in rows if row.kind == "ceiling"), None),
    )
    return cell_scale(*found) if found else None


def _values(row: BoardRow, metric: str) -> Iterator[float]:
    if metric in row.means:
        yield row.means[metric]
    if estimate := row.estimates.get(metric):
        yield from (estimate.interval.low, estimate.interval.high, *estimate.by_seed)
