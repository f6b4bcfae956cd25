"""A board as one page of HTML that needs nothing but itself.

The page loads nothing from anywhere, and its security policy lets the browser run its one script
and no other, so that even text that slipped through the escaping could not run. Without scripts it
is whole as well, but not sortable. The same board gives the same page, byte for byte.
"""

import json
from base64 import b64encode
from collections.abc import Iterator
from hashlib import sha256
from importlib.resources import files
from string import Template
from typing import Any

from genrec_bench.boards.bill import bill
from genrec_bench.boards.board import ORDER_BY, Board, Section
from genrec_bench.boards.cells import details
from genrec_bench.boards.comparisons import comparisons, curves, reported_table, targets_table
from genrec_bench.boards.markup import Markup, element, fragment
from genrec_bench.boards.quality import metrics_table, quality_table

HOW_TO_READ = (
    (
        "Interval",
        "Where the mean lies with 95% confidence, when both the seeds and the test users could "
        "have been others. “Users only” says nothing about other seeds.",
    ),
    (
        "Rank",
        "From the best to the worst place that the tests leave open. Rows whose ranks overlap "
        "may be equally good, whatever their order here.",
    ),
    (
        "Drawing",
        "Dot: the mean. Bar: its interval. Strokes: the seeds. Broken line: the SFT start. An "
        "arrow points to a mean beyond the axis.",
    ),
    (
        "Control",
        "A run without an idea of its own, for the same budget: more SFT, or random reward. What "
        "is not told apart from a control has not been shown to work.",
    ),
    (
        "Ceiling",
        "The best that any policy could reach, known where the data were made by a rule.",
    ),
    (
        "Spent",
        "What counts against the budget, mean of the runs. The SFT start and evaluation are "
        "outside it; the bill names their price.",
    ),
    (
        "Target",
        "A share of GRPO’s gain over the SFT start on validation. The budget to reach it is that "
        "of the first validation at or above it, a miss counted as more than any number.",
    ),
    (
        "Trace",
        "Each number under “Seeds” leads to the record it stands for; rest the pointer on it for "
        "the run and its exact figures. “genrec-bench leaderboard verify” recomputes them.",
    ),
)


def to_html(board: Board) -> str:
    """Make the page.

    Args:
        board: links in it are relative to the folder where the page is to lie.

    Returns:
        A whole document, to be written as UTF-8.
    """
    assets = files("genrec_bench.boards") / "page"
    style = (assets / "style.css").read_text(encoding="utf-8")
    script = (assets / "page.js").read_text(encoding="utf-8")
    page = Template((assets / "page.html").read_text(encoding="utf-8"))
    return page.substitute(
        title=fragment(f"{board.dataset} · genrec-bench"),
        style=style,
        style_hash=_hash(style),
        script=script,
        script_hash=_hash(script),
        body=fragment(*_body(board)),
    )


def _hash(text: str) -> str:
    """What a security policy calls a piece of the page."""
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def _body(board: Board) -> Iterator[Markup]:
    yield element("header", *_head(board))
    sections = [_section(board, section, i + 1) for i, section in enumerate(board.sections)]
    yield element("main", *sections, *_published(board))
    command = element("code", f"genrec-bench leaderboard {board.dataset}")
    yield element(
        "footer", element("p", "Made from records by ", command, "; not to be edited by hand.")
    )


def _head(board: Board) -> Iterator[Markup]:
    yield element("p", "genrec-bench board", class_="over")
    flag = [" ", _partial()] if board.partial else []
    yield element("h1", board.dataset, *flag)
    records = sum(section.num_records for section in board.sections)
    yield element(
        "p",
        f"{_count(records, 'record')} on {_count(len(board.sections), 'track')}.",
        class_="lead",
    )
    if len(board.sections) > 1 or board.reported:
        links = [
            element("a", f"Track {section.track_id}", href=f"#track-{i + 1}")
            for i, section in enumerate(board.sections)
        ]
        if board.reported:
            links.append(element("a", "Published figures", href="#published"))
        yield element("nav", *links, aria_label="Parts of the page")
    terms = [
        piece for term, text in HOW_TO_READ for piece in (element("dt", term), element("dd", text))
    ]
    yield details("How to read this page", element("dl", *terms, class_="terms"))


def _section(board: Board, section: Section, number: int) -> Markup:
    title = f"{board.dataset}, track {section.track_id}"
    parts = [element("h2", title, *([" ", _partial()] if section.partial else []))]
    facts = [f"genrec-bench {section.benchmark}", _count(section.num_records, "record")]
    for key in ("budget", "backbone"):
        if key in section.track:
            facts.insert(0, f"{key} {_fact(section.track[key])}")
    parts.append(element("p", " · ".join(facts), class_="lead"))
    parts.append(details("What is fixed in this track", _track(section)))
    parts += [element("h3", "Quality at the equal budget"), quality_table(section)]
    parts += [element("p", note, class_="note") for note in section.notes]
    parts.append(details("Every metric", metrics_table(section)))
    compared = comparisons(section)
    if compared is not None:
        parts += [element("h3", "What can be told apart"), compared]
    parts += _progress(section)
    if any(row.phases or row.tuning for row in section.rows):
        parts += [element("h3", "What it cost"), bill(section)]
    return element("section", *parts, id=f"track-{number}")


def _progress(section: Section) -> Iterator[Markup]:
    """Quality against budget, and the budget to reach the targets."""
    drawn, reached = curves(section), targets_table(section)
    if drawn is not None:
        yield element("h3", f"{ORDER_BY} on validation against budget")
        yield drawn
    yield element("h3", "Budget to reach targets")
    if reached is not None:
        yield reached
    elif drawn is None:
        yield element("p", "The records of this track hold no validation curves.", class_="note")
    else:
        yield element("p", "This track has no targets; see the notes above.", class_="note")


def _track(section: Section) -> Markup:
    facts = []
    for key, value in sorted(section.track.items()):
        facts += [element("dt", key.replace("_", " ")), element("dd", _fact(value))]
    return element("dl", *facts, class_="facts")


def _fact(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _published(board: Board) -> Iterator[Markup]:
    if board.reported:
        yield element(
            "section",
            element("h2", "Published figures"),
            element(
                "p",
                "As reported, other settings: other data, backbones, budgets and SFT starts. They "
                "are not comparable with the tables above, nor always with each other.",
                class_="lead",
            ),
            reported_table(board.reported),
            id="published",
        )


def _partial() -> Markup:
    hint = "The training set is smaller than the card expects."
    return element("span", "partial", class_="flag", title=hint)


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"
