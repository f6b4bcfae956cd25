"""MLflow's store: the server that the environment names, or a SQLite file in the output folder."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec_bench.errors import StorageError, redacted
from genrec_bench.storage.digests import content_digest
from genrec_bench.storage.in_time import in_time
from genrec_bench.tracking import database_file

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

URI = "MLFLOW_TRACKING_URI"

LOCAL, DATABASE = "local", "mlflow.db"
"""Name of the store in the output folder, wherever that is moved, and of its file."""

KIND = "custom_model_development"
"""Has the experiment open on its runs; MLflow's page would else guess what it is for."""

NOTE = """\
Curves (*Chart* view): `look/NDCG_at_10` is the policy at a few validation examples while it trains,
`reward` and `loss` are of training, `spent/share` is the share of the budget. `valid/` and `test/`
are the final figures, over whole splits; `ledger/` is what each phase has cost. Looks and final
figures are of different examples and are no one curve.

Columns: the tags `algorithm`, `control`, `seed` and `kind`. `spent/flops` makes a fairer axis than
steps. A board with intervals is made by `genrec-bench leaderboard`.
"""
"""What the page of an experiment says first."""

PATIENCE = 10.0
"""Seconds in which a store must answer before anything is sent; more where requests may take it."""

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
        uri: its address; None for what the environment says.

    Attributes:
        output: the same, without links.
        to: a name of the store that tells nothing of it; what folders know it by.
        place: its address without a password, for people.
        asked_at: since when an answer is awaited, on the monotonic clock; None if none is.
        slowest: seconds that it took for its slowest answer; 0 if it failed since.
        is_checked: whether `check` finds out that it cannot be used.
        is_importing: whether this process is still reading MLflow's own program.
    """

    def __init__(self, output: Path, uri: str | None = None) -> None:
        self.output = output.resolve()
        self._uri = os.environ.get(URI, "") if uri is None else uri
        self.to = content_digest(self._uri)[:16] if self._uri else LOCAL
        self.place = redacted(self._uri) or str(output / DATABASE)
        self.asked_at: float | None = None
        self.is_importing = False
        self.slowest = 0.0
        self._file = _file_of(self._uri) if self._uri else self.output / DATABASE
        self.is_checked = self._file is not None
        self._client: MlflowClient | None = None

    def check(self) -> None:
        """Find out at once whether a SQLite file can be used; nothing is known of other stores.

        Raises:
            StorageError: it cannot, and the message says what to do.
        """
        if self._file is not None:
            with self._awaited():
                database_file.check(self._file)

    def check_answer(self) -> None:
        """Ask something small, and wait for the answer some seconds at most.

        Raises:
            TimeoutError: there is none.
            Exception: whatever MLflow and what it stands on raise.
        """
        if self._client is None:
            self._client = self._opened()  # Reading MLflow's own program takes its time.
        patience = max(PATIENCE, 2 * float(os.environ.get("MLFLOW_HTTP_REQUEST_TIMEOUT", 0)))
        in_time(lambda: self.ask("get_experiment_by_name", "genrec-bench"), patience)

    def ask(self, method: str, *args: Any, **more: Any) -> Any:
        """Call a method of MLflow's client.

        Raises:
            Exception: whatever MLflow and what it stands on raise.
        """
        if self._client is None:
            self._client = self._opened()
        try:
            with self._awaited():
                return getattr(self._client, method)(*args, **more)
        except Exception:
            if self._file is not None:
                # SQLite may find out late what is the matter with its file.
                database_file.check_whole(self._file)
            raise

    def experiment(self, name: str) -> str:
        """Return the id of an experiment, made now if there is none."""
        from mlflow.exceptions import MlflowException

        found = self.ask("get_experiment_by_name", name)
        if found is None:
            tags = {"mlflow.experimentKind": KIND, "mlflow.note.content": NOTE}
            # Another process may make it in between.
            with contextlib.suppress(MlflowException):
                self.ask("create_experiment", name, self._artifacts, tags)
            found = self.ask("get_experiment_by_name", name)
        return str(found.experiment_id)

    @property
    def _artifacts(self) -> str | None:
        """Address of the folder for files of runs; None where MLflow chooses it."""
        return None if self._uri else (self.output / "mlartifacts").as_uri()

    @contextlib.contextmanager
    def _awaited(self) -> Iterator[None]:
        self.asked_at = began = time.monotonic()
        try:
            yield
            self.slowest = max(self.slowest, time.monotonic() - began)
        except Exception:
            self.slowest = 0.0
            raise
        finally:
            self.asked_at = None

    def _opened(self) -> MlflowClient:
        """Open a client; a SQLite file is made ready before."""
        self.check()
        self.is_importing = True
        try:
            _import(self._file is not None)
        finally:
            self.is_importing = False
        from mlflow.tracking import MlflowClient

        if self._file is None:
            with self._awaited():
                return MlflowClient(self._uri)
        kept = database_file.make_ready(self._file, self._artifacts or "./mlruns")
        if kept is not None:
            print(
                f"{self.place} was brought to the schema of the installed MLflow; as it was, it is "
                f"kept as {kept.name}",
                file=sys.stderr,
            )
        return MlflowClient(self._uri or database_file.address_of(self._file))


def _import(database: bool) -> None:
    """Import MLflow, and what stands behind a SQLite file, without a word from them."""
    for key, value in ENVIRONMENT.items():
        os.environ.setdefault(key, value)

    def quieten() -> None:
        for name in _LIBRARIES:
            logging.getLogger(name).setLevel(logging.CRITICAL)

    for name in _LIBRARIES:
        warnings.filterwarnings("ignore", module=rf"{name}(\.|$)")
    quieten()
    import mlflow.tracking

    if database:
        import mlflow.db
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401
    quieten()  # MLflow sets its own when it is imported.


def mlflow_name(name: str) -> str:
    """Give a metric or parameter the name under which MLflow takes it: `HR@10` as `HR_at_10`.

    MLflow takes letters, digits and `/_.- `, in a form that no file system would shorten.
    """
    allowed = re.sub(r"[^/\w.\- ]", "_", name.replace("@", "_at_"))
    parts = [part for part in allowed.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:MAX_KEY].rstrip("/") or "_"


def first_line(error: BaseException) -> str:
    """Say in one line what went wrong, without the secrets that an address may hold."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    # Our own lines end with the way out.
    return redacted(lines[0][: None if isinstance(error, StorageError) else 200])


def _file_of(uri: str) -> Path | None:
    """Return the file that an address of SQLite names; None for any other address."""
    if not uri.startswith("sqlite:"):
        return None
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        name = make_url(uri).database
    except ArgumentError:
        return None  # MLflow will say so.
    return None if not name or name.startswith((":", "file:")) else Path(name).absolute()
