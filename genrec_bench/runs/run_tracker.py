"""What a run tells a tracker: where its folder is, what it is, how it ends. Here nobody listens."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Tracked:
    """A run, or a piece of work made of runs, that is under way.

    Attributes:
        child: returns a tracker for a run that belongs to this one. It is given a key, which no
            other child of the same parent has, and what the child's name is to begin with, if
            anything.
        failed: whether it has failed, though its body does not raise.
    """

    child: Callable[..., NullTracker] = lambda *_: NullTracker()
    failed: bool = False


def shown_name(algorithm: str, seed: int, control: str = "") -> str:
    """Name a run for people, who find it among others by what it is."""
    return f"{f'{control} ({algorithm})' if control else algorithm}, seed {seed}"


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

    def is_untold(self, folder: Path) -> bool:
        """Return whether a folder is tracked in which nobody works, and its end was never sent."""
        return False

    def settle(self, folder: Path) -> None:
        """Send the end of a run whose process was killed between its record and that."""
