"""Files written whole or not at all, and what killed writers leave."""

import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from genrec_bench.storage.files import write_atomically, write_json


def killed_before(function: str, path: Path) -> None:
    """Write a file in a process that is killed before it calls a function of `os`."""

    def write() -> None:
        setattr(os, function, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
        write_atomically(path, b"never")

    process = multiprocessing.get_context("fork").Process(target=write)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("name", ["vectors.safetensors", ".run.json", "a[b]*.csv"])
@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_the_next_write_removes_what_killed_writers_left(
    tmp_path: Path, name: str, function: str
) -> None:
    path = tmp_path / name
    for _ in range(2):
        killed_before(function, path)
        assert not path.exists() and len(list(tmp_path.iterdir())) == 1
    write_atomically(path, b"whole")
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == b"whole"


def test_what_others_are_writing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "record.json"
    real = os.replace
    seen: list[set[str]] = []

    def replace(*names: Path) -> None:
        monkeypatch.setattr(os, "replace", real)
        before = {file.name for file in tmp_path.iterdir()}
        write_json(path, {"by": "another"})
        seen.append(before & {file.name for file in tmp_path.iterdir()})
        real(*names)

    monkeypatch.setattr(os, "replace", replace)
    write_json(path, {"by": "the first"})
    assert len(seen[0]) == 1, "the first one's temporary file outlived the other's write"
    assert "the first" in path.read_text() and list(tmp_path.iterdir()) == [path]


def test_a_file_taken_away_before_it_was_locked_is_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, taken = os.fsync, 0

    def fsync(file: int) -> None:
        nonlocal taken
        real(file)
        if taken < 2:
            taken += 1
            (temporary,) = tmp_path.iterdir()
            temporary.unlink()

    monkeypatch.setattr(os, "fsync", fsync)
    write_atomically(tmp_path / "board.md", b"whole")
    assert taken == 2 and [file.name for file in tmp_path.iterdir()] == ["board.md"]
