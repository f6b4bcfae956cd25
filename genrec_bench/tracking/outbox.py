"""The outbox: everything that MLflow is to be told about a run, kept until MLflow has taken it.

One file of JSON lines in the run's folder, only ever appended to: *entries* (the run opens, has
figures, has a file, ends), numbered from one, and *acknowledgments* ("the first n were taken by
this server, which calls the run so"). A kill leaves at most one broken line, which a reader skips.
What was taken by one server says nothing of another, so each acknowledgment names its server.

Whoever opens an outbox holds a lock on the file, which the system frees if the process dies: an
outbox that can be locked and whose run has not ended belongs to a run that is dead.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections import deque
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self
from uuid import uuid4

OUTBOX_FILE = "tracking.jsonl"

WAITING_FOLDER = ".unsent"
"""In the output folder: one small file for each outbox that may hold something unsent."""

PAUSE = 0.05
"""Seconds between two tries to lock a file."""


class Outbox:
    """What is to be sent of one run; without a folder it lives in memory alone.

    Made by ``open_outbox``. Nothing here raises for a disk that refuses: what cannot be written is
    still kept in memory and sent from there.

    Attributes:
        folder: of the run, or None.
        to: the server's name here; see ``tracking_sender.Sender``.
        token: names the run at any server, before the server has named it.
        run: the run's id at ``to``, or None.
        pending: the lines of entries that ``to`` has not taken, oldest first.
        opening: the last entry that opened the run; empty if there is none.
        ended: whether the last thing that happened to the run is its end.
        last_sign: when the last entry was made, in milliseconds since 1970.
        already: by figure, the last step known when the outbox was opened.
        owner: the last server that took anything, or None.
        attached: names of the files that were attached.
    """

    def __init__(self, folder: Path | None, to: str, handle: int | None = None) -> None:
        self.folder, self.to = folder, to
        self._handle = handle
        self._torn = False
        self._number = 0
        self._clear()
        if handle is not None:
            self._read()
        self.already = dict(self._last_steps)

    def _clear(self) -> None:
        self.token = uuid4().hex
        self.run: str | None = None
        self.pending: deque[str] = deque()
        self.opening: dict[str, Any] = {}
        self.ended = False
        self.last_sign = 0
        self.owner: str | None = None
        self.attached: set[str] = set()
        self._last_steps: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def is_open(self) -> bool:
        """Whether the run was opened and has not ended."""
        return bool(self.opening) and not self.ended

    @property
    def is_done(self) -> bool:
        """Whether nothing is left to be said or sent."""
        return not self.is_open and not self.pending

    def add(self, kind: str, at: int | None = None, **content: Any) -> None:
        """Append an entry.

        Args:
            kind: ``open``, ``figures``, ``file``, ``end`` or ``end_child``.
            at: when it happened, in milliseconds since 1970; now by default.
            content: what belongs to the kind, in plain JSON types.
        """
        self._number += 1
        moment = int(time.time() * 1000) if at is None else at
        entry = {"number": self._number, "kind": kind, "at": moment, **content}
        line = json.dumps(entry, default=str)
        self.pending.append(line)
        self._note(json.loads(line))
        self._write(line)

    def acknowledge(self, count: int) -> None:
        """Remember that the server took the first ``count`` pending entries."""
        number = 0
        for _ in range(count):
            number = max(number, json.loads(self.pending.popleft())["number"])
        self.owner = self.to
        self._write(json.dumps({"sent": number, "to": self.to, "run": self.run}))

    def adopt(self, run: str) -> None:
        """Take over the server's name of a run that somebody else has opened there."""
        self.run = run
        self._write(json.dumps({"sent": 0, "to": self.to, "run": run}))

    def forget(self) -> None:
        """Start anew with a server that no longer knows the run: all is to be sent again."""
        opening = self.opening
        self._write(json.dumps({"lost": True, "to": self.to}))
        if self._handle is not None:
            self._clear()
            self._read()
        self.run = None
        if opening.get("kind") and not any('"kind": "open"' in line for line in self.pending):
            self.pending.appendleft(json.dumps(opening))

    def shorten(self) -> None:
        """Replace a file of which everything was taken by one line, enough to go on from."""
        if self._handle is None or self.folder is None or not self.is_done:
            return
        kept = {
            "kept": self._number,
            "to": self.to,
            "run": self.run,
            "at": self.last_sign,
            "opening": {key: self.opening.get(key) for key in ("token", "parent")},
            "already": self._last_steps,
        }
        file = self.folder / OUTBOX_FILE
        new = file.with_name(f".{OUTBOX_FILE}")
        with contextlib.suppress(OSError):
            new.write_text(json.dumps(kept) + "\n")
            new.replace(file)

    def close(self) -> None:
        """Let go of the file."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None

    def _write(self, line: str) -> None:
        if self._handle is None:
            return
        # Whatever a full disk or a kill left of the line before must not spoil this one.
        data = (b"\n" if self._torn else b"") + line.encode() + b"\n"
        try:
            self._torn = os.write(self._handle, data) < len(data)
        except OSError:
            self._torn = True

    def _read(self) -> None:
        """Take over what the file holds."""
        assert self._handle is not None
        os.lseek(self._handle, 0, os.SEEK_SET)
        with os.fdopen(os.dup(self._handle), "rb") as file:
            data = file.read()
        self._torn = bool(data) and not data.endswith(b"\n")
        sent = 0
        for line in data.decode(errors="replace").splitlines():
            # What is damaged is skipped: a run is worth more than what MLflow hears of it.
            with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
                content = json.loads(line)
                if "number" in content:
                    self._number = max(self._number, content["number"])
                    self._note(content)
                    self.pending.append(line)
                elif content["to"] == self.to:
                    if "sent" in content:
                        sent, self.run = max(sent, content["sent"]), content["run"] or self.run
                    elif "lost" in content:
                        sent, self.run = 0, None
                    elif "kept" in content:
                        self._take_over(content)
                if content.get("sent") or "kept" in content:
                    self.owner = content["to"]
        self.pending = deque(line for line in self.pending if json.loads(line)["number"] > sent)

    def _take_over(self, kept: Mapping[str, Any]) -> None:
        self._number, self.run, self.last_sign = kept["kept"], kept["run"], kept["at"]
        self.opening, self.ended = kept["opening"], True
        self.token = self.opening["token"]
        self._last_steps = kept["already"]

    def _note(self, entry: Mapping[str, Any]) -> None:
        """Keep track of where the run stands."""
        self.last_sign = entry["at"]
        if entry["kind"] == "open":
            self.opening, self.ended, self.token = dict(entry), False, entry["token"]
        elif entry["kind"] == "end":
            self.ended = True
        elif entry["kind"] == "file":
            self.attached.add(Path(entry["path"]).name)
        elif entry["kind"] == "figures":
            for name in entry["values"]:
                self._last_steps[name] = max(self._last_steps.get(name, -1), entry["step"])


def open_outbox(folder: Path, to: str, *, wait: float = 0.0, new: bool = False) -> Outbox | None:
    """Open the outbox of a run's folder and lock it.

    Args:
        folder: of the run.
        to: the server that is to be told.
        wait: seconds to wait for whoever has it open.
        new: whether to make one if there is none.

    Returns:
        The outbox, to be closed; None if somebody else has it open.

    Raises:
        OSError: if the file cannot be opened; FileNotFoundError if there is none.
    """
    file = folder / OUTBOX_FILE
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if new else 0)
    until = time.monotonic() + wait
    while True:
        handle = os.open(file, flags, 0o666)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Shortened in between: what was locked no longer has the name.
            if os.fstat(handle).st_ino == os.stat(file).st_ino:
                return Outbox(folder, to, handle)
        except OSError:
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
        if time.monotonic() >= until:
            return None
        time.sleep(PAUSE)


def mark_waiting(output: Path, folder: Path) -> None:
    """Note in the output folder that a run's outbox may hold something unsent.

    Args:
        output: folder of all results.
        folder: of the run.
    """
    with contextlib.suppress(OSError):
        marker = _marker(output, folder)
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(os.path.relpath(folder, output))


def unmark_waiting(output: Path, folder: Path) -> None:
    """Take the note of ``mark_waiting`` back."""
    with contextlib.suppress(OSError):
        _marker(output, folder).unlink(missing_ok=True)
        # Only the last one leaves an empty folder behind.
        _marker(output, folder).parent.rmdir()


def waiting(output: Path) -> Iterator[Path]:
    """Give the folders of runs whose outbox may hold something unsent, oldest note first."""
    markers: list[tuple[float, Path]] = []
    for marker in (output / WAITING_FOLDER).glob("*"):
        with contextlib.suppress(OSError):
            markers.append((marker.stat().st_mtime, marker))
    for _, marker in sorted(markers):
        with contextlib.suppress(OSError, ValueError):
            folder = output / marker.read_text()
            if (folder / OUTBOX_FILE).is_file():
                yield Path(os.path.normpath(folder))
            else:
                marker.unlink(missing_ok=True)


def _marker(output: Path, folder: Path) -> Path:
    name = os.path.relpath(folder, output)
    return output / WAITING_FOLDER / hashlib.sha256(name.encode()).hexdigest()[:16]
