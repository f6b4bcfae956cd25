"""Boards are files for others: what records say is text in them, and neither formula nor link."""

import csv
import io
import re
from pathlib import Path

import pandas as pd
import pytest
from board_world import BEST, GOOD, TRACK, bare, whole

from genrec_bench.boards.csv_table import to_csv
from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.paper_figures import write_figures
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import to_markdown, to_text
from genrec_bench.boards.text_cells import escaped, spreadsheet_text
from genrec_bench.studies.text_tables import csv_text, table_text

FORMULAS = ("=1+1", "+SUM(A1)", "-2+3", "@SUM(1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0")


@pytest.mark.parametrize("text", FORMULAS)
def test_no_cell_of_csv_is_a_formula(text: str) -> None:
    assert spreadsheet_text(text) == f"'{text.strip()}"
    (_, cell) = csv_text(["a"], [[text]]).splitlines()
    assert cell.strip('"')[0] == "'"
    # As the name of an algorithm, where records allow it.
    board = make_board([bare(text, 0.1)], "industrial")
    for line in csv.DictReader(io.StringIO(to_csv(board))):
        for cell in line.values():
            assert cell[:1] not in "=@\t\r" or not cell
            if cell[:1] in ("-", "+"):
                float(cell)


def test_numbers_stay_numbers() -> None:
    for value in ("-0.5", "+3", "-1e-05", "-0.1 0.2", "0.5", "", 3, -0.25, None):
        assert spreadsheet_text(value) == value
    table = csv_text(["a", "b"], [[-0.25, "-x"], [None, "x"]])
    assert table == "a,b\n-0.25,'-x\n,x\n"
    assert pd.read_csv(io.StringIO(table))["a"].dtype == float


LINKS = (
    "[press](javascript:alert(1))",
    "![](https://elsewhere.example/x.png)",
    "<javascript:alert(1)>",
    "<img src=x onerror=alert(1)>",
    "[press][data]\n\n[data]: data:text/html,x",
)


@pytest.mark.parametrize("text", LINKS)
def test_no_text_of_a_record_is_a_link_or_html_in_markdown(text: str) -> None:
    failed = {"complete": False, "metrics": {}, "failure": text}
    track = {"track": TRACK | {"backbone": text, text: "x"}}
    records = [bare("ugr", 0.1, **track), bare("grpo", 0, 1, **failed, **track)]
    page = to_markdown(make_board(records, "industrial"))
    # Of brackets, those that nothing escapes are of links to records and of our own words.
    for found in re.findall(r"(?<!\\)\[([^]]*)\]", page):
        assert found in ("control", "failed", "seed 0", "seed 1", "seed 1 (failed)", "record"), (
            found
        )
    assert "<" not in page
    assert escaped("a | x\n| x") == "a \\| x \\| x"
    assert "<" not in table_text(["a"], [[text]], "pipe")


@pytest.mark.parametrize(
    "scheme", ["javascript:alert(1)", "data:text/html,x", "//elsewhere.example"]
)
def test_no_path_of_a_record_is_an_address(scheme: str, tmp_path: Path) -> None:
    one = whole("ugr", (0, 1))
    path = tmp_path / scheme.strip("/") / "record.json"
    board = make_board(
        [type(one)(one.record, one.outcomes, one.curves, path)], "industrial", None, tmp_path
    )
    targets = re.findall(r"\]\(([^)]*)\)", to_markdown(board))
    targets += re.findall(r'href="([^"#]*)"', to_html(board))
    assert targets
    for target in targets:
        assert not re.match(r"[a-z]+:(?!,$)|//", target) or target == "data:,"


def test_no_text_of_a_record_is_a_formula_in_a_figure(tmp_path: Path) -> None:
    names = ("$\\frac$", "$x_$", "a$b")
    rows = [whole(name, ranks, seed) for name in names for seed, ranks in enumerate((BEST, GOOD))]
    assert write_figures(make_board(rows, "industrial"), tmp_path)


@pytest.mark.parametrize("text", ["\x1b[2J", "a\rb", "\x07", "\u202e", "\x9b31m"])
def test_no_text_of_a_record_commands_the_terminal(text: str) -> None:
    failed = {"complete": False, "metrics": {}, "failure": f"loss {text}"}
    track = {"track": TRACK | {"backbone": text, text: "x"}}
    page = to_text(make_board([bare("grpo", 0, 1, **failed, **track)], "industrial"))
    assert "loss" in page and not any(sign in page for sign in text if not sign.isprintable())
