"""MLflow, kept at arm's length: it sees every figure of a run, and can neither stop nor slow it.

Without `MLFLOW_TRACKING_URI` the runs go to a SQLite file in the output folder, for
`mlflow ui --backend-store-uri sqlite:///runs/mlflow.db`. Whatever MLflow does (a server that does
not answer, a full disk), the run goes on: one line says so, and the same figures are in the run's
curves. MLflow is imported when a run starts, since the import takes seconds.
"""

import contextlib
import io
import json
import logging
import os
import re
import sqlite3
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

FLUSH_SECONDS = 5.0
"""Metrics are sent at most this often."""

DATABASE_TRIES, DATABASE_PAUSE = 4, 2.0
"""How often to try to open the local database, and seconds in between."""

METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 100
"""Limits of one request to MLflow."""

MAX_KEY, MAX_PARAM, MAX_TAG = 250, 6000, 8000
"""Lengths that MLflow takes, in characters."""

Status = Literal["FINISHED", "FAILED", "KILLED"]

# Only where the user has not set them: MLflow would otherwise wait for minutes for a server that
# does not answer, chat about its database, and report its use to its makers.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_LOGGERS = ("mlflow", "alembic", "sqlalchemy", "urllib3")


def mlflow_name(name: str) -> str:
    """Give a metric or parameter the name under which MLflow takes it: `HR@10` as `HR_at_10`.

    MLflow takes letters, digits and `/_.- `, in a form that no file system would shorten.
    """
    allowed = re.sub(r"[^/\w.\- ]", "_", name.replace("@", "_at_"))
    parts = [part for part in allowed.split("/") if part not in ("", ".", "..")]
    return "/".join(parts)[:MAX_KEY].rstrip("/") or "_"


class NullTracker:
    """Tracks nothing (`--no-mlflow`), and is what `Tracker` looks like to a run.

    As a context manager it ends the run however the body ends: `KILLED` on an interruption,
    `FAILED` on any other exception or where `finish` was forgotten.
    """

    def start(self, run_name: str, params: Mapping[str, object], tags: Mapping[str, str]) -> None:
        """Open a run.

        Args:
            run_name: shown by MLflow.
            params: the configuration; nested maps are joined with dots.
            tags: what to search runs by.
        """

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep figures of one step, to be sent with the next batch."""

    def attach(self, path: Path) -> None:
        """Send a file, which is there and finished, as an artifact of the run."""

    def finish(self, record_path: Path | None = None, status: Status = "FINISHED") -> None:
        """Send what is left, attach the record and end the run; later calls do nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        interrupted = kind is not None and not issubclass(kind, Exception)
        self.finish(status="KILLED" if interrupted else "FAILED")


