"""The page of systems that papers name says of each where it is, and what it says is there."""

import re
from pathlib import Path

from genrec_bench.runs.hosted_models import COUNTS, HOSTED

COMPARED = (
    "UGR GREAM V-STAR MiniOneRec SASRec GRU4Rec BERT4Rec TIGER Caser HGN FDSA S³-Rec HSTU P5-CID "
    "LC-Rec EAGER-LLM BIGRec SPRec D3 S-DPO ReaRec R²ec"
).split()
"""The rows of the papers' tables of results: UGR's Table 1, GREAM's 2, V-STAR's 1."""

WAYS = ("algorithm", "baseline", "run file", "not", "not yet", "part of the harness")


def rows(root: Path) -> list[list[str]]:
    lines = (root / "docs" / "coverage.md").read_text(encoding="utf-8").splitlines()
    cells = [re.split(r"\s*\|\s*", line)[1:-1] for line in lines if line.startswith("| ")]
    return [row for row in cells if row[0] not in ("System", "Method")]


def test_every_system_of_the_papers_tables_has_one_row(root: Path) -> None:
    names = [name for name, *_ in rows(root)]
    assert len(names) == len(set(names)) and set(COMPARED) <= set(names)


def test_what_a_row_says_is_there(root: Path) -> None:
    for name, papers, way, why in rows(root):
        assert papers and any(way.startswith(known) for known in WAYS), name
        if way.startswith("algorithm"):
            (path,) = re.findall(r"\]\(\.\./(algorithms/\w+\.py)\)", way)
            assert (root / path).is_file()
        elif way.startswith("baseline"):
            assert way.split("`")[1] in HOSTED
        else:
            assert why, f"{name}: no reason"


def test_every_baseline_is_named(root: Path) -> None:
    for page in ("coverage.md", "outside.md"):
        text = (root / "docs" / page).read_text(encoding="utf-8")
        assert all(f"`{name}`" in text for name in (*COUNTS, *HOSTED)), page
