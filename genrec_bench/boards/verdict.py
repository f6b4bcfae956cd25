"""What a section says, in words, made from its tests and from nothing else.

The first sentence answers which algorithm to use. An algorithm is recommended if it beats both the
SFT start and SFT continued, each within its own family of declared comparisons: it has to be told
apart twice, so that the chance of any false recommendation is no more than that of one family.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from genrec_bench.boards.board import OF_WORLDS, ORDER_BY, Board, BoardRow, Part, Section
from genrec_bench.boards.declared import find_pair
from genrec_bench.boards.text_cells import signed

if TYPE_CHECKING:
    from genrec_bench.statistics.conclusions import Pair

Standing = Literal["above", "below", "alike", "untested"]

_REFERENCES: tuple[Part, ...] = ("start", "control")

LITTLE = 0.5
"""Share of what SFT cost, below which a budget hardly moves a policy."""

UNEQUAL = 1.1
"""Rows whose costs are further apart than this factor do not cost the same."""

_VERBS = {
    "above": ("beats", "beat"),
    "below": ("is below", "are below"),
    "alike": ("is not told apart from", "are not told apart from"),
    "untested": ("was not tested against", "were not tested against"),
}


def gain(section: Section, row: BoardRow, part: Part, metric: str = ORDER_BY) -> Pair | None:
    """A row less the SFT start or another part; None where they were not compared or not tested."""
    family = section.gains if part == "start" else section.declared
    return find_pair(family.get(metric, ()), row.name, section.parts.get(part, ""))


def sft_multiples(section: Section) -> dict[str, float]:
    """What a run of each row spent as a multiple of what the SFT start cost, least first.

    In the unit of the budget.
    """
    found = {
        row.name: row.spent[section.unit] / row.phases["sft"][section.unit]
        for row in section.rows
        if row.kind in ("control", "result")
        and row.phases.get("sft", {}).get(section.unit)
        and section.unit in row.spent
    }
    return dict(sorted(found.items(), key=lambda row: row[1]))


def sft_multiple(section: Section) -> float | None:
    """The same, of all rows together: the median."""
    found = sft_multiples(section)
    return statistics.median(found.values()) if found else None


def moves_little(times: float) -> bool:
    """Whether a budget, as a multiple of SFT's cost, is too small to judge by, as it is told."""
    return round(times, 2) < LITTLE


def unequal_cost(section: Section) -> str:
    """What rows spent, in words, if not the same, as with a number of steps; empty if it is."""
    found = list(sft_multiples(section).items())
    if not found or found[-1][1] <= UNEQUAL * found[0][1]:
        return ""
    ends = [f"{times:.2f} ({name})" for name, times in (found[0], found[-1])]
    return " to ".join(ends)


def at_what_cost(section: Section) -> str:
    """What headings add to a comparison of the section's rows."""
    if section.outside:
        return "whatever it cost"
    return "at unequal cost" if unequal_cost(section) else "at the equal budget"


def verdict(board: Board, section: Section) -> list[str]:
    """Sentences: which to use, how each row stands, what would have been seen, and where."""
    if section.outside:
        return _of_outside(board, section)
    rows = [row for row in section.rows if row.kind == "result"]
    # A control may be among the results, where it was tuned; it cannot be recommended over itself.
    rows = [row for row in rows if row.name != section.parts.get("control")]
    best = [row for row in rows if _stands(section, row) == ("above", "above")]
    others = [row for row in rows if row not in best]
    others += [
        row
        for row in section.rows
        if row.kind == "control" and row.name != section.parts.get("control")
    ]
    found = [_lead(section, best), *_standings(section, others), _of_control(section, best)]
    found += [_visible(section), *_of_worlds(section, rows), where(board, section)]
    return [text for text in found if text]


