"""A board as text: tables for the terminal, and a Markdown page."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from genrec_bench.boards.board import (
    APART,
    COSTS,
    ORDER_BY,
    Board,
    BoardRow,
    Link,
    Section,
    metric_heading,
    metric_order,
    metrics_of,
    phases_of,
)
from genrec_bench.boards.pair_tables import (
    all_pairs_parts,
    by_length_parts,
    declared_parts,
    gain_tables,
)
from genrec_bench.boards.rows import abbreviate
from genrec_bench.boards.text_cells import (
    MISSED,
    NONE,
    amount_text,
    escaped,
    number,
    row_name,
    table,
)
from genrec_bench.boards.units import unit_for
from genrec_bench.boards.verdict import at_what_cost, heading, verdict
from genrec_bench.errors import plain
from genrec_bench.training.budgets import shown_budget

REPORTED_HEADING = "As reported, other settings"
TARGETS_HEADING = "### Budget to reach targets"
DECLARED_HEADING = "What makers of outside systems declare"


def to_text(board: Board) -> str:
    """The board as text for a terminal: results, targets, what cannot be told apart."""
    title = titled(board.dataset, board.partial)
    parts = [f"{title}\n{'=' * len(title)}"]
    for section in board.sections:
        head = f"{heading(section)}, track {section.track_id}"
        parts += [f"{head}\n{_track(board, section)}", "\n".join(verdict(board, section))]
        parts += gain_tables(section, "simple")
        parts += [_quality(board, section, "simple")]
        parts += [_metrics(section, "simple"), _spent(section, "simple")]
        parts += [outside_table(section, "simple")]
        if section.target_values:
            parts += [_targets_title(section), _targets(section, "simple")]
        parts += [*_statements(section), *section.notes]
    text = "\n\n".join(part for part in parts if part) + "\n"
    # What records say could else move the cursor, or more, in a program that prints it by itself.
    return plain(text)


def to_markdown(board: Board) -> str:
    """The board as a Markdown page; the same for the same records."""
    plain = board.dataset.replace("`", "")
    parts = [
        f"# {escaped(titled(board.dataset, board.partial))}",
        f"Made from records by `genrec-bench leaderboard {plain}`; not to be edited.",
    ]
    for section in board.sections:
        parts += [
            f"## {heading(section)}, track {section.track_id}",
            *(escaped(text) for text in verdict(board, section)),
            escaped(_track(board, section)),
            *_gain_parts(section),
            f"### Quality {at_what_cost(section)}",
            _quality(board, section, "pipe"),
            *(escaped(text) for text in (*_statements(section), *section.notes)),
            *by_length_parts(section),
        ]
        if section.outside:
            parts += [f"### {DECLARED_HEADING}", outside_table(section, "pipe")]
        elif section.target_values:
            parts += [TARGETS_HEADING, _targets_title(section), _targets(section, "pipe")]
        else:
            parts += [TARGETS_HEADING, "There are none; the notes above say why."]
        parts += ["### All metrics", _metrics(section, "pipe")]
        if not section.outside:
            parts += ["### What was spent", _spent(section, "pipe")]
        for metric in section.ranked:
            parts += declared_parts(section, metric)
        for metric in section.ranked:
            parts += all_pairs_parts(section, metric)
        parts += ["### Records", _records(section)]
    if board.reported:
        parts += [f"## {REPORTED_HEADING}", _REPORTED_LEGEND, *_reported(board)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _gain_parts(section: Section) -> list[str]:
    """The heading, a line and the table of the gains; nothing without any."""
    gains = gain_tables(section, "pipe")
    return [f"### Gain {at_what_cost(section)}", *gains] if gains else []


def titled(dataset: str, partial: bool) -> str:
    """The dataset's name, with a word where its training set is not whole."""
    return f"{dataset} (partial)" if partial else dataset


