"""What a board says in words, and that its tests say the same."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
from board_world import BEST, BUDGET, GOOD, TRACK, bare, whole
from example_boards import bare as bare_row
from example_boards import full_board, full_section, old_section
from page_tree import first_track, parse

from genrec_bench.boards.board import Board, Kind
from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.pair_tables import gains_table
from genrec_bench.boards.paper import measured, to_latex
from genrec_bench.boards.section_view import signed as shown
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import to_markdown
from genrec_bench.boards.text_cells import gain_cells
from genrec_bench.boards.verdict import (
    heading,
    moves_little,
    sft_multiple,
    unequal_cost,
    verdict,
    with_interval,
)
from genrec_bench.statistics.conclusions import Pair
from genrec_bench.statistics.resampling import Components, Interval

PARTS = Components(1e-6, 1e-6, 1e-6, 5, 1e-7)
NAMES: dict[str, Kind] = {"more": "control", "grpo": "result", "ugr": "result", "noise": "control"}


def pair(first: str, second: str, difference: float, distinct: bool, seen: float) -> Pair:
    low, high = difference - 0.002, difference + 0.002
    args = (0.0, 0.0, 0.0, 0.0, distinct, 0.0, 0.5, Interval(0, 1), seen, PARTS)
    return Pair(first, second, difference, Interval(low, high), *args)


def board_of(standings: Mapping[str, tuple[int, int]], apart: bool = False) -> Board:
    """A board whose rows stand to the start and to `more` as told: 1 above, -1 below, 0 alike.

    A gain is 0.01, or 0.001 where nothing is told apart; the start's NDCG@10 is 0.1.
    """
    gains: list[Pair] = []
    others: list[Pair] = []
    for number, name in enumerate(NAMES):
        for family, other, sign in zip(
            (gains, others), ("SFT start", "more"), standings.get(name, (0, 0)), strict=True
        ):
            if name != other:
                size = 0.01 * sign if sign else 0.001
                family.append(pair(name, other, size, bool(sign), 0.004 + number / 1000))
    rows = [bare_row(name, kind, {"NDCG@10": 0.1}) for name, kind in NAMES.items()]
    section = replace(
        full_section(),
        rows=(bare_row("SFT start", "start", {"NDCG@10": 0.1}), *rows),
        pairs={"NDCG@10": (pair("grpo", "ugr", 0.01, apart, 0.01),)},
        parts={"start": "SFT start", "control": "more", "baseline": "grpo"},
        gains={"NDCG@10": tuple(gains)},
        declared={"NDCG@10": tuple(others)},
    )
    return Board("synthetic", (section,), ())


def said(board: Board) -> list[str]:
    return verdict(board, board.sections[0])


GAINS = "the SFT start by +0.0100 (95%: +0.0080 to +0.0120)"


@pytest.mark.parametrize(
    ("standings", "apart", "lead"),
    [
        (
            {"grpo": (1, 1)},
            False,
            f"Use grpo: by NDCG@10 grpo beats {GAINS} and more by +0.0100 "
            "(95%: +0.0080 to +0.0120).",
        ),
        ({"grpo": (1, 1), "ugr": (1, 1)}, False, "Use grpo or ugr, which cannot be told apart"),
        # A random reward that beats both is no algorithm to use.
        ({"noise": (1, 1)}, False, "No algorithm was shown to beat both the SFT start and more"),
        ({"grpo": (1, 0), "more": (1, 0)}, False, f"Use more: by NDCG@10 it beats {GAINS}, and no"),
        ({"grpo": (0, 1)}, False, "No algorithm was shown to beat both"),
    ],
)
def test_the_first_sentence_says_which_to_use(
    standings: dict[str, tuple[int, int]], apart: bool, lead: str
) -> None:
    assert said(board_of(standings, apart))[0].startswith(lead)


@pytest.mark.parametrize("best", [{}, {"more": (1, 0)}, {"grpo": (1, 1)}])
def test_sft_continued_is_named_where_it_goes_by_its_algorithm(
    best: dict[str, tuple[int, int]],
) -> None:
    """As in an array of single runs, none of which was declared a control."""
    board = board_of(best)
    rows = [
        replace(row, kind="result") if row.name == "more" else row for row in board.sections[0].rows
    ]
    section = replace(board.sections[0], rows=tuple(rows))
    assert "more (SFT continued)" in said(replace(board, sections=(section,)))[0]
    assert "(SFT continued)" not in said(board)[0]


def test_of_two_that_beat_both_and_are_told_apart_the_better_one_is_to_be_used() -> None:
    lead = said(board_of({"grpo": (1, 1), "ugr": (1, 1)}, apart=True))[0]
    assert lead.startswith("Use grpo: by") and lead.endswith(" ugr beats both too.")


def test_each_row_is_said_to_stand_as_the_tests_say() -> None:
    found = said(board_of({"ugr": (-1, -1), "more": (-1, 0), "grpo": (1, 0)}))
    assert found[1:4] == [
        "grpo beats the SFT start and is not told apart from SFT continued.",
        "ugr is below both the SFT start and SFT continued.",
        "noise is not told apart from either the SFT start or SFT continued.",
    ]
    assert found[4] == "more is below the SFT start."
    # By row 0.005 for grpo, 0.006 and 0.007; the SFT start has 0.1.
    assert found[5] == (
        "Four of five such comparisons see a gain over SFT continued of 0.0050 (grpo) to 0.0070 "
        "(noise), 5.0% to 7.0% of the SFT start's NDCG@10."
    )


def test_the_budget_is_told_as_a_multiple_of_sft() -> None:
    """1 TFLOP counts, and SFT cost 0.5 TFLOP, 100 s and a million of 2 million tokens."""
    (section,) = make_board([bare("ugr", 0.1)], "industrial").sections
    assert sft_multiple(section) == 2.0
    assert sft_multiple(replace(section, unit="seconds")) == 0.4
    board = Board("mine", (replace(section, unit="seconds", partial=False),), ())
    assert said(board)[-1] == (
        "mine: backbone tiny; a run spends 0.4 times what the SFT start cost, so little that rows "
        "can hardly move; 1 seed a row."
    )
    # A budget is met by whole prompts, and may be missed by a few.
    assert moves_little(0.49) and not moves_little(0.4998)
    unknown = [replace(row, phases={}) for row in section.rows]
    assert sft_multiple(replace(section, rows=tuple(unknown))) is None


def test_of_ways_to_decode_no_cost_is_told() -> None:
    (section,) = make_board([bare("ugr", 0.1)], "industrial").sections
    free = [replace(row, spent=dict.fromkeys(row.spent, 0.0)) for row in section.rows]
    decoded = replace(section, rows=tuple(free), partial=False)
    assert unequal_cost(decoded) == ""
    words = said(Board("mine", (decoded,), ()))[-1]
    assert words == "mine: backbone tiny; nothing was trained; 1 seed a row."


@pytest.mark.parametrize(
    ("factor", "told"),
    [(1.05, ""), (1.5, "2.00 (ugr) to 3.00 (vstar)"), (0.25, "0.50 (vstar) to 2.00 (ugr)")],
)
def test_rows_that_do_not_cost_the_same_are_named(factor: float, told: str) -> None:
    """As with a number of steps, which takes an algorithm more than another."""
    (section,) = make_board([bare("ugr", 0.1)], "industrial").sections
    (row,) = (row for row in section.rows if row.name == "ugr")
    spent = {unit: factor * amount for unit, amount in row.spent.items()}
    other = replace(section, rows=(row, replace(row, name="vstar", spent=spent)))
    assert unequal_cost(other) == told
    words = said(Board("mine", (other,), ()))[-1]
    assert ("runs do NOT cost the same: " + told in words) == bool(told)
    assert heading(other).count("cost not equal") == bool(told)
    # Headings, the page and a paper's words say no other thing.
    board = Board("mine", (other,), ())
    for text in (to_markdown(board), to_html(board), to_latex(board)):
        assert ("at the equal budget" in text) == (not told)
        assert ("at unequal cost" in text) == bool(told)
    assert (f"did not cost the same, but {told} times" in measured(board, other)) == bool(told)


def test_what_was_compared_at_equal_cost_stands_first() -> None:
    """Though more runs were compared by a number of steps; a newer version is before both."""
    dear = bare("vstar", 0.1).record["budget"]["spent"]
    dear["rollout"]["flops"] *= 4
    steps, newer = TRACK | {"budget": "160 steps"}, {"benchmark": "9.0", "track": TRACK}
    records = [bare("ugr", 0.1, seed, seed, track=steps) for seed in range(3)]
    records += [bare("vstar", 0.1, 0, 4, track=steps, spent=dear), bare("grpo", 0.1, 0, 5)]
    first, second = make_board(records, "industrial").sections
    assert (first.num_records, unequal_cost(first)) == (1, "")
    assert second.num_records == 4 and unequal_cost(second)
    made = make_board([*records, bare("ugr", 0.1, 1, 6, **newer)], "industrial").sections
    assert [one.benchmark for one in made] == ["9.0", first.benchmark, first.benchmark]
    assert make_board(records[:4], "industrial").sections[0].num_records == 4


@pytest.mark.parametrize(
    ("value", "text"), [(-1e-6, "+0.0000"), (0.0, "+0.0000"), (-0.01, "-0.0100")]
)
def test_a_zero_has_one_sign_wherever_it_is_written(value: float, text: str) -> None:
    made = replace(pair("grpo", "more", value, False, 0.005), interval=Interval(value, value))
    interval = f"{text} to {text}"
    assert gain_cells(made) == (text, interval)
    assert with_interval(made) == f"{text} (95%: {interval})"
    assert shown(value) == text.replace("-", "\u2212")
    over_start = replace(made, second="SFT start")
    section = replace(full_section(), declared={}, gains={"NDCG@10": (over_start,)})
    assert f"${text}$" in to_latex(Board("mine", (section,), ()))


def test_without_a_control_there_is_no_verdict() -> None:
    for board in (
        Board("industrial", (old_section(),), ()),
        make_board([whole("ugr", GOOD, seed) for seed in (0, 1)], "industrial"),
        make_board([bare("ugr", 0.1)], "industrial"),
    ):
        assert said(board)[0].startswith("No verdict: ")
        assert not [text for text in said(board) if "beats" in text]


def test_a_gain_is_that_of_the_same_users() -> None:
    """BEST less START by example: 0, 1, 1/log2(3) - 1/log2(5), 1, 1/2, 1 - 1/log2(3)."""
    board = make_board([whole("ugr", BEST, seed, **BUDGET) for seed in (0, 1)], "industrial")
    (section,) = board.sections
    difference = (0 + 1 + 0.63093 - 0.43068 + 1 + 0.5 + 1 - 0.63093) / 6
    lines = gains_table(section, "simple").splitlines()
    assert lines[0].split() == "gain in NDCG@10 over SFT start 95% interval NDCG@10".split()
    assert lines[2].startswith("ugr") and f"+{difference:.4f}" in lines[2]


def test_rows_of_older_versions_keep_their_names() -> None:
    """What today's algorithms have, and theirs had not, is no difference among them."""
    old = [
        replace(one, record=one.record | {"benchmark": "0.1"})
        for one in (bare("ugr", 0.1), bare("ugr", 0.1, 1))
    ]
    today = {"ugr": {"alpha": 0.5, "weight": False, "new": 1}}
    (section,) = make_board(old, "industrial", today).sections
    assert [row.name for row in section.rows if row.kind == "result"] == ["ugr"]


def test_the_page_says_it_first() -> None:
    page = parse(to_html(full_board()))
    lead = said(full_board())[0]
    assert lead.startswith("Use grpo")
    assert page.one("header").one("p", class_="verdict").text == lead
    assert first_track(page).one("p", class_="verdict").text == lead


def test_tuned_values_have_three_digits_and_records_have_all() -> None:
    tuned = {"hyperparameters": {"alpha": 0.123456789, "weight": True}, "tuning": {"trials": 3}}
    records = [bare("ugr", 0.1, **tuned), bare("grpo", 0.1, hyperparameters={"alpha": 1.0})]
    today = {"ugr": {"alpha": 0.5, "weight": True}}
    (section,) = make_board(records, "industrial", today).sections
    assert "ugr was tuned: alpha=0.123." in section.notes
    rate = {"hyperparameters": {"alpha": 2.8701e-05, "weight": True}}
    (section,) = make_board([*records, bare("ugr", 0.2, **rate)], "industrial", today).sections
    assert "ugr (alpha=2.87e-05)" in [row.name for row in section.rows]
