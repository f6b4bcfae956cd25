"""The tables of a board's page about costs: phase by phase, on the clock, and before the runs."""

from __future__ import annotations

from genrec_bench.boards.board import APART, COSTS, NONE, BoardRow, Section, phases_of
from genrec_bench.boards.cells import (
    ALGORITHM,
    UNIT_NAMES,
    Column,
    PageCell,
    PageTable,
    amount_cell,
    row_line,
    styled,
)
from genrec_bench.boards.charts import stacked_bar
from genrec_bench.boards.units import Unit, unit_for
from genrec_bench.training.ledger import TRAINING_PHASES


def bill_table(section: Section) -> PageTable | None:
    """Where the budget went, what that took on the clock, and what tuning cost."""
    rows = [(row, style) for row, style in styled(section.rows) if row.phases or row.tuning]
    if not rows:
        return None
    columns = [ALGORITHM]
    cells: list[list[PageCell]] = [[] for _ in rows]
    for cost in dict.fromkeys([section.unit, "seconds"]):
        unit = unit_for(cost, (row.spent.get(cost, 0.0) for row in section.rows))
        whole = max((sum(_counted(row, cost).values()) for row, _ in rows), default=0.0)
        columns.append(Column(UNIT_NAMES[cost], f"{unit.symbol}, by phase"))
        for line, (row, _) in zip(cells, rows, strict=True):
            line.append(_bill_cell(row, cost, unit, whole))
    columns.append(Column("Tuning", "before these runs", "failed and pruned trials count"))
    lines = [
        row_line(row, style, [*line, _tuning_cell(row, section.unit)])
        for line, (row, style) in zip(cells, rows, strict=True)
    ]
    return PageTable("What it cost", columns, lines)


def phase_classes(section: Section) -> dict[str, str]:
    """The phases that the bill's bars are made of, and the class of each in the style sheet."""
    return {phase: _class(phase) for phase in phases_of(section.rows) if phase not in APART}


def phase_tables(section: Section) -> list[PageTable]:
    """One table for each cost, by phase; those that don't count against the budget at the end."""
    phases = phases_of(section.rows)
    columns = [ALGORITHM]
    columns += [Column(p, "apart from the budget" if p in APART else "") for p in phases]
    tables = []
    for cost in dict.fromkeys([section.unit, *COSTS]):
        amounts = (p.get(cost, 0.0) for row in section.rows for p in row.phases.values())
        unit = unit_for(cost, amounts)
        lines = [
            row_line(
                row,
                style,
                [amount_cell(unit, row.phases.get(phase, {}).get(cost)) for phase in phases],
            )
            for row, style in styled(section.rows)
            if row.phases
        ]
        label = f"{UNIT_NAMES[cost]} by phase, {unit.symbol}, mean of a row's runs"
        tables.append(PageTable(label, columns, lines))
    return tables


def _class(phase: str) -> str:
    return f"p-{phase}" if phase in TRAINING_PHASES else "p-other"


def _counted(row: BoardRow, cost: str) -> dict[str, float]:
    """A row's cost by phase, without the phases that stand apart."""
    phases = (p for p in phases_of([row]) if p not in APART)
    return {phase: row.phases[phase].get(cost, 0.0) for phase in phases}


def _bill_cell(row: BoardRow, cost: str, unit: Unit, whole: float) -> PageCell:
    parts = _counted(row, cost)
    if not parts:
        return PageCell(NONE)
    text = ", ".join(f"{phase} {unit.write(amount)}" for phase, amount in parts.items())
    bar = stacked_bar(
        [(_class(phase), amount) for phase, amount in parts.items()],
        whole,
        f"{text} {unit.symbol}",
    )
    total = sum(parts.values())
    return PageCell(unit.write(total), total, drawing=bar)


def _tuning_cell(row: BoardRow, cost: str) -> PageCell:
    """What tuning cost, in the unit of the budget where the record says it."""
    tuning = row.tuning
    if not tuning:
        return PageCell("none" if row.kind in ("result", "control") else NONE)
    spent = tuning.get(cost)
    amount = float(spent) if isinstance(spent, int | float) else None
    words = [f"{tuning['trials']} trials"] if "trials" in tuning else []
    words += [f"{tuning[key]} {key}" for key in ("failed", "pruned") if tuning.get(key)]
    text = str(tuning.get("limit", "unknown"))
    if amount is not None:
        unit = unit_for(cost, [amount])
        words += [f"of {text}"] if "limit" in tuning else []
        text = f"{unit.write(amount)} {unit.symbol}"
    study = tuning.get("study")
    hint = None if study is None else f"study {study}"
    return PageCell(text, amount, ", ".join(words), hint=hint)
