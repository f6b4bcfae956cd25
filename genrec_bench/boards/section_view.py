"""What a board's page computes and draws of a section, for the templates that write its tables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any

from markupsafe import Markup

from genrec_bench.boards import text_cells
from genrec_bench.boards.board import (
    APART,
    COSTS,
    OF_WORLDS,
    ORDER_BY,
    BoardRow,
    Part,
    Section,
    metrics_of,
    phases_of,
)
from genrec_bench.boards.charts import (
    FRAMES,
    Scale,
    SeriesStyle,
    cell_scale,
    curves_chart,
    domain,
    interval_plot,
    stacked_bar,
)
from genrec_bench.boards.gain_curves import beam_note, sharpening
from genrec_bench.boards.text_cells import NONE
from genrec_bench.boards.units import Unit, unit_for
from genrec_bench.boards.verdict import gain
from genrec_bench.training.budgets import shown_budget
from genrec_bench.training.ledger import TRAINING_PHASES

if TYPE_CHECKING:
    from genrec_bench.statistics.conclusions import Pair
    from genrec_bench.statistics.resampling import Interval

UNIT_NAMES = {"seconds": "Device time", "flops": "FLOPs", "tokens": "Tokens"}
"""What the costs are called."""


@dataclass(frozen=True)
class SectionView:
    """A section and what its tables have in common: styles, units and scales of their columns."""

    section: Section

    @cached_property
    def styles(self) -> dict[str, SeriesStyle]:
        """How results and controls look everywhere, by name; the two kinds are counted apart."""
        results, controls = (
            [row.name for row in self.section.rows if row.kind == kind]
            for kind in ("result", "control")
        )
        found = {name: SeriesStyle(number, False) for number, name in enumerate(results)}
        # A control has no colour, so its line is never the plain one of the first result.
        return found | {name: SeriesStyle(n, True) for n, name in enumerate(controls, start=1)}

    @cached_property
    def units(self) -> dict[str, Unit]:
        """By cost: the unit of what rows spent."""
        rows = self.section.rows
        return {cost: unit_for(cost, (row.spent.get(cost, 0.0) for row in rows)) for cost in COSTS}

    @cached_property
    def scales(self) -> dict[str, Scale]:
        """By ranked metric: the axis of its column; none where no row has a value.

        All rows but the ceiling are seen, and the ceiling where it is not far away.
        """
        found = {}
        for metric in self.section.ranked:
            rows = [row for row in self.section.rows if row.kind != "ceiling"]
            far = next(
                (r.means.get(metric) for r in self.section.rows if r.kind == "ceiling"), None
            )
            ends = domain((value for row in rows for value in _values(row, metric)), far)
            if ends:
                found[metric] = cell_scale(*ends)
        return found

    @cached_property
    def gain_parts(self) -> list[Part]:
        """What gains are shown over: the SFT start and SFT continued, where anything was tested."""
        parts: tuple[Part, ...] = ("start", "control")
        rows = self.section.rows
        return [part for part in parts if any(gain(self.section, row, part) for row in rows)]

    @property
    def gain_metrics(self) -> list[str]:
        """The metric that decides, and those that a world knows: gains are shown in these."""
        return [ORDER_BY, *(metric for metric in self.section.ranked if metric in OF_WORLDS)]

    def gain_scale(self, metric: str) -> Scale:
        """The axis of all gains in a metric, so that both columns have one; with zero on it."""
        rows, parts = self.section.rows, self.gain_parts
        found = (gain(self.section, row, part, metric) for row in rows for part in parts)
        return _scale_of(pair for pair in found if pair)

    def gain(self, row: BoardRow, part: Part, metric: str) -> Pair | None:
        """A row less the SFT start or SFT continued."""
        return gain(self.section, row, part, metric)

    @property
    def ranked(self) -> bool:
        """Whether any row has a rank."""
        return any(
            row.ranks.get(metric) for row in self.section.rows for metric in self.section.ranked
        )

    @property
    def metrics(self) -> list[str]:
        """All metrics that any row has."""
        return metrics_of(self.section.rows)

    @property
    def robust(self) -> list[str]:
        """The ranked metrics that have interquartile means."""
        return [
            m for m in self.section.ranked if any(m in row.estimates for row in self.section.rows)
        ]

    def spread(self, row: BoardRow, metric: str) -> str:
        """What stands below the mean of a ranked metric: its interval, or its deviation."""
        estimate = row.estimates.get(metric)
        if estimate is None:
            return f"± {figure(row.deviations[metric])}" if metric in row.deviations else ""
        found = ends(estimate.interval)
        if not found:
            return "no interval"
        return span(*map(figure, found)) + ("" if estimate.covers_seeds else ", users only")

    def plot(self, row: BoardRow, metric: str) -> Markup:
        """A row's mean of a ranked metric, its interval, its seeds, and the SFT start."""
        estimate, mean = row.estimates.get(metric), row.means[metric]
        interval = ends(estimate.interval) if estimate else None
        classes = self.styles[row.name].classes if row.name in self.styles else "plain"
        if estimate and interval and not estimate.covers_seeds:
            classes += " partial"
        start: BoardRow | None = next((r for r in self.section.rows if r.kind == "start"), None)
        words = [f"{row.name}: {metric} {figure(mean)}", self.spread(row, metric)]
        return interval_plot(
            self.scales[metric],
            mean,
            interval,
            points=estimate.by_seed if estimate and len(estimate.by_seed) > 1 else (),
            reference=start.means.get(metric) if start else None,
            classes=classes,
            text=", ".join(filter(None, words)),
        )

    def pair_scale(self, metric: str) -> Scale:
        """The axis of the differences of all pairs, with zero on it."""
        return _scale_of(self.section.pairs[metric])

    def declared(self, metric: str) -> tuple[Pair, ...]:
        """The comparisons that were declared beforehand: with the start, then with the others."""
        section = self.section
        return (*section.gains.get(metric, ()), *section.declared.get(metric, ()))

    def declared_scale(self, metric: str) -> Scale:
        """The axis of the differences of the declared comparisons, with zero on it."""
        return _scale_of(self.declared(metric))

    def curves(self) -> dict[str, Any] | None:
        """Quality on validation against what was spent, with the targets; None without curves.

        `legend` has a style for each name, `charts` the same drawing for a desk and for a phone.
        """
        section = self.section
        drawn = [row for row in section.rows if row.curve and row.name in self.styles]
        if not drawn:
            return None
        unit = unit_for(section.unit, (point[0] for row in drawn for point in row.curve))
        lines = [(f"target {label}", y, "target") for label, y in section.target_values.items()]
        first = drawn[0].curve[0]
        if first[0] == 0:
            lines.append(("SFT start", first[1], "start"))
        ceiling: BoardRow | None = next((r for r in section.rows if r.kind == "ceiling"), None)
        if ceiling and ORDER_BY in ceiling.means:
            lines.append(("ceiling on test", ceiling.means[ORDER_BY], "optional"))
        charts = [
            curves_chart(
                frame,
                [(row.name, row.curve, self.styles[row.name]) for row in drawn],
                lines,
                x_label=f"{UNIT_NAMES[section.unit]} spent, {unit.symbol}",
                y_label=f"{ORDER_BY} on validation",
                x_scale=unit.size,
            )
            for frame in FRAMES
        ]
        return {"legend": {row.name: self.styles[row.name] for row in drawn}, "charts": charts}

    def gain_curves(self) -> dict[str, Any] | None:
        """Gain in HR@K over the SFT start against K, as `curves`; None where nothing tells it."""
        drawn = [row for row in self.section.rows if row.gains_at and row.name in self.styles]
        if not drawn:
            return None
        charts = [
            curves_chart(
                frame,
                [(row.name, row.gains_at, self.styles[row.name]) for row in drawn],
                [("SFT start", 0.0, "start")],
                x_label="K, the length of the list",
                y_label="Gain in HR@K over the SFT start",
            )
            for frame in FRAMES
        ]
        notes = [*sharpening(drawn), beam_note(drawn).replace("`", "")]
        return {
            "legend": {row.name: self.styles[row.name] for row in drawn},
            "charts": charts,
            "notes": [note for note in notes if note],
        }

    @property
    def target_unit(self) -> Unit:
        """The unit of the budgets to reach targets."""
        reached = [each for row in self.section.rows for each in row.targets.values()]
        amounts = (amount for each in reached for amount in (each.median, *each.by_seed))
        return unit_for(self.section.unit, (x for x in amounts if x is not None))

    @property
    def phases(self) -> list[str]:
        """The ledger's phases, those that don't count against the budget at the end."""
        return phases_of(self.section.rows)

    def phase_unit(self, cost: str) -> Unit:
        """The unit of a cost by phase."""
        rows = self.section.rows
        return unit_for(cost, (p.get(cost, 0.0) for row in rows for p in row.phases.values()))

    def counted(self, row: BoardRow, cost: str) -> dict[str, float]:
        """A row's cost by phase, without the phases that stand apart."""
        phases = (p for p in phases_of([row]) if p not in APART)
        return {phase: row.phases[phase].get(cost, 0.0) for phase in phases}

    def bar(self, row: BoardRow, cost: str) -> Markup:
        """A row's cost by phase as a bar, the dearest row's bar as wide as the column."""
        unit, parts = self.units[cost], self.counted(row, cost)
        whole = max(sum(self.counted(each, cost).values()) for each in self.section.rows)
        words = ", ".join(f"{phase} {unit.write(amount)}" for phase, amount in parts.items())
        pieces = [(phase_class(phase), amount) for phase, amount in parts.items()]
        return stacked_bar(pieces, whole, f"{words} {unit.symbol}")

    def tuning(self, row: BoardRow) -> dict[str, Any]:
        """The cell of what tuning cost, in the unit of the budget where the record says it."""
        tuning, cost = row.tuning, self.section.unit
        if not tuning:
            return {"text": "none" if row.kind in ("result", "control") else NONE}
        words = [f"{tuning['trials']} trials"] if "trials" in tuning else []
        words += [f"{tuning[key]} {key}" for key in ("failed", "pruned") if tuning.get(key)]
        text, amount = str(tuning.get("limit", "unknown")), tuning.get(cost)
        if isinstance(amount, int | float):
            unit = unit_for(cost, [amount])
            words += [f"of {shown_budget(text)}"] if "limit" in tuning else []
            text = f"{unit.write(amount)} {unit.symbol}"
        else:
            amount = None
        hint = f"study {tuning['study']}" if tuning.get("study") is not None else None
        return {"text": text, "sort": amount, "small": ", ".join(words), "hint": hint}


