"""A board's figures for a paper: gains with intervals, and gain by list length, as PDF and SVG."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING

from genrec_bench.boards.board import ORDER_BY, Board, Part, Section
from genrec_bench.boards.verdict import gain
from genrec_bench.storage.figures import MARKERS, PALETTE, VECTORS, to_vector
from genrec_bench.storage.files import inside, write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from genrec_bench.statistics.conclusions import Pair

LONGEST_NAME = 32
"""Letters of a row's name in a figure."""


def write_figures(board: Board, folder: Path) -> list[Path]:
    """Write each section's figures as PDF and SVG, and return their paths.

    Their names are of dataset, track and figure; sections without tests or outcomes have none.

    Raises:
        StorageError: the disk refuses.
    """
    paths = []
    for section in board.sections:
        for name, draw in _figures(section):
            for kind in VECTORS:
                path = inside(folder, f"{board.dataset}-{section.track_id}-{name}.{kind}")
                write_atomically(path, to_vector(draw, kind))
                paths.append(path)
    return paths


def _figures(section: Section) -> Iterator[tuple[str, Callable[[Figure], None]]]:
    parts: tuple[Part, ...] = ("start", "control")
    found: dict[Part, list[Pair]] = {}
    for part in parts:
        pairs = [pair for row in section.rows if (pair := gain(section, row, part))]
        if known := [pair for pair in pairs if math.isfinite(pair.interval.low)]:
            found[part] = known
    if found:
        yield "gains", partial(_draw_gains, section, found)
    if any(row.gains_at for row in section.rows):
        yield "by-length", partial(_draw_lengths, section)


def _draw_gains(section: Section, found: dict[Part, list[Pair]], figure: Figure) -> None:
    """Draw each row's gain with its interval; what is told apart is filled."""
    figure.set_size_inches(3.2 * len(found) + 1.2, 0.32 * max(map(len, found.values())) + 1.1)
    axes = figure.subplots(1, len(found), squeeze=False, sharex=True)[0]
    for place, (part, pairs) in zip(axes, found.items(), strict=True):
        for height, pair in enumerate(reversed(pairs)):
            ends = [[pair.difference - pair.interval.low], [pair.interval.high - pair.difference]]
            place.errorbar(
                pair.difference,
                height,
                xerr=ends,
                fmt="o",
                color="black",
                markerfacecolor="black" if pair.distinct else "white",
                capsize=2,
            )
        place.axvline(0.0, color="grey", linewidth=0.8, linestyle="--")
        place.set_yticks(range(len(pairs)), [_label(pair.first) for pair in reversed(pairs)])
        place.locator_params(axis="x", nbins=4)
        place.set_xlabel(f"gain in {ORDER_BY} over {_label(section.called(part))}")


def _draw_lengths(section: Section, figure: Figure) -> None:
    """Draw each row's gain in HR@K over the SFT start with its band."""
    figure.set_size_inches(6.5, 3.4)
    axes = figure.subplots()
    for number, row in enumerate(row for row in section.rows if row.gains_at):
        lengths, means, lows, highs = zip(*row.gains_at, strict=True)
        color = PALETTE[number % len(PALETTE)]
        axes.fill_between(lengths, lows, highs, color=color, alpha=0.12, linewidth=0)
        marker = MARKERS[number % len(MARKERS)]
        axes.plot(lengths, means, color=color, marker=marker, markersize=3, label=_label(row.name))
    axes.axhline(0.0, color="grey", linewidth=0.8, linestyle="--")
    axes.set_xlabel("K, the length of the list")
    axes.set_ylabel("gain in HR@K over the SFT start")
    axes.locator_params(axis="x", integer=True)
    figure.legend(loc="outside right center", fontsize="small", frameon=False)


def _label(name: str) -> str:
    """A row's name as a figure has room for it, and no formula; tables have all of it."""
    return shorten(name, LONGEST_NAME, placeholder=" …").replace("$", r"\$")
