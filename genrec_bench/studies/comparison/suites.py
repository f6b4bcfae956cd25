"""Suites: the same comparison in several worlds, and one page that says which claims hold there.

A claim is a paper's, tried where it is planted that it can be true. It holds if the row is told
apart from SFT continued and from the baseline, and is above both, by the comparisons that a board
declares beforehand, corrected as they are there. Each world's comparison has a folder and a board
of its own; a suite that was cut short goes on as they do.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec_bench.boards.board import NONE, ORDER_BY, RANKED, Board, BoardRow, Part, Section
from genrec_bench.boards.declared import find_pair
from genrec_bench.boards.text_cells import escaped, number, table
from genrec_bench.boards.units import with_unit
from genrec_bench.runs.jobs import Context
from genrec_bench.statistics.conclusions import Pair
from genrec_bench.storage.digests import json_digest
from genrec_bench.storage.files import write_atomically, write_json
from genrec_bench.studies.comparison.compare import compare, folder_of
from genrec_bench.studies.comparison.comparison_result import ComparisonResult
from genrec_bench.studies.comparison.pace import Pace
from genrec_bench.studies.comparison.plan import Plan, total_price
from genrec_bench.studies.comparison.report import BOARD

FOLDER, PAGE, VALUES = "suites", "verdicts.md", "verdicts.json"

WORTH = ("utility@10", "regret@10")
"""What a world knows of a row beside HR and NDCG."""


@dataclass(frozen=True)
class Claim:
    """What is claimed of an algorithm in the world that was made for it.

    Attributes:
        over: the parts of a board that its row has to beat.
    """

    algorithm: str
    dataset: str
    text: str
    over: tuple[Part, ...] = ("control", "baseline")


SUITES = {
    "claims": (
        Claim(
            "grpo",
            "synthetic-feedback",
            "Who learns from what users answer gains more than from the log once more",
            over=("control",),
        ),
        Claim(
            "vstar",
            "synthetic-hidden",
            "Search by value finds useful items that search by likelihood loses",
        ),
        Claim("srpo", "synthetic-sparse", "Credit for levels helps where hits are rare"),
        Claim(
            "ugr", "synthetic-noisy", "Weighing confident errors helps where the log is often wrong"
        ),
    )
}
"""Claims by the name of their suite; each stands in a world of its own."""


@dataclass(frozen=True)
class SuitePart:
    """One comparison of a suite, planned or done.

    Attributes:
        pace: what is known of how fast work goes.
        done: what came of it, the folder that holds its board, and the board; None before.
    """

    claim: Claim
    plan: Plan
    context: Context
    pace: Pace
    done: tuple[ComparisonResult, Path, Board] | None = None

    @property
    def section(self) -> Section | None:
        """The comparable records of the board; None while there are none."""
        return self.done[2].sections[0] if self.done and self.done[2].sections else None


@dataclass(frozen=True)
class Verdict:
    """What a world says of a claim; `word` is "holds", "does not hold" or "open"."""

    word: str
    reason: str
    pairs: tuple[Pair, ...]


def suite_price_text(worlds: Sequence[SuitePart]) -> str:
    """Return what the comparison in each world costs, and all of them together."""
    unit = worlds[0].plan.unit
    prices = [total_price(world.plan) for world in worlds]
    lines = [
        [world.claim.dataset, world.claim.text, with_unit(price, unit)]
        for world, price in zip(worlds, prices, strict=True)
    ]
    lines.append([f"all {len(worlds)} worlds", "", with_unit(math.fsum(prices), unit)])
    return table(["world", "claim", "price"], lines, "simple", left=2)


def compare_suite(
    name: str, worlds: Sequence[SuitePart], *, storage: str | None, retry_failed: bool
) -> tuple[list[SuitePart], Path]:
    """Compare in one world after the other; the page is written anew after each of them.

    Returns:
        The worlds as they are done, and the folder that holds the page.

    Raises:
        UserError, StorageError: as `compare`; worlds that are done stay so.
    """
    first = worlds[0].context
    first.progress.say(suite_price_text(worlds) + "\n")
    parts = [folder_of(world.plan, world.context).name for world in worlds]
    folder = first.output / FOLDER / f"{name}-{json_digest(parts)[:16]}"
    done = list(worlds)
    for place, world in enumerate(worlds):
        found = compare(
            world.plan, world.context, world.pace, storage=storage, retry_failed=retry_failed
        )
        done[place] = SuitePart(world.claim, world.plan, world.context, world.pace, found)
        write_atomically(folder / PAGE, page(done, folder).encode())
        write_json(folder / VALUES, suite_values(done))
    return done, folder


def judge(claim: Claim, section: Section | None) -> Verdict:
    """Say what the declared comparisons by `ORDER_BY` say of a claim."""
    row = _row_of(claim, section)
    if section is None or row is None:
        return Verdict("open", f"{claim.algorithm} was not run to its end", ())
    pairs: list[Pair] = []
    for part in claim.over:
        other = section.parts.get(part, part)
        pair = find_pair(section.declared.get(ORDER_BY, ()), row.name, other)
        if pair is None:
            return Verdict("open", f"it was not compared with {other} on two seeds or more", ())
        pairs.append(pair)
    below = [pair for pair in pairs if pair.distinct and pair.difference < 0]
    alike = [pair for pair in pairs if not pair.distinct]
    if below:
        return Verdict("does not hold", f"below {_others(below)}", tuple(pairs))
    if alike:
        seen = max(pair.smallest_difference for pair in alike)
        told = f"not told apart from {_others(alike)}; {seen:.4f} would have been seen"
        return Verdict("open", told, tuple(pairs))
    return Verdict("holds", f"above {_others(pairs)}", tuple(pairs))


def verdict_table(worlds: Sequence[SuitePart], style: str) -> str:
    """Return a line for each claim: where it was tried, what came of it, and by how much."""
    headers = ["claim", "of", "world", "verdict", "over", f"gain in {ORDER_BY}", "95% interval"]
    lines = []
    for world in worlds:
        claim, verdict = world.claim, judge(world.claim, world.section)
        if world.done is None:
            verdict = Verdict("open", "not compared yet", ())
        head = [claim.text, claim.algorithm, claim.dataset, f"{verdict.word}: {verdict.reason}"]
        found = [[pair.first, *_gain(pair)] for pair in verdict.pairs]
        for pair, cells in zip(verdict.pairs, found, strict=True):
            lines.append([*head, pair.second, *cells[1:]])
            head = [""] * len(head)
        if not found:
            lines.append([*head, NONE, NONE, NONE])
    return table(headers, [[escaped(cell) for cell in line] for line in lines], style, left=5)


def page(worlds: Sequence[SuitePart], folder: Path) -> str:
    """Return the page of verdicts as Markdown; links are relative to its folder."""
    plan = worlds[0].plan
    about = (
        f"Worlds in which it is known what users want; backbone {plan.backbone}, {len(plan.seeds)} "
        f"seeds, {plan.budget.text} for each training and {plan.tuning.text} to tune each "
        f"algorithm. A claim holds if its row is above SFT continued, and above the baseline, by "
        f"{ORDER_BY} on the test split, told apart as boards do it: paired by user and seed, "
        "corrected over the declared comparisons of its board; a star marks what is told apart. "
        "What is open was not refuted: the page says how large a difference would have been seen."
    )
    parts = ["# Verdicts", about, verdict_table(worlds, "pipe")]
    for world in worlds:
        parts.append(f"## {world.claim.dataset}: {world.context.dataset.card.title}")
        parts.append(world.context.dataset.card.description.strip())
        if world.done is None or world.section is None:
            parts.append("Not compared yet.")
            continue
        parts.append(_gains(world.section))
        board = world.done[1] / f"{BOARD}.html"
        parts.append(f"[The board]({Path(os.path.relpath(board, folder)).as_posix()})")
    return "\n\n".join(parts) + "\n"


def suite_values(worlds: Sequence[SuitePart]) -> list[dict[str, Any]]:
    """Return the verdicts as JSON holds them."""
    values = []
    for world in worlds:
        claim, verdict = world.claim, judge(world.claim, world.section)
        gains = [
            {
                "over": pair.second,
                "difference": pair.difference,
                "interval": [pair.interval.low, pair.interval.high],
                "p": pair.p_adjusted,
                "would be seen": pair.smallest_difference,
            }
            for pair in verdict.pairs
        ]
        told = {"claim": claim.text, "algorithm": claim.algorithm, "world": claim.dataset}
        told |= {"verdict": verdict.word, "reason": verdict.reason}
        values.append({**told, "metric": ORDER_BY, "gains": gains, "done": world.done is not None})
    return json_ready(values)


def json_ready(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the same without numbers that JSON does not have: None stands for them."""
    read: list[dict[str, Any]] = json.loads(json.dumps(values), parse_constant=lambda _: None)
    return read


