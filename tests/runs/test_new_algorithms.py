"""Files that are written to begin from, and the modules that lie beside a file."""

from pathlib import Path

import pytest
from tiny_runs import call, only_error

from genrec_bench.contract.played import PLAYED
from genrec_bench.contract.stated import STATED, check_documentation, run_check
from genrec_bench.errors import UserError
from genrec_bench.runs.registry import find, source_hash

Capture = pytest.CaptureFixture[str]
ALGORITHM = '''
"""One that has help."""

import {how}

from genrec_bench.algorithms.grpo import GRPO


class Helped(GRPO):
    """Its reward stands in another file."""

    def reward(self, seen):
        {body}
'''


@pytest.mark.parametrize("parent", [None, "grpo", "sft", "vstar"])
def test_a_new_file_keeps_the_contract(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, parent: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    more = [] if parent is None else ["--from", parent]
    written = call(capsys, ["algorithms", "new", "my_idea", *more])
    assert written.code == 0 and written.out.startswith("written: my_idea.py\n")
    found = find("./my_idea.py").algorithm
    assert found.__name__ == "MyIdea"
    if parent is not None:
        assert issubclass(found, find(parent).algorithm)
    checks = [*STATED, *(PLAYED[:6] if found.on_policy else ())]
    assert check_documentation in checks
    assert [reason for check in checks if (reason := run_check(check, found))] == []
    # What is there is never replaced.
    before = Path("my_idea.py").read_text()
    refused = only_error(call(capsys, ["algorithms", "new", "my_idea"]))
    assert "my_idea.py is there already" in refused and Path("my_idea.py").read_text() == before


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["new", "Mine"], "a name of small letters"),
        (["new", "class"], "a name of small letters"),
        (["new", "grpo"], "there is an algorithm of that name already"),
        (["new"], "algorithms new MINE"),
        (["grpo", "more"], "algorithms new MINE"),
        (["new", "mine", "--from", "grp"], "did you mean 'grpo'"),
        (["new", "mine", "--from", "./x.py"], "copy it instead"),
    ],
)
def test_what_cannot_be_written_is_refused(
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    told: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert told in only_error(call(capsys, ["algorithms", *words]))
    assert not list(tmp_path.iterdir())


def test_modules_beside_a_file_are_imported_and_hashed_with_it(tmp_path: Path) -> None:
    file = tmp_path / "helped.py"
    file.write_text(ALGORITHM.format(how="worth", body="return worth.of(seen)"))
    (tmp_path / "worth.py").write_text(
        "from scales import SCALE\n\n\ndef of(seen):\n"
        "    return SCALE * seen.tree.hits(seen.targets).float()\n"
    )
    (tmp_path / "scales.py").write_text("SCALE = 2.0\n")
    (tmp_path / "stranger.py").write_text("raise ValueError\n")
    # Python's own modules keep their names.
    (tmp_path / "dataclasses.py").write_text("raise ValueError\n")
    first = find(str(file))
    hashes = {source_hash(first)}
    (tmp_path / "scales.py").write_text("SCALE = 3.0\n")
    hashes.add(source_hash(find(str(file))))
    (tmp_path / "stranger.py").write_text("raise TypeError\n")
    hashes.add(source_hash(find(str(file))))
    assert len(hashes) == 2, "what is imported counts, and nothing else"


def test_another_folders_module_of_the_same_name_is_another(tmp_path: Path) -> None:
    found = []
    for place in ("one", "two"):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "worth.py").write_text(f"PLACE = {place!r}\n")
        text = ALGORITHM.format(how="worth", body="return worth.PLACE")
        (folder / "helped.py").write_text(text)
        entry = find(str(folder / "helped.py"))
        found.append(entry.algorithm.reward(None, None))  # type: ignore[arg-type]
    assert found == ["one", "two"]


def test_a_helper_that_fails_is_told_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "helped.py"
    file.write_text(ALGORITHM.format(how="worth", body="return worth.of(seen)"))
    (tmp_path / "worth.py").write_text("1 / 0\n")
    with pytest.raises(UserError, match="ZeroDivisionError"):
        find(str(file))
    with pytest.raises(UserError, match="No module named"):
        (tmp_path / "worth.py").unlink()
        find(str(file))
