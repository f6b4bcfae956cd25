"""Suites: the same comparison in several worlds, and one page that says which claims hold there.

Each world's comparison has a folder and a board of its own; a suite that was cut short goes on as
they do. `boards/claims.py` has the claims and says what the boards say of them.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from genrec_bench.boards.board import ORDER_BY, Board
from genrec_bench.boards.claims import Claim, Tried, Verdict, claims_markdown
from genrec_bench.boards.text_cells import table
from genrec_bench.boards.units import with_unit
from genrec_bench.runs.jobs import Context
from genrec_bench.storage.digests import json_digest
from genrec_bench.storage.files import write_atomically, write_json
from genrec_bench.studies.comparison.compare import compare, folder_of
from genrec_bench.studies.comparison.comparison_result import ComparisonResult
from genrec_bench.studies.comparison.pace import Pace
from genrec_bench.studies.comparison.plan import Plan, total_price
from genrec_bench.studies.comparison.report import BOARD

FOLDER, PAGE, VALUES = "suites", "verdicts.md", "verdicts.json"


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

    def tried(self, folder: Path) -> Tried:
        """The claim with its board; the link is relative to a folder."""
        if self.done is None:
            return Tried(self.claim)
        _, where, board = self.done
        link = Path(os.path.relpath(where / f"{BOARD}.html", folder)).as_posix()
        return Tried(self.claim, board, link)


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
        done[place] = replace(world, done=found)
        page = claims_markdown([one.tried(folder) for one in done])
        write_atomically(folder / PAGE, page.encode())
        write_json(folder / VALUES, suite_values(done))
    return done, folder


def suite_values(worlds: Sequence[SuitePart]) -> list[dict[str, Any]]:
    """Return the verdicts as JSON holds them."""
    values = []
    for world in worlds:
        claim, verdicts = world.claim, world.tried(Path()).verdicts
        told: dict[str, Any] = {"claim": claim.text, "algorithm": claim.algorithm}
        told |= {"world": claim.dataset, "metric": ORDER_BY, **_verdict_values(verdicts[ORDER_BY])}
        told["done"] = world.done is not None
        told["by"] = {metric: _verdict_values(verdict) for metric, verdict in verdicts.items()}
        values.append(told)
    return json_ready(values)


def _verdict_values(verdict: Verdict) -> dict[str, Any]:
    """A verdict as JSON holds it."""
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
    return {"verdict": verdict.word, "reason": verdict.reason, "gains": gains}


def json_ready(values: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the same without numbers that JSON does not have: None stands for them."""
    read: list[dict[str, Any]] = json.loads(json.dumps(values), parse_constant=lambda _: None)
    return read
