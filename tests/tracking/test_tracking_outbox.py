"""The outbox: what survives a kill, a full disk and another server."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec_bench.tracking.outbox import (
    OUTBOX_FILE,
    WAITING_FOLDER,
    Outbox,
    mark_waiting,
    open_outbox,
    unmark_waiting,
    waiting,
)

OPEN: dict[str, Any] = {
    "experiment": "e",
    "name": "n",
    "params": {},
    "tags": {},
    "parent": None,
    "token": "t",
}


def opened(folder: Path, to: str = "local") -> Outbox:
    outbox = open_outbox(folder, to, new=True)
    assert outbox is not None
    return outbox


def kinds(outbox: Outbox) -> list[str]:
    return [json.loads(line)["kind"] for line in outbox.pending]


def test_what_was_taken_is_not_pending_when_opened_again(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        outbox.add("open", **OPEN)
        outbox.add("figures", step=3, values={"loss": 1.0})
        outbox.run = "id7"
        outbox.acknowledge(1)
        outbox.add("figures", step=4, values={"loss": 2.0, "reward": 0.5})
    with opened(tmp_path) as outbox:
        assert kinds(outbox) == ["figures", "figures"]
        assert (outbox.run, outbox.token, outbox.owner) == ("id7", "t", "local")
        assert outbox.already == {"loss": 4, "reward": 4}
        assert outbox.is_open and not outbox.is_done
        outbox.add("end", status="FINISHED", tags={})
        assert not outbox.is_open and not outbox.is_done
        outbox.acknowledge(3)
        assert outbox.is_done


def test_another_server_has_taken_nothing(tmp_path: Path) -> None:
    with opened(tmp_path, "one") as outbox:
        outbox.add("open", **OPEN)
        outbox.run = "id7"
        outbox.acknowledge(1)
    with opened(tmp_path, "other") as outbox:
        assert kinds(outbox) == ["open"] and outbox.run is None
        assert outbox.token == "t" and outbox.owner == "one"
    with opened(tmp_path, "one") as outbox:
        assert kinds(outbox) == [] and outbox.run == "id7"


@settings(deadline=None)
@given(cut=st.integers(0, 400))
def test_wherever_a_kill_cuts_a_line_the_whole_lines_stay(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    folder = tmp_path_factory.mktemp("cut")
    with opened(folder) as outbox:
        outbox.add("open", **OPEN)
        for step in range(3):
            outbox.add("figures", step=step, values={"loss": 1.0})
    data = (folder / OUTBOX_FILE).read_bytes()
    cut = min(cut, len(data))
    # A line is there when its last character is; the line's end alone may be missing.
    whole = sum(len(part) <= cut for part in lines_up_to(data))
    (folder / OUTBOX_FILE).write_bytes(data[:cut])
    with opened(folder) as outbox:
        assert len(outbox.pending) == whole
        outbox.add("figures", step=9, values={"loss": 9.0})
    with opened(folder) as outbox:
        assert len(outbox.pending) == whole + 1 and outbox.already["loss"] == 9


def lines_up_to(data: bytes) -> list[bytes]:
    """The beginnings of the data that end with a line's last character."""
    ends = [place for place, letter in enumerate(data) if letter == ord("\n")]
    return [data[:end] for end in ends]


@pytest.mark.parametrize("written", [None, 5])
def test_a_full_disk_loses_only_what_it_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: int | None
) -> None:
    real = os.write

    def full(handle: int, data: bytes) -> int:
        if written is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(handle, data[:written])

    with opened(tmp_path) as outbox:
        outbox.add("open", **OPEN)
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", full)
            outbox.add("figures", step=1, values={"loss": 1.0})
        outbox.add("figures", step=2, values={"loss": 2.0})
        assert len(outbox.pending) == 3, "in memory it is still there to be sent"
    with opened(tmp_path) as outbox:
        assert [json.loads(line).get("step") for line in outbox.pending] == [None, 2]


def test_one_at_a_time(tmp_path: Path) -> None:
    with opened(tmp_path):
        assert open_outbox(tmp_path, "local") is None
        assert open_outbox(tmp_path, "local", wait=0.1) is None
    with opened(tmp_path) as outbox:
        assert outbox.is_done, "nothing was said"


