"""The parts of a board's page about quality against budget, and about what can be told apart."""

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING

from genrec_bench.boards.board import ORDER_BY, RANKED, Reached, Section, metric_order
from genrec_bench.boards.cells import (
    NONE,
    UNIT_NAMES,
    Cell,
    Column,
    Line,
    beside,
    details,
    figure,
    p_value,
    signed,
    small,
    span,
    table,
)
from genrec_bench.boards.charts import (
    FRAMES,
    Scale,
    Series,
    axis_strip,
    cell_scale,
    curves_chart,
    decimals,
    domain,
    interval_plot,
    swatch,
)
from genrec_bench.boards.markup import Markup, element, fragment
from genrec_bench.boards.quality import looks, name_cell, row_class
from genrec_bench.boards.reported import Reported
from genrec_bench.boards.units import Unit, unit_for

if TYPE_CHECKING:
    from genrec_bench.statistics.conclusions import Pair

MISSED = "missed"


def curves(section: Section) -> Markup | None:
    """Quality on validation against what was spent, with the targets; None without curves."""
    drawn = [
        (row, look)
        for row, look in zip(section.rows, looks(section.rows), strict=True)
        if row.curve and look is not None
    ]
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
    axis = f"{UNIT_NAMES[section.unit]} spent, {unit.symbol}"
    charts = [
        curves_chart(
            frame,
            [Series(look.number, row.name, row.curve, look.control) for row, look in drawn],
            lines,
            x_label=axis,
            y_label=f"{ORDER_BY} on validation",
            x_scale=unit.size,
        )
        for frame in FRAMES
    ]
    legend = element(
        "ul",
        *(
            element("li", swatch(look.number, look.control), element("span", row.name))
            for row, look in drawn
        ),
        class_="legend",
    )
    note = "Line: mean over seeds; band: lowest to highest seed."
    return element("figure", legend, *charts, element("figcaption", note))


def targets_table(section: Section) -> Markup | None:
    """The budget that each row needed to reach each target; None without targets."""
    labels = list(section.target_values)
    rows = [
        (row, look)
        for row, look in zip(section.rows, looks(section.rows), strict=True)
        if row.targets
    ]
    if not labels or not rows:
        return None
    amounts = [
        amount
        for row, _ in rows
        for reached in row.targets.values()
        for amount in (reached.median, *reached.by_seed)
        if amount is not None
    ]
    unit = unit_for(section.unit, amounts)
    columns = [Column("Algorithm", text=True)]
    columns += [
        Column(label, f"{ORDER_BY} {figure(section.target_values[label])}") for label in labels
    ]
    lines = []
    for row, look in rows:
        cells = [_reached_cell(row.targets.get(label), unit) for label in labels]
        lines.append(Line([name_cell(row, look), *cells], row_class(row)))
    label = f"{UNIT_NAMES[section.unit]} to reach each target, {unit.symbol}, median over seeds"
    return fragment(element("p", label + ".", class_="note"), table(label, columns, lines))


def _reached_cell(reached: Reached | None, unit: Unit) -> Cell:
    if reached is None:
        return Cell(NONE)
    seeds = [MISSED if amount is None else unit.write(amount) for amount in reached.by_seed]
    hint = f"seed by seed: {', '.join(seeds)}"
    words = [seed for seed in seeds if seed != MISSED]
    if missed := len(seeds) - len(words):
        words.append(f"{missed} {MISSED}")
    second = [element("small", " · ".join(words), class_="seeds")] if len(seeds) > 1 else []
    if reached.median is None:
        return Cell(fragment(MISSED, *second), None, hint, "missed")
    return Cell(fragment(unit.write(reached.median), *second), reached.median, hint)


def comparisons(section: Section) -> Markup | None:
    """What can and what cannot be told apart, and all pairs with their tests; None untested."""
    parts: list[Markup] = []
    for metric in RANKED:
        pairs = section.pairs.get(metric, ())
        if pairs:
            parts.append(element("h4", metric))
            parts.append(_statement(pairs, section.smallest_difference.get(metric)))
            summary = f"All {len(pairs)} pairs on {metric}" if len(pairs) > 1 else "The pair"
            parts.append(details(summary, _pairs_table(metric, pairs)))
    return fragment(*parts) if parts else None


