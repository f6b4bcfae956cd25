"""The drawings of a board's page, as SVG that is part of the page.

Colours, dashes and fonts are the style sheet's: a drawing names classes only, so that it follows
the reader's light or dark mode. A series has a number; the same number is the same colour, dash and
marker everywhere on a page.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

COLORS = 7
"""How many colours the style sheet has for series."""

DASHES = ("", "7 3", "2 3", "9 3 2 3")
"""By series, in turn; their number shares no factor with that of the colours or the markers."""

MARKERS = ("circle", "square", "triangle", "diamond", "cross")

Curve = Sequence[tuple[float, float, float, float]]


@dataclass(frozen=True)
class Scale:
    """Maps values to places along an axis.

    Attributes:
        high: the value at `end`; more than `low`.
        end: a place in the drawing's own units.
    """

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """The place of a value; one beyond an end is put at that end."""
        share = (min(max(value, self.low), self.high) - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 2)

    def holds(self, value: float) -> bool:
        """Whether a value lies on the axis."""
        return self.low <= value <= self.high


@dataclass(frozen=True)
class SeriesStyle:
    """How a row looks everywhere in its section.

    Attributes:
        number: of the series in the section, which decides colour, dash and marker.
        control: whether the row is a control, which is drawn without colour.
    """

    number: int
    control: bool

    @property
    def classes(self) -> str:
        """The style sheet's names for it."""
        return "series control" if self.control else f"series c{self.number % COLORS}"

    @property
    def swatch(self) -> Markup:
        """A short piece of the series' line, for a legend."""
        return element(
            "svg",
            element("line", x1=1, y1=6, x2=27, y2=6, class_="line", **_dash(self.number)),
            _marker(self.number, 14, 6),
            class_=f"swatch {self.classes}",
            viewBox="0 0 28 12",
            aria_hidden="true",
        )


