"""Paths that can name no file are refused in one line, whichever option or file names them."""

from pathlib import Path

import pytest
from tiny_runs import call, only_error

pytestmark = pytest.mark.usefixtures("somewhere")

LONG = "x" * 300


@pytest.mark.parametrize(
    "words",
    [
        ["run", f"./{LONG}.py"],
        ["run", "--config", LONG],
        ["run", "--from-record", LONG],
        ["recommend", LONG, "--history", "1"],
        ["ablate", f"{LONG}.yaml"],
        ["diff", LONG, LONG],
        ["sft", "import", LONG],
        ["runs", "list", "--output", LONG],
        ["leaderboard", "verify", LONG],
        ["run", "grpo", "--backbone", LONG],
        ["run", "--config", "file/within"],
        ["recommend", "file/within", "--history", "1"],
        ["run", "--config", "circle"],
        ["recommend", "circle", "--history", "1"],
        ["leaderboard", "verify", "circle"],
    ],
    ids=lambda words: " ".join(words)[:40],
)
def test_a_path_that_names_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, words: list[str]
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "circle").symlink_to("circle")
    if words[:2] != ["runs", "list"]:
        only_error(call(capsys, words))
    else:  # there are no runs there, which is no mistake
        assert call(capsys, words).code in (0, 2)


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("", ["data", "list", "--data-dir", "~no-such-person/data"]),
        ("GENREC_BENCH_DATA", ["data", "list"]),
        ("GENREC_BENCH_CARDS", ["data", "list"]),
        (
            "",
            [
                "sids",
                "build",
                "synthetic",
                "--embeddings",
                "~no-such-person/vectors.npy",
                "--as",
                "x",
            ],
        ),
    ],
)
def test_a_home_that_nobody_has(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    variable: str,
    words: list[str],
) -> None:
    if variable:
        monkeypatch.setenv(variable, "~no-such-person/folder")
    assert "write the folder out" in only_error(call(capsys, words))


@pytest.mark.parametrize(
    "words",
    [
        ["sids", "list", "--data-dir", "\udcff"],
        ["sft", "list", "--data-dir", "\udcff"],
        ["data", "list", "--data-dir", "\udcff"],
        ["data", "show", "\udcff"],
        ["clean", "\udcff"],
    ],
)
def test_bytes_that_are_no_text(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    called = call(capsys, words)
    assert called.code in (0, 2)
    assert "\\udcff" in called.out + called.err or words[0] == "data"


@pytest.mark.parametrize(
    "words",
    [
        ["x" * 9000],
        ["a\nb"],
        ["data", "show", "x" * 9000],
        ["data", "show", "a\nb"],
        ["run", "grpo", "--set", "x" * 9000],
        ["data", "show", "\udcff" * 9000],
    ],
    ids=["command", "lines", "name", "lines of a name", "setting", "bytes"],
)
def test_what_is_typed_is_told_in_one_line_that_ends(
    capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    assert len(only_error(call(capsys, words))) < 3000
