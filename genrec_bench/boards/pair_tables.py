"""The comparisons of a board as tables of text: what was declared beforehand, then all pairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from genrec_bench.boards.board import OF_WORLDS, ORDER_BY, Part, Section
from genrec_bench.boards.gain_curves import beam_note, sharpening
from genrec_bench.boards.text_cells import (
    NONE,
    escaped,
    gain_cells,
    number,
    row_name,
    signed,
    table,
)
from genrec_bench.boards.verdict import gain

if TYPE_CHECKING:
    from genrec_bench.statistics.conclusions import Pair

DECLARED = (
    "Declared before anything was run: each row less the SFT start, corrected over the rows "
    "(Holm); and each row less SFT continued and less the baseline, corrected together. All "
    "pairs, which stand below, are corrected for their own number."
)

_LEGEND = (
    "Differences are first less second. Decided by the paired bootstrap over seeds and users, "
    "corrected over the pairs of this table (Holm); p by user takes these seeds as given, p by "
    "seed cannot fall below 2 / 2^n with n seeds. Effect: standardized by user. Better: how "
    "probable it is that a run of the first beats one of the second. The intervals of two rows "
    "may overlap and the rows still be told apart: both are measured on the same users."
)


LENGTHS = (1, 2, 3, 5, 10, 20, 50)
"""Of the lists at which a table of text shows the gain."""

GAINS = (
    f"Gain in {ORDER_BY}, which decides, on the same users; * stands at what is told apart at 5%, "
    "within the comparisons that were declared beforehand."
)


def gain_tables(section: Section, style: str) -> list[str]:
    """A line about gains and their tables, that of the metric which decides first; or nothing."""
    metrics = (ORDER_BY, *(metric for metric in section.ranked if metric in OF_WORLDS))
    tables = [text for metric in metrics if (text := gains_table(section, style, metric))]
    return [GAINS, *tables] if tables else []


def gains_table(section: Section, style: str, metric: str = ORDER_BY) -> str:
    """Each row's gain over the SFT start and over SFT continued; empty where nothing was tested."""
    parts: tuple[Part, ...] = ("start", "control")
    known = [part for part in parts if part in section.parts]
    headers = [f"gain in {metric}"]
    for part in known:
        headers += [f"over {section.called(part)}", "95% interval"]
    lines = []
    for row in section.rows:
        pairs = [gain(section, row, part, metric) for part in known]
        if any(pairs):
            cells = [row_name(row, style)]
            for pair in pairs:
                cells += gain_cells(pair) if pair else (NONE, NONE)
            lines.append([*cells, number(row.means.get(metric))])
    return table([*headers, metric], lines, style) if lines else ""


def by_length_parts(section: Section) -> list[str]:
    """Heading, table and notes of the gain in HR@K; nothing where no outcomes tell it."""
    rows = [row for row in section.rows if row.gains_at]
    if not rows:
        return []
    known = [k for k, *_ in rows[0].gains_at]
    chosen = [k for k in LENGTHS if k in known]
    lines = []
    for row in rows:
        of = {k: (mean, low, high) for k, mean, low, high in row.gains_at}
        ends = {k: tuple(map(signed, of[k])) for k in chosen}
        cells = [f"{mean} ({low} to {high})" for mean, low, high in ends.values()]
        lines.append([row_name(row, "pipe"), *cells])
    headers = ["gain over the SFT start", *(f"HR@{k}" for k in chosen)]
    parts = ["### Gain by list length", table(headers, lines, "pipe")]
    return [*parts, *filter(None, [*map(escaped, sharpening(rows)), beam_note(rows)])]


def declared_parts(section: Section, metric: str) -> list[str]:
    """Heading, legend and table of the declared comparisons by a metric; nothing without any."""
    pairs = [*section.gains.get(metric, ()), *section.declared.get(metric, ())]
    if not pairs:
        return []
    headers = ["row", "less", "difference", "95% interval", "p", "p (Holm)", "told apart"]
    headers += ["would be seen"]
    lines = []
    for pair in pairs:
        line = [escaped(pair.first), escaped(pair.second)]
        line += gain_cells(pair, star="")
        line += [f"{pair.p_bootstrap:.4f}", f"{pair.p_adjusted:.4f}", _told(pair)]
        seen = pair.smallest_difference
        lines.append([*line, f"{seen:.4f}" if math.isfinite(seen) else NONE])
    return [
        f"### Declared comparisons by {metric}",
        DECLARED,
        table(headers, lines, "pipe", left=2),
    ]


def all_pairs_parts(section: Section, metric: str) -> list[str]:
    """Heading, legend and table of all pairs by a metric; nothing without any."""
    pairs = section.pairs.get(metric)
    return [f"### Pairs by {metric}", _LEGEND, _pairs(pairs)] if pairs else []


def _pairs(pairs: Sequence[Pair]) -> str:
    headers = ["first", "second", "difference", "95% interval", "p by user", "p by seed"]
    headers += ["p", "p (Holm)", "told apart", "effect", "better"]
    lines = []
    for pair in pairs:
        ps = [f"{p:.4f}" for p in (pair.p_user, pair.p_seed, pair.p_bootstrap, pair.p_adjusted)]
        line = [escaped(pair.first), escaped(pair.second)]
        line += [*gain_cells(pair, star=""), *ps, _told(pair)]
        lines.append([*line, signed(pair.effect, 3), f"{pair.probability:.2f}"])
    return table(headers, lines, "pipe", left=2)


def _told(pair: Pair) -> str:
    return "yes" if pair.distinct else "no"
