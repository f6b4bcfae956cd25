"""``--processes N``: several processes of this machine that share one run, as of a launcher.

They are started as torchrun would, and watched: where one ends that should not have, the others
are ended too, and why is told in one line. What is checkpointed is kept, so that the same command
goes on. Nothing slow is imported here: the process that watches computes nothing.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

from genrec_bench.errors import UserError
from genrec_bench.training.child_processes import THREADS, ending, python
from genrec_bench.training.launchers import ALONE, MEMBER, launched

INTERRUPTED = 130
"""Exit code of a process that was interrupted and has said so."""

GRACE = 10.0
"""Seconds in which the others may end for the same reason, or find that one is gone."""

SECONDS_TO_END = 30.0
"""How long processes have to close what is open, when the user interrupts them."""

LOOK = 0.1
"""Seconds between two looks at whether all are there."""

LAST_LINES = 60
"""Kept of what a process says that is not the first; a traceback has hardly more."""


@dataclass
class _Member:
    """One process; ``said`` are its last lines, of the first one nothing."""

    rank: int
    process: subprocess.Popen[str]
    said: deque[str] = field(default_factory=lambda: deque(maxlen=LAST_LINES))
    echo: threading.Thread | None = None

    @property
    def code(self) -> int | None:
        return self.process.poll()


def share_run(count: int | None, words: Sequence[str]) -> int | None:
    """Have several processes do a command, if it asks for them.

    Args:
        count: what ``--processes`` says.
        words: of the command.

    Returns:
        The exit code, where others did it; None where this process is to do it, or its part of it.

    Raises:
        UserError: a launcher started another number of processes; or one of them died.
    """
    there = launched()
    if MEMBER in os.environ:
        threading.Thread(target=_end_with_starter, daemon=True).start()
    if count is None or count == there:
        return None
    if there > 1:
        raise UserError(
            f"--processes {count}: a launcher started {there} processes already; leave it out, or "
            "leave the launcher out"
        )
    return _started(count, words)


def _started(count: int, words: Sequence[str]) -> int:
    """Start processes, wait for all of them, and return the exit code."""
    # Breaks when this process is gone.
    theirs, ours = os.pipe()
    members: list[_Member] = []
    try:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        for rank in range(count):
            members.append(_member(rank, count, port, theirs, words))
        os.close(theirs)
        return _watched(members)
    except KeyboardInterrupt:
        _finish(members, signal.SIGTERM, SECONDS_TO_END)
        if members and members[0].code == INTERRUPTED:
            return INTERRUPTED
        raise
    finally:
        _finish(members, signal.SIGKILL, SECONDS_TO_END)
        for member in members:
            if member.echo is not None and member.process.stderr is not None:
                member.echo.join(timeout=GRACE)
                member.process.stderr.close()
        os.close(ours)


def _member(rank: int, count: int, port: str, pipe: int, words: Sequence[str]) -> _Member:
    environment = dict(os.environ)
    command = [*python(environment), "-m", "genrec_bench", *words]
    threads = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
    environment.setdefault(THREADS, str(max(1, threads // count)))
    environment |= {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        MEMBER: str(pipe),
    }
    # A session of their own: the terminal interrupts this process, which passes it on once.
    process = subprocess.Popen(
        command,
        env=environment,
        pass_fds=(pipe,),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL if rank else None,
        stderr=subprocess.PIPE if rank else None,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    member = _Member(rank, process)
    if process.stderr is not None:
        member.echo = threading.Thread(
            target=_keep, args=(process.stderr, member.said), daemon=True
        )
        member.echo.start()
    return member


def _keep(lines: IO[str], said: deque[str]) -> None:
    for line in lines:
        said.append(line)


def _watched(members: Sequence[_Member]) -> int:
    """Wait until all have ended, or some have that should not have."""
    ended: dict[int, int] = {}
    deadline = float("inf")
    while len(ended) < len(members) and time.monotonic() < deadline:
        for member in members:
            if member.rank not in ended and (code := member.code) is not None:
                ended[member.rank] = code
                if code:
                    deadline = min(deadline, time.monotonic() + GRACE)
        time.sleep(LOOK)
    # What is still there waits for those that are gone; checkpoints survive any end.
    _finish(members, signal.SIGKILL, SECONDS_TO_END)
    # Those that only lost another one are not asked first.
    failed = [rank for rank, code in ended.items() if code]
    failed.sort(key=lambda rank: ended[rank] == ALONE)
    if not failed:
        return 0
    first, code = members[failed[0]], ended[failed[0]]
    if ended.get(0, ALONE) not in (0, ALONE) and ended[0] > 0:
        return ended[0]  # It has told why.
    if code < 0 or code == ALONE:
        how = ending(code) if code < 0 else "lost the others"
        raise UserError(
            f"process {first.rank} of {len(members)} (the first is 0) {how}; the same command "
            "again goes on from the last checkpoint"
        )
    if first.echo is not None:
        first.echo.join(timeout=GRACE)
    told = list(first.said)
    print("".join(told[-1:] if code == 2 else told), file=sys.stderr, end="")
    return code


def _finish(members: Sequence[_Member], how: signal.Signals, seconds: float) -> None:
    """End the processes that are still there, and wait for them."""
    for member in members:
        if member.code is None:
            member.process.send_signal(how)
    for member in members:
        try:
            member.process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            member.process.kill()
            member.process.wait()


def _end_with_starter() -> None:
    """Wait until whoever started this process is gone, and end it then."""
    try:
        os.read(int(os.environ[MEMBER]), 1)
    except (OSError, ValueError):
        return
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