def _row_of(claim: Claim, section: Section | None) -> BoardRow | None:
    """The row that a claim speaks of."""
    rows = section.rows if section else ()
    known = (row for row in rows if row.algorithm == claim.algorithm and row.kind == "result")
    return next(known, None)


def _gains(section: Section) -> str:
    """A table of what each row gains over SFT continued, and of what its lists are worth."""
    control = section.parts.get("control", "")
    headers = ["row"]
    for metric in RANKED:
        headers += [f"{metric} over {control}", "95% interval"]
    lines = []
    for row in section.rows:
        pairs = [find_pair(section.declared.get(m, ()), row.name, control) for m in RANKED]
        gains = [cell for pair in pairs for cell in (_gain(pair) if pair else (NONE, NONE))]
        worth = [number(row.means.get(metric)) for metric in WORTH]
        lines.append([escaped(row.name), *gains, *worth])
    return table([*headers, *WORTH], lines, "pipe")


def _gain(pair: Pair) -> tuple[str, str]:
    """A difference, with a star where the two are told apart, and its interval."""
    star = "*" if pair.distinct else ""
    ends = (pair.difference, pair.interval.low, pair.interval.high)
    # Without the minus of a zero.
    gain, low, high = (f"{round(end, 4) + 0.0:+.4f}" for end in ends)
    return gain + star, f"{low} to {high}"


def _others(pairs: Sequence[Pair]) -> str:
    return " and ".join(pair.second for pair in pairs)
