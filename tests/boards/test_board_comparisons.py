"""Curves, targets, pairs and published figures on a board's page."""

import re
from dataclasses import replace
from math import inf

import pytest
from example_boards import (
    TARGETS,
    bare,
    board_without_targets,
    full_board,
    full_section,
    pair,
    row,
)
from page_tree import Node, first_track, heads, page_of, parse, table

from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.section_view import signed
from genrec_bench.statistics.resampling import Interval


@pytest.fixture(scope="module")
def page() -> Node:
    return parse(to_html(full_board()))


@pytest.fixture(scope="module")
def section(page: Node) -> Node:
    return first_track(page)


def test_targets_and_misses(section: Node) -> None:
    label = "FLOPs to reach each target, TFLOP, median over seeds"
    assert heads(section, label) == ["Algorithm", *TARGETS]
    lines = table(section, label)
    for each in full_section().rows:
        for reached, cell in zip(each.targets.values(), lines.get(each.name, []), strict=True):
            sort = cell.attributes.get("data-sort")
            assert (None if sort is None else float(sort)) == reached.median
    ugr = lines["ugr"][3]
    assert ugr.text == "missed5.40 · 4 missed"
    assert ugr.attributes["title"] == "seed by seed: missed, missed, missed, missed, 5.40"
    assert "missed" in str(ugr.attributes["class"])
    assert "SFT start" not in lines


def test_curves_have_a_line_and_a_band_for_each_row(section: Node) -> None:
    wide, narrow = section.one("svg", class_="wide"), section.one("svg", class_="narrow")
    for chart in (wide, narrow):
        groups = chart.all("g")
        drawn = [g.one("title").text for g in groups]
        assert drawn == [each.name for each in full_section().rows if each.curve]
        assert all(g.all("path", class_="line") and g.all("path", class_="band") for g in groups)
        said = [t.text for t in chart.all("text", class_="label")]
        # The ceiling is far beyond the axis.
        assert said == ["SFT start", *(f"target {label}" for label in TARGETS)]
        assert "FLOPs spent, TFLOP" in [t.text for t in chart.all("text")]
    legend = section.one("figure").one("ul")
    assert [item.text for item in legend.all("li")] == drawn


def test_a_ceiling_within_the_scale_is_drawn() -> None:
    made = full_section()
    near = replace(made, rows=(*made.rows[:-1], bare("ceiling", "ceiling", {"NDCG@10": 0.0772})))
    chart = page_of(near).one("svg", class_="wide")
    assert "ceiling on test" in [t.text for t in chart.all("text", class_="label")]


def test_pairs_and_what_is_said_of_them(section: Node) -> None:
    pairs = full_section().pairs["NDCG@10"]
    lines = table(section, "All pairs on NDCG@10")
    assert list(lines) == [f"{p.first} − {p.second}" for p in pairs]
    for p, cells in zip(pairs, lines.values(), strict=True):
        low, high = signed(p.interval.low), signed(p.interval.high)
        assert cells[0].shown == f"{signed(p.difference)}{low} to {high}"
        assert float(str(cells[0].attributes["data-sort"])) == p.difference
        assert cells[1].text == ("yes" if p.distinct else "no")
        numbers = [float(str(cell.attributes["data-sort"])) for cell in cells[2:]]
        assert numbers == [
            p.p_adjusted,
            p.p_bootstrap,
            p.p_user,
            p.p_seed,
            p.effect,
            p.probability,
            p.smallest_difference,
        ]
    told = sum(p.distinct for p in pairs)
    assert f"{told} of 21 pairs are told apart." in section.text
    assert "A difference of 0.0047 would most likely be seen in any pair." in section.text
    alike = [item.text for item in section.all("ul", class_="alike")[0].all("li")]
    assert alike == [f"{p.first} and {p.second}" for p in pairs if not p.distinct]


def test_untested_pairs_are_not_called_alike() -> None:
    rows = (row("grpo", 0.08), row("ugr", 0.079))
    untested = replace(
        pair(*rows, "NDCG@10"), interval=Interval(-inf, inf), smallest_difference=inf
    )
    made = replace(
        full_section(),
        rows=rows,
        pairs={"NDCG@10": (untested,)},
        smallest_difference={"NDCG@10": inf},
    )
    section = page_of(made)
    assert "0 of 1 pairs are told apart." in section.text
    assert "too few seeds in common to be tested" in section.text
    assert "can’t be told apart" not in section.text
    assert "would most likely be seen" not in section.text
    (cells,) = table(section, "All pairs on NDCG@10").values()
    assert cells[0].shown.endswith("no interval")
    assert [cell.text for cell in cells[1:4]] == ["untested", "–", "–"]
    assert "inf" not in re.sub(r"inf[a-z]+", "", section.one("section").text)


def test_published_figures_stand_apart_without_ranks(page: Node) -> None:
    (published,) = (n for n in page.all("section") if n.attributes.get("id") == "published")
    assert "As reported, other settings" in published.text
    assert heads(published, "Published figures") == [
        "Algorithm",
        "Paper",
        "Where",
        "HR@5",
        "HR@10",
        "NDCG@10",
        "Setting",
    ]
    lines = table(published, "Published figures")
    assert [cell.text for cell in lines["Its method"][2:5]] == ["–", "0.1586", "0.1218"]
    # A zero at the end, as printed: the column has four digits.
    assert [cell.text for cell in lines["GRPO"][2:5]] == ["0.1103", "0.1580", "–"]
    for section in page.all("section"):
        if section is not published:
            assert "Its method" not in section.text


def test_board_without_targets_says_so() -> None:
    page = parse(to_html(board_without_targets()))
    assert "This track has no targets" in page.text
    (x_label,) = {t.text for t in page.all("text", class_="axis-name")}
    assert x_label == "Device time spent, s"
    assert not [n for n in page.all("section") if n.attributes.get("id") == "published"]
