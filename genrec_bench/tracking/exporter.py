"""The exporter: makes MLflow show what the folder of a run says, at any time and as often as asked.

A run is found again at MLflow by its token, a tag. How much of it MLflow has stands in another tag
of the run, so that it is never kept apart from what it tells of. Where an outage comes in between,
some is sent again: figures carry the moment at which they were made, so that a database takes an
equal one once, and the rest overwrites itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genrec_bench.storage.bounded_json import decode_json
from genrec_bench.storage.confined import Foreign, check_own
from genrec_bench.storage.digests import content_digest
from genrec_bench.storage.field_kinds import Count, Word
from genrec_bench.storage.locks import locked
from genrec_bench.storage.validation import checked
from genrec_bench.tracking import folder_view
from genrec_bench.tracking.folder_view import TRACKING_FILE, About, Milliseconds, read_about
from genrec_bench.tracking.store import Store, first_line, mlflow_name

if TYPE_CHECKING:
    from mlflow.entities import Run

TOKEN_TAG, SENT_TAG = "genrec_bench_token", "genrec_bench_sent"
PARENT_TAG = "mlflow.parentRunId"

STATUS = {"complete": "FINISHED", "failed": "FAILED"}
"""MLflow's words for how a run ended; pruned and interrupted ones are `KILLED`."""

LOCK_FILE = ".tracking.lock"
"""In the folder of a run: who holds it sends the run."""

REFUSED = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "MALFORMED_REQUEST")
"""What MLflow says to something that it will never take."""

METRICS_PER_BATCH, PARAMS_PER_BATCH = 1000, 100
"""Limits of one request to MLflow."""

MAX_PARAM, MAX_TAG = 6000, 8000
"""Lengths that MLflow takes, in characters."""


@dataclass(frozen=True)
class _Sent:
    """What the tag says that tells how much MLflow has."""

    figures: Count = 0
    files: Mapping[Word, Word] = field(default_factory=dict)
    ended: Milliseconds = 0
    is_over: bool = False


def _sent_before(tag: str) -> dict[str, Any]:
    """Return what a tag says; nothing if people or programs changed it, so that all goes again."""
    with contextlib.suppress(ValueError):
        found = decode_json(tag)
        if checked(_Sent, found)[0] is not None:
            return dict(found)
    return {}