def element(name: str, *children: str, **attributes: object) -> Markup:
    """An element of SVG; what is not `Markup` is escaped.

    Args:
        attributes: None leaves one out. An underscore at the end of a name is dropped (`class_`),
            any other is a hyphen.
    """
    said = Markup().join(
        Markup(' {}="{}"').format(key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    )
    return Markup("<{0}{1}>{2}</{0}>").format(name, said, Markup().join(map(escape, children)))


def domain(values: Iterable[float], optional: float | None = None) -> tuple[float, float] | None:
    """The range that an axis has to show, with a little air.

    Args:
        values: all of them must be seen.
        optional: seen as well unless it would more than double the range.

    Returns:
        Lowest and highest, different from each other; None without values.
    """
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return None
    low, high = min(known), max(known)
    if optional is not None and max(high, optional) - min(low, optional) <= 2 * (high - low):
        low, high = min(low, optional), max(high, optional)
    air = (high - low) * 0.06 or abs(high) * 0.05 or 0.5
    return low - air, high + air


def ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between two values, at steps of 1, 2, 2.5 or 5 times a power of ten.

    Args:
        most: how many there may be at most; at least 2.
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    for factor in (1.0, 2.0, 2.5, 5.0, 10.0, 20.0):
        step = factor * power
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
        if last - first < most:
            return [index * step for index in range(first, last + 1)]
    raise AssertionError("the last step is longer than any axis")


def decimals(values: Sequence[float]) -> int:
    """How many digits behind the point tell ticks apart, and are needed to write them in full."""
    return next(
        (n for n in range(10) if all(math.isclose(v, round(v, n), abs_tol=1e-12) for v in values)),
        10,
    )


def interval_plot(
    scale: Scale,
    mean: float,
    interval: tuple[float, float] | None,
    *,
    points: Sequence[float] = (),
    reference: float | None = None,
    classes: str = "",
    text: str,
) -> Markup:
    """A mean with its interval on an axis that a whole column shares.

    Args:
        mean: where the dot is. Beyond the axis it becomes an arrow at the axis' end.
        interval: where the bar is; None where there is none.
        points: the seeds' values, as fine strokes.
        reference: where a line crosses the plot, such as the SFT start.
    """
    parts = [element("title", text)]
    if reference is not None and scale.holds(reference):
        x = scale(reference)
        parts.append(element("line", x1=x, y1=0, x2=x, y2=24, class_="reference"))
    if scale.holds(mean):
        for point in points:
            x = scale(point)
            parts.append(element("line", x1=x, y1=7, x2=x, y2=17, class_="point"))
        if interval is not None:
            low, high = (scale(end) for end in interval)
            parts.append(element("line", x1=low, y1=12, x2=high, y2=12, class_="bar"))
        parts.append(element("circle", cx=scale(mean), cy=12, r=3.5, class_="dot"))
    else:
        toward = 6 if mean > scale.high else -6
        tip = scale(mean)
        path = f"M{tip - toward} 8L{tip} 12L{tip - toward} 16"
        parts.append(element("path", d=path, class_="beyond"))
    return _strip(parts, f"interval {classes}".strip(), text)


def axis_strip(scale: Scale) -> Markup:
    """The axis of a column of `interval_plot`, with as many numbers as have room."""
    for most in (4, 3, 2):
        marks = ticks(scale.low, scale.high, most)
        digits = decimals(marks)
        widest = max((len(f"{mark:.{digits}f}") for mark in marks), default=0) * DIGIT + 6
        if len(marks) < 2 or scale(marks[1]) - scale(marks[0]) >= widest:
            break
    parts = []
    for mark in marks:
        x = scale(mark)
        # A number at the very end would be cut off.
        anchor = "start" if x < 20 else "end" if x > WIDTH - 20 else "middle"
        parts.append(element("line", x1=x, y1=19, x2=x, y2=24, class_="tick"))
        parts.append(
            element("text", f"{mark:.{digits}f}".replace("-", "−"), x=x, y=14, text_anchor=anchor)
        )
    return _strip(parts, "axis", None)


WIDTH = 128
"""Of the drawings in cells, in their own units, which are pixels."""

DIGIT = 6.5
"""How wide a digit is on an axis in a cell, in the same units."""


def cell_scale(low: float, high: float) -> Scale:
    """The scale of a column of `interval_plot`."""
    return Scale(low, high, 6, WIDTH - 6)


def stacked_bar(parts: Sequence[tuple[str, float]], whole: float, text: str) -> Markup:
    """A bar of parts laid end to end.

    Args:
        parts: each part's class and length, none negative.
        whole: the length that takes all of the drawing's width.
    """
    drawn: list[Markup] = [element("title", text)]
    at = 0.0
    for name, length in parts:
        width = length / whole * WIDTH if whole > 0 else 0.0
        if width > 0:
            x, shown = round(at, 2), round(width, 2)
            drawn.append(element("rect", x=x, y=5, width=shown, height=14, class_=f"phase {name}"))
        at += width
    return _strip(drawn, "bill", text)


@dataclass(frozen=True)
class Frame:
    """The size of a chart, in its own units.

    Attributes:
        name: a class that the style sheet shows on screens of fitting width.
        left: where the axis of the curves begins.
        right: where it ends; labels of lines stand behind it.
    """

    name: str
    width: float
    height: float
    left: float
    right: float


FRAMES = (Frame("wide", 760, 400, 64, 652), Frame("narrow", 430, 400, 52, 346))
"""One for a desk, one for a phone, where the wide one's text would be too small to read."""


def curves_chart(
    frame: Frame,
    series: Sequence[tuple[str, Curve, SeriesStyle]],
    lines: Sequence[tuple[str, float, str]],
    *,
    x_label: str,
    y_label: str,
    x_scale: float = 1.0,
) -> Markup:
    """Quality against budget: a line through the means, a band from lowest to highest seed.

    Args:
        series: name, points of (spent, mean, lowest seed, highest seed) in order of spent, and
            style; at least one series, none without points.
        lines: label, value and class of the horizontal lines; one beyond the axis is left out.
        y_label: what is measured; for those who hear the page. Sighted readers have a caption.
        x_scale: how much of what was spent is one unit of the label.
    """
    across = domain(x / x_scale for _, curve, _ in series for x, *_ in curve)
    values = [y for _, curve, _ in series for _, *of in curve for y in of]
    targets = [value for _, value, kind in lines if kind != "optional"]
    up = domain([*values, *targets])
    assert across is not None and up is not None, "a chart needs a point"
    x = Scale(0.0, across[1], frame.left, frame.right)
    y = Scale(up[0], up[1], frame.height - 56, 16)
    parts = [element("title", f"{y_label} against {x_label}"), *_axes(x, y, x_label, frame)]
    taken: list[float] = []
    for label, value, kind in sorted(lines, key=lambda line: line[1]):
        if y.holds(value):
            at = y(value)
            # Labels go up in order, so one that would lie on the last is moved above it.
            text_at = min([at, *(above - 19 for above in taken[-1:])])
            taken.append(text_at)
            parts.append(
                element("line", x1=x.start, y1=at, x2=x.end, y2=at, class_=f"level {kind}")
            )
            parts.append(element("text", label, x=x.end + 6, y=text_at + 4, class_=f"label {kind}"))
    for name, curve, style in series:
        mean, low, high = (
            [(x(point[0] / x_scale), y(point[which])) for point in curve] for which in (1, 2, 3)
        )
        drawn = [
            element("title", name),
            element("path", d=_path([*low, *reversed(high)]) + "Z", class_="band"),
            element("path", d=_path(mean), class_="line", **_dash(style.number)),
            *(_marker(style.number, *point) for point in mean),
        ]
        parts.append(element("g", *drawn, class_=style.classes))
    names = ", ".join(name for name, _, _ in series)
    return element(
        "svg",
        *parts,
        class_=f"curves {frame.name}",
        viewBox=f"0 0 {frame.width} {frame.height}",
        role="img",
        aria_label=f"{y_label} against {x_label}: {names}",
    )


def _axes(x: Scale, y: Scale, x_label: str, frame: Frame) -> list[Markup]:
    parts = []
    across, up = ticks(x.low, x.high, 6), ticks(y.low, y.high, 6)
    for mark in up:
        at = y(mark)
        text = f"{mark:.{decimals(up)}f}"
        parts.append(element("line", x1=x.start, y1=at, x2=x.end, y2=at, class_="grid"))
        parts.append(element("text", text, x=x.start - 8, y=at + 4, text_anchor="end"))
    for mark in across:
        at = x(mark)
        text = f"{mark:.{decimals(across)}f}"
        parts.append(element("line", x1=at, y1=y.start, x2=at, y2=y.start + 5, class_="tick"))
        parts.append(element("text", text, x=at, y=y.start + 22, text_anchor="middle"))
    parts.append(element("line", x1=x.start, y1=y.start, x2=x.end, y2=y.start, class_="tick"))
    middle = (x.start + x.end) / 2
    parts.append(
        element(
            "text", x_label, x=middle, y=frame.height - 10, text_anchor="middle", class_="axis-name"
        )
    )
    return parts


def _path(points: Sequence[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{x} {y}" for x, y in points)


def _dash(number: int) -> dict[str, str | None]:
    return {"stroke_dasharray": DASHES[number % len(DASHES)] or None}


def _marker(number: int, x: float, y: float) -> Markup:
    """A point of a series, about as large whatever its shape."""
    shape = MARKERS[number % len(MARKERS)]
    if shape == "circle":
        return element("circle", cx=x, cy=y, r=3.5, class_="marker")
    path = {
        "square": f"M{x - 3} {y - 3}h6v6h-6Z",
        "triangle": f"M{x} {y - 4}l4 7h-8Z",
        "diamond": f"M{x} {y - 4.5}l4.5 4.5l-4.5 4.5l-4.5 -4.5Z",
        "cross": f"M{x - 3.5} {y - 3.5}l7 7m0 -7l-7 7",
    }[shape]
    return element("path", d=path, class_=f"marker {shape}")


def _strip(parts: Sequence[Markup], classes: str, text: str | None) -> Markup:
    return element(
        "svg",
        *parts,
        class_=classes,
        viewBox=f"0 0 {WIDTH} 24",
        width=WIDTH,
        height=24,
        role="img" if text else None,
        aria_label=text,
        aria_hidden=None if text else "true",
    )
