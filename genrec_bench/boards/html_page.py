"""A board as one page of HTML that needs nothing but itself.

The page loads nothing from anywhere, and its security policy lets the browser run its one script
and no other, so that even text that slipped through the escaping could not run. Without scripts it
is whole as well, but not sortable. The same board gives the same page, byte for byte.

What the page says is in the templates of `page/`; the modules beside this one make its tables.
"""

import json
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from math import isfinite
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from genrec_bench.boards.bill import bill_table, phase_classes, phase_tables
from genrec_bench.boards.board import ORDER_BY, RANKED, Board, Link, Section
from genrec_bench.boards.cells import figure
from genrec_bench.boards.comparisons import (
    curves,
    pairs_table,
    reported_table,
    targets_table,
    tested,
)
from genrec_bench.boards.quality import metrics_table, quality_table


def to_html(board: Board) -> str:
    """Make the page: a whole document, to be written as UTF-8.

    Args:
        board: links in it are relative to the folder where the page is to lie.
    """
    assets = files("genrec_bench.boards") / "page"
    style = (assets / "style.css").read_text(encoding="utf-8")
    script = (assets / "page.js").read_text(encoding="utf-8")
    page = _environment().get_template("page.html.jinja")
    text = page.render(
        board=board,
        parts=[_part(section) for section in board.sections],
        published=reported_table(board.reported) if board.reported else None,
        order_by=ORDER_BY,
        style=Markup(style),
        style_hash=_hash(style),
        script=Markup(script),
        script_hash=_hash(script),
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
    found.filters |= {
        "count": lambda number, what: f"{number} {what}" if number == 1 else f"{number} {what}s",
        "fact": _fact,
        "figure": figure,
        "origin": _origin,
        # So that a path can't be taken for an address elsewhere.
        "quote": quote,
    }
    found.tests |= {
        "finite": lambda value: value is not None and isfinite(value),
        "tested": tested,
    }
    return found


def _part(section: Section) -> dict[str, Any]:
    """What the page shows of a section, by the names that the template has for it."""
    return {
        "section": section,
        "quality": quality_table(section),
        "metrics": metrics_table(section),
        "pairs": {
            metric: pairs_table(metric, section.pairs[metric])
            for metric in RANKED
            if section.pairs.get(metric)
        },
        "curves": curves(section),
        "targets": targets_table(section),
        "bill": bill_table(section),
        "phases": phase_classes(section),
        "by_phase": phase_tables(section),
    }


def _hash(text: str) -> str:
    """What a security policy calls a piece of the page."""
    return "sha256-" + b64encode(sha256(text.encode()).digest()).decode()


def _fact(value: Any) -> str:
    if value is None:
        return "none"
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True)


def _origin(link: Link) -> str:
    figures = [f"{metric} {link.value[metric]}" for metric in RANKED if metric in link.value]
    return f"seed {link.seed}: {', '.join([*figures, link.run_id])}"
