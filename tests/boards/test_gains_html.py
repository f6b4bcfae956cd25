"""Gains and declared comparisons on a board's page."""

import pytest
from example_boards import full_board, full_section
from page_tree import Node, first_track, heads, parse, table

from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.section_view import signed

LABEL = "Quality at the equal budget"


@pytest.fixture(scope="module")
def section() -> Node:
    return first_track(parse(to_html(full_board())))


def test_gains_come_first_with_their_intervals(section: Node) -> None:
    names, lines = heads(section, LABEL), table(section, LABEL)
    assert names[:4] == ["Algorithm", "Gain over SFT start", "Gain over SFT continued", "NDCG@10"]
    made = full_section()
    for each in made.gains["NDCG@10"]:
        low, high = signed(each.interval.low), signed(each.interval.high)
        star = "*" if each.distinct else ""
        cell = lines[each.first][0]
        assert cell.shown == f"{signed(each.difference)}{star}{low} to {high}"
        assert float(str(cell.attributes["data-sort"])) == each.difference
    assert [cell.text for cell in lines["SFT start"][:2]] == ["–", "–"]
    assert lines["SFT continued"][1].text == "–", "it is no gain over itself"


def test_declared_comparisons_have_a_table_of_their_own(section: Node) -> None:
    made = full_section()
    pairs = [*made.gains["NDCG@10"], *made.declared["NDCG@10"]]
    box = next(
        node
        for node in section.all("div", class_="box")
        if node.attributes["aria-label"] == "Declared comparisons on NDCG@10"
    )
    found = [
        (line.one("th").text, *(cell.shown for cell in line.all("td")))
        for line in box.one("tbody").all("tr")
    ]
    assert [each[:2] for each in found] == [(pair.first, pair.second) for pair in pairs]
    grpo = found[0]
    assert grpo[2].startswith(signed(pairs[0].difference))
    assert grpo[3:] == ("yes", "0.030", "0.002", "0.0047")
