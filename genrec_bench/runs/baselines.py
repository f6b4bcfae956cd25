"""Baselines that are run here: trained, ranked, and kept as records of outside systems.

They are no algorithms of the benchmark: they begin at no SFT start and have no budget in its
ledger. Their seconds are measured on this machine, and stand where others declare theirs.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.errors import UserError, nearest
from genrec_bench.progress import Progress
from genrec_bench.runs.environment import hardware
from genrec_bench.runs.external import Declared, keep_external
from genrec_bench.runs.run_files import SPLIT, RunFile
from genrec_bench.storage.digests import content_digest
from genrec_bench.training.counting import popularity_lists, successor_lists
from genrec_bench.training.list_figures import Lists
from genrec_bench.training.metrics import CUTOFFS

WIDTH = max(CUTOFFS)
"""Places of each list."""

SOURCE = "genrec-bench baseline"

Count = Callable[[Dataset, Examples, int], NDArray[np.int32]]
"""Makes lists of items [n, W] of a dataset's training split and some examples' histories."""


@dataclass(frozen=True)
class Counted:
    """A baseline that is nothing but counts: without seeds, without anything to tune."""

    lists: Count
    about: str


COUNTED: Mapping[str, Counted] = {
    "popularity": Counted(popularity_lists, "items by how often they are a training target"),
    "last-item-successors": Counted(
        successor_lists, "items by how often they followed the last item of the history in training"
    ),
}


def check_baseline(name: str, known: Sequence[str]) -> None:
    """Raise UserError unless there is a baseline of that name."""
    if name not in known:
        hint = nearest(name, known)
        raise UserError(f"no baseline {name!r}{hint}; there are {', '.join(known)}")


def run_counted(
    name: str,
    dataset: Dataset,
    output: Path,
    progress: Progress,
    *,
    keep_lists: bool = False,
    command: Sequence[str] = (),
) -> Path:
    """Rank by counts, and return the path of the record.

    Raises:
        StorageError: the disk refuses.
    """
    began, clock = datetime.now(UTC), time.perf_counter()
    chosen = COUNTED[name]
    places = chosen.lists(dataset, dataset.splits[SPLIT], WIDTH)
    declared = Declared(
        label=name,
        source=SOURCE,
        backbone="counts",
        training_seconds=time.perf_counter() - clock,
        tuning_seconds=0.0,
        hardware=str(hardware("cpu")["cpu"]),
        notes=chosen.about,
    )
    path, earlier = keep_lists_of(
        places, declared, dataset, output, keep_lists=keep_lists, began=began, command=command
    )
    if earlier:
        progress.say(f"found: {path}")
    return path


def keep_lists_of(
    places: NDArray[np.int32],
    declared: Declared,
    dataset: Dataset,
    output: Path,
    *,
    keep_lists: bool,
    began: datetime,
    command: Sequence[str],
) -> tuple[Path, bool]:
    """Keep lists of items [n, W] that were made here; returns what `keep_external` does."""
    test, world = dataset.splits[SPLIT], dataset.world
    utilities = None if world is None else world.utilities(test)
    lists = Lists.of_items(places, test.targets, dataset.catalog, utilities)
    return keep_external(
        RunFile(lists, "item", ()),
        declared,
        dataset,
        output,
        file="lists.parquet",
        sha256=content_digest(np.ascontiguousarray(places, dtype="<i4").tobytes()),
        keep_lists=keep_lists,
        measured=True,
        began=began,
        command=command,
    )
