"""A folder that cannot be written is refused before anything is read, fetched or computed."""

from pathlib import Path

import pytest
from tiny_runs import call, only_error

from genrec_bench.commands import leaderboard_command
from genrec_bench.data import importers, obtain


@pytest.mark.parametrize(
    "words",
    [
        ("sids", "build", "industrial", "--data-dir", "{file}/data"),
        ("sids", "import", "industrial", "{file}", "--as", "mine", "--data-dir", "{file}/data"),
        ("data", "import", "minionerec", "{folder}", "--as", "office", "--data-dir", "{file}"),
        ("leaderboard", "--output", "{folder}", "--to", "{file}/boards"),
        ("leaderboard", "--output", "{folder}", "--figures", "{file}"),
        ("leaderboard", "add", "{folder}", "--to", "{file}"),
        ("leaderboard", "renew", "--to", "{file}/boards"),
    ],
)
def test_no_work_is_done_for_a_folder_that_cannot_be_written(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    def worked(*given: object, **options: object) -> None:
        raise AssertionError("work was done")

    monkeypatch.setattr(obtain, "obtain_contents", worked)
    monkeypatch.setattr(importers, "import_contents", worked)
    for work in ("_boards", "_add", "_renew", "_check_apart"):
        monkeypatch.setattr(leaderboard_command, work, worked)
    file, folder = tmp_path / "file", tmp_path / "folder"
    file.write_text("{}")
    folder.mkdir()
    given = [word.format(file=file, folder=folder) for word in words]
    message = only_error(call(capsys, given))
    assert message.endswith(f"cannot be a folder: {file} is a file")
    assert given[-1] in message
    assert file.read_text() == "{}" and not list(folder.iterdir())
