"""Papers' claims, each tried in the world that was made for it, and the page that says which hold.

A claim holds if its row is told apart from SFT continued and from the baseline, and is above both,
by the comparisons that a board declares beforehand, corrected as they are there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from genrec_bench.boards.board import OF_WORLDS, ORDER_BY, Board, BoardRow, Part, Section
from genrec_bench.boards.declared import find_pair
from genrec_bench.boards.text_cells import NONE, escaped, gain_cells, number, table
from genrec_bench.boards.verdict import sft_multiple, unequal_cost, where
from genrec_bench.data.cards import load_card
from genrec_bench.runs.record_schema import version_key
from genrec_bench.statistics.conclusions import Pair

WORTH = ("utility@10", "regret@10")
"""What a world knows of a row beside HR and NDCG."""

NOT_COMPARED = "Not compared yet."

ABOUT = (
    "Worlds in which it is known what users want. A claim holds if its row is above SFT continued, "
    f"and above the baseline, by {ORDER_BY} on the test split, told apart as boards do it: paired "
    "by user and seed, corrected over the declared comparisons of its board; a star marks what is "
    f"told apart. By {' and '.join(OF_WORLDS)}, what a list is worth exactly, the same comparison "
    "sees more; it stands beside and does not decide. What is open was not refuted: the page says "
    "how large a difference would have been seen."
)


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
class Verdict:
    """What a world says of a claim; `word` is "holds", "does not hold" or "open"."""

    word: str
    reason: str
    pairs: tuple[Pair, ...]


@dataclass(frozen=True)
class Tried:
    """A claim and the board of its world.

    Attributes:
        board: None before anything was compared there.
        link: the board's page, relative to where the claims' page lies.
    """

    claim: Claim
    board: Board | None = None
    link: str = ""

    @property
    def section(self) -> Section | None:
        """Of the records that judge the claim those that can tell most; else the board's first.

        At equal cost rather than not, with more seeds, and for a larger budget.
        """
        known = self.board.sections if self.board else ()
        sections = [one for one in known if not one.outside]
        judging = [one for one in sections if judge(self.claim, one).pairs]
        return max(judging, key=_tells, default=sections[0] if sections else None)

    @property
    def verdict(self) -> Verdict:
        """What is known of the claim."""
        return self.verdicts[ORDER_BY]

    @property
    def verdicts(self) -> dict[str, Verdict]:
        """What is known of the claim by `ORDER_BY`, which decides, then by what the world knows."""
        if self.board is None:
            return {ORDER_BY: Verdict("open", "not compared yet", ())}
        ranked = self.section.ranked if self.section else ()
        metrics = (ORDER_BY, *(metric for metric in ranked if metric in OF_WORLDS))
        return {metric: judge(self.claim, self.section, metric) for metric in metrics}

    @property
    def heading(self) -> str:
        """Name and title of the world."""
        return f"{self.claim.dataset}: {load_card(self.claim.dataset).title}"

    @property
    def about(self) -> list[str]:
        """What the world is, and what a run could spend there: a paragraph each."""
        found = [load_card(self.claim.dataset).description.strip()]
        if self.board is not None and self.section is not None:
            found.append(where(self.board, self.section))
        return found


def tried_in(boards: Mapping[str, Board], suite: str, link: str) -> list[Tried]:
    """The claims of a suite with the boards that there are.

    Args:
        boards: by dataset.
        link: of a board's page, with `{}` for the dataset's name.
    """
    found = [(claim, boards.get(claim.dataset)) for claim in SUITES[suite]]
    return [Tried(claim, board, link.format(claim.dataset)) for claim, board in found]


def judge(claim: Claim, section: Section | None, metric: str = ORDER_BY) -> Verdict:
    """Say what the declared comparisons by a metric say of a claim."""
    row = _row_of(claim, section)
    if section is None or row is None:
        return Verdict("open", f"{claim.algorithm} was not run to its end", ())
    pairs: list[Pair] = []
    for part in claim.over:
        other = section.parts.get(part, part)
        pair = find_pair(section.declared.get(metric, ()), row.name, other)
        if pair is None:
            return Verdict("open", f"it was not compared with {other} on two seeds or more", ())
        pairs.append(pair)
    below = [pair for pair in pairs if pair.distinct and pair.difference < 0]
    alike = [pair for pair in pairs if not pair.distinct]
    if below:
        return Verdict("does not hold", f"below {_others(below, section)}", tuple(pairs))
    if alike:
        seen = max(pair.smallest_difference for pair in alike)
        told = f"not told apart from {_others(alike, section)}; {seen:.4f} would have been seen"
        return Verdict("open", told, tuple(pairs))
    return Verdict("holds", f"above {_others(pairs, section)}", tuple(pairs))


def verdict_cells(tried: Sequence[Tried]) -> tuple[list[str], list[list[str]]]:
    """Heads and lines: for each claim where it was tried, what came of it, and by how much."""
    heads = ["claim", "verdict", "of", "world", "by", "over", "gain", "95% interval"]
    lines = []
    for one in tried:
        claim = [one.claim.text, one.claim.algorithm, one.claim.dataset]
        for metric, verdict in one.verdicts.items():
            head = [claim[0], f"{verdict.word}: {verdict.reason}", *claim[1:], metric]
            for pair in verdict.pairs:
                lines.append([*head, _called(pair, one.section), *gain_cells(pair)])
                head = [""] * len(head)
            if not verdict.pairs:
                lines.append([*head, NONE, NONE, NONE])
            claim = [""] * 3
    return heads, lines


def world_cells(section: Section) -> tuple[list[str], list[list[str]]]:
    """Heads and lines: what each row gains over SFT continued, and what its lists are worth."""
    control = section.parts.get("control", "")
    heads = ["row"]
    for metric in section.ranked:
        heads += [f"{metric} over {section.called('control')}", "95% interval"]
    lines = []
    for row in section.rows:
        pairs = [find_pair(section.declared.get(m, ()), row.name, control) for m in section.ranked]
        gains = [cell for pair in pairs for cell in (gain_cells(pair) if pair else (NONE, NONE))]
        worth = [number(row.means.get(metric)) for metric in WORTH]
        lines.append([row.name, *gains, *worth])
    return [*heads, *WORTH], lines


def verdict_table(tried: Sequence[Tried], style: str) -> str:
    """Return `verdict_cells` as a table."""
    heads, lines = verdict_cells(tried)
    if style == "pipe":
        lines = [[escaped(cell) for cell in line] for line in lines]
    return table(heads, lines, style, left=6)


def claims_markdown(tried: Sequence[Tried]) -> str:
    """Return the page of verdicts as Markdown."""
    parts = ["# Verdicts", ABOUT, verdict_table(tried, "pipe")]
    for one in tried:
        parts += [f"## {one.heading}", *map(escaped, one.about)]
        if one.section is None:
            parts.append(NOT_COMPARED)
            continue
        heads, lines = world_cells(one.section)
        cells = [[escaped(cell) for cell in line] for line in lines]
        parts.append(table(heads, cells, "pipe"))
        parts.append(f"[The board]({one.link})")
    return "\n\n".join(parts) + "\n"


def _tells(section: Section) -> tuple[tuple[int, int], bool, int, float]:
    """Sort key: the newest version first of all, as older ones do not compare with it."""
    seeds = min((len(row.seeds) for row in section.rows if row.kind == "result"), default=0)
    return (
        version_key(section.benchmark),
        not unequal_cost(section),
        seeds,
        sft_multiple(section) or 0.0,
    )


def _row_of(claim: Claim, section: Section | None) -> BoardRow | None:
    """The row that a claim speaks of: the algorithm as it is, before variants of it."""
    rows = section.rows if section else ()
    known = [row for row in rows if row.algorithm == claim.algorithm and row.kind == "result"]
    return min(known, key=lambda row: row.name != claim.algorithm, default=None)


def _others(pairs: Sequence[Pair], section: Section) -> str:
    return " and ".join(_called(pair, section) for pair in pairs)


def _called(pair: Pair, section: Section | None) -> str:
    """What a row was compared with, by the one word that there is for it."""
    is_control = section is not None and pair.second == section.parts.get("control")
    return section.called("control") if section is not None and is_control else pair.second
