"""The exporter: makes MLflow show what the folder of a run says, at any time and as often as asked.

A run is found again at MLflow by its token, a tag. How much of it MLflow has is noted in one small
file in the folder, `mlflow.json`, which is locked meanwhile. Without that file all is sent again:
figures carry the moment at which they were made, so that a database takes an equal one once, and
the rest overwrites itself.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

from genrec_bench.tracking.folder_view import (
    TRACKING_FILE,
    End,
    end_of,
    figures_of,
    files_of,
    is_live,
    read_about,
)
from genrec_bench.tracking.store import REFUSED, Store, first_line, mlflow_name

SENT_FILE = "mlflow.json"

TOKEN_TAG, PARENT_TAG = "genrec_bench_token", "mlflow.parentRunId"

METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 100
"""Limits of one request to MLflow."""

MAX_PARAM, MAX_TAG = 6000, 8000
"""Lengths that MLflow takes, in characters."""

BUSY_SECONDS, BUSY_PAUSE = 10.0, 0.05
"""How long to wait for another process that is sending a run of ours, and how often to look."""

Found = Literal["sent", "ended", "live", "elsewhere", "done", "left"]
"""What became of a folder: sent to its end, of a run that was cut short too; of a live run; it
belongs to another store; nothing was to be sent; MLflow does not take it."""


class Exporter:
    """Sends folders to one store.

    Args:
        store: where to.

    Attributes:
        refused: why MLflow would never take something, which was left out.
        kept: why MLflow did not take a whole run, which it may take later.
        figures: how many figures it took.
        files: how many files it took.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.refused: list[str] = []
        self.kept: list[str] = []
        self.figures = self.files = 0

    def export(self, folder: Path, *, own: bool = False, verify: bool = False) -> Found:
        """Make MLflow show what a folder says by now.

        Args:
            folder: of a run that is tracked.
            own: whether this process works in the folder; nobody else tells of a live run.
            verify: whether to ask MLflow if it still knows a run of which it has all.

        Raises:
            Exception: whatever MLflow and what it stands on raise. What was sent is noted.
        """
        if not own and is_live(folder):
            return "live"
        with _noted(folder / SENT_FILE, BUSY_SECONDS if own else 0.0) as sent:
            about = read_about(folder)
            if sent is None:
                return "live"  # Another process is sending it.
            if about is None:
                return "done"
            if sent.get("to", self.store.to) != self.store.to:
                if not own:
                    return "elsewhere"
                sent.clear()
            end = None if own and not about["ended"] else end_of(folder, about)
            return self._export(folder, about, end, sent, verify)

    def _export(
        self,
        folder: Path,
        about: Mapping[str, Any],
        end: End | None,
        sent: dict[str, Any],
        verify: bool,
    ) -> Found:
        from mlflow.exceptions import MlflowException

        try:
            if end and "run" in sent and sent["end"] == [end.status, end.at]:
                if sent["files"] == files_of(folder) and set(about["dead"]) <= set(sent["dead"]):
                    if verify:
                        self.store.ask("get_run", sent["run"])
                    return "done"
            self._send(folder, about, end, sent)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST" and "run" in sent:
                # Somebody has deleted the run for good, or the whole store.
                sent.clear()
                self.store.forget()
                self._send(folder, about, end, sent)
            elif error.error_code in REFUSED:
                self.kept.append(first_line(error))
                return "left"
            else:
                raise
        if end is None:
            return "live"
        return "sent" if end.is_told else "ended"

    def _send(
        self, folder: Path, about: Mapping[str, Any], end: End | None, sent: dict[str, Any]
    ) -> None:
        if "run" not in sent:
            run = self._open(folder, about)
            sent |= {"to": self.store.to, "run": run, "step": -1, "all_figures": False}
            sent |= {"files": {}, "dead": [], "end": None}
        elif end is None and sent["end"] is not None:
            self.store.ask("update_run", sent["run"], status="RUNNING")
            sent["end"] = None
        if not about["dead"]:
            sent["dead"] = []  # It goes on, and may see the same child die again.
        run = sent["run"]
        self._send_figures(folder, about, run, sent)
        if end is not None:
            for name, signature in files_of(folder).items():
                if sent["files"].get(name) != signature:
                    self._offer("log_artifact", run, str(folder / name))
                    self.files += 1
                    sent["files"][name] = signature
        for token, at in about["dead"].items():
            if token not in sent["dead"]:
                child = self._find(self.store.experiment(about["experiment"]), token)
                # Each process and machine of a study says so; the first end stays.
                if child and self._status(child) != "FAILED":
                    self._end(child, End("FAILED", "failed", at), is_child=True)
                sent["dead"].append(token)
        if end is not None and sent["end"] != [end.status, end.at]:
            # How a run ended that was cut short may be known better to its parent.
            if end.is_told or self._status(run) == "RUNNING":
                self._end(run, end, is_child=about["parent"] is not None)
            sent["end"] = [end.status, end.at]

    def _open(self, folder: Path, about: Mapping[str, Any]) -> str:
        """Return MLflow's id of a run, made now if there is none."""
        from mlflow.entities import Param, RunTag

        experiment = self.store.experiment(about["experiment"])
        tags = {TOKEN_TAG: about["token"], **about["tags"]}
        parent = about["parent"] and self._parent(folder, experiment, about["parent"])
        if parent:
            tags[PARENT_TAG] = parent
        tags = {key: str(value)[:MAX_TAG] for key, value in tags.items()}
        run = self._find(experiment, about["token"])
        if run is None:
            made = self.store.ask("create_run", experiment, about["began"], tags, about["name"])
            run = self._find(experiment, about["token"]) or str(made.info.run_id)
            if run != made.info.run_id:
                self.store.ask("delete_run", made.info.run_id)  # Another machine was faster.
        else:
            self.store.ask("update_run", run, status="RUNNING")
            self.store.ask("log_batch", run, tags=[RunTag(*tag) for tag in tags.items()])
        flat = {mlflow_name(key): value for key, value in _flatten(about["params"])}
        params = [Param(key, value[:MAX_PARAM]) for key, value in flat.items()]
        for first in range(0, len(params), PARAMS_PER_BATCH):
            # Another process may have opened the same run with other ones.
            self._offer("log_batch", run, params=params[first : first + PARAMS_PER_BATCH])
        if any(len(value) > MAX_PARAM for value in flat.values()):
            text = json.dumps(about["params"], indent=2, sort_keys=True)
            self._offer("log_text", run, text, "configuration.json")
        return run

    def _parent(self, folder: Path, experiment: str, parent: Mapping[str, str]) -> str | None:
        """Return the id of the run that this one belongs to; open that first if need be."""
        found = self._find(experiment, parent["token"])
        above = Path(os.path.normpath(folder / parent["folder"]))
        if found is None and (above / TRACKING_FILE).is_file():
            self.export(above, own=is_live(above))
            found = self._find(experiment, parent["token"])
            if found is None:
                raise TimeoutError("another process is sending the run above")
        return found

    def _send_figures(
        self, folder: Path, about: Mapping[str, Any], run: str, sent: dict[str, Any]
    ) -> None:
        from mlflow.entities import Metric

        if sent["all_figures"]:
            return
        rows, are_all = figures_of(folder, about, sent["step"])
        batch: list[Metric] = []
        for number, (step, at, values) in enumerate(rows):
            batch += [Metric(mlflow_name(k), float(v), at, step) for k, v in values.items()]
            following = len(rows[number + 1][2]) if number + 1 < len(rows) else METRICS_PER_BATCH
            if len(batch) + following > METRICS_PER_BATCH:
                if self._offer("log_batch", run, metrics=batch):
                    self.figures += len(batch)
                batch, sent["step"] = [], step
        sent["all_figures"] = are_all

    def _find(self, experiment: str, token: str) -> str | None:
        """Return the id of the run with this token, or None.

        If several machines opened one at the same moment, all agree on the same.
        """
        asked = f"tags.{TOKEN_TAG} = '{token}'"
        found = self.store.ask("search_runs", [experiment], asked, order_by=["start_time ASC"])
        runs = sorted((run.info.start_time, str(run.info.run_id)) for run in found)
        return runs[0][1] if runs else None

    def _status(self, run: str) -> str:
        return str(self.store.ask("get_run", run).info.status)

    def _end(self, run: str, end: End, *, is_child: bool) -> None:
        if is_child:
            self._offer("set_tag", run, "trial_state", end.state)
        self.store.ask("set_terminated", run, end.status, end_time=end.at)

    def _offer(self, method: str, run: str, *args: Any, **more: Any) -> bool:
        """Ask for something that MLflow may refuse, which is then left out.

        Raises:
            MlflowException: it is the run that it refuses, since somebody has deleted it.
        """
        from mlflow.exceptions import MlflowException

        try:
            self.store.ask(method, run, *args, **more)
        except MlflowException as error:
            deleted = self.store.ask("get_run", run).info.lifecycle_stage == "deleted"
            if error.error_code not in REFUSED or deleted:
                raise
            self.refused.append(first_line(error))
            return False
        return True


@contextlib.contextmanager
def _noted(file: Path, wait: float) -> Iterator[dict[str, Any] | None]:
    """Lock a folder's note of what was sent, and write it when the body has changed it.

    Args:
        file: the note.
        wait: seconds to wait for another process that has it.

    Yields:
        The note, empty if there is none; None if another process has it.
    """
    with file.open("a+", encoding="utf-8") as stream:
        until = time.monotonic() + wait
        while not _is_ours(stream):
            if time.monotonic() >= until:
                yield None
                return
            time.sleep(BUSY_PAUSE)
        stream.seek(0)
        before = stream.read()
        sent: dict[str, Any] = {}
        with contextlib.suppress(ValueError):  # A process was killed while it wrote.
            sent = json.loads(before)
        try:
            yield sent
        finally:
            after = json.dumps(sent)
            if after != before:
                stream.seek(0)
                stream.truncate()
                stream.write(after)


def _is_ours(stream: IO[str]) -> bool:
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give the leaves of nested maps, keys joined with dots, values as text."""
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)
