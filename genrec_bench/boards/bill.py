"""The part of a board's page about costs: phase by phase, on the clock, and before the runs."""

from collections.abc import Sequence

from genrec_bench.boards.board import APART, COSTS, Row, Section
from genrec_bench.boards.cells import (
    NONE,
    UNIT_NAMES,
    Cell,
    Column,
    Line,
    amount_cell,
    beside,
    details,
    small,
    table,
)
from genrec_bench.boards.charts import stacked_bar
from genrec_bench.boards.markup import Markup, element, fragment
from genrec_bench.boards.quality import looks, name_cell, row_class
from genrec_bench.boards.units import Unit, unit_for
from genrec_bench.training.ledger import PHASES, TRAINING_PHASES


def bill(section: Section) -> Markup:
    """Where the budget went, phase by phase, what that took on the clock, and what tuning cost."""
    rows = [
        (row, look)
        for row, look in zip(section.rows, looks(section.rows), strict=True)
        if row.phases or row.tuning
    ]
    costs = list(dict.fromkeys([section.unit, "seconds"]))
    units = {
        cost: unit_for(cost, (row.spent.get(cost, 0.0) for row in section.rows)) for cost in COSTS
    }
    whole = {
        cost: max((sum(_counted(row, cost).values()) for row, _ in rows), default=0.0)
        for cost in costs
    }
    phases = [p for p in _phases(section.rows) if p not in APART]
    columns = [Column("Algorithm", text=True)]
    columns += [Column(UNIT_NAMES[cost], f"{units[cost].symbol}, by phase") for cost in costs]
    columns.append(Column("Tuning", "before these runs", "failed and pruned trials count"))
    lines = []
    for row, look in rows:
        cells = [name_cell(row, look)]
        for cost in costs:
            cells.append(_bill_cell(row, cost, units[cost], whole[cost]))
        lines.append(Line([*cells, _tuning_cell(row, section.unit)], row_class(row)))
    legend = element(
        "ul",
        *(
            element("li", element("i", class_=f"key {_phase_class(phase)}"), phase)
            for phase in phases
        ),
        class_="legend",
    )
    numbers = [_phase_table(section, cost) for cost in dict.fromkeys([section.unit, *COSTS])]
    return fragment(
        legend,
        table("What it cost", columns, lines),
        details("Numbers by phase", *numbers),
    )


def _phase_table(section: Section, cost: str) -> Markup:
    """One cost of each row by phase, those that don't count against the budget at the end."""
    phases = _phases(section.rows)
    amounts = (p.get(cost, 0.0) for row in section.rows for p in row.phases.values())
    unit = unit_for(cost, amounts)
    columns = [Column("Algorithm", text=True)]
    columns += [Column(p, "apart from the budget" if p in APART else "") for p in phases]
    lines = []
    for row, look in zip(section.rows, looks(section.rows), strict=True):
        if row.phases:
            amounts_by = [row.phases.get(phase, {}).get(cost) for phase in phases]
            cells = [name_cell(row, look), *(amount_cell(unit, each) for each in amounts_by)]
            lines.append(Line(cells, row_class(row)))
    label = f"{UNIT_NAMES[cost]} by phase, {unit.symbol}, mean of a row's runs"
    return fragment(element("h4", label), table(label, columns, lines))


def _phases(rows: Sequence[Row]) -> list[str]:
    """All phases that anything was spent in, in the ledger's order, those apart at the end."""
    found = {phase for row in rows for phase in row.phases}
    known = [*TRAINING_PHASES, *(p for p in PHASES if p not in (*TRAINING_PHASES, *APART)), *APART]
    others = sorted(found - set(known))
    return [*others, *(phase for phase in known if phase in found)]


def _phase_class(phase: str) -> str:
    return f"p-{phase}" if phase in TRAINING_PHASES else "p-other"


def _counted(row: Row, cost: str) -> dict[str, float]:
    """A row's cost by phase, without the phases that stand apart."""
    phases = (p for p in _phases([row]) if p not in APART)
    return {phase: row.phases[phase].get(cost, 0.0) for phase in phases}


def _bill_cell(row: Row, cost: str, unit: Unit, whole: float) -> Cell:
    parts = _counted(row, cost)
    if not parts:
        return Cell(NONE)
    text = ", ".join(f"{phase} {unit.write(amount)}" for phase, amount in parts.items())
    bar = stacked_bar(
        [(_phase_class(phase), amount) for phase, amount in parts.items()],
        whole,
        f"{text} {unit.symbol}",
    )
    total = sum(parts.values())
    return Cell(beside(unit.write(total), bar), total)


def _tuning_cell(row: Row, cost: str) -> Cell:
    """What tuning cost, in the unit of the budget where the record says it."""
    tuning = row.tuning
    if not tuning:
        return Cell("none" if row.kind in ("result", "control") else NONE)
    spent = tuning.get(cost)
    amount = float(spent) if isinstance(spent, int | float) else None
    if amount is not None:
        unit = unit_for(cost, [amount])
        shown = f"{unit.write(amount)} {unit.symbol}"
    else:
        shown = str(tuning.get("limit", "unknown"))
    words = [f"{tuning['trials']} trials"] if "trials" in tuning else []
    words += [f"{tuning[key]} {key}" for key in ("failed", "pruned") if tuning.get(key)]
    words += [f"of {tuning['limit']}"] if "limit" in tuning and amount is not None else []
    study = tuning.get("study")
    hint = None if study is None else f"study {study}"
    return Cell(fragment(shown, *([small(", ".join(words))] if words else [])), amount, hint)
