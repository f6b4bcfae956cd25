"""The database of a study: opened patiently, asked patiently, and named without its password."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import optuna
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from genrec_bench.errors import StorageError, UserError
from genrec_bench.studies.sweeps.trial_sampler import quiet

T = TypeVar("T")

TRIES, PAUSE = 5, 1.0
"""How often to ask a database that does not answer, and seconds in between; they double."""


def shown_url(url: str) -> str:
    """Return a database's address without its password."""
    try:
        return make_url(url).render_as_string(hide_password=True)
    except ArgumentError:
        return "the address"


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

    # What a driver raises is known to the driver alone. Two workers that make the tables at one
    # moment trip over each other, once.
    return _repeated(
        opened,
        (Exception,),
        lambda reason: UserError(
            f"--storage {shown_url(url)}: cannot be opened: {reason}; give the address of a "
            "database such as sqlite:///FILE or postgresql://USER@HOST/NAME"
        ),
    )


def patiently(action: Callable[[], T]) -> T:
    """Do something with the database, and again if it does not answer.

    Raises:
        StorageError: it does not answer however often it is asked.
    """
    return _repeated(
        action,
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
            if attempt == TRIES - 1 or isinstance(error, ImportError):
                raise refusal(" ".join(str(error.__cause__ or error).split())[:200]) from None
            time.sleep(PAUSE * 2**attempt)
    raise AssertionError("not reached")