def apart_statement(section: Section, metric: str) -> str:
    """Say in one line which rows are told apart by a metric, of how many; empty without a test."""
    pairs = [pair for pair in section.pairs.get(metric, ()) if math.isfinite(pair.interval.low)]
    if not pairs:
        return ""
    told = [pair for pair in pairs if pair.distinct]
    if not told:
        return f"By {metric}, no two rows can be told apart."
    below: dict[str, list[str]] = {}
    for pair in told:
        up = pair.difference > 0
        better, worse = (pair.first, pair.second) if up else (pair.second, pair.first)
        below.setdefault(better, []).append(worse)
    said = "; ".join(f"{better} is above {', '.join(names)}" for better, names in below.items())
    return f"By {metric}, {len(told)} of {len(pairs)} pairs are told apart: {said}."


def seeds_text(row: BoardRow) -> str:
    """How many seeds a row is made of, and of how many where some failed."""
    if row.kind == "failed":
        return f"0 of {len(row.seeds)}"
    if row.failures:
        return f"{len(row.seeds)} of {len(row.seeds) + len(row.failures)}"
    return str(len(row.seeds)) if row.seeds else NONE


def fact(value: Any) -> str:
    """One of the things that a track fixes; a budget in four digits."""
    if value is None:
        return "none"
    return shown_budget(value) if isinstance(value, str) else json.dumps(value, sort_keys=True)


def rank_text(rank: tuple[int, int] | None) -> str:
    """Best and worst rank, one number where they are the same."""
    if rank is None:
        return NONE
    best, worst = rank
    return str(best) if best == worst else f"{best}–{worst}"


def _track(board: Board, section: Section) -> str:
    """State what is fixed; the dataset comes first, with its name."""
    facts = [f"dataset {titled(board.dataset, section.partial)}"]
    for key in sorted(section.track, key=lambda key: (key != "dataset", key)):
        text = fact(section.track[key])
        name = "fingerprint" if key == "dataset" else key.replace("_", " ")
        facts.append(f"{name} {abbreviate(text)}")
    return ", ".join(facts)


def _quality(board: Board, section: Section, style: str) -> str:
    headers = [titled(board.dataset, section.partial), f"rank by {ORDER_BY}"]
    for metric in section.ranked:
        headers += [metric, "95% interval", "IQM"]
    headers += ["seeds"]
    lines = []
    for row in section.rows:
        line = [row_name(row, style), rank_text(row.ranks.get(ORDER_BY))]
        for metric in section.ranked:
            mean = number(row.means.get(metric))
            estimate = row.estimates.get(metric)
            if estimate is None:
                line += [mean, NONE, NONE]
            else:
                interval = f"{estimate.interval.low:.4f} to {estimate.interval.high:.4f}"
                line += [mean, interval, NONE if row.kind == "start" else f"{estimate.iqm:.4f}"]
        lines.append([*line, seeds_text(row)])
    return table(headers, lines, style)


def _statements(section: Section) -> list[str]:
    found = [apart_statement(section, metric) for metric in section.ranked]
    smallest = [
        f"{value:.4f} by {metric}"
        for metric, value in section.smallest_difference.items()
        if math.isfinite(value)
    ]
    if smallest:
        found.append(
            "The smallest difference that this design finds in four of five cases, for any two of "
            f"the rows: {', '.join(smallest)}."
        )
    found += [
        f"{row.name} failed with seed {seed}: {reason}"
        for row in section.rows
        for seed, reason in sorted(row.failures.items())
    ]
    return [text for text in found if text]


def _metrics(section: Section, style: str) -> str:
    rows = [row for row in section.rows if row.means]
    names = metrics_of(rows)
    lines = []
    for row in rows:
        spreads = {name: f" ± {spread:.4f}" for name, spread in row.deviations.items()}
        cells = [number(row.means.get(name)) + spreads.get(name, "") for name in names]
        lines.append([row_name(row, style), *cells])
    heads = ["mean ± standard deviation over seeds", *map(metric_heading, names)]
    return table(heads, lines, style)


