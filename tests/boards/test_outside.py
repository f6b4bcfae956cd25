"""Outside systems on a board: a section of their own, our rows beside, and no row of ours moved."""

from pathlib import Path
from typing import Any

import pytest
from board_world import BEST, GOOD, START, TRACK, outcomes_of, save, whole
from made_boards import make

from genrec_bench.boards.adding import add_records
from genrec_bench.boards.board import Section
from genrec_bench.boards.csv_table import to_csv
from genrec_bench.boards.evidence import Evidence, read_evidence
from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.paper import to_latex
from genrec_bench.boards.shipped import first_screen
from genrec_bench.boards.tables import to_markdown, to_text
from genrec_bench.boards.verdict import verdict
from genrec_bench.boards.verify import verify
from genrec_bench.boards.verify_together import contradictions, verify_together
from genrec_bench.runs.records import join_outcomes
from genrec_bench.training.metrics import outcome_metrics

OUTSIDE = {"dataset": "d" * 64, "kind": "external", "sids": "s" * 64}
THEIRS = (0, 0, 0, 1, 1, 0)
MANY = 12
"""Times that six examples are repeated, so that tests have something to see."""


def outside(label: str, ranks: tuple[int, ...], seed: int = 0, **changes: Any) -> Evidence:
    """A record of an outside system, as `score` writes it."""
    told = {
        "source": "run file",
        "backbone": "self-attention",
        "training_seconds": 600.0,
        "tuning_seconds": None,
        "hardware": "one GPU",
        "notes": "their code",
        "file": "lists.csv",
        "sha256": "f" * 64,
        "ranked": "item",
        **changes,
    }
    one = whole(label, ranks, seed, 99, start=None)
    outcomes = outcomes_of(ranks).assign(sampled_hits=-1, sid_sampled_hits=-1)
    record = one.record | {
        "kind": "external",
        "external": told,
        "splits": ["test"],
        "track": OUTSIDE,
        "configuration": {"hyperparameters": {}, "settings": {"beam_width": 10}},
        "fingerprints": {"dataset": "d" * 64, "sids": "s" * 64},
        "budget": {"limit": None, "spent": {}},
        "sft": {"valid": {}, "test": {}},
        "metrics": {"valid": {}, "test": outcome_metrics(outcomes, 10, 0)},
    }
    from genrec_bench.runs.record_schema import track_id

    record["track_id"] = track_id(OUTSIDE)
    return Evidence(record, join_outcomes({"test": outcomes}))


def ours() -> list[Evidence]:
    start = START * MANY
    runs = [whole("grpo", GOOD * MANY, seed, seed, start=start) for seed in range(3)]
    more = {"spent": {"update": {"seconds": 1.0, "tokens": 1, "flops": 1.0}}}
    cost = {"peak_memory_bytes": 1}
    spent = {phase: amounts | cost for phase, amounts in more["spent"].items()}
    return runs + [
        whole("sft", GOOD * MANY, seed, 9 + seed, start=start, spent=spent) for seed in range(3)
    ]


def section_of(*evidence: Evidence) -> Section:
    return make(*evidence).sections[-1]


def test_they_stand_in_a_section_of_their_own_behind_ours() -> None:
    alone = make(*ours())
    board = make(*ours(), outside("SASRec", THEIRS * MANY), outside("POP", BEST * MANY))
    assert [section.outside for section in board.sections] == [False, True]
    assert board.sections[0] == alone.sections[0], "no row of ours moves"
    section = board.sections[1]
    assert [row.name for row in section.rows if row.outside] == ["SASRec", "POP"]
    kinds = {row.name: row.kind for row in section.rows}
    assert kinds["SFT start"] == "start" and kinds["grpo"] == "result"
    assert section.num_records == 2
    assert all(row.spent == {} and row.phases == {} for row in section.rows)
    assert section.parts == {"start": "SFT start", "control": "sft", "baseline": "grpo"}


