"""MLflow's store: the server that the environment names, or a SQLite file in the output folder."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from genrec_bench.storage.digests import content_digest
from genrec_bench.storage.folders import remove
from genrec_bench.storage.locks import locked

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

URI = "MLFLOW_TRACKING_URI"

LOCAL, DATABASE, LOCK_FILE = "local", "mlflow.db", ".mlflow.lock"
"""Name of the store in the output folder, wherever that is moved, and of its files."""

MAX_KEY = 250
"""Characters that MLflow takes in the name of a metric or parameter."""

# Only where the user has not set them: MLflow would otherwise wait for minutes for a server that
# does not answer, chat about its database, and report its use to its makers.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
_LIBRARIES = ("mlflow", "alembic", "sqlalchemy", "urllib3", "pydantic")


class Store:
    """Where runs go; opened when something is asked of it.

    Args:
        output: folder of all results.

    Attributes:
        to: a name of the store that tells nothing of it; what folders know it by.
        place: its address without a password, for people.
        asked_at: since when an answer is awaited, on the monotonic clock; None if none is.
        answers: whether it answered when it was last asked.
    """

    def __init__(self, output: Path) -> None:
        self._output = output.resolve()
        self._uri = os.environ.get(URI, "")
        self.to = content_digest(self._uri)[:16] if self._uri else LOCAL
        self.place = without_password(self._uri) or str(output / DATABASE)
        self.asked_at: float | None = None
        self.answers = False
        self._client: MlflowClient | None = None

    def ask(self, method: str, *args: Any, **more: Any) -> Any:
        """Call a method of MLflow's client.

        Raises:
            Exception: whatever MLflow and what it stands on raise.
        """
        if self._client is None:
            self._client = self._opened()
        with self._awaited():
            return getattr(self._client, method)(*args, **more)

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, made now if there is none."""
        from mlflow.exceptions import MlflowException

        found = self.ask("get_experiment_by_name", name)
        if found is None:
            artifacts = None if self._uri else (self._output / "mlartifacts").as_uri()
            # Another process may make it in between.
            with contextlib.suppress(MlflowException):
                self.ask("create_experiment", name, artifacts)
            found = self.ask("get_experiment_by_name", name)
        return str(found.experiment_id)

    @contextlib.contextmanager
    def _awaited(self) -> Iterator[None]:
        self.asked_at = time.monotonic()
        try:
            yield
            self.answers = True
        except Exception:
            self.answers = False
            raise
        finally:
            self.asked_at = None

    def _opened(self) -> MlflowClient:
        """Open a client; whoever needs the SQLite file first makes it, the others wait for that."""
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        for name in _LIBRARIES:
            warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
            logging.getLogger(name).setLevel(logging.CRITICAL)
        from mlflow.tracking import MlflowClient

        for name in _LIBRARIES:  # MLflow sets its own when it is imported.
            logging.getLogger(name).setLevel(logging.CRITICAL)
        if self._uri:
            return MlflowClient(self._uri)
        file = self._output / DATABASE
        with locked(self._output / LOCK_FILE, wait=True):
            if not file.exists():
                # It gets its name when it is whole: a process that is killed leaves no half one.
                for left in self._output.glob(f".{DATABASE}.*"):
                    remove(left)
                new = self._output / f".{DATABASE}.{uuid4().hex}"
                MlflowClient(_address(new)).search_experiments(max_results=1)
                new.replace(file)
        with self._awaited():
            _look(file)
        return MlflowClient(_address(file))


def mlflow_name(name: str) -> str:
    """Give a metric or parameter the name under which MLflow takes it: `HR@10` as `HR_at_10`.

    MLflow takes letters, digits and `/_.- `, in a form that no file system would shorten.
    """
    allowed = re.sub(r"[^/\w.\- ]", "_", name.replace("@", "_at_"))
    parts = [part for part in allowed.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:MAX_KEY].rstrip("/") or "_"


def first_line(error: BaseException) -> str:
    """Say in one line what went wrong, without the password that an address may hold."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return without_password(lines[0])[:200]


def without_password(text: str) -> str:
    """Drop what stands before the @ of an address."""
    return re.sub(r"//[^/@\s]*@", "//", text)


def _address(file: Path) -> str:
    from sqlalchemy.engine import URL

    return URL.create("sqlite", database=str(file)).render_as_string()


def _look(file: Path) -> None:
    """Raise at once if a database cannot be used: MLflow would try for two minutes.

    Raises:
        sqlite3.Error: it is no database, cannot be read, or was made by several programs at once,
            so that its tables are half made.
    """
    with contextlib.closing(sqlite3.connect(file, timeout=10)) as connection:
        names = [name for (name,) in connection.execute("select name from sqlite_master")]
    if any(name.startswith("_alembic_tmp_") for name in names):
        raise sqlite3.DatabaseError(
            f"{file} is broken, as several programs made it at once; move it away, then "
            "`genrec-bench resend` fills a new one"
        )
