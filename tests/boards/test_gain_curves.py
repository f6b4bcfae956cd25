"""Gain by list length: hand-counted hits, and what is said of them."""

import csv
import io

import pytest
from board_world import BEST, BUDGET, GOOD, SETTINGS, whole
from example_boards import bare, full_board
from page_tree import first_track, parse

from genrec_bench.boards.board import Board, BoardRow, GainCurve
from genrec_bench.boards.csv_table import to_csv
from genrec_bench.boards.gain_curves import beam_note, sharpening
from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import to_markdown


def board() -> Board:
    return make_board([whole("grpo", BEST, seed, **BUDGET) for seed in (0, 1)], "industrial")


def row_of(board: Board, name: str) -> BoardRow:
    return next(row for row in board.sections[0].rows if row.name == name)


def test_gains_are_counted_at_every_length_up_to_the_beam() -> None:
    """BEST hits 4, 5, 6, 6 ... of six at 1, 2, 3, 4; START 1, 2, 2, 3, and 3 still at 10."""
    found = row_of(board(), "grpo").gains_at
    assert [k for k, *_ in found] == list(range(1, 11)), "its beam is 10 wide"
    gains = [mean for _, mean, *_ in found]
    assert gains == pytest.approx([3 / 6, 3 / 6, 4 / 6, *[3 / 6] * 7])
    assert all(low <= mean <= high for _, mean, low, high in found)


def test_the_shortest_beam_ends_all() -> None:
    settings = SETTINGS | {"beam_width": 4}
    short = whole("ugr", GOOD, 0, **BUDGET, settings=settings)
    made = make_board([whole("grpo", BEST, 0, **BUDGET), short], "industrial")
    assert len(row_of(made, "grpo").gains_at) == 4
    assert not row_of(made, "SFT start").gains_at


def test_without_the_starts_outcomes_there_are_none() -> None:
    made = make_board([whole("grpo", BEST, start=None)], "industrial")
    assert not row_of(made, "grpo").gains_at
    assert "Gain by list length" not in to_markdown(made) + to_html(made)


def curve(*ends: tuple[float, float]) -> GainCurve:
    places = zip((1, 20), ends, strict=True)
    return tuple((k, (low + high) / 2, low, high) for k, (low, high) in places)


def test_who_sharpens_and_who_broadens_is_said() -> None:
    up, down, unsure = (0.01, 0.02), (-0.02, -0.01), (-0.01, 0.01)
    rows = [
        bare(name, "result", {}, gains_at=curve(*ends))
        for name, ends in {"a": (up, down), "b": (down, up), "c": (up, unsure)}.items()
    ]
    assert sharpening(rows) == [
        "Sharper: more hits at 1 and fewer at 20 than the SFT start, by 95% intervals without "
        "correction: a.",
        "Broader: fewer hits at 1 and more at 20 than the SFT start, by 95% intervals without "
        "correction: b.",
    ]
    assert "K = 20" in beam_note(rows) and "beam_width=50" in beam_note(rows)
    assert sharpening([]) == [] and beam_note([]) == ""


def test_all_three_files_show_them() -> None:
    made = board()
    page = to_markdown(made)
    _, _, table = page.partition("### Gain by list length")
    assert "HR@1 |" in table and "+0.5000 (" in table and "+0.6667 (" in table
    lines = {line["quantity"]: line for line in csv.DictReader(io.StringIO(to_csv(made)))}
    assert float(lines["gain/HR@3"]["value"]) == pytest.approx(4 / 6)
    chart = first_track(parse(to_html(made))).one("svg", class_="wide")
    assert [node.one("title").text for node in chart.all("g")] == ["grpo"]
    assert "K, the length of the list" in [node.text for node in chart.all("text")]
    assert "Gain by list length" not in to_html(full_board()), "it has none"


def test_hits_among_fifty_are_counted_where_the_beam_was_as_wide() -> None:
    """Of six ranks, five are below 50; no record states HR@50. The start misses two of six."""
    record = whole("grpo", (0, 30, 49, -1, 20, 0), settings=SETTINGS | {"beam_width": 50})
    assert "HR@50" not in record.record["metrics"]["test"]
    made = make_board([record], "industrial")
    assert row_of(made, "grpo").means["HR@50"] == pytest.approx(5 / 6)
    assert row_of(made, "SFT start").means["HR@50"] == pytest.approx(4 / 6)
    assert "HR@50" not in row_of(board(), "grpo").means, "its beam is 10 wide"
    assert "| HR@50 |" in " ".join(to_markdown(made).split())