def pair_plot(pair: Pair, scale: Scale) -> Markup:
    """The difference of two rows with its interval, and zero."""
    said = span(*map(signed, _both(pair.interval))) if ends(pair.interval) else "no interval"
    return interval_plot(
        scale,
        pair.difference,
        ends(pair.interval),
        reference=0.0,
        classes="plain" if pair.distinct else "plain unsure",
        text=f"{pair.first} − {pair.second}: {signed(pair.difference)}, {said}",
    )


def _scale_of(pairs: Iterable[Pair]) -> Scale:
    """An axis of differences, with zero on it."""
    found = domain([0.0, *(x for p in pairs for x in (*_both(p.interval), p.difference))])
    assert found is not None
    return cell_scale(*found)


def failures(row: BoardRow) -> list[str]:
    """Which seeds failed, reason by reason."""
    lines = []
    for reason in dict.fromkeys(row.failures.values()):
        seeds = [str(seed) for seed, why in sorted(row.failures.items()) if why == reason]
        lines.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)} failed: {reason}")
    return lines


def phase_class(phase: str) -> str:
    """What the style sheet calls a phase."""
    return f"p-{phase}" if phase in TRAINING_PHASES else "p-other"


def ends(interval: Interval) -> tuple[float, float] | None:
    """The ends of an interval; None for one without bounds, which says nothing."""
    return _both(interval) if all(map(isfinite, _both(interval))) else None


def figure(value: float) -> str:
    """A metric."""
    return f"{value:.4f}"


def signed(value: float, digits: int = 4) -> str:
    """A difference with its sign; minus is a minus, not a hyphen."""
    return text_cells.signed(value, digits).replace("-", "−")


def span(low: str, high: str) -> str:
    """From one number to another."""
    return f"{low} to {high}"


def _both(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high


def _values(row: BoardRow, metric: str) -> Iterator[float]:
    if metric in row.means:
        yield row.means[metric]
    if estimate := row.estimates.get(metric):
        yield from (*_both(estimate.interval), *estimate.by_seed)