def test_they_are_compared_with_ours_paired_by_user() -> None:
    runs = [outside("SASRec", THEIRS * MANY, seed) for seed in range(3)]
    section = section_of(*ours(), *runs)
    pairs = {frozenset((pair.first, pair.second)): pair for pair in section.pairs["NDCG@10"]}
    pair = pairs[frozenset(("SASRec", "grpo"))]
    assert pair.distinct and abs(pair.difference) > 0.1
    assert [one.first for one in section.gains["NDCG@10"]] == ["SASRec"]
    assert [(one.first, one.second) for one in section.declared["NDCG@10"]] == [
        ("SASRec", "sft"),
        ("SASRec", "grpo"),
    ]
    (row,) = (row for row in section.rows if row.outside)
    assert row.seeds == (0, 1, 2) and row.gains_at[0][0] == 1
    said = verdict(make(*ours(), *runs), section)
    assert said[0].startswith("Outside systems beside our runs") and "Use" not in said[0]
    assert "SASRec beats both the SFT start and SFT continued." in said


def test_a_single_list_is_compared_as_it_stands() -> None:
    section = section_of(*ours(), outside("SASRec", THEIRS * MANY), outside("POP", START * MANY))
    told = {pair.first: pair.distinct for pair in section.gains["NDCG@10"]}
    assert told == {"SASRec": True, "POP": False}
    (note,) = (note for note in section.notes if note.startswith("One list each: POP, SASRec."))
    assert "another seed" in note and all(row.ranks["NDCG@10"] for row in section.rows[:5])


def test_what_their_makers_declare_is_on_every_kind_of_board() -> None:
    board = make(*ours(), outside("SASRec", THEIRS * MANY, notes="<b>[x](y)</b> | ="))
    page, text, table, html = to_markdown(board), to_text(board), to_csv(board), to_html(board)
    assert "## genrec-bench 0.4, outside systems" in page
    for made in (page, text, html):
        assert "self-attention" in made and "600" in made and "one GPU" in made
    assert "SASRec [outside]" in page and "SASRec [outside]" in text
    assert "<b>" not in page and "<b>[x]" not in html
    assert '<span class="tag">outside</span>' in html
    assert "told/backbone,self-attention" in table and "told/notes,<b>" in table
    *_, last = page.split("## genrec-bench")
    assert "What was spent" not in last and "Budget to reach" not in last
    assert "the equal budget" not in last and "whatever it cost" in last
    assert "Ranked lists of outside systems" in to_latex(board)
    said = first_screen({"industrial": board}, "leaderboards")
    assert "Outside" not in said, "the README says what our runs decide"


def test_without_runs_of_ours_they_are_compared_among_each_other() -> None:
    board = make(outside("SASRec", THEIRS * MANY), outside("POP", GOOD * MANY))
    (section,) = board.sections
    assert len(section.pairs["NDCG@10"]) == 1 and section.gains["NDCG@10"] == ()
    for made in (to_markdown(board), to_text(board), to_csv(board), to_html(board)):
        assert "SASRec" in made
    assert first_screen({"industrial": board}, "leaderboards")


@pytest.mark.parametrize("other", ["version", "draw", "dataset"])
def test_ours_on_other_examples_or_of_other_versions_do_not_stand_beside(other: str) -> None:
    track = {
        "version": TRACK,
        "draw": TRACK | {"test_examples": 72},
        "dataset": TRACK | {"dataset": "e" * 64},
    }[other]
    runs = [whole("grpo", GOOD * MANY, start=START * MANY, track=track)]
    if other == "version":
        runs = [Evidence(one.record | {"benchmark": "0.3"}, one.outcomes) for one in runs]
    section = section_of(*runs, outside("SASRec", THEIRS * MANY))
    assert [row.name for row in section.rows if row.kind != "ceiling"] == ["SASRec"]


def test_a_label_that_is_an_algorithm_of_ours_is_told_apart() -> None:
    section = section_of(*ours(), outside("grpo", THEIRS * MANY))
    assert [row.name for row in section.rows if row.outside] == ["grpo (outside)"]
    assert section.pairs["NDCG@10"]


def test_they_are_verified_beside_ours_and_added_to_a_folder(tmp_path: Path) -> None:
    one = read_evidence(save(tmp_path / "theirs", outside("SASRec", THEIRS * MANY)))
    assert verify(one).findings == ()
    mine = [read_evidence(save(tmp_path / "ours", each)) for each in ours()]
    assert verify_together([*mine, one]) == []
    other = outside("SASRec", GOOD * MANY, sha256="e" * 64)
    assert contradictions([one, other]) == [], "another file under one label is no contradiction"
    (finding,) = verify_together([*mine, outside("SASRec", THEIRS * 3)])
    assert finding.key == "outcomes: test"
    added = add_records([tmp_path / "theirs"], tmp_path / "boards")
    assert len(added.copied) == 1 and added.notes == []