def _statement(pairs: Sequence["Pair"], smallest: float | None) -> Markup:
    """In words: how many pairs are told apart, which are not, and how fine the test is."""
    told = sum(pair.distinct for pair in pairs)
    words = [f"{told} of {len(pairs)} pairs {'is' if told == 1 else 'are'} told apart."]
    if smallest is not None and isfinite(smallest):
        words.append(f"A difference of {figure(smallest)} would most likely be seen in any pair.")
    parts = [element("p", " ".join(words))]
    for heading, listed in (
        ("These can’t be told apart:", [p for p in pairs if _tested(p) and not p.distinct]),
        ("These have too few seeds in common to be tested:", [p for p in pairs if not _tested(p)]),
    ):
        if listed:
            lines = [element("li", f"{pair.first} and {pair.second}") for pair in listed]
            parts += [element("p", heading), element("ul", *lines, class_="alike")]
    return fragment(*parts)


def _tested(pair: "Pair") -> bool:
    """Whether the tests could have told a pair apart at all."""
    return isfinite(pair.smallest_difference)


def _pairs_table(metric: str, pairs: Sequence["Pair"]) -> Markup:
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
    return table(f"All pairs on {metric}", columns, [_pair_line(pair, scale) for pair in pairs])


def _pair_line(pair: "Pair", scale: Scale) -> Line:
    name = f"{pair.first} − {pair.second}"
    ends = (pair.interval.low, pair.interval.high)
    interval = ends if all(isfinite(end) for end in ends) else None
    second = span(*(signed(end) for end in ends)) if interval else "no interval"
    plot = interval_plot(
        scale,
        pair.difference,
        interval,
        reference=0.0,
        classes="plain" if pair.distinct else "plain unsure",
        text=f"{name}: {signed(pair.difference)}, {second}",
    )
    number = fragment(signed(pair.difference), small(second))
    chances = pair.probability_interval
    chance = fragment(
        f"{pair.probability:.2f}", small(span(f"{chances.low:.2f}", f"{chances.high:.2f}"))
    )
    cells = [Cell(name, name), Cell(beside(number, plot), pair.difference)]
    if _tested(pair):
        verdict = "yes" if pair.distinct else "no"
        cells.append(Cell(verdict, verdict, classes="text"))
        cells += [p_value(p) for p in (pair.p_adjusted, pair.p_bootstrap, pair.p_user, pair.p_seed)]
    else:
        # Only users were compared: the other tests never ran, and their p-values mean nothing.
        cells += [
            Cell("untested", "untested", classes="text"),
            Cell(NONE),
            Cell(NONE),
            p_value(pair.p_user),
        ]
        cells.append(Cell(NONE))
    cells += [
        Cell(f"{pair.effect:+.2f}".replace("-", "−"), pair.effect),
        Cell(chance, pair.probability),
        Cell(figure(pair.smallest_difference), pair.smallest_difference)
        if _tested(pair)
        else Cell(NONE),
    ]
    return Line(cells, "distinct" if pair.distinct else "unsure")


def reported_table(reported: Sequence[Reported]) -> Markup:
    """What papers report; their figures as they print them, and no rank."""
    metrics = sorted({metric for each in reported for metric in each.metrics}, key=metric_order)
    # Papers print zeros at the end, numbers don't keep them: all of a column have as many digits.
    digits = {m: decimals([e.metrics[m] for e in reported if m in e.metrics]) for m in metrics}
    columns = [
        Column("Algorithm", text=True),
        Column("Paper", text=True),
        Column("Where", text=True),
        *(Column(metric) for metric in metrics),
        Column("Setting", text=True),
    ]
    lines = []
    for each in reported:
        cells = [
            Cell(text, text, classes="text") for text in (each.algorithm, each.paper, each.table)
        ]
        for metric in metrics:
            value = each.metrics.get(metric)
            cells.append(
                Cell(NONE) if value is None else Cell(f"{value:.{digits[metric]}f}", value)
            )
        cells.append(Cell(each.setting, each.setting, classes="prose"))
        lines.append(Line(cells))
    return table("Published figures", columns, lines)