class Exporter:
    """Sends folders to one store.

    Args:
        store: where to.
        all_runs: whether it gets the runs of other stores too, which keep theirs.

    Attributes:
        counts: how many runs were ``sent``, how many of these were cut short and are ``ended`` now;
            how many runs are ``live``, belong ``elsewhere``, or are ``left`` as MLflow does not
            take them; how many ``figures`` and ``files`` it took, how many entries it ``refused``.
        reasons: why it did not take the first of what is ``left`` and ``refused``.
        left_out: what was never sent, as it is no file of a run's own folder; with the reasons.
    """

    def __init__(self, store: Store, *, all_runs: bool = False) -> None:
        self.store, self._all_runs = store, all_runs
        words = ("sent", "ended", "live", "elsewhere", "left", "figures", "files", "refused")
        self.counts = Counter(dict.fromkeys(words, 0))
        self.reasons: dict[str, str] = {}
        self.left_out: list[str] = []

    def export(self, folder: Path, *, own: bool = False) -> None:
        """Make MLflow show what a folder says by now.

        Args:
            folder: of a run that is tracked.
            own: whether this process works in the folder; nobody else tells of a live run.

        Raises:
            Exception: whatever MLflow and what it stands on raise.
        """
        try:
            self._export(folder, own)
        except Foreign as error:
            self._leave_out(str(error))

    def _export(self, folder: Path, own: bool) -> None:
        from mlflow.exceptions import MlflowException

        try:
            folder_view.checked_about(folder)
        except FileNotFoundError:
            return  # Somebody has removed the folder, which the lock would make again.
        check_own(folder / LOCK_FILE)
        if not own and folder_view.is_live(folder):
            self.counts["live"] += 1
            return
        with locked(folder / LOCK_FILE, wait=True):
            about = read_about(folder)
            if about is None:
                return
            if about.to != self.store.to and not self._all_runs:
                self.counts["elsewhere"] += 1
                return
            is_under_way = own and about.end is None
            end = None if is_under_way else folder_view.end_of(folder, about)
            try:
                self._send(folder, about, end)
                if end is not None and about.to == self.store.to:
                    folder_view.note_end_sent(folder, end)
            except MlflowException as error:
                if error.error_code not in REFUSED:
                    raise
                self._note("left", error)

    def _send(self, folder: Path, about: About, end: tuple[str, int] | None) -> None:
        from mlflow.entities import Metric

        run = self._run_of(folder, about)
        before = run.data.tags.get(SENT_TAG, "")
        sent: dict[str, Any] = {"figures": 0, "files": {}, "ended": 0, "is_over": False}
        if known := _sent_before(before):
            sent |= known
        else:
            self._send_params(run, about.params)
        # The last end counts: of a run that went on, of a study that several machines carry out,
        # of a trial whose end is told by who saw it die.
        is_news = end is None or end[1] > sent["ended"]
        new = self._figures_of(folder, about)[sent["figures"] :] if is_news else []
        for batch in _batches(new, METRICS_PER_BATCH):
            metrics = [Metric(mlflow_name(name), *figure) for name, *figure in batch]
            if self._offer("log_batch", run, metrics=metrics):
                self.counts["figures"] += len(batch)
            sent["figures"] += len(batch)
        if end:
            self._send_files(folder, run, sent["files"])
        if end is None and sent["is_over"]:
            self.store.ask("update_run", run.info.run_id, status="RUNNING")
            sent["is_over"] = False
        elif end is not None and is_news:
            if about.parent:
                self._offer("set_tag", run, "trial_state", end[0])
            status = STATUS.get(end[0], "KILLED")
            self.store.ask("set_terminated", run.info.run_id, status, end_time=end[1])
            sent |= {"ended": end[1], "is_over": True}
            self.counts["ended"] += about.end is None
        after = json.dumps(sent)
        if after != before:
            self.store.ask("set_tag", run.info.run_id, SENT_TAG, after)
            self.counts["sent"] += 1

    def _figures_of(self, folder: Path, about: About) -> list[tuple[str, float, int, int]]:
        try:
            return folder_view.figures_of(folder, about)
        except Foreign as error:
            self._leave_out(str(error))
            return []

    def _send_files(self, folder: Path, run: Run, sent: dict[str, str]) -> None:
        """Send the folder's files, as they were when they were looked at."""
        files, left_out = folder_view.files_of(folder)
        for reason in left_out:
            self._leave_out(reason)
        for name, content in files.items():
            digest = content_digest(content)[:16]
            if sent.get(name) == digest:
                continue
            with tempfile.TemporaryDirectory() as place:
                copy = Path(place) / name
                copy.write_bytes(content)
                if self._offer("log_artifact", run, str(copy)):
                    self.counts["files"] += 1
            sent[name] = digest

    def _run_of(self, folder: Path, about: About) -> Run:
        """Return MLflow's run of a folder, made now if there is none; so is the run above it."""
        experiment = self.store.experiment(about.experiment)
        if found := self._find(experiment, about.token):
            return found
        # MLflow's own tags, and ours, are not for a folder to say.
        own = (PARENT_TAG.partition(".")[0] + ".", TOKEN_TAG, SENT_TAG)
        tags = {key: value for key, value in about.tags.items() if not key.startswith(own)}
        tags[TOKEN_TAG] = about.token
        if about.parent:
            above = Path(os.path.normpath(folder / about.parent[0]))
            parent = self._find(experiment, about.parent[1])
            is_ours = above.is_relative_to(self.store.output)
            if parent is None and is_ours and (above / TRACKING_FILE).is_file():
                check_own(above / LOCK_FILE)
                with locked(above / LOCK_FILE, wait=True):
                    known = read_about(above)
                    parent = self._run_of(above, known) if known else None
            if parent:
                tags[PARENT_TAG] = parent.info.run_id
        tags = {key: str(value)[:MAX_TAG] for key, value in tags.items()}
        made: Run = self.store.ask("create_run", experiment, about.began, tags, about.name)
        first = self._find(experiment, about.token) or made
        if first.info.run_id != made.info.run_id:
            self.store.ask("delete_run", made.info.run_id)  # Another machine was faster.
        return first

    def _find(self, experiment: str, token: str) -> Run | None:
        """Return the run with this token, or None; a deleted one only if there is no other.

        If several machines opened one at the same moment, all agree on the same.
        """
        from mlflow.entities import ViewType

        asked = f"tags.{TOKEN_TAG} = '{token}'"
        found = self.store.ask("search_runs", [experiment], asked, ViewType.ALL)
        order = attrgetter("info.lifecycle_stage", "info.start_time", "info.run_id")
        return min(found, key=order, default=None)

    def _send_params(self, run: Run, params: Mapping[str, Any]) -> None:
        from mlflow.entities import Param

        flat = {mlflow_name(key): value for key, value in _flatten(params)}
        entries = [Param(key, value[:MAX_PARAM]) for key, value in flat.items()]
        for batch in _batches(entries, PARAMS_PER_BATCH):
            # Another process may have opened the same run with other ones.
            self._offer("log_batch", run, params=batch)
        if any(len(value) > MAX_PARAM for value in flat.values()):
            text = json.dumps(params, indent=2, sort_keys=True)
            self._offer("log_text", run, text, "configuration.json")

    def _offer(self, method: str, run: Run, *args: Any, **more: Any) -> bool:
        """Ask for something that MLflow may refuse, which is then left out.

        Raises:
            MlflowException: it is the run that it refuses, since somebody has deleted it.
        """
        from mlflow.exceptions import MlflowException

        try:
            self.store.ask(method, run.info.run_id, *args, **more)
        except MlflowException as error:
            if error.error_code not in REFUSED or run.info.lifecycle_stage == "deleted":
                raise
            self._note("refused", error)
            return False
        return True

    def _leave_out(self, reason: str) -> None:
        if reason not in self.left_out:
            self.left_out.append(reason)

    def _note(self, kind: str, error: Exception) -> None:
        self.counts[kind] += 1
        self.reasons.setdefault(kind, first_line(error))


def _batches(entries: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    yield from (entries[first : first + size] for first in range(0, len(entries), size))


def _flatten(params: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give the leaves of nested maps, keys joined with dots, values as text."""
    for key, value in params.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value if isinstance(value, str) else json.dumps(value)