def test_an_outbox_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_outbox(tmp_path, "local")
    assert not list(tmp_path.iterdir())


def test_a_finished_outbox_is_one_line_and_can_go_on(tmp_path: Path) -> None:
    with opened(tmp_path) as outbox:
        outbox.add("open", **OPEN)
        outbox.add("figures", step=5, values={"loss": 1.0})
        outbox.run = "id7"
        outbox.shorten()
        assert len((tmp_path / OUTBOX_FILE).read_text().splitlines()) == 2, "not finished"
        outbox.add("end", at=77, status="FINISHED", tags={})
        outbox.acknowledge(3)
        outbox.shorten()
    assert len((tmp_path / OUTBOX_FILE).read_text().splitlines()) == 1
    for _ in range(2):
        with opened(tmp_path) as outbox:
            assert outbox.is_done and outbox.run == "id7" and outbox.token == "t"
            assert outbox.already == {"loss": 5} and outbox.last_sign == 77
            assert outbox.owner == "local"
    with opened(tmp_path) as outbox:
        outbox.add("open", **OPEN)
    with opened(tmp_path) as outbox:
        assert kinds(outbox) == ["open"] and outbox.run == "id7" and outbox.is_open


def test_who_waits_while_a_file_is_shortened_gets_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(tmp_path)
    first.add("open", **OPEN)
    first.add("end", status="FINISHED", tags={})
    first.acknowledge(2)

    def meanwhile(_: float) -> None:
        first.shorten()
        first.close()

    monkeypatch.setattr(time, "sleep", meanwhile)
    # The first try fails on the old file, which then is replaced.
    outbox = open_outbox(tmp_path, "local", wait=1.0)
    assert outbox is not None
    with outbox:
        outbox.add("open", **OPEN)
    assert '"kind": "open"' in (tmp_path / OUTBOX_FILE).read_text()


@pytest.mark.parametrize(
    "damage",
    [
        "null",
        "[1]",
        "{",
        "7",
        '{"sent": 3}',
        '{"number": "x", "kind": "end", "at": 1}',
        '{"number": 9}',
        '{"kept": 9, "to": "local"}',
        "\x00\x00",
    ],
)
def test_lines_that_are_none_are_skipped(tmp_path: Path, damage: str) -> None:
    with opened(tmp_path) as outbox:
        outbox.add("open", **OPEN)
    with (tmp_path / OUTBOX_FILE).open("a") as file:
        file.write(damage + "\n")
    with opened(tmp_path) as outbox:
        assert kinds(outbox) == ["open"]


def test_the_notes_of_what_waits(tmp_path: Path) -> None:
    output = tmp_path / "out"
    for name in ("a", "b"):
        with opened_in(output / "data" / name):
            mark_waiting(output, output / "data" / name)
    mark_waiting(output, output / "gone")
    assert sorted(waiting(output)) == [output / "data" / "a", output / "data" / "b"]
    moved = tmp_path / "moved"
    output.rename(moved)
    assert sorted(waiting(moved)) == [moved / "data" / "a", moved / "data" / "b"]
    unmark_waiting(moved, moved / "data" / "a")
    assert list(waiting(moved)) == [moved / "data" / "b"]
    unmark_waiting(moved, moved / "data" / "b")
    assert not (moved / WAITING_FOLDER).exists()


def opened_in(folder: Path) -> Outbox:
    folder.mkdir(parents=True)
    return opened(folder)


def test_a_process_that_is_killed_leaves_its_outbox_free_and_whole(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from genrec_bench.tracking.outbox import open_outbox
outbox = open_outbox(Path({str(tmp_path)!r}), "local", new=True)
outbox.add("open", **{OPEN!r})
for step in range(10**9):
    outbox.add("figures", step=step, values={{"loss": 1.0}})
    if step == 100:
        print("written", flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stdout.readline() == b"written\n"
        assert open_outbox(tmp_path, "local") is None
        child.send_signal(signal.SIGKILL)
    with opened(tmp_path) as outbox:
        steps: list[Any] = [json.loads(line).get("step") for line in outbox.pending][1:]
        assert steps == list(range(len(steps))) and len(steps) > 100
        assert outbox.is_open, "dead, but not ended"
