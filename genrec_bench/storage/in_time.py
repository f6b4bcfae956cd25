"""Asking something that may never answer, such as a server: an answer in time, or an error."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

T = TypeVar("T")


def in_time(ask: Callable[[], T], patience: float) -> T:
    """Return an answer, or raise what went wrong; a name server may take longer than any timeout.

    Args:
        patience: seconds.

    Raises:
        TimeoutError: there is none in time.
    """
    answer: Future[T] = Future()

    def work() -> None:
        try:
            answer.set_result(ask())
        # Whatever it is, whoever asked gets it.
        except Exception as error:
            answer.set_exception(error)

    # A pool's threads would be waited for at the end of the program.
    threading.Thread(target=work, daemon=True).start()
    try:
        return answer.result(timeout=patience)
    except TimeoutError:
        if answer.done():
            raise
        raise TimeoutError(f"no answer in {patience:g} s") from None
