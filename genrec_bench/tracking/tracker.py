"""MLflow, kept at arm's length: it sees every figure of a run, and can neither stop nor slow it.

Without `MLFLOW_TRACKING_URI` the runs go to a SQLite file in the output folder, for
`mlflow ui --backend-store-uri sqlite:///runs/mlflow.db`. What MLflow is to be told is first written
to an outbox in the run's folder (`tracking_outbox`) and sent from there. So a server that does not
answer costs one line, and gets everything when it is back: later in the run, at its end, from the
next command that tracks to the same output folder, or by `genrec-bench resend`. MLflow is imported
when something is sent, since the import takes seconds.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

from genrec_bench.tracking.courier import Courier
from genrec_bench.tracking.outbox import Outbox, mark_waiting, open_outbox, unmark_waiting
from genrec_bench.tracking.parent import Parent, experiment_name
from genrec_bench.tracking.resend import settle_waiting
from genrec_bench.tracking.sender import mlflow_name

Status = Literal["FINISHED", "FAILED", "KILLED"]

LOCK_SECONDS = 10.0
"""How long to wait for a command that is sending what an earlier one left in the same folder."""


class NullTracker:
    """Tracks nothing (`--no-mlflow`), and is what `Tracker` looks like to a run.

    As a context manager it ends the run however the body ends: `KILLED` on an interruption,
    `FAILED` on any other exception or where `finish` was forgotten.
    """

    @property
    def run_id(self) -> str | None:
        """MLflow's name of the run; None while there is none."""
        return None

    def start(
        self,
        run_name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        folder: Path | None = None,
    ) -> None:
        """Open a run, or go on with the one that was tracked in the same folder.

        Args:
            run_name: shown by MLflow.
            params: the configuration; nested maps are joined with dots.
            tags: what to search runs by.
            folder: of the run; keeps what is to be sent. None: it is kept in memory, and what
                cannot be sent until the run ends is lost.
        """

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep figures of one step, to be sent with the next batch.

        Figures that an earlier part of the same run has logged for the same step are left out.
        """

    def attach(self, path: Path) -> None:
        """Send a file, which is there and finished, as an artifact of the run."""

    def finish(self, record_path: Path | None = None, status: Status = "FINISHED") -> None:
        """Send what is left, attach the record and end the run; later calls do nothing.

        Args:
            record_path: of the record, if there is one.
            status: `KILLED` with a record says that a trial was pruned, without one that the run
                was interrupted.
        """

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
        warn: told in one line when MLflow fails; prints to stderr by default.
        parent: the run under which this one stands.
        child: a name that no other run under the parent has, by which `Parent.end_child` finds
            this one.
    """

    def __init__(
        self,
        output: Path,
        dataset: str,
        warn: Callable[[str], None] | None = None,
        *,
        parent: Parent | None = None,
        child: str = "",
    ) -> None:
        self._output = output.resolve()
        self._experiment = experiment_name(dataset)
        self._warn = warn or (lambda line: print(line, file=sys.stderr))
        self._parent, self._child = parent, child
        self._courier: Courier | None = None
        self._outbox: Outbox | None = None

    @property
    def run_id(self) -> str | None:
        """MLflow's name of the run; None while there is none."""
        return self._outbox.run if self._outbox else None

    def start(
        self,
        run_name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        folder: Path | None = None,
    ) -> None:
        """Open a run, or go on with it (see `NullTracker.start`)."""
        courier = Courier(self._output, self._warn)
        outbox = self._open(courier.sender.to, folder)
        parent = None
        token = outbox.token
        if self._parent is not None:
            parent = self._parent.reference(outbox.folder or self._parent.folder)
            token = self._parent.token_of(self._child) if self._child else token
        outbox.add(
            "open",
            experiment=self._experiment,
            name=run_name,
            params=dict(params),
            tags=dict(tags),
            token=token,
            parent=parent,
        )
        self._courier, self._outbox = courier, outbox
        if courier.send(outbox):
            settle_waiting(self._output, courier)

    def log(self, metrics: Mapping[str, float], step: int) -> None:
        """Keep figures of one step; send them when the last batch is some seconds old."""
        if self._outbox is None or self._courier is None:
            return
        already = self._outbox.already
        values = {mlflow_name(name): float(value) for name, value in metrics.items()}
        values = {name: value for name, value in values.items() if step > already.get(name, -1)}
        if values:
            self._outbox.add("figures", step=step, values=values)
        if self._courier.is_due():
            self._courier.send(self._outbox)

    def attach(self, path: Path) -> None:
        """Send a file, which is there and finished, as an artifact of the run."""
        if self._outbox is None or self._courier is None:
            return
        self._add_file(path)
        self._courier.send(self._outbox)

    def finish(self, record_path: Path | None = None, status: Status = "FINISHED") -> None:
        """Send what is left, attach the record and end the run; later calls do nothing."""
        outbox, courier = self._outbox, self._courier
        if outbox is None or courier is None:
            return
        if record_path is not None:
            self._add_file(record_path)
        tags = {} if self._parent is None else {"trial_state": _state(status, record_path)}
        outbox.add("end", status=status, tags=tags)
        self._outbox = None
        try:
            if courier.send(outbox, last=True) and outbox.folder is not None:
                outbox.shorten()
                unmark_waiting(self._output, outbox.folder)
        finally:
            outbox.close()

    def _open(self, to: str, folder: Path | None) -> Outbox:
        """Open the run's outbox; in memory, where the disk or another process is in the way."""
        if folder is None:
            return Outbox(None, to)
        folder = folder.resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            outbox = open_outbox(folder, to, wait=LOCK_SECONDS, new=True)
        except OSError:
            outbox = None
        if outbox is None:
            return Outbox(None, to)
        mark_waiting(self._output, folder)
        return outbox

    def _add_file(self, path: Path) -> None:
        assert self._outbox is not None
        place: Any = path.resolve()
        folder = self._outbox.folder
        # What lies in the folder is found again when the folder has moved.
        if folder is not None and place.is_relative_to(folder):
            place = os.path.relpath(place, folder)
        self._outbox.add("file", path=str(place))


def _state(status: Status, record_path: Path | None) -> str:
    """Say what became of a trial; MLflow has one word for a pruned and an interrupted one."""
    if status == "KILLED":
        return "interrupted" if record_path is None else "pruned"
    return "complete" if status == "FINISHED" else "failed"
