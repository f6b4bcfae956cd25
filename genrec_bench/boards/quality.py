"""The part of a board's page about quality at the equal budget, and how rows are named on it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING
from urllib.parse import quote

from genrec_bench.boards.board import (
    COSTS,
    RANKED,
    Link,
    Row,
    Section,
    metric_heading,
    metrics_of,
)
from genrec_bench.boards.cells import (
    NONE,
    UNIT_NAMES,
    Cell,
    Column,
    Line,
    amount_cell,
    beside,
    figure,
    small,
    span,
    table,
)
from genrec_bench.boards.charts import (
    Scale,
    axis_strip,
    cell_scale,
    domain,
    interval_plot,
    style_of,
    swatch,
)
from genrec_bench.boards.markup import Markup, element, fragment
from genrec_bench.boards.units import unit_for

if TYPE_CHECKING:
    from genrec_bench.statistics.resampling import Interval

TAGS = {"start": "start", "control": "control", "failed": "failed", "ceiling": "ceiling"}
"""What is written beside the name of a row that is no plain result."""


@dataclass(frozen=True)
class Look:
    """How a row looks everywhere in its section.

    Attributes:
        number: of its series; see `genrec_bench.boards.charts`.
        control: whether it goes without colour.
    """

    number: int
    control: bool

    @property
    def classes(self) -> str:
        """The style sheet's names for it."""
        return style_of(self.number, self.control)


def looks(rows: Sequence[Row]) -> list[Look | None]:
    """Give each row a look: results and controls are counted apart, other rows have none."""
    counts = {"result": -1, "control": 0}
    found: list[Look | None] = []
    for row in rows:
        if row.kind in counts:
            counts[row.kind] += 1
            found.append(Look(counts[row.kind], row.kind == "control"))
        else:
            found.append(None)
    return found


def name_cell(row: Row, look: Look | None, failures: bool = False) -> Cell:
    """What a row is called and what it is.

    Args:
        row: that the line is about.
        look: of the row.
        failures: whether to say which of its seeds failed, and why.
    """
    name, bracket, rest = row.name.partition(" (")
    parts = [element("span", name, class_="name")]
    if look is not None:
        parts.insert(0, swatch(look.number, look.control))
    if row.kind in TAGS and TAGS[row.kind] != name:
        parts.append(element("span", TAGS[row.kind], class_="tag"))
    if bracket:
        parts.append(small(f"({rest}"))
    if failures:
        for reason in dict.fromkeys(row.failures.values()):
            seeds = [str(seed) for seed, why in sorted(row.failures.items()) if why == reason]
            words = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)} failed: {reason}"
            parts.append(element("small", words, class_="failure"))
    return Cell(fragment(*parts), row.name)


def row_class(row: Row) -> str:
    """The class of a row's line in any table."""
    return f"kind-{row.kind}"


def quality_table(section: Section) -> Markup:
    """Rank, mean and interval of the ranked metrics, the seeds' records, and what was spent."""
    scales = {metric: _scale(section.rows, metric) for metric in RANKED}
    units = {cost: unit_for(cost, _amounts(section.rows, cost)) for cost in COSTS}
    ranked = any(row.ranks.get(metric) for row in section.rows for metric in RANKED)
    columns = [Column("Algorithm", text=True)]
    for metric in RANKED:
        scale = scales[metric]
        below = axis_strip(scale) if scale else None
        columns.append(Column(metric, "with 95% interval", below=below))
        if ranked:
            columns.append(Column("Rank", metric, "best and worst rank left open"))
    columns.append(Column("Seeds", "records"))
    columns += [Column(UNIT_NAMES[cost], units[cost].symbol) for cost in COSTS]
    lines = []
    for row, look in zip(section.rows, looks(section.rows), strict=True):
        cells = [name_cell(row, look, failures=True)]
        for metric in RANKED:
            start = _start(section.rows, metric)
            cells.append(_metric_cell(row, look, metric, scales[metric], start))
            if ranked:
                cells.append(_rank_cell(row.ranks.get(metric)))
        cells.append(_seeds_cell(row))
        cells += [amount_cell(units[cost], row.spent.get(cost)) for cost in COSTS]
        lines.append(Line(cells, row_class(row)))
    return table("Quality at the equal budget", columns, lines)


