"""The common looks of figures: colours, markers, size, and how one becomes a PNG file."""

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


def to_png(draw: Callable[[Figure], None], title: str = "") -> bytes:
    """Return a figure as the content of a PNG file, the same for the same figure.

    No window is opened, and neither the user's style nor the date leaves a trace.
    """
    # Imported late: no other command needs it.
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    buffer = io.BytesIO()
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        figure = Figure(figsize=SIZE, dpi=DPI, layout="constrained")
        FigureCanvasAgg(figure)
        figure.suptitle(title)
        draw(figure)
        # Without this it names the version of the library.
        figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()