def _spent(section: Section, style: str) -> str:
    """Costs that count, the unit's bill by phase, and tuning; one unit for each column."""
    rows = [row for row in section.rows if row.spent]
    if not rows:
        return ""
    phases = phases_of(rows)
    units = {cost: unit_for(cost, (row.spent.get(cost, 0.0) for row in rows)) for cost in COSTS}
    unit = units[section.unit]
    name = unit.symbol
    tuned = any(row.tuning for row in rows)
    headers = ["per run", *(each.symbol for each in units.values())]
    headers += [f"{p}, {name}" + (" (does not count)" if p in APART else "") for p in phases]
    headers += [f"tuning in all, {name}", "trials (failed, pruned)"] if tuned else []
    lines = []
    for row in rows:
        line = [row_name(row, style)]
        line += [amount_text(row.spent[cost], of) for cost, of in units.items()]
        for phase in phases:
            line.append(amount_text(row.phases.get(phase, {}).get(section.unit), unit))
        if tuned:
            tuning: Mapping[str, Any] = row.tuning or {}
            line += [amount_text(tuning.get(section.unit), unit), escaped(_trials(tuning))]
        lines.append(line)
    return table(headers, lines, style)


def outside_table(section: Section, style: str) -> str:
    """What makers declare of outside systems; empty without any."""
    rows = [row for row in section.rows if row.outside]
    if not rows:
        return ""
    heads = list(rows[0].outside)
    pipe = style == "pipe"
    lines = [
        [row_name(row, style), *(escaped(text) if pipe else text for text in row.outside.values())]
        for row in rows
    ]
    return table(["declared, not checked", *heads], lines, style, left=len(heads) + 1)


def _trials(tuning: Mapping[str, Any]) -> str:
    if not tuning.get("trials"):
        return NONE
    return f"{tuning['trials']} ({tuning.get('failed', 0)}, {tuning.get('pruned', 0)})"


def _targets_title(section: Section) -> str:
    values = ", ".join(f"{label} is {value:.4f}" for label, value in section.target_values.items())
    return (
        "Budget spent at the first look that finds a share of GRPO's gain over the SFT start, by "
        f"NDCG@10 on part of the validation split ({values}); median over seeds, where a "
        "seed that misses the target counts as infinite, and how many seeds reached it."
    )


def _targets(section: Section, style: str) -> str:
    rows = [row for row in section.rows if row.targets]
    found = [each.median for row in rows for each in row.targets.values()]
    unit = unit_for(section.unit, (median for median in found if median is not None))
    lines = []
    for row in rows:
        cells = []
        for label in section.target_values:
            each = row.targets[label]
            got = sum(spent is not None for spent in each.by_seed)
            median = MISSED if each.median is None else amount_text(each.median, unit)
            cells.append(f"{median} ({got} of {len(each.by_seed)})")
        lines.append([row_name(row, style), *cells])
    return table([unit.symbol, *section.target_values], lines, style)


def _records(section: Section) -> str:
    """Each number's origin: a link for each seed."""
    lines = []
    for row in section.rows:
        links = [
            f"[{_origin(row, each)}]({quote(each.path)})" if each.path else _origin(row, each)
            for each in row.links
        ]
        lines.append([row_name(row, "pipe"), ", ".join(links) or NONE])
    return table(["row", "records"], lines, "pipe", left=2)


def _origin(row: BoardRow, link: Link) -> str:
    if not row.seeds:
        return "record"
    return f"seed {link.seed}" + (" (failed)" if link.failed else "")


_REPORTED_LEGEND = (
    "Figures of papers, in settings of their own: they do not compare with anything above, nor "
    "with each other across papers."
)


def _reported(board: Board) -> list[str]:
    names = sorted({name for line in board.reported for name in line.metrics}, key=metric_order)
    lines, settings = [], {}
    for line in board.reported:
        settings[f"{line.paper}, {line.table}"] = line.setting
        cells = [number(line.metrics.get(name)) for name in names]
        lines.append([f"{line.paper}, {line.table}", escaped(line.algorithm), *cells])
    told = [f"- {place}: {setting}" for place, setting in settings.items()]
    return [table(["paper", "algorithm", *names], lines, "pipe", left=2), "\n".join(told)]
