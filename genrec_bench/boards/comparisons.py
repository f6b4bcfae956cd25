"""The parts of a board's page about quality against budget, and about what can be told apart."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

from markupsafe import Markup

from genrec_bench.boards.board import MISSED, NONE, ORDER_BY, Reached, Section, metric_order
from genrec_bench.boards.cells import (
    ALGORITHM,
    UNIT_NAMES,
    Column,
    PageCell,
    PageLine,
    PageTable,
    figure,
    p_value,
    row_line,
    signed,
    span,
    styled,
)
from genrec_bench.boards.charts import (
    FRAMES,
    Scale,
    axis_strip,
    cell_scale,
    curves_chart,
    decimals,
    domain,
    interval_plot,
)
from genrec_bench.boards.reported import Reported
from genrec_bench.boards.units import Unit, unit_for

if TYPE_CHECKING:
    from genrec_bench.statistics.conclusions import Pair


@dataclass(frozen=True)
class Curves:
    """Quality on validation against what was spent.

    Attributes:
        legend: a swatch and a name for each curve.
        charts: the same for a desk and for a phone.
    """

    legend: Sequence[tuple[Markup, str]]
    charts: Sequence[Markup]


def curves(section: Section) -> Curves | None:
    """The curves of a section's rows, with the targets; None without curves."""
    drawn = [(row, style) for row, style in styled(section.rows) if row.curve and style]
    if not drawn:
        return None
    unit = unit_for(section.unit, (point[0] for row, _ in drawn for point in row.curve))
    lines = [(f"target {label}", value, "target") for label, value in section.target_values.items()]
    first = drawn[0][0].curve[0]
    if first[0] == 0:
        lines.append(("SFT start", first[1], "start"))
    ceiling = next((row for row in section.rows if row.kind == "ceiling"), None)
    if ceiling is not None and ORDER_BY in ceiling.means:
        lines.append(("ceiling on test", ceiling.means[ORDER_BY], "optional"))
    series = [(row.name, row.curve, style) for row, style in drawn]
    charts = [
        curves_chart(
            frame,
            series,
            lines,
            x_label=f"{UNIT_NAMES[section.unit]} spent, {unit.symbol}",
            y_label=f"{ORDER_BY} on validation",
            x_scale=unit.size,
        )
        for frame in FRAMES
    ]
    return Curves([(style.swatch, name) for name, _, style in series], charts)


def targets_table(section: Section) -> PageTable | None:
    """The budget that each row needed to reach each target; None without targets."""
    rows = [(row, style) for row, style in styled(section.rows) if row.targets]
    if not section.target_values or not rows:
        return None
    amounts = [
        amount
        for row, _ in rows
        for reached in row.targets.values()
        for amount in (reached.median, *reached.by_seed)
        if amount is not None
    ]
    unit = unit_for(section.unit, amounts)
    columns = [ALGORITHM]
    columns += [
        Column(label, f"{ORDER_BY} {figure(value)}")
        for label, value in section.target_values.items()
    ]
    lines = [
        row_line(
            row,
            style,
            [_reached_cell(row.targets.get(label), unit) for label in section.target_values],
        )
        for row, style in rows
    ]
    label = f"{UNIT_NAMES[section.unit]} to reach each target, {unit.symbol}, median over seeds"
    return PageTable(label, columns, lines)


def _reached_cell(reached: Reached | None, unit: Unit) -> PageCell:
    if reached is None:
        return PageCell(NONE)
    seeds = [MISSED if amount is None else unit.write(amount) for amount in reached.by_seed]
    words = [seed for seed in seeds if seed != MISSED]
    if missed := len(seeds) - len(words):
        words.append(f"{missed} {MISSED}")
    return PageCell(
        MISSED if reached.median is None else unit.write(reached.median),
        reached.median,
        " · ".join(words) if len(seeds) > 1 else "",
        hint=f"seed by seed: {', '.join(seeds)}",
        classes="missed" if reached.median is None else None,
        small_classes="seeds",
    )


