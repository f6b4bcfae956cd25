"""What a run tells a tracker: where its folder is, what it is, how it ends. Here nobody listens."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

Status = Literal["FINISHED", "FAILED", "KILLED"]


class Tracked:
    """A run, or a piece of work made of runs, that is under way.

    Attributes:
        status: how it ends, unless its body raises.
        dead: keys of children whose process died, so that they could not tell their end.
    """

    def __init__(self) -> None:
        self.status: Status = "FINISHED"
        self.dead: list[str] = []

    def child(self, key: str) -> NullTracker:
        """Return a tracker for a run that belongs to this one; no other child has its key."""
        return NullTracker()


class NullTracker:
    """Tracks nothing (`--no-mlflow`); `tracking.tracker.Tracker` looks the same to a run."""

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
        """Track a run while the body of a ``with`` statement carries it out.

        A body that raises ends the run: as failed, or as killed if it was pruned or interrupted.

        Args:
            folder: of the run; the same folder again goes on with the same run.
            name: shown to people.
            params: the configuration; may be nested.
            tags: what to search runs by.
            shared: whether several processes, on several machines too, carry it out together. They
                know each other by ``name``, which must then be no other run's.
        """
        yield Tracked()