def _of_outside(board: Board, section: Section) -> list[str]:
    """How outside systems stand to our start and to SFT continued; none is recommended."""
    rows = [row for row in section.rows if row.outside]
    found = [
        f"Outside systems beside our runs, on the same test users and by {ORDER_BY}; their cost is "
        "what their makers declare, so that no row is recommended over another."
    ]
    if section.parts.keys() >= set(_REFERENCES):
        found += [*_standings(section, rows), _visible(section), *_of_worlds(section, rows)]
    return [text for text in (*found, where(board, section)) if text]


def where(board: Board, section: Section) -> str:
    """The dataset's full name, whole or not, and what a run could spend."""
    dataset = f"{board.title} ({board.dataset})" if board.title else board.dataset
    users = {each.num_users for row in section.rows for each in row.estimates.values()}
    drawn = " drawn" if section.track.get("test_examples") else ""
    facts = ["with a part of the training set" if section.partial else ""]
    facts += [f"{users.pop():,}{drawn} test users"] if len(users) == 1 else []
    facts += [f"backbone {section.track['backbone']}"] if "backbone" in section.track else []
    times, unequal = sft_multiple(section), unequal_cost(section)
    if unequal:
        facts.append(f"runs do NOT cost the same: {unequal} times what the SFT start cost")
    elif times == 0:
        facts.append("nothing was trained")
    elif times is not None:
        little = ", so little that rows can hardly move" if moves_little(times) else ""
        facts.append(f"a run spends {times:.3g} times what the SFT start cost{little}")
    if seeds := trained_seeds(section):
        facts.append(f"{seeds} a row")
    return f"{dataset}: {'; '.join(filter(None, facts))}."


def heading(section: Section) -> str:
    """Version, budget as a multiple of what SFT cost, and seeds: what tells sections apart."""
    if section.outside:
        return f"genrec-bench {section.benchmark}, outside systems"
    times = sft_multiple(section)
    facts = [f"genrec-bench {section.benchmark}", f"{times:.3g} times SFT" if times else ""]
    facts += ["cost not equal" if unequal_cost(section) else ""]
    return ", ".join(filter(None, [*facts, trained_seeds(section)]))


def trained_seeds(section: Section) -> str:
    """How many seeds each result has, in words; empty without results."""
    seeds = sorted({len(row.seeds) for row in section.rows if row.kind == "result"})
    if not seeds:
        return ""
    several = str(seeds[0]) if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    return f"{several} seed{'' if seeds == [1] else 's'}"


def _stands(section: Section, row: BoardRow, metric: str = ORDER_BY) -> tuple[Standing, Standing]:
    """How a row stands to the SFT start and to SFT continued."""
    to_start, to_control = (gain(section, row, part, metric) for part in _REFERENCES)
    return _standing(to_start), _standing(to_control)


def _standing(pair: Pair | None) -> Standing:
    if pair is None:
        return "untested"
    if not pair.distinct:
        return "alike"
    return "above" if pair.difference > 0 else "below"


def _lead(section: Section, best: Sequence[BoardRow]) -> str:
    """Which one to use."""
    start, control = section.parts.get("start"), section.parts.get("control")
    tested = all(any(gain(section, row, part) for row in section.rows) for part in _REFERENCES)
    if start is None or control is None or not tested:
        return (
            "No verdict: it takes outcomes of the SFT start, a row of SFT continued, and two "
            "seeds or more."
        )
    more = next((row for row in section.rows if row.name == control), None)
    # A run that was not declared a control goes by its algorithm's name.
    told = f"{control} (SFT continued)" if more and more.kind == "result" else control
    if not best:
        over_start = gain(section, more, "start") if more else None
        if over_start is not None and _standing(over_start) == "above":
            return (
                f"Use {told}: by {ORDER_BY} it beats the {start} by "
                f"{with_interval(over_start)}, and no algorithm was shown to beat it."
            )
        return f"No algorithm was shown to beat both the {start} and {told} by {ORDER_BY}."
    first = best[0]
    over_start, over_control = gain(section, first, "start"), gain(section, first, "control")
    assert over_start is not None and over_control is not None, "both are told apart"
    pairs = section.pairs.get(ORDER_BY, ())
    apart = {frozenset((pair.first, pair.second)) for pair in pairs if pair.distinct}
    rivals = [row.name for row in best[1:] if frozenset((row.name, first.name)) not in apart]
    also = f" or {listed(rivals)}, which cannot be told apart from it" if rivals else ""
    rest = [row.name for row in best[1:] if row.name not in rivals]
    more_text = f" {listed(rest)} {_VERBS['above'][len(rest) > 1]} both too." if rest else ""
    return (
        f"Use {first.name}{also}: by {ORDER_BY} {first.name} beats the {start} by "
        f"{with_interval(over_start)} and {told} by {with_interval(over_control)}.{more_text}"
    )


