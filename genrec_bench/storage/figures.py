"""The common looks of figures: colours, markers, size, and how one becomes a file."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Colours that people with any common kind of colour blindness tell apart (Okabe and Ito 2008)."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
"""One for each colour, so that a figure can be read without colours."""

SIZE, DPI = (8.0, 4.5), 150
"""Inches of a figure, unless ``draw`` sets others, and dots of an inch."""


_TRACES = {
    "png": ("Software",),
    "pdf": ("Creator", "Producer", "CreationDate"),
    "svg": ("Creator", "Date"),
}
"""What the library would write of itself and of the day."""

VECTORS = ("pdf", "svg")
"""Formats of figures for papers, which scale."""


def to_png(draw: Callable[[Figure], None], title: str = "") -> bytes:
    """Return a figure as the content of a PNG file, the same for the same figure.

    No window is opened, and neither the user's style nor the date leaves a trace.
    """
    return _drawn(draw, "png", title)


def to_vector(draw: Callable[[Figure], None], kind: str) -> bytes:
    """Return a figure as the content of a file of one of ``VECTORS``; otherwise as ``to_png``."""
    return _drawn(draw, kind)


def _drawn(draw: Callable[[Figure], None], kind: str, title: str = "") -> bytes:
    # Imported late: no other command needs it.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        # Names within an SVG are drawn at random without a salt; text in a PDF stays text.
        matplotlib.rcParams.update({"svg.hashsalt": "genrec-bench", "pdf.fonttype": 42})
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title)
        draw(figure)
        # Without this it names the version of the library, or the day.
        figure.savefig(buffer, format=kind, metadata=dict.fromkeys(_TRACES[kind]))
    return buffer.getvalue()
