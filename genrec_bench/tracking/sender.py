"""The way to MLflow: sends what an outbox holds, in order, and remembers what was taken.

`MLFLOW_TRACKING_URI` says where to; without it, a SQLite file in the output folder. Sending is safe
to repeat: a run is found again by its token, figures carry the moment at which they were made (a
database takes an equal one once), and the rest overwrites itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec_bench.tracking.outbox import Outbox, open_outbox

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

URI = "MLFLOW_TRACKING_URI"

TOKEN_TAG, PARENT_TAG = "genrec_bench_token", "mlflow.parentRunId"

LOCAL = "local"
"""Name of the SQLite file in the output folder, wherever that is moved."""

DATABASE_TRIES, DATABASE_PAUSE = 4, 2.0
"""How often to try to open the local database, and seconds in between."""

PARENT_WAIT = 2.0
"""Seconds to wait for whoever else is opening the parent of a run."""

METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 100
"""Limits of one request to MLflow."""

MAX_KEY, MAX_PARAM, MAX_TAG = 250, 6000, 8000
"""Lengths that MLflow takes, in characters."""

REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST")
"""What MLflow says to an entry that it will never take."""

# Only where the user has not set them: MLflow would otherwise wait for minutes for a server that
# does not answer, chat about its database, and report its use to its makers.
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
    "MLFLOW_LOGGING_LEVEL": "ERROR",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_LOGGERS = ("mlflow", "alembic", "sqlalchemy", "urllib3")


class RunRefused(Exception):
    """MLflow does not take a run, such as one of an experiment that was deleted; it may later."""


class Sender:
    """Sends outboxes to the server that the environment names.

    Args:
        output: folder of all results; holds `mlflow.db` and `mlartifacts` where no
            `MLFLOW_TRACKING_URI` is set.

    Attributes:
        to: a name of the server that tells nothing of it; what outboxes know it by.
        place: the server's address without a password, for people.
        key: tells servers apart within this process.
        refused: why the server would never take an entry; such entries are skipped.
        kept: why the server did not take a run; such runs stay in their outboxes.
        figures: how many figures it took.
        files: how many files it took.
    """

    def __init__(self, output: Path) -> None:
        self._output = output.resolve()
        self._uri = os.environ.get(URI, "")
        digest = hashlib.sha256(self._uri.encode()).hexdigest()
        self.to = digest[:16] if self._uri else LOCAL
        self.place = without_password(self._uri) or str(output / "mlflow.db")
        self.key = self._uri or str(self._output)
        self.refused: list[str] = []
        self.kept: list[str] = []
        self.figures = self.files = 0
        self._client: MlflowClient | None = None
        self._experiments: dict[str, str] = {}
        self._renewed: set[str] = set()

    def deliver(self, outbox: Outbox, seconds: float) -> None:
        """Send what an outbox holds, as far as the time goes; a request that was begun is ended.

        Args:
            outbox: opened for ``to``.
            seconds: how long to go on.

        Raises:
            RunRefused: MLflow does not take the run; all of it is still pending.
            Exception: whatever MLflow and what it stands on raise; what was sent is noted.
        """
        until = time.monotonic() + seconds
        while outbox.pending and time.monotonic() < until:
            entries = _next_entries(outbox)
            with _quiet():
                self._deliver(outbox, entries)

    def _deliver(self, outbox: Outbox, entries: list[dict[str, Any]]) -> None:
        client = self._connected()
        from mlflow.exceptions import MlflowException

        try:
            self._send(client, outbox, entries)
        except MlflowException as error:
            gone = error.error_code == "RESOURCE_DOES_NOT_EXIST" and outbox.run is not None
            if gone and outbox.token not in self._renewed:
                self._renewed.add(outbox.token)
                self._experiments.clear()
                outbox.forget()
                return
            if error.error_code not in REFUSED and not gone:
                raise
            if entries[0]["kind"] == "open":
                # Without its run, all that follows would be lost.
                self.kept.append(first_line(error))
                raise RunRefused(first_line(error)) from error
            self.refused.append(first_line(error))
        outbox.acknowledge(len(entries))

    def _send(self, client: MlflowClient, outbox: Outbox, entries: list[dict[str, Any]]) -> None:
        kind, entry = entries[0]["kind"], entries[0]
        if kind == "open":
            self._open(client, outbox, entry)
        elif kind == "end_child":
            self._end_child(client, outbox, entry)
        elif outbox.run is None:
            return  # MLflow would not have the run.
        elif kind == "figures":
            self._send_figures(client, outbox.run, entries)
        elif kind == "file":
            path = (outbox.folder or Path()) / entry["path"]
            if path.is_file():
                client.log_artifact(outbox.run, str(path))
                self.files += 1
        elif kind == "end":
            _end(client, outbox.run, entry)

    def _open(self, client: MlflowClient, outbox: Outbox, entry: Mapping[str, Any]) -> None:
        """Make the run, or set it going again; all that belongs to it, but figures and files."""
        from mlflow.entities import Param, RunTag
        from mlflow.exceptions import MlflowException

        experiment = self._experiment_id(client, entry["experiment"])
        tags = {TOKEN_TAG: entry["token"]} | entry["tags"]
        parent = self._parent_id(client, outbox, experiment, entry.get("parent"))
        if parent is not None:
            tags[PARENT_TAG] = parent
        tags = {key: str(value)[:MAX_TAG] for key, value in tags.items()}
        known = outbox.run or find_run(client, experiment, entry["token"])
        if known is None:
            made = client.create_run(experiment, entry["at"], tags, entry["name"])
            known = find_run(client, experiment, entry["token"]) or str(made.info.run_id)
            if known != made.info.run_id:
                client.delete_run(made.info.run_id)  # Another machine was faster.
        else:
            client.update_run(known, status="RUNNING")
            client.log_batch(known, tags=[RunTag(key, value) for key, value in tags.items()])
        if outbox.run is None:
            flat = {mlflow_name(key): value for key, value in _flatten(entry["params"])}
            params = [Param(key, value[:MAX_PARAM]) for key, value in flat.items()]
            try:
                for first in range(0, len(params), PARAMS_PER_BATCH):
                    client.log_batch(known, params=params[first : first + PARAMS_PER_BATCH])
            except MlflowException as error:
                # Others may have opened it with other ones; the run itself was taken.
                if error.error_code not in REFUSED:
                    raise
                self.refused.append(first_line(error))
            if any(len(value) > MAX_PARAM for value in flat.values()):
                text = json.dumps(entry["params"], indent=2, sort_keys=True, default=str)
                client.log_text(known, text, "configuration.json")
        outbox.run = known

    def _parent_id(
        self,
        client: MlflowClient,
        outbox: Outbox,
        experiment: str,
        parent: Mapping[str, Any] | None,
    ) -> str | None:
        """Return the id of the run that this one stands under; open that first if need be."""
        if parent is None:
            return None
        found = parent["run"] or find_run(client, experiment, parent["token"])
        if found is not None:
            return str(found)
        try:
            above = open_outbox(
                (outbox.folder or Path()) / parent["outbox"], self.to, wait=PARENT_WAIT
            )
        except OSError:
            return None  # Nobody has it any more.
        if above is None:
            raise TimeoutError("the run above is in use by another process")
        with above:
            while above.pending and above.run is None:
                self._deliver(above, _next_entries(above))
            return above.run

    def _send_figures(self, client: MlflowClient, run: str, entries: list[dict[str, Any]]) -> None:
        from mlflow.entities import Metric

        metrics = [
            Metric(name, value, entry["at"], entry["step"])
            for entry in entries
            for name, value in entry["values"].items()
        ]
        for first in range(0, len(metrics), METRICS_PER_BATCH):
            client.log_batch(run, metrics=metrics[first : first + METRICS_PER_BATCH])
        self.figures += len(metrics)

    def _end_child(self, client: MlflowClient, outbox: Outbox, entry: Mapping[str, Any]) -> None:
        experiment = self._experiment_id(client, entry["experiment"])
        found = find_run(client, experiment, entry["token"])
        # Whoever sees a trial die says so, each time and on each machine; the first end stays.
        if found is not None and client.get_run(found).info.status != entry["status"]:
            _end(client, found, entry)

    def _connected(self) -> MlflowClient:
        if self._client is None:
            for key, value in ENVIRONMENT.items():
                os.environ.setdefault(key, value)
            self._client = (
                connect(self._uri, 1) if self._uri else connect(self._database(), DATABASE_TRIES)
            )
        return self._client

    def _database(self) -> str:
        """Give the address of the SQLite file, after a look at whether it can be used.

        MLflow retries for two minutes on a database that cannot be opened.
        """
        from sqlalchemy.engine import URL

        self._output.mkdir(parents=True, exist_ok=True)
        file = str(self._output / "mlflow.db")
        with contextlib.closing(sqlite3.connect(file, timeout=10)) as connection:
            connection.execute("select count(*) from sqlite_master")
        return URL.create("sqlite", database=file).render_as_string()

    def _experiment_id(self, client: MlflowClient, name: str) -> str:
        from mlflow.exceptions import MlflowException

        if name not in self._experiments:
            artifacts = None if self._uri else (self._output / "mlartifacts").as_uri()
            found = client.get_experiment_by_name(name)
            if found is None:
                try:
                    self._experiments[name] = str(client.create_experiment(name, artifacts))
                    return self._experiments[name]
                except MlflowException:
                    # Another process may have made it in between.
                    found = client.get_experiment_by_name(name)
                    if found is None:
                        raise
            self._experiments[name] = str(found.experiment_id)
        return self._experiments[name]


def connect(uri: str, tries: int) -> MlflowClient:
    """Open a client. Runs that start at the same moment trip over each other making the database.

    Args:
        uri: an address of the user's, or of the local database.
        tries: how often to try.
    """
    from mlflow.tracking import MlflowClient

    for _ in range(tries - 1):
        try:
            return MlflowClient(uri)
        except Exception:  # which one depends on how far the other run has got
            time.sleep(DATABASE_PAUSE)
    return MlflowClient(uri)


def find_run(client: MlflowClient, experiment: str, token: str) -> str | None:
    """Return the id of the run with this token, or None.

    If several machines opened one at the same moment, all agree on the same.
    """
    asked = f"tags.{TOKEN_TAG} = '{token}'"
    found = client.search_runs([experiment], asked, order_by=["start_time ASC"])
    runs = sorted((run.info.start_time, str(run.info.run_id)) for run in found)
    return runs[0][1] if runs else None


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


def _next_entries(outbox: Outbox) -> list[dict[str, Any]]:
    """Return the next pending entry, or as many entries of figures as go in one request."""
    entries: list[dict[str, Any]] = []
    size = 0
    for line in outbox.pending:
        entry = json.loads(line)
        size += len(entry.get("values", ()))
        if entries and (entry["kind"] != "figures" or size > METRICS_PER_BATCH):
            break
        entries.append(entry)
        if entry["kind"] != "figures":
            break
    return entries


def _end(client: MlflowClient, run: str, entry: Mapping[str, Any]) -> None:
    from mlflow.entities import RunTag

    # Whoever saw a trial die may have said how before its own outbox was found.
    if entry.get("only_if_running") and client.get_run(run).info.status != "RUNNING":
        return
    if entry["tags"]:
        client.log_batch(run, tags=[RunTag(key, value) for key, value in entry["tags"].items()])
    client.set_terminated(run, entry["status"], end_time=entry["at"])


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
