"""What a paper needs of a board: the table in LaTeX, and how it was measured, in words.

The words are made from the track and the records' rows, so that they say what was done and nothing
else. The table needs the package booktabs.
"""

from __future__ import annotations

import re

from genrec_bench.boards.board import ORDER_BY, Board, BoardRow, Part, Section
from genrec_bench.boards.rows import abbreviate
from genrec_bench.boards.tables import fact, rank_text, titled
from genrec_bench.boards.text_cells import signed
from genrec_bench.boards.units import with_unit
from genrec_bench.boards.verdict import (
    at_what_cost,
    gain,
    listed,
    sft_multiple,
    trained_seeds,
    unequal_cost,
)
from genrec_bench.statistics.conclusions import Pair
from genrec_bench.training.budgets import shown_budget

_TOLD = {"backbone", "beam_width", "budget", "dataset", "decoding", "tuning", "sft", "sids"}
"""Keys of a track that the paragraph names in its own words, or that are hashes of its files."""

_ESCAPES = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "–": "--",
    "−": "$-$",
    "±": r"$\pm$",
} | {sign: f"\\{sign}" for sign in "#$%&_{}"}


_OUTSIDE = (
    "Ranked lists of outside systems were evaluated on the test examples of our runs, by the same "
    "metrics: hits are counted by item, and what a list does not hold counts as a miss. How these "
    "systems were trained and what that cost is as their makers declare."
)


def measured(board: Board, section: Section) -> str:
    """How the section's figures came about, as a paragraph of plain text."""
    if section.outside:
        parts = [_OUTSIDE, _tests(section), _rest(section)]
        return " ".join(part for part in parts if part)
    parts = [_start(board, section), _training(section), _tuning(section), _evaluation(section)]
    parts += [_tests(section), _rest(section)]
    return " ".join(part for part in parts if part)


def to_latex(board: Board) -> str:
    """One table for each section, with how it was measured below; the same for the same board."""
    parts = ["% Made by genrec-bench from records; needs \\usepackage{booktabs}."]
    for section in board.sections:
        parts += [_table(board, section), latex(measured(board, section))]
    return "\n\n".join(parts) + "\n"


def latex(text: str) -> str:
    """Plain text as LaTeX writes it."""
    return re.sub("|".join(map(re.escape, _ESCAPES)), lambda found: _ESCAPES[found[0]], text)


def _table(board: Board, section: Section) -> str:
    parts: tuple[Part, ...] = ("start", "control")
    rows = [row for row in section.rows if row.means]
    shown = [part for part in parts if any(gain(section, row, part) for row in rows)]
    heads = ["", *(f"over {section.called(part)}" for part in shown), *section.ranked, "Rank"]
    lines = [[*_cells(section, row, shown)] for row in rows]
    name = f"{board.title or board.dataset}{' (partial)' if section.partial else ''}"
    caption = (
        f"{name}: gain in {ORDER_BY} over the SFT start and over SFT continued with paired 95% "
        f"intervals (* told apart at 5%), {listed(section.ranked)}, and rank by {ORDER_BY}, "
        f"{at_what_cost(section)}."
    )
    label = re.sub(r"[^a-z0-9]+", "-", board.dataset.lower())
    body = [" & ".join(cells) + r" \\" for cells in lines]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{latex(caption)}}}",
            rf"\label{{tab:{label}-{section.track_id}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            r"\toprule",
            " & ".join(map(latex, heads)) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _cells(section: Section, row: BoardRow, shown: list[Part]) -> list[str]:
    found = [latex(row.name)]
    found += [_gain(gain(section, row, part)) for part in shown]
    found += [f"{row.means[m]:.4f}" if m in row.means else "--" for m in section.ranked]
    return [*found, latex(rank_text(row.ranks.get(ORDER_BY)))]


def _gain(pair: Pair | None) -> str:
    if pair is None:
        return "--"
    star = "^{*}" if pair.distinct else ""
    low, high = pair.interval.low, pair.interval.high
    return f"${signed(pair.difference)}{star}$ \\, $[{signed(low)}, {signed(high)}]$"


def _start(board: Board, section: Section) -> str:
    data = board.title or titled(board.dataset, False)
    part = ", of which a part of the training set was at hand" if section.partial else ""
    backbone = section.track.get("backbone")
    policy = f"the backbone {backbone}" if backbone else "one policy"
    cost = next(
        (
            row.phases["sft"][section.unit]
            for row in section.rows
            if row.phases.get("sft", {}).get(section.unit)
        ),
        None,
    )
    price = f", which cost {with_unit(cost, section.unit)}" if cost else ""
    return (
        f"All rows start from the same weights: {policy} after supervised fine-tuning (SFT) on "
        f"{data}{part}{price}."
    )


def _training(section: Section) -> str:
    budget = section.track.get("budget")
    seeds, times = trained_seeds(section), sft_multiple(section)
    if not seeds:
        return ""
    amount = f"for {shown_budget(budget)}" if budget else "for a number of steps"
    unequal = unequal_cost(section)
    share = f", {times:.3g} times what SFT had cost" if times is not None else ""
    if unequal:
        share = f"; rows did not cost the same, but {unequal} times what SFT had cost"
    return (
        f"Each row was trained {amount}{share}, with {seeds}; what counts is all that an algorithm "
        "computes while it trains, and neither SFT nor evaluation."
    )


def _tuning(section: Section) -> str:
    limit = section.track.get("tuning")
    if not limit:
        return "Hyperparameters were not tuned." if "tuning" in section.track else ""
    return (
        "Hyperparameters of each algorithm were tuned on validation data within "
        f"{shown_budget(limit)}, failed and pruned trials included; controls were not tuned."
    )


def _evaluation(section: Section) -> str:
    users = {each.num_users for row in section.rows for each in row.estimates.values()}
    which = "A seeded draw of" if section.track.get("test_examples") else "All"
    examples = (
        f"{which} {users.pop():,} test examples" if len(users) == 1 else f"{which} test examples"
    )
    decoding = section.track.get("decoding", "beam")
    width = section.track.get("beam_width")
    wide = f" of width {width}" if width else ""
    return (
        f"{examples} were ranked once by constrained decoding ({decoding}{wide}), and hits are "
        "counted by item."
    )


def _tests(section: Section) -> str:
    if not section.declared.get(ORDER_BY) and not section.gains.get(ORDER_BY):
        return ""
    others = [section.called(part) for part in ("control", "baseline") if part in section.parts]
    declared = f" and those with {' and '.join(others)}" if others else ""
    return (
        f"Gains in {ORDER_BY} are paired by user and seed; 95% intervals and tests resample users "
        "and allow for other seeds. Comparisons with the SFT start"
        f"{declared} were declared beforehand, and each of the two families is corrected for "
        "itself (Holm, 5%)."
    )


def _rest(section: Section) -> str:
    facts = [
        f"{key.replace('_', ' ')} {abbreviate(fact(value))}"
        for key, value in sorted(section.track.items())
        if key not in _TOLD
    ]
    fixed = f"Also fixed: {', '.join(facts)}. " if facts else ""
    return f"{fixed}Track {section.track_id}, genrec-bench {section.benchmark}."
