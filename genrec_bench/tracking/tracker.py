"""A tracker marks the folders that MLflow is to know, and has them sent in the background.

A run that is tracked costs one small file in its folder. What MLflow is told is read from the
folder (`folder_view`) by an exporter (`exporter`) in a thread of its own (`courier`). So MLflow
may be away or slow: it gets everything when it is back, later in the run, at its end, from the next
command that tracks to the same output folder, or by `genrec-bench resend`. The thread imports
MLflow, since that takes seconds.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from genrec_bench.errors import StorageError
from genrec_bench.runs.null_tracker import NullTracker, Tracked
from genrec_bench.storage.files import write_atomically

if TYPE_CHECKING:
    pass

LAST_TRIES, LAST_PAUSE = 5, 0.05
"""How often the last one to work in a folder makes sure of that, and seconds in between."""


class Tracker(NullTracker):
    """Tracks runs with MLflow, in the experiment `genrec-bench/<dataset>`.

    Args:
        output: folder of all results; holds `mlflow.db` and `mlartifacts` where no
            `MLFLOW_TRACKING_URI` is set.
        dataset: name of the card.
        above: the run that all of this tracker's runs belong to: its folder and its token.
        token: names the run at any server, before the server has named it; None for a new one.
    """

    def __init__(
        self,
        output: Path,
        dataset: str,
        *,
        above: tuple[Path, str] | None = None,
        token: str | None = None,
    ) -> None:
        self._output, self._dataset = output.resolve(), dataset
        self._above, self._token = above, token

    @contextlib.contextmanager
    def track(
        self,
        folder: Path,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        *,
        shared: bool = False,
    ) -> Iterator[Tracked]:
        """Track a run while the body of a ``with`` statement carries it out."""
        from genrec_bench.tracking.courier import courier_of
        from genrec_bench.tracking.folder_view import working_in

        folder = folder.resolve()
        about = self._about(folder, name, params, tags, shared)
        with contextlib.ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                handle = stack.enter_context(working_in(folder))
                _write(folder, about)
            except (OSError, StorageError):
                # A disk that refuses so small a file will soon stop the run itself.
                yield Tracked()
                return
            courier = courier_of(self._output)
            courier.follow(folder)
            tracked = _Tracked(self, folder, about["token"])
            try:
                yield tracked
            except BaseException as error:
                self._end(folder, about, tracked, handle, *_end_by(error))
                raise
            else:
                self._end(folder, about, tracked, handle, tracked.status)
            finally:
                courier.leave(folder)

    def below(self, folder: Path, token: str, key: str) -> Tracker:
        """Return a tracker for a run that belongs to the one of another folder."""
        dataset, own = self._dataset, _digest(f"{token}/{key}")
        return Tracker(self._output, dataset, above=(folder, token), token=own)

    def _about(
        self,
        folder: Path,
        name: str,
        params: Mapping[str, object],
        tags: Mapping[str, str],
        shared: bool,
    ) -> dict[str, Any]:
        """Return what `tracking.json` is to say of a run that begins or goes on."""
        from genrec_bench.tracking.folder_view import read_about

        before = read_about(folder) or {"token": uuid4().hex, "began": int(time.time() * 1000)}
        parent = None
        if self._above is not None:
            place = os.path.relpath(self._above[0], folder)
            parent = {"folder": place, "token": self._above[1]}
        return {
            "experiment": f"genrec-bench/{self._dataset}",
            "name": name,
            "params": dict(params),
            "tags": dict(tags),
            "token": self._token or (_digest(name) if shared else before["token"]),
            "parent": parent,
            "began": before["began"],
            "dead": {},
            "ended": None,
        }

    def _end(
        self,
        folder: Path,
        about: dict[str, Any],
        tracked: Tracked,
        handle: int,
        status: str,
        state: str | None = None,
    ) -> None:
        """Write down how a run ended, unless others still work on it here."""
        from genrec_bench.tracking.folder_view import STATES, is_last, let_go

        with contextlib.suppress(StorageError):
            if tracked.dead:
                tokens = [_digest(f"{about['token']}/{key}") for key in tracked.dead]
                about["dead"] = dict.fromkeys(tokens, int(time.time() * 1000))
                _write(folder, about)
            for _ in range(LAST_TRIES):
                if is_last(handle):
                    at = int(time.time() * 1000)
                    about["ended"] = {"status": status, "state": state or STATES[status], "at": at}
                    _write(folder, about)
                    break
                # Whoever looks whether the folder is in use holds it for a moment, too.
                time.sleep(LAST_PAUSE)
        let_go(handle)


class _Tracked(Tracked):
    """A run with its tracker, which its children need."""

    def __init__(self, tracker: Tracker, folder: Path, token: str) -> None:
        super().__init__()
        self._tracker, self._folder, self._token = tracker, folder, token

    def child(self, key: str) -> NullTracker:
        """Return a tracker for a run that belongs to this one."""
        return self._tracker.below(self._folder, self._token, key)


def _write(folder: Path, about: Mapping[str, Any]) -> None:
    from genrec_bench.tracking.folder_view import TRACKING_FILE

    text = json.dumps(about, indent=1, sort_keys=True, default=str)
    write_atomically(folder / TRACKING_FILE, text.encode())


def _end_by(error: BaseException) -> tuple[str, str]:
    """Return how a run ended that was ended by an exception."""
    from genrec_bench.training.loop import Pruned

    if isinstance(error, Pruned):
        return "KILLED", "pruned"
    return ("FAILED", "failed") if isinstance(error, Exception) else ("KILLED", "interrupted")


def _digest(token: str) -> str:
    """Return a token of letters that MLflow's search cannot stumble over."""
    return hashlib.sha256(token.encode()).hexdigest()[:32]