class Tracker(NullTracker):
    """Tracks one run with MLflow, in the experiment `genrec-bench/<dataset>`.

    Args:
        output: folder of all results; holds `mlflow.db` and `mlartifacts` where no
            `MLFLOW_TRACKING_URI` is set.
        dataset: name of the card.
        warn: told in one line when MLflow fails for the first time; prints to stderr by default.
    """

    def __init__(
        self, output: Path, dataset: str, warn: Callable[[str], None] | None = None
    ) -> None:
        self._output = output.resolve()
        self._experiment = f"genrec-bench/{dataset}"
        self._warn = warn or (lambda line: print(line, file=sys.stderr))
        self._client: MlflowClient | None = None
        self._run_id = ""
        self._buffer: list[tuple[str, float, int, int]] = []
        self._flushed = time.monotonic()
        self._failed = False

    def start(self, run_name: str, params: Mapping[str, object], tags: Mapping[str, str]) -> None:
        """Open a run and log its configuration (see `NullTracker.start`)."""
        self._attempt(lambda: self._open(run_name, params, tags))

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep figures of one step; send them when the last batch is some seconds old."""
        if self._client is None:
            return
        now = int(time.time() * 1000)
        self._buffer += [(mlflow_name(k), float(v), now, step) for k, v in metrics.items()]
        # After a failure the rest waits for the end, lest every batch waits for a dead server.
        due = time.monotonic() - self._flushed >= FLUSH_SECONDS
        if not self._failed and (due or len(self._buffer) >= METRICS_PER_BATCH):
            self._attempt(self._flush)

    def attach(self, path: Path) -> None:
        """Send a file, which is there and finished, as an artifact of the run."""
        client = self._client
        if client is not None:
            self._attempt(lambda: client.log_artifact(self._run_id, str(path)))

    def finish(self, record_path: Path | None = None, status: Status = "FINISHED") -> None:
        """Send what is left, attach the record and end the run; later calls do nothing."""
        client = self._client
        if client is None:
            return
        self._attempt(self._flush)
        if record_path is not None:
            self.attach(record_path)
        self._attempt(lambda: client.set_terminated(self._run_id, status))
        self._client = None

    def _attempt(self, action: Callable[[], None]) -> None:
        """Do something with MLflow; whatever goes wrong there is no reason to end the run."""
        try:
            with _quiet():
                action()
        except Exception as error:  # MLflow, SQLAlchemy, requests, the file system
            if not self._failed:
                lines = str(error).strip().splitlines() or [type(error).__name__]
                self._warn(
                    f"warning: MLflow failed ({lines[0][:200]}); the run goes on, its figures are "
                    "kept in its curves"
                )
            self._failed = True

    def _open(self, run_name: str, params: Mapping[str, object], tags: Mapping[str, str]) -> None:
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        from mlflow.entities import Param

        uri = os.environ.get("MLFLOW_TRACKING_URI")
        client = _connect(uri, 1) if uri else _connect(self._local_database(), DATABASE_TRIES)
        run = client.create_run(
            self._experiment_id(client),
            tags={key: str(value)[:MAX_TAG] for key, value in tags.items()},
            run_name=run_name,
        )
        # From here on there is a run that has to be ended.
        self._client, self._run_id = client, run.info.run_id
        flat = {mlflow_name(key): value for key, value in _flatten(params)}
        entities = [Param(key, value[:MAX_PARAM]) for key, value in flat.items()]
        for first in range(0, len(entities), PARAMS_PER_BATCH):
            client.log_batch(self._run_id, params=entities[first : first + PARAMS_PER_BATCH])
        if any(len(value) > MAX_PARAM for value in flat.values()):
            text = json.dumps(params, indent=2, sort_keys=True, default=str)
            client.log_text(self._run_id, text, "configuration.json")
        self._flushed = time.monotonic()

    def _local_database(self) -> str:
        """Give the address of the SQLite file, after a look at whether it can be used.

        MLflow retries for two minutes on a database that cannot be opened.
        """
        from sqlalchemy.engine import URL

        self._output.mkdir(parents=True, exist_ok=True)
        file = str(self._output / "mlflow.db")
        with contextlib.closing(sqlite3.connect(file, timeout=10)) as connection:
            connection.execute("select count(*) from sqlite_master")
        return URL.create("sqlite", database=file).render_as_string()

    def _experiment_id(self, client: "MlflowClient") -> str:
        from mlflow.exceptions import MlflowException

        local = not os.environ.get("MLFLOW_TRACKING_URI")
        artifacts = (self._output / "mlartifacts").as_uri() if local else None
        found = client.get_experiment_by_name(self._experiment)
        if found is None:
            try:
                return str(client.create_experiment(self._experiment, artifacts))
            except MlflowException:
                # Another process may have made it in between.
                found = client.get_experiment_by_name(self._experiment)
                if found is None:
                    raise
        return str(found.experiment_id)

    def _flush(self) -> None:
        from mlflow.entities import Metric

        assert self._client is not None
        self._flushed = time.monotonic()
        while self._buffer:
            batch = [Metric(*figure) for figure in self._buffer[:METRICS_PER_BATCH]]
            self._client.log_batch(self._run_id, metrics=batch)
            del self._buffer[:METRICS_PER_BATCH]


def _connect(uri: str, tries: int) -> "MlflowClient":
    """Open a client. Runs that start at the same moment trip over each other making the database.

    MLflow itself retries an address of the user's for as long as it sees fit.
    """
    from mlflow.tracking import MlflowClient

    for _ in range(tries - 1):
        try:
            return MlflowClient(uri)
        except Exception:  # which one depends on how far the other run has got
            time.sleep(DATABASE_PAUSE)
    return MlflowClient(uri)


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give the leaves of nested maps, keys joined with dots, values as text."""
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            yield f"{prefix}{key}", text


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep MLflow and what it stands on from writing to stdout and stderr."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for name in _LOGGERS:
                logging.getLogger(name).setLevel(logging.CRITICAL)
            yield
        finally:
            for name, level in levels.items():
                logging.getLogger(name).setLevel(level)
