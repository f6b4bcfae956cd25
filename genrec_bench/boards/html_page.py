"""A board as one page of HTML that needs nothing but itself.

The page loads nothing from anywhere, and its security policy lets the browser run its one script
and no other, so that even text that slipped through the escaping could not run. Without scripts it
is whole as well, but not sortable. The same board gives the same page, byte for byte.

What the page says is in the templates of `page/`, which walk the board; `section_view.py` computes
what they need of a section, and `charts.py` draws.
"""

from base64 import b64encode
from collections.abc import Sequence
from hashlib import sha256
from importlib.resources import files
from math import isfinite
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from genrec_bench.boards.board import (
    APART,
    ORDER_BY,
    RANKED,
    Board,
    Link,
    metric_heading,
    metric_order,
)
from genrec_bench.boards.charts import axis_strip, decimals
from genrec_bench.boards.claims import ABOUT, NOT_COMPARED, Tried, verdict_cells, world_cells
from genrec_bench.boards.paper import measured
from genrec_bench.boards.section_view import (
    UNIT_NAMES,
    SectionView,
    ends,
    failures,
    figure,
    pair_plot,
    phase_class,
    signed,
    span,
)
from genrec_bench.boards.tables import fact, rank_text, seeds_text
from genrec_bench.boards.text_cells import MISSED, NONE
from genrec_bench.boards.verdict import at_what_cost, verdict
from genrec_bench.boards.verdict import heading as section_heading


def to_html(board: Board) -> str:
    """Make the page: a whole document, to be written as UTF-8.

    Args:
        board: links in it are relative to the folder where the page is to lie.
    """
    return _rendered(
        "page.html.jinja",
        board=board,
        views=[SectionView(section) for section in board.sections],
        published=_digits(board),
    )


def claims_html(tried: Sequence[Tried]) -> str:
    """Make the page of a suite's verdicts, as `to_html` makes that of a board."""
    return _rendered(
        "claims.html.jinja",
        about=ABOUT,
        verdicts=verdict_cells(tried),
        worlds=[(one, world_cells(one.section) if one.section else None) for one in tried],
        not_compared=NOT_COMPARED,
    )


def _rendered(template: str, **values: Any) -> str:
    """A page with its style and script, and the hashes by which its policy knows them."""
    assets = files("genrec_bench.boards") / "page"
    style = (assets / "style.css").read_text(encoding="utf-8")
    script = (assets / "page.js").read_text(encoding="utf-8")
    text = (
        _environment()
        .get_template(template)
        .render(
            **values,
            style=Markup(style),
            style_hash=_hash(style),
            script=Markup(script),
            script_hash=_hash(script),
        )
    )
    # JSON may name half a surrogate pair, which no file can hold.
    return text.encode("utf-8", "replace").decode("utf-8")


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("genrec_bench.boards", "page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.globals |= {
        "APART": APART,
        "MISSED": MISSED,
        "NONE": NONE,
        "ORDER_BY": ORDER_BY,
        "UNIT_NAMES": UNIT_NAMES,
        "pair_plot": pair_plot,
        "span": span,
    }
    found.filters |= {
        "at_what_cost": at_what_cost,
        "axis": axis_strip,
        "count": lambda number, what: f"{number} {what}" if number == 1 else f"{number} {what}s",
        "ends": ends,
        "fact": fact,
        "failures": failures,
        "figure": figure,
        "heading": metric_heading,
        "measured": measured,
        "origin": _origin,
        "phase_class": phase_class,
        # So that a path can't be taken for an address elsewhere.
        "quote": quote,
        "rank": rank_text,
        "section_heading": section_heading,
        "seeds": seeds_text,
        "signed": signed,
        "verdict": verdict,
        # A number is written in full, whatever is shown of it.
        "sort_key": lambda x: x if x is None or isinstance(x, str) else repr(float(x)),
        "written": lambda amount, unit, none: none if amount is None else unit.write(amount),
    }
    found.tests |= {
        "finite": lambda value: value is not None and isfinite(value),
        "tested": lambda pair: isfinite(pair.smallest_difference),
    }
    return found


def _digits(board: Board) -> dict[str, int]:
    """By metric that papers report: how many digits its column has.

    Papers print zeros at the end, numbers don't keep them: all of a column have as many digits.
    """
    names = sorted({name for line in board.reported for name in line.metrics}, key=metric_order)
    of = {name: [e.metrics[name] for e in board.reported if name in e.metrics] for name in names}
    return {name: decimals(values) for name, values in of.items()}


def _hash(text: str) -> str:
    """What a security policy calls a piece of the page."""
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def _origin(link: Link) -> str:
    figures = [f"{metric} {link.value[metric]}" for metric in RANKED if metric in link.value]
    return f"seed {link.seed}: {', '.join([*figures, link.run_id])}"