def tested(pair: Pair) -> bool:
    """Whether the tests could have told a pair apart at all."""
    return isfinite(pair.smallest_difference)


def pairs_table(metric: str, pairs: Sequence[Pair]) -> PageTable:
    """All pairs with their tests."""
    ends = [end for pair in pairs for end in (pair.interval.low, pair.interval.high)]
    found = domain([0.0, *ends, *(pair.difference for pair in pairs)])
    assert found is not None
    scale = cell_scale(*found)
    columns = [
        Column("Pair", "first − second", text=True),
        Column(f"Difference in {metric}", "and 95% interval", below=axis_strip(scale)),
        Column("Told apart", "at 5%", text=True),
        Column("p, Holm", "decides", "paired bootstrap over users and seeds, all pairs corrected"),
        Column("p", "users, seeds", "paired bootstrap over users and seeds"),
        Column("p", "users", "permutation test by user, given these seeds"),
        Column("p", "seeds", "permutation test by seed"),
        Column("Effect", "by user", "mean difference of a user over its standard deviation"),
        Column("P(first better)", "over seeds", "probability of improvement, with 95% interval"),
        Column("Could see", "80% power", "the smallest difference that this test would find"),
    ]
    lines = [_pair_line(pair, scale) for pair in pairs]
    return PageTable(f"All pairs on {metric}", columns, lines)


def _pair_line(pair: Pair, scale: Scale) -> PageLine:
    name = f"{pair.first} − {pair.second}"
    ends = (pair.interval.low, pair.interval.high)
    interval = ends if all(isfinite(end) for end in ends) else None
    second = span(*(signed(end) for end in ends)) if interval else "no interval"
    state = "distinct" if pair.distinct else "unsure"
    plot = interval_plot(
        scale,
        pair.difference,
        interval,
        reference=0.0,
        classes="plain" if pair.distinct else "plain unsure",
        text=f"{name}: {signed(pair.difference)}, {second}",
    )
    verdict, could_see, none = "untested", PageCell(NONE), PageCell(NONE)
    # Where only users were compared the other tests never ran, and their p-values mean nothing.
    ps = [none, none, p_value(pair.p_user), none]
    if tested(pair):
        verdict = "yes" if pair.distinct else "no"
        ps = [p_value(p) for p in (pair.p_adjusted, pair.p_bootstrap, pair.p_user, pair.p_seed)]
        could_see = PageCell(figure(pair.smallest_difference), pair.smallest_difference)
    chances = pair.probability_interval
    cells = [
        PageCell(signed(pair.difference), pair.difference, second, plot),
        PageCell(verdict, verdict, classes="text"),
        *ps,
        PageCell(signed(pair.effect, 2), pair.effect),
        PageCell(
            f"{pair.probability:.2f}",
            pair.probability,
            span(f"{chances.low:.2f}", f"{chances.high:.2f}"),
        ),
        could_see,
    ]
    return PageLine(name, cells, classes=state)


def reported_table(reported: Sequence[Reported]) -> PageTable:
    """What papers report; their figures as they print them, and no rank."""
    metrics = sorted({metric for each in reported for metric in each.metrics}, key=metric_order)
    # Papers print zeros at the end, numbers don't keep them: all of a column have as many digits.
    digits = {m: decimals([e.metrics[m] for e in reported if m in e.metrics]) for m in metrics}
    lines = []
    for each in reported:
        cells = [PageCell(text, text, classes="text") for text in (each.paper, each.table)]
        for metric in metrics:
            value = each.metrics.get(metric)
            text = NONE if value is None else f"{value:.{digits[metric]}f}"
            cells.append(PageCell(text, value))
        cells.append(PageCell(each.setting, each.setting, classes="prose"))
        lines.append(PageLine(each.algorithm, cells, name_classes="text"))
    columns = [
        ALGORITHM,
        *(Column(name, text=True) for name in ("Paper", "Where")),
        *(Column(metric) for metric in metrics),
        Column("Setting", text=True),
    ]
    return PageTable("Published figures", columns, lines)
