"""The database of a study: opened patiently, asked patiently, and named without its secrets."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

import optuna
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, SQLAlchemyError

from genrec_bench.errors import StorageError, UserError, one_line, redacted
from genrec_bench.studies.sweeps.trial_sampler import quiet

T = TypeVar("T")

TRIES, PAUSE = 5, 1.0
"""How often to ask a database that does not answer, and seconds in between; they double."""


def shown_url(url: str) -> str:
    """Return a database's address without its secrets."""
    try:
        return redacted(make_url(url).render_as_string(hide_password=True))
    except (ArgumentError, ValueError):
        return "the address"


def check_address(url: str | None) -> None:
    """Make sure that an address is one of a database, before anything is done; None is none.

    Raises:
        UserError: it is not, or the driver for it is missing.
    """
    try:
        if url is not None:
            make_url(url).get_dialect()
    # A port that is no number is a ValueError, a driver's own name may be anything.
    except (SQLAlchemyError, ValueError, ImportError) as error:
        raise _unusable(url or "", one_line(error)) from None


def open_storage(url: str, heartbeat: int, grace: int) -> optuna.storages.RDBStorage:
    """Open a database; make its tables if there are none.

    Args:
        heartbeat: seconds between signs of life.
        grace: seconds of silence after which a trial counts as dead.

    Raises:
        UserError: it cannot be opened.
    """
    # A file is locked for as long as somebody writes; the default gives up after five seconds.
    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}

    def opened() -> optuna.storages.RDBStorage:
        with quiet():
            return optuna.storages.RDBStorage(
                url, engine_kwargs=options, heartbeat_interval=heartbeat, grace_period=grace
            )

    check_address(url)
    # What a driver raises is known to the driver alone. Two workers that make the tables at one
    # moment trip over each other, once.
    return _repeated(opened, (Exception,), lambda reason: _unusable(url, reason))


def _unusable(url: str, reason: str) -> UserError:
    return UserError(
        f"--storage {shown_url(url)}: cannot be opened: {redacted(reason)}; give the address of a "
        "database such as sqlite:///FILE or postgresql://USER@HOST/NAME"
    )


@contextlib.contextmanager
def sound() -> Iterator[None]:
    """Say of what cannot be understood that the database is damaged.

    Raises:
        StorageError: the body of the ``with`` statement found something of another kind or type.
    """
    try:
        yield
    except optuna.exceptions.OptunaError:
        raise
    except (LookupError, ValueError, TypeError, AttributeError, ArithmeticError) as error:
        raise StorageError(
            f"the study's database is damaged, or holds another sweep ({type(error).__name__}: "
            f"{one_line(error)}); move it away, or name another by --storage"
        ) from None


def patiently(action: Callable[[], T]) -> T:
    """Do something with the database, and again if it does not answer.

    Raises:
        StorageError: it does not answer however often it is asked.
    """

    def understood() -> T:
        with sound():
            return action()

    return _repeated(
        understood,
        # Optuna's own for most of what a driver raises; a rollback that fails too comes as it is.
        (optuna.exceptions.StorageInternalError, SQLAlchemyError),
        lambda reason: StorageError(
            f"the study's database does not answer: {reason}; the command given again goes on"
        ),
    )


def _repeated(
    action: Callable[[], T],
    passing: tuple[type[Exception], ...],
    refusal: Callable[[str], Exception],
) -> T:
    """Do something up to ``TRIES`` times while it raises errors that may pass."""
    for attempt in range(TRIES):
        try:
            return action()
        except passing as error:
            cause = error.__cause__ or error
            # A file that is damaged, or no database, is told by an error of no other kind.
            lost = isinstance(error, ImportError) or type(cause) is DatabaseError
            if attempt == TRIES - 1 or lost:
                raise refusal(redacted(one_line(cause)[:200])) from None
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError("not reached")
