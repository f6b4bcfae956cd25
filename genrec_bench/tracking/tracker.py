"""A tracker marks the folders that MLflow is to know, and has them sent in the background.

A run that is tracked costs one small file in its folder. What MLflow is told is read from the
folder (`folder_view`) by an exporter (`exporter`) in a thread of its own (`courier`). So MLflow
may be away or slow: it gets everything when it is back, later in the run, at its end, from the next
command that tracks to the same output folder, or by `genrec-bench resend`.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from genrec_bench.errors import StorageError
from genrec_bench.runs.run_tracker import NullTracker, Tracked
from genrec_bench.storage.digests import content_digest


@dataclass
class Tracker(NullTracker):
    """Tracks runs with MLflow, in the experiment `genrec-bench/<dataset>`.

    Attributes:
        output: folder of all results; holds `mlflow.db` and `mlartifacts` where no
            `MLFLOW_TRACKING_URI` is set.
        dataset: name of the card.
        above: the run that all of this tracker's runs belong to: its folder and its token.
        token: names the run at any server, before the server has named it; None for a new one.
        label: what the names of all its runs begin with.
    """

    output: Path
    dataset: str
    above: tuple[Path, str] | None = None
    token: str | None = None
    label: str = ""

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
        # These import what `genrec-bench --help` can do without.
        from genrec_bench.tracking import folder_view
        from genrec_bench.tracking.courier import courier_of
        from genrec_bench.training.loop import Pruned

        folder, courier = folder.resolve(), courier_of(self.output.resolve())
        before = folder_view.read_about(folder)
        token = before.token if before else uuid4().hex
        token = self.token or (_short_digest(name) if shared else token)
        about = folder_view.About(
            to=courier.store.to,
            experiment=f"{folder_view.OURS}{self.dataset}",
            name=f"{self.label}: {name}" if self.label else name,
            params=params,
            tags=tags,
            token=token,
            parent=self.above and (os.path.relpath(self.above[0], folder), self.above[1]),
            began=before.began if before else int(time.time() * 1000),
        )

        def child(key: str, label: str = "") -> Tracker:
            below = _short_digest(f"{token}/{key}")
            return Tracker(self.output, self.dataset, (folder, token), below, label)

        with contextlib.ExitStack() as stack:
            try:
                folder.mkdir(parents=True, exist_ok=True)
                handle = stack.enter_context(folder_view.working_in(folder))
                folder_view.write_about(folder, about)
            except (OSError, StorageError):
                # A disk that refuses so small a file will soon stop the run itself.
                yield Tracked()
                return
            courier.follow(folder)
            tracked, state = Tracked(child), "interrupted"
            try:
                yield tracked
                state = "failed" if tracked.failed else "complete"
            except Exception as error:
                state = "pruned" if isinstance(error, Pruned) else "failed"
                raise
            finally:
                folder_view.tell_end(folder, about, state, handle)
                # Whoever works on in the folder is to find no lock of ours while we wait.
                stack.close()
                courier.leave(folder)

    def is_untold(self, folder: Path) -> bool:
        """Return whether a folder is tracked in which nobody works, and its end was never sent."""
        from genrec_bench.tracking import folder_view
        from genrec_bench.tracking.courier import courier_of

        about = folder_view.read_about(folder)
        if about is None or about.to != courier_of(self.output.resolve()).store.to:
            return False
        return not folder_view.is_end_sent(folder, about) and not folder_view.is_live(folder)

    def settle(self, folder: Path) -> None:
        """Send the end of a run whose process was killed between its record and that."""
        from genrec_bench.tracking import folder_view
        from genrec_bench.tracking.courier import courier_of

        folder, courier = folder.resolve(), courier_of(self.output.resolve())
        about = folder_view.read_about(folder)
        if about is None or not self.is_untold(folder):
            return
        about.end = folder_view.end_of(folder, about)
        with contextlib.suppress(StorageError):
            folder_view.write_about(folder, about)
            courier.follow(folder)
            courier.leave(folder)


def _short_digest(text: str) -> str:
    """Return a token of letters that MLflow's search cannot stumble over."""
    return content_digest(text)[:32]