def _standings(section: Section, rows: Sequence[BoardRow], metric: str = ORDER_BY) -> list[str]:
    """One sentence for all rows that stand alike."""
    groups: dict[tuple[Standing, Standing], list[str]] = {}
    for row in rows:
        groups.setdefault(_stands(section, row, metric), []).append(row.name)
    start, control = section.parts.get("start", ""), section.parts.get("control", "")
    found = []
    for (to_start, to_control), names in groups.items():
        if "untested" in (to_start, to_control) and not (start and control):
            continue
        several, control = len(names) > 1, section.called("control")
        if to_start != to_control:
            told = (
                f"{_VERBS[to_start][several]} the {start} and "
                f"{_VERBS[to_control][several]} {control}"
            )
        elif to_start in ("above", "below"):
            told = f"{_VERBS[to_start][several]} both the {start} and {control}"
        else:
            told = f"{_VERBS[to_start][several]} either the {start} or {control}"
        found.append(f"{listed(names)} {told}.")
    return found


def _of_control(section: Section, best: Sequence[BoardRow]) -> str:
    """How SFT continued stands to the SFT start."""
    row = next((row for row in section.rows if row.name == section.parts.get("control")), None)
    pair = gain(section, row, "start") if row else None
    if row is None or pair is None or (_standing(pair) == "above" and not best):
        return ""
    return f"{row.name} {_VERBS[_standing(pair)][0]} the {section.parts['start']}."


def _of_worlds(section: Section, rows: Sequence[BoardRow]) -> list[str]:
    """How rows stand by what a world knows of their lists, and how large a gain would be seen."""
    found = []
    for metric in section.ranked:
        if metric in OF_WORLDS and (told := _standings(section, rows, metric)):
            said = "; ".join(text.removesuffix(".") for text in told)
            found.append(f"By {metric}, which this world knows and no drawn target blurs: {said}.")
            found.append(_visible(section, metric))
    return found


def _visible(section: Section, metric: str = ORDER_BY) -> str:
    """How large a gain over SFT continued would have been seen."""
    found = (gain(section, row, "control", metric) for row in section.rows)
    pairs = [pair for pair in found if pair is not None]
    known = [pair for pair in pairs if math.isfinite(pair.smallest_difference)]
    if not known:
        return ""
    low, high = (choose(known, key=lambda pair: pair.smallest_difference) for choose in (min, max))
    ends = [low] if low is high else [low, high]
    span = " to ".join(f"{pair.smallest_difference:.4f} ({pair.first})" for pair in ends)
    start = next((row.means.get(metric) for row in section.rows if row.kind == "start"), None)
    if start:
        shares = " to ".join(f"{pair.smallest_difference / start:.1%}" for pair in ends)
        span += f", {shares} of the SFT start's {metric}"
    return f"Four of five such comparisons see a gain over {section.called('control')} of {span}."


def with_interval(pair: Pair) -> str:
    """A difference with its interval."""
    low, high = signed(pair.interval.low), signed(pair.interval.high)
    return f"{signed(pair.difference)} (95%: {low} to {high})"


def listed(names: Sequence[str]) -> str:
    """Names in a row, the last one after "and"."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
