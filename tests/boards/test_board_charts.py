"""The drawings of a board's page, and how it writes numbers: places worked out by hand."""

from collections.abc import Sequence
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from page_tree import parse

from genrec_bench.boards.charts import (
    COLORS,
    DASHES,
    MARKERS,
    Scale,
    decimals,
    domain,
    element,
    interval_plot,
    stacked_bar,
    ticks,
)
from genrec_bench.boards.units import unit_for


def test_each_look_is_of_its_own() -> None:
    # The same look comes back only after the product of lengths that share no factor.
    looks = {(i % COLORS, DASHES[i % len(DASHES)], MARKERS[i % len(MARKERS)]) for i in range(140)}
    assert len(looks) == 140


def test_elements_are_kept_and_joining_them_with_text_escapes_the_text() -> None:
    bold = element("b", "x<y")
    assert element("p", bold, "<", data_sort=0.5, title=None, class_="") == (
        '<p data-sort="0.5" class=""><b>x&lt;y</b>&lt;</p>'
    )
    assert bold + "<" == "<b>x&lt;y</b>&lt;"


def test_mean_beyond_the_axis_is_an_arrow() -> None:
    scale = Scale(0.0, 1.0, 0.0, 100.0)
    plot = parse(interval_plot(scale, 2.0, None, text="far"))
    assert not plot.all("circle")
    # Its tip is at the axis' end and its arms behind it.
    assert plot.one("path").attributes["d"] == "M94.0 8L100.0 12L94.0 16"
    assert plot.one("title").text == "far"


def test_interval_plot_puts_things_in_their_places() -> None:
    scale = Scale(0.0, 1.0, 0.0, 100.0)
    plot = interval_plot(scale, 0.5, (0.25, 0.75), points=(0.4,), reference=0.1, text="t")
    tree = parse(plot)
    bar = tree.one("line", class_="bar").attributes
    assert (bar["x1"], bar["x2"]) == ("25.0", "75.0")
    assert tree.one("circle").attributes["cx"] == "50.0"
    assert tree.one("line", class_="reference").attributes["x1"] == "10.0"
    assert tree.one("line", class_="point").attributes["x1"] == "40.0"


def test_bars_are_as_long_as_what_they_stand_for() -> None:
    # 1 and 2 of 4, on 128 units: 32 and 64 long, the second where the first ends.
    bar = parse(stacked_bar([("a", 1.0), ("none", 0.0), ("b", 2.0)], 4.0, "words"))
    drawn = [(n.attributes["x"], n.attributes["width"]) for n in bar.all("rect")]
    assert drawn == [("0.0", "32.0"), ("32.0", "64.0")]
    assert not parse(stacked_bar([("a", 0.0)], 0.0, "nothing")).all("rect")


@pytest.mark.parametrize(
    ("low", "high", "most", "wanted"),
    [
        (0.0, 10.0, 6, [0, 2, 4, 6, 8, 10]),
        (0.0, 10.0, 3, [0, 5, 10]),
        (0.0701, 0.0899, 2, [0.08]),
        (0.0701, 0.0899, 3, [0.075, 0.08, 0.085]),
        (-0.011, 0.013, 3, [-0.01, 0.0, 0.01]),
    ],
)
def test_ticks_are_round_numbers(
    low: float, high: float, most: int, wanted: Sequence[float]
) -> None:
    assert ticks(low, high, most) == pytest.approx(wanted)


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e6), st.integers(min_value=2, max_value=8))
def test_ticks_lie_on_the_axis(low: float, length: float, most: int) -> None:
    found = ticks(low, low + length, most)
    assert len(found) <= most
    slack = length * 1e-6
    assert all(low - slack <= tick <= low + length + slack for tick in found)


def test_decimals_tell_ticks_apart() -> None:
    assert decimals([0.0, 2.0, 4.0]) == 0
    assert decimals([0.07, 0.08]) == 2
    assert decimals([0.0725, 0.075]) == 4


def test_domain_shows_all_and_the_optional_where_it_is_near() -> None:
    assert domain([]) is None
    # Six hundredths of the range are added at either end.
    assert domain([1.0, 2.0]) == pytest.approx((0.94, 2.06))
    assert domain([1.0, 2.0], 3.0) == pytest.approx((0.88, 3.12))
    assert domain([1.0, 2.0], 3.1) == pytest.approx((0.94, 2.06))
    assert domain([1.0, inf]) == pytest.approx((0.95, 1.05))
    assert domain([0.0]) == (-0.5, 0.5)


@pytest.mark.parametrize(
    ("cost", "amounts", "symbol", "written"),
    [
        ("seconds", [1234.56], "s", "1,234.6"),
        ("flops", [3e15], "PFLOP", "3.00"),
        ("flops", [3e12], "TFLOP", "3.00"),
        ("flops", [3e9], "GFLOP", "3.00"),
        ("flops", [5e11], "GFLOP", "500.00"),
        ("tokens", [5e5], "ktok", "500.00"),
        ("tokens", [2.5e6], "Mtok", "2.50"),
        ("tokens", [2500.0], "ktok", "2.50"),
        ("flops", [], "GFLOP", "0.00"),
    ],
)
def test_units_fit_their_amounts(
    cost: str, amounts: list[float], symbol: str, written: str
) -> None:
    unit = unit_for(cost, amounts)
    assert unit.symbol == symbol
    assert unit.write(max(amounts, default=0.0)) == written
