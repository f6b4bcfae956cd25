"""What comes with the repository is what its records make; and how it is made, in small."""

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from board_world import BEST, BUDGET, GOOD, TRACK, save, whole

from genrec_bench.boards.collecting import verify_folders
from genrec_bench.boards.shipped import (
    BEGIN,
    END,
    first_screen,
    is_current,
    renew,
    shipped_boards,
    shipped_files,
    with_block,
)
from genrec_bench.commands.cli import main
from genrec_bench.runs.record_schema import EXTERNAL
from genrec_bench.runs.records import read_record
from genrec_bench.runs.registry import default_hyperparameters

SAY = "run `genrec-bench leaderboard renew`, and commit what it writes"


@cache
def shipped(folder: Path) -> dict[Path, bytes]:
    return shipped_files(shipped_boards(folder), folder)


def test_boards_and_the_first_screen_are_what_the_records_make(root: Path) -> None:
    files = shipped(root / "leaderboards")
    assert root / "README.md" in files and root / "leaderboards" / "synthetic.html" in files
    stale = [path.name for path, content in files.items() if not is_current(path, content)]
    assert not stale, f"not up to date: {', '.join(stale)}; {SAY}"
    known = {path.name for path in files} | {"README.md"}
    left = {path.name for path in (root / "leaderboards").iterdir() if path.is_file()} - known
    assert not left, f"boards without records: {left}"


def test_every_record_holds_and_has_its_algorithm(root: Path) -> None:
    found = verify_folders([root / "leaderboards"])
    assert not found.wrong
    known = set(default_hyperparameters())
    for path in (root / "leaderboards").rglob("record.json"):
        record = read_record(path)
        version = f"v{record['benchmark']}"
        assert path.parts[-4:-1] == (version, record["dataset"], record["run_id"])
        outside = record.get("kind") == EXTERNAL
        assert outside or record["algorithm"] in known, f"{path}: add its file to algorithms/"


def several(top: Path, dataset: str, **changes: Any) -> None:
    """Three rows on two seeds each: SFT continued, grpo and ugr."""
    rows = (("sft", GOOD, "SFT continued"), ("grpo", BEST, ""), ("ugr", GOOD, ""))
    for algorithm, ranks, control in rows:
        for seed in (0, 1):
            moved = ranks[seed:] + ranks[:seed]
            one = whole(
                algorithm, moved, seed, control=control, dataset=dataset, **BUDGET, **changes
            )
            one.record["run_id"] += f"-{dataset}"
            if control:
                spent = one.record["budget"]["spent"]
                for cost, amount in spent.pop("rollout").items():
                    spent["update"][cost] += amount
            save(top / dataset, one)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    top = tmp_path / "leaderboards"
    (tmp_path / "README.md").write_text(f"# Title\n\n{BEGIN}\nof yesterday\n{END}\n\n## More\n")
    several(top / "v1", "industrial")
    several(top / "v1", "synthetic-feedback")
    save(tmp_path / "runs", whole("vstar", BEST))
    return top


def test_one_command_makes_boards_claims_and_the_first_screen(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["leaderboard", "renew", "--to", str(folder)]
    assert main([*words, "--output", str(folder.parent / "runs")]) == 0
    out = capsys.readouterr().out
    names = {path.name for path in folder.iterdir() if path.is_file()}
    made = {"industrial", "synthetic-feedback", "claims"}
    assert {name.partition(".")[0] for name in names} == made
    assert out.count("written: ") == len(names) + 1
    readme = (folder.parent / "README.md").read_text()
    assert readme.startswith("# Title\n") and readme.endswith("## More\n")
    assert "of yesterday" not in readme
    # The verdict in words, with a link to the board; then its gains; then the claims.
    assert "(leaderboards/industrial.md), genrec-bench" in readme
    assert re.search(r"\| grpo +\|.*\+0\.\d{4}", readme)
    assert "(leaderboards/claims.md): 4 claims; what is claimed of " in readme
    assert "vstar" not in (folder / "industrial.md").read_text(), "runs of one's own stay out"
    claims = (folder / "claims.md").read_text()
    assert "[The board](synthetic-feedback.md)" in claims and "Not compared yet" in claims
    page = (folder / "claims.html").read_text()
    assert 'href="synthetic-feedback.html"' in page and "<script" not in page
    assert main(words) == 0
    assert capsys.readouterr().out == f"{len(names) + 1} files say the same as before\n"


def test_the_first_screen_speaks_of_a_track_with_a_verdict(folder: Path) -> None:
    track = TRACK | {"prompt": "other"}
    for seed in range(9):
        save(folder / "more", whole("srpo", GOOD, seed, track=track))
    board = shipped_boards(folder)["industrial"]
    assert board.sections[0].num_records == 9 and len(board.sections) == 2
    said = first_screen({"industrial": board}, "leaderboards")
    assert "| grpo" in said and "srpo" not in said and "No verdict" not in said


def test_rounding_is_no_change_and_anything_else_is(folder: Path) -> None:
    renew(folder)
    table = folder / "industrial.csv"
    text = table.read_text()
    value = next(found for found in re.findall(r"0\.\d{15,}", text))
    last = "1" if value[-1] != "1" else "2"
    table.write_text(text.replace(value, value[:-1] + last))
    assert renew(folder)[0] == []
    table.write_text(text.replace(value, "0.123456789012"))
    assert renew(folder)[0] == [table]
    assert table.read_text() == text


def test_boards_of_older_versions_are_left_to_their_pages(folder: Path) -> None:
    several(folder / "v0", "beauty", benchmark="0.1")
    boards = shipped_boards(folder)
    assert set(boards) == {"beauty", "industrial", "synthetic-feedback"}
    said = first_screen(boards, "leaderboards")
    assert "industrial.md" in said and "beauty" not in said
    only = first_screen({"beauty": boards["beauty"]}, "boards")
    assert "(boards/beauty.md), genrec-bench 0.1" in only


def test_the_newest_version_stands_first_however_few_its_records(tmp_path: Path) -> None:
    several(tmp_path, "industrial", benchmark="0.9")
    save(tmp_path / "new", whole("grpo", BEST, minutes=9, benchmark="0.10"))
    (board,) = shipped_boards(tmp_path).values()
    assert [section.benchmark for section in board.sections] == ["0.10", "0.9"]


def test_a_document_without_marks_is_left_alone(folder: Path) -> None:
    readme = folder.parent / "README.md"
    readme.write_text("# Mine\n")
    renew(folder)
    assert readme.read_text() == "# Mine\n"
    assert with_block(f"a\n{BEGIN}\n{END}\nb", "c") == f"a\n{BEGIN}\n\nc\n\n{END}\nb"
