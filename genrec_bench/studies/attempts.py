"""Work whose failure must not keep the rest of a study from being done."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

from genrec_bench.errors import StorageError, UserError, one_line, storage_errors
from genrec_bench.runs.jobs import Context
from genrec_bench.storage.python_files import foreign_ends

T = TypeVar("T")


@dataclass(frozen=True)
class Failure:
    """Why something failed.

    Attributes:
        reason: one line.
        broken: whether a program is at fault, and not what the user asked for.
    """

    reason: str
    broken: bool


def attempt(action: Callable[[], T], context: Context) -> T | Failure:
    """Do something that may fail in any way: algorithms are anybody's.

    A failure is printed, with a traceback if it is not the user's mistake.

    Raises:
        StorageError: the disk refuses, and would refuse the rest too.
    """
    try:
        with storage_errors(), foreign_ends():
            return action()
    except StorageError:
        raise
    except UserError as error:
        failure = Failure(one_line(error) or "no message", broken=False)
    except Exception as error:
        traceback.print_exc()
        message = str(error) or "no message"
        failure = Failure(one_line(f"{type(error).__name__}: {message}"), broken=True)
    context.progress.say(f"failed: {failure.reason}")
    return failure


def exit_code(failures: Iterable[Failure]) -> int:
    """Return 0 if nothing failed, 1 if a program did, and 2 if only what the user asked for did."""
    broken = [failure.broken for failure in failures]
    return 1 if any(broken) else 2 if broken else 0