def metrics_table(section: Section) -> Markup:
    """Every metric of the board, and the interquartile means of the ranked ones."""
    robust = [m for m in RANKED if any(m in row.estimates for row in section.rows)]
    metrics = metrics_of(section.rows)
    columns = [Column("Algorithm", text=True)]
    columns += [
        Column(f"IQM {metric}", "with 95% interval", "interquartile mean over seeds")
        for metric in robust
    ]
    columns += [Column(metric_heading(metric)) for metric in metrics]
    lines = []
    for row, look in zip(section.rows, looks(section.rows), strict=True):
        cells = [name_cell(row, look)]
        for metric in robust:
            estimate = row.estimates.get(metric)
            if estimate is None:
                cells.append(Cell(NONE))
                continue
            ends = _ends(estimate.iqm_interval)
            second = [small(span(*map(figure, ends)))] if ends else []
            cells.append(Cell(fragment(figure(estimate.iqm), *second), estimate.iqm))
        for metric in metrics:
            cells.append(_plain_cell(row, metric))
        lines.append(Line(cells, row_class(row)))
    return table("Every metric", columns, lines)


def _metric_cell(
    row: Row, look: Look | None, metric: str, scale: Scale | None, start: float | None
) -> Cell:
    mean = row.means.get(metric)
    if mean is None:
        return Cell(NONE)
    estimate = row.estimates.get(metric)
    second, classes = "", look.classes if look else "plain"
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
    words = f"{row.name}: {metric} {figure(mean)}" + (f", {second}" if second else "")
    parts: list[str] = [figure(mean), *([small(second)] if second else [])]
    if scale is None:
        return Cell(fragment(*parts), mean)
    plot = interval_plot(
        scale, mean, interval, points=points, reference=start, classes=classes, text=words
    )
    return Cell(beside(fragment(*parts), plot), mean)


def _ends(interval: "Interval") -> tuple[float, float] | None:
    """The ends of an interval; None for one without bounds, which says nothing."""
    ends = (interval.low, interval.high)
    return ends if all(map(isfinite, ends)) else None


def _plain_cell(row: Row, metric: str) -> Cell:
    mean = row.means.get(metric)
    if mean is None:
        return Cell(NONE)
    if metric not in row.deviations:
        return Cell(figure(mean), mean)
    return Cell(fragment(figure(mean), small(f"± {figure(row.deviations[metric])}")), mean)


def _rank_cell(rank: tuple[int, int] | None) -> Cell:
    if rank is None:
        return Cell(NONE)
    best, worst = rank
    return Cell(f"{best}" if best == worst else f"{best}–{worst}", best + worst / 1000)


def _seeds_cell(row: Row) -> Cell:
    """How many runs finished, of how many where some did not, with a link to each record."""
    missing = set(row.failures) - (set() if row.kind == "failed" else set(row.seeds))
    finished = 0 if row.kind == "failed" else len(row.seeds)
    if not (finished or missing or row.links):
        return Cell(NONE)
    parts: list[str] = []
    if finished or missing:
        parts.append(f"{finished} of {finished + len(missing)}" if missing else str(finished))
    if row.links:
        # A space between two links keeps fingers from meeting both, and lets them wrap.
        spaced = [piece for link in row.links for piece in (_link(link), " ")][:-1]
        parts.append(element("small", *spaced, class_="links"))
    return Cell(fragment(*parts), float(finished))


def _link(link: Link) -> Markup:
    figures = [f"{metric} {link.value[metric]}" for metric in RANKED if metric in link.value]
    title = f"seed {link.seed}: {', '.join([*figures, link.run_id])}"
    name = f"{link.seed} failed" if link.failed else str(link.seed)
    if not link.path:
        return element("span", name, title=title)
    # Quoted, so that a path can't be taken for an address elsewhere.
    return element("a", name, href=quote(link.path), title=title)


def _scale(rows: Sequence[Row], metric: str) -> Scale | None:
    """The axis of a column: all rows but the ceiling, which is seen where it is not far away."""
    found = domain(
        (value for row in rows if row.kind != "ceiling" for value in _values(row, metric)),
        next((row.means.get(metric) for row in rows if row.kind == "ceiling"), None),
    )
    return cell_scale(*found) if found else None


def _values(row: Row, metric: str) -> Iterator[float]:
    if metric in row.means:
        yield row.means[metric]
    if estimate := row.estimates.get(metric):
        yield from (estimate.interval.low, estimate.interval.high, *estimate.by_seed)


def _start(rows: Sequence[Row], metric: str) -> float | None:
    return next((row.means.get(metric) for row in rows if row.kind == "start"), None)


def _amounts(rows: Sequence[Row], cost: str) -> list[float]:
    return [row.spent.get(cost, 0.0) for row in rows]
