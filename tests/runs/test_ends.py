"""Ends: a command that is killed at any point of its end has ended once, for MLflow too."""

import copy
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from crashes import COMMANDS, carry_out, count_moments, kills, moments, prepare
from fake_mlflow import FakeServer, install
from tiny_runs import run_folders, shrink_backbone

from genrec_bench.runs.records import RECORD_FILE
from genrec_bench.runs.run_folder import UNSEEN

LAST = {"grpo": 16, "sweep": 14}
"""Moments of a command that belong to its end: its record is written in them."""


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """A smaller `tiny`."""
    with pytest.MonkeyPatch.context() as patch:
        shrink_backbone(patch)
        yield


def tracked(name: str) -> list[str]:
    return [word for word in COMMANDS[name] if word != "--no-mlflow"]


def records(root: Path) -> list[Path]:
    return sorted(root.glob(f"out/**/{RECORD_FILE}"))


def test_a_run_that_is_killed_at_its_end_leaves_one_record(tmp_path: Path) -> None:
    words = COMMANDS["grpo"]
    total = count_moments(words, prepare(tmp_path / "whole"))
    chosen = range(total - LAST["grpo"], total)
    left = kills(words, prepare(tmp_path / "root"), chosen, tmp_path / "left")
    ended = [bool(records(folder)) for folder in left]
    assert ended == sorted(ended) and 4 < sum(ended) < len(ended), "before the record and after it"
    for folder in left:
        before = [file.read_bytes() for file in records(folder)]
        carry_out(words, folder)
        (record,) = records(folder)
        assert before in ([], [record.read_bytes()])
        names = {path.name for path in record.parent.iterdir()}
        assert "checkpoints" not in names and UNSEEN not in names


def test_a_run_whose_record_was_told_is_made_once_more_when_it_is_asked_for(
    tmp_path: Path,
) -> None:
    root = prepare(tmp_path)
    for count in (1, 2):
        carry_out(COMMANDS["grpo"], root)
        assert len(records(root)) == count == len(run_folders(root / "out"))


def stopped(
    words: Sequence[str],
    root: Path,
    chosen: Sequence[int],
    patch: pytest.MonkeyPatch,
) -> Iterator[tuple[Path, FakeServer]]:
    """Copies of files and of MLflow, as kills at some moments would have left them."""
    server, taken = install(patch, FakeServer()), []

    def reached(number: int, name: str) -> None:
        if number in chosen:
            folder = root.with_name(f"{root.name}-{number}")
            shutil.copytree(root, folder)
            taken.append((folder, copy.deepcopy(server)))

    with moments(root, reached):
        carry_out(words, root)
    yield root, server
    yield from taken


@pytest.mark.parametrize("name", LAST)
def test_mlflow_knows_the_end_whenever_the_command_was_killed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = tracked(name)
    install(monkeypatch, FakeServer())
    total = count_moments(words, prepare(tmp_path / "whole"))
    found = stopped(
        words, prepare(tmp_path / "root"), range(total - LAST[name], total), monkeypatch
    )
    (_, whole), *left = found
    assert len(left) == LAST[name]
    states = {run.status for _, server in left for run in server.runs.values()}
    assert "RUNNING" in states, "some were killed before MLflow knew"
    expected = sorted((run.name, run.status) for run in whole.runs.values())
    for folder, server in left:
        install(monkeypatch, server)
        carry_out(words, folder)
        assert sorted((run.name, run.status) for run in server.runs.values()) == expected
        # Nothing is left to be told: other times cost MLflow no question. What earlier commands
        # left is looked at while no run of ours waits, and may take a command or two.
        asked = [server.requests]
        while name == "sweep" and (len(asked) == 1 or asked[-1] != asked[-2]):
            assert len(asked) <= 5, asked
            carry_out(words, folder)
            asked.append(server.requests)
