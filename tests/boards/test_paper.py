"""What a paper is given: a table in LaTeX, a paragraph on how it was measured, and figures."""

import re
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from board_world import BEST, BUDGET, GOOD, START, save, whole
from example_boards import full_board, full_section

from genrec_bench import __version__
from genrec_bench.boards.board import Board
from genrec_bench.boards.csv_table import to_csv
from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.paper import latex, measured, to_latex
from genrec_bench.boards.paper_figures import write_figures
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.verdict import where
from genrec_bench.commands.cli import main
from genrec_bench.storage.figures import VECTORS


def real() -> Board:
    cost = {"seconds": 1.0, "tokens": 1, "flops": 1e12, "peak_memory_bytes": 1}
    records = [
        *(whole("grpo", BEST, seed, **BUDGET) for seed in (0, 1)),
        *(
            whole("sft", GOOD, s, control="SFT continued", spent={"update": cost}, **BUDGET)
            for s in (0, 1)
        ),
    ]
    return make_board(records, "industrial")


def test_the_table_has_a_line_for_each_row_with_its_gains() -> None:
    text = to_latex(full_board())
    (first, _) = re.findall(r"\\midrule\n(.*?)\\bottomrule", text, re.S)
    lines = {line.split(" & ")[0]: line for line in first.splitlines()}
    grpo = full_section().gains["NDCG@10"][0]
    low, high = grpo.interval.low, grpo.interval.high
    assert f"${grpo.difference:+.4f}^{{*}}$ \\, $[{low:+.4f}, {high:+.4f}]$" in lines["grpo"]
    assert lines["grpo"].endswith(r" & 1--2 \\")
    assert lines["SFT start"].startswith("SFT start & -- & -- & 0.0749 & 0.1147")
    assert "ugr (confidence=token)" not in lines, "what failed has no figures"
    columns = len(lines["grpo"].split(" & "))
    assert rf"\begin{{tabular}}{{l{'r' * (columns - 1)}}}" in text
    for opened in ("table", "tabular"):
        assert text.count(rf"\begin{{{opened}}}") == text.count(rf"\end{{{opened}}}") == 2


def test_names_are_no_commands() -> None:
    assert latex("a_b & 5% {x} \\ ~^") == (
        r"a\_b \& 5\% \{x\} \textbackslash{} \textasciitilde{}\textasciicircum{}"
    )
    section = full_section()
    rows = (replace(section.rows[1], name=r"\input{secret}_%"),)
    text = to_latex(Board("x_y", (replace(section, rows=rows),), ()))
    assert r"\textbackslash{}input\{secret\}\_\%" in text and r"\input{" not in text


def test_the_paragraph_is_made_of_the_track() -> None:
    section = full_section()
    text = measured(full_board(), section)
    # SFT cost 3.29 TFLOP and a run 6 TFLOP and a little.
    assert "the backbone tiny after supervised fine-tuning (SFT) on industrial" in text
    assert "which cost 3.29 TFLOP" in text
    assert "trained for 6Tflop, 1.83 times what SFT had cost, with 4 to 5 seeds" in text
    assert "Hyperparameters were not tuned." in text
    assert "All 4,533 test examples" in text
    assert "those with SFT continued and grpo were declared beforehand" in text
    assert text.endswith("Also fixed: group size 16. Track 06ae6a6dcd71, genrec-bench 0.3.")
    tuned = replace(section, track={**section.track, "tuning": "20Tflop", "decoding": "VED"})
    text = measured(full_board(), tuned)
    assert "tuned on validation data within 20Tflop" in text and "decoding (VED)" in text
    drawn = replace(section, track={**section.track, "test_examples": 4533})
    assert "A seeded draw of 4,533 test examples" in measured(full_board(), drawn)
    assert "4,533 drawn test users" in where(full_board(), drawn)
    bare = replace(section, gains={}, declared={}, rows=(), track={})
    text = measured(full_board(), bare)
    assert "declared" not in text and "tuned" not in text and "backbone" not in text
    assert measured(full_board(), section) in to_html(full_board())


def test_figures_are_pdf_and_svg_and_the_same_again(tmp_path: Path) -> None:
    board = real()
    paths = write_figures(board, tmp_path)
    track = board.sections[0].track_id
    names = [
        f"industrial-{track}-{what}.{kind}" for what in ("gains", "by-length") for kind in VECTORS
    ]
    assert [path.name for path in paths] == names
    first = [path.read_bytes() for path in paths]
    assert [content[:5] for content in first] == [b"%PDF-", b"<?xml"] * 2
    assert b"grpo" in first[1] or b"use" in first[1]
    assert [path.read_bytes() for path in write_figures(board, tmp_path)] == first
    assert write_figures(replace(board, sections=()), tmp_path) == []


def test_the_command_prints_what_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("runs"), whole("ugr", GOOD, start=START))
    command = ["leaderboard", "industrial"]
    assert main([*command, "--latex"]) == 0
    assert capsys.readouterr().out.startswith("% Made by genrec-bench")
    assert main([*command, "--csv", "--figures", "figures"]) == 0
    out, err = capsys.readouterr()
    assert out == Path("runs/boards/industrial.csv").read_text()
    assert out.startswith(to_csv(full_board()).partition("\n")[0])
    save(Path("runs"), whole("ugr", GOOD, dataset="beauty", minutes=1))
    assert main(["leaderboard", "--csv"]) == 0
    both = capsys.readouterr().out
    assert both.count("dataset,benchmark,track") == 1 and both.endswith(out.partition("\n")[2])
    assert both.startswith(out.partition("\n")[0] + "\nbeauty,")
    assert "written: figures/industrial-" in err and list(Path("figures").glob("*.pdf"))
    assert main(["leaderboard", "verify", "--latex"]) == 2
    assert "are of boards" in capsys.readouterr().err


def test_the_citation_is_of_this_version(root: Path) -> None:
    cited = yaml.safe_load((root / "CITATION.cff").read_text())
    assert cited["version"] == __version__ and cited["license"] == "Apache-2.0"
    assert cited["cff-version"] == "1.2.0" and cited["authors"] and cited["title"]
