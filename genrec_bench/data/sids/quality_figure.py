"""The quality of SIDs as a figure: use of codes, distinct prefixes, reconstruction error."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from genrec_bench.data.sids.sid_quality import Quality
from genrec_bench.storage.figures import MARKERS, PALETTE, to_png

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def quality_png(quality: Quality, title: str = "") -> bytes:
    """Return the figure as the content of a PNG file, the same for the same quality."""
    return to_png(partial(_draw, quality=quality), title)


def _draw(figure: Figure, quality: Quality) -> None:
    figure.set_size_inches(11.0, 4.0)
    use, prefixes, error = figure.subplots(1, 3)
    _draw_use(use, quality)
    _draw_prefixes(prefixes, quality)
    _draw_error(error, quality)


def _draw_use(axis: Axes, quality: Quality) -> None:
    for place, level in enumerate(quality.levels):
        axis.plot(
            range(1, level.used + 1),
            level.counts,
            color=PALETTE[place % len(PALETTE)],
            # A line through a single point would not be seen.
            marker=MARKERS[place % len(MARKERS)] if level.used == 1 else "",
            label=f"level {level.level}: {level.used} of {level.num_codes}",
        )
    axis.set_yscale("log")
    axis.set_title("use of codes", fontsize="medium")
    axis.set_xlabel("codes, most used first")
    axis.set_ylabel("items")
    axis.grid(alpha=0.3)
    axis.legend(fontsize="small", frameon=False)


def _draw_prefixes(axis: Axes, quality: Quality) -> None:
    levels = [level.level for level in quality.levels]
    bars = axis.bar(levels, [level.prefixes for level in quality.levels], color=PALETTE[0])
    axis.bar_label(bars, fontsize="small")
    axis.axhline(quality.items, color="grey", linestyle="--", linewidth=1.0, label="items")
    axis.set_title("distinct prefixes", fontsize="medium")
    axis.set_xticks(levels)
    axis.set_xlabel("codes in the prefix")
    axis.set_ylim(0, 1.12 * quality.items)
    axis.legend(fontsize="small", frameon=False, loc="center left")


def _draw_error(axis: Axes, quality: Quality) -> None:
    levels = [level.level for level in quality.levels]
    known = [(level.level, level.error) for level in quality.levels if level.error is not None]
    axis.set_title("reconstruction error", fontsize="medium")
    axis.set_xticks(levels)
    axis.set_xlim(0, len(levels) + 0.5)
    axis.set_xlabel("codes that are known")
    if not known:
        axis.text(0.5, 0.5, "not known", transform=axis.transAxes, ha="center")
        return
    # Without any code the mean is the best guess, and its error is all of the variance.
    levels_known, errors = zip((0, 1.0), *known, strict=True)
    axis.plot(levels_known, errors, marker="o", color=PALETTE[1])
    axis.set_xticks([0, *levels])
    axis.set_ylim(bottom=0)
    axis.set_ylabel("share of the vectors' variance")
    axis.grid(alpha=0.3)
