"""Further processes that work on a sweep beside this one."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import IO

import torch

THREADS = "OMP_NUM_THREADS"

SECONDS_TO_END = 30.0
"""How long the others have to close what is open, when this process is interrupted."""


@contextlib.contextmanager
def other_workers(
    count: int, words: Sequence[str], say: Callable[[str], None]
) -> Iterator[dict[int, int]]:
    """Have further processes work on the study while the body of a ``with`` statement does.

    The processor's threads are shared out, unless ``OMP_NUM_THREADS`` is set.

    Args:
        count: of workers, this process included.
        words: of the command line for one worker alone.

    Yields:
        The exit codes of the others by their number, filled in when the body has ended.
    """
    codes: dict[int, int] = {}
    if count == 1:
        yield codes
        return
    environment = dict(os.environ)
    if THREADS not in os.environ:
        threads = max(1, torch.get_num_threads() // count)
        torch.set_num_threads(threads)
        environment[THREADS] = str(threads)
    started: list[tuple[subprocess.Popen[str], threading.Thread]] = []
    try:
        for number in range(2, count + 1):
            process = subprocess.Popen(
                [sys.executable, "-m", "genrec_bench", *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            assert process.stderr is not None
            thread = threading.Thread(
                target=_repeat, args=(number, process.stderr, say), daemon=True
            )
            thread.start()
            started.append((process, thread))
        yield codes
    except BaseException:
        for process, _ in started:
            process.terminate()
        raise
    finally:
        for number, (process, thread) in enumerate(started, start=2):
            try:
                codes[number] = process.wait(timeout=SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
                codes[number] = process.wait()
            thread.join(timeout=SECONDS_TO_END)


def _repeat(number: int, lines: IO[str], say: Callable[[str], None]) -> None:
    """Print the lines of another worker under its number."""
    for line in lines:
        say(f"[worker {number}] {line.rstrip()}")
