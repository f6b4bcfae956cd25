"""Baselines that are run here: trained, ranked, and kept as records of outside systems.

They are no algorithms of the benchmark: they begin at no SFT start and have no budget in its
ledger. Their seconds are measured on this machine, and stand where others declare theirs.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.progress import Progress
from genrec_bench.runs.cornac_models import (
    CHOSEN_BY,
    CornacData,
    cornac_data,
    device,
    fit,
    judge,
    ranked,
    vectors_of,
)
from genrec_bench.runs.environment import hardware
from genrec_bench.runs.external import Declared, find_external, keep_external
from genrec_bench.runs.hosted_models import HOSTED, check_cornac
from genrec_bench.runs.record_schema import EXTERNAL
from genrec_bench.runs.run_files import SPLIT, RunFile
from genrec_bench.storage.digests import content_digest
from genrec_bench.storage.files import read_json
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


TRIALS, TUNING_SECONDS = 8, 1800.0
"""Of tuning, where nobody says: as many trials, as far as they fit into these seconds."""

JUDGED = 2000
"""Validation examples by which trials and epochs are chosen, a seeded draw."""

TUNING_SEED = 0
"""Of all trials and of the draw of their hyperparameters."""

COUNTED: Mapping[str, Counted] = {
    "popularity": Counted(popularity_lists, "items by how often they are a training target"),
    "last-item-successors": Counted(
        successor_lists, "items by how often they followed the last item of the history in training"
    ),
}


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


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What was asked for of a baseline that is trained.

    Attributes:
        trials, seconds: what tuning may take; the first trial is made in any case.
        fixed: arguments of the model that are not tuned, by name.
    """

    seeds: tuple[int, ...]
    trials: int = TRIALS
    seconds: float = TUNING_SECONDS
    fixed: Mapping[str, Any] = field(default_factory=dict)


def run_trained(
    name: str,
    asked: Asked,
    dataset: Dataset,
    data_dir: Path,
    output: Path,
    progress: Progress,
    *,
    keep_lists: bool = False,
    command: Sequence[str] = (),
) -> list[Path]:
    """Tune a model of cornac on validation data, train it on each seed, and return the records.

    Seeds that were run before, asked for in the same way, are found again, and so is what their
    trials found.

    Raises:
        UserError: cornac is missing.
        StorageError: the disk refuses.
    """
    hosted, release = HOSTED[name], check_cornac(name)
    fixed = f", {json.dumps(asked.fixed, sort_keys=True)}" if asked.fixed else ""
    notes = (
        f"{hosted.model} of cornac {release}: {hosted.about}; tuned on validation {CHOSEN_BY} in "
        f"at most {asked.trials} trials and {asked.seconds:g} s{fixed}"
    )
    earlier = {
        seed: find_external(output / dataset.name, name, seed, notes, dataset)
        for seed in asked.seeds
    }
    paths = {seed: path for seed, path in earlier.items() if path}
    for path in paths.values():
        progress.say(f"found: {path}")
    if len(paths) == len(asked.seeds):
        return [paths[seed] for seed in asked.seeds]
    vectors = vectors_of(dataset, data_dir, progress) if hosted.reads_vectors else None
    count = min(JUDGED, len(dataset.valid))
    rng = np.random.default_rng(TUNING_SEED)
    judged = dataset.valid.subset(np.sort(rng.choice(len(dataset.valid), count, replace=False)))
    data = cornac_data(dataset, judged, vectors)
    if paths:
        # A command that was cut short goes on with what its trials found.
        before = read_json(next(iter(paths.values())))
        chosen = dict(before["configuration"]["hyperparameters"])
        spent = float(before[EXTERNAL]["tuning_seconds"])
    else:
        chosen, spent = _tuned(name, asked, data, progress)
    for seed in asked.seeds:
        if seed in paths:
            continue
        began, clock = datetime.now(UTC), time.perf_counter()
        model = fit(hosted, chosen, data, seed)
        seconds = time.perf_counter() - clock
        places = ranked(model, dataset.splits[SPLIT], WIDTH)
        declared = Declared(
            label=name,
            seed=seed,
            source=SOURCE,
            backbone=hosted.model,
            training_seconds=seconds,
            tuning_seconds=spent,
            hardware=str(hardware(device())["device"]),
            notes=notes,
            hyperparameters=chosen,
        )
        paths[seed], _ = keep_lists_of(
            places, declared, dataset, output, keep_lists=keep_lists, began=began, command=command
        )
        progress.say(f"{name} seed {seed}: trained in {seconds:.0f} s, record {paths[seed]}")
    return [paths[seed] for seed in asked.seeds]


def _tuned(
    name: str, asked: Asked, data: CornacData, progress: Progress
) -> tuple[dict[str, Any], float]:
    """Return the best arguments of some trials, and the seconds that these took."""
    hosted, rng = HOSTED[name], np.random.default_rng(TUNING_SEED)
    searched = {key: of for key, of in hosted.searched.items() if key not in asked.fixed}
    tried: list[dict[str, Any]] = []
    best, chosen, longest, began = -1.0, dict(asked.fixed), 0.0, time.perf_counter()
    for number in range(asked.trials):
        spent = time.perf_counter() - began
        if number and spent + longest > asked.seconds:
            progress.say(f"tuning: {number} of {asked.trials} trials fit into its seconds")
            break
        picked = {
            key: of[int(rng.integers(len(of))) if number else 0] for key, of in searched.items()
        }
        if picked in tried:
            continue
        tried.append(picked)
        arguments = {**picked, **asked.fixed}
        found = judge(fit(hosted, arguments, data, TUNING_SEED), data)
        longest = max(longest, time.perf_counter() - began - spent)
        progress.say(f"trial {number}: validation {CHOSEN_BY} {found:.4f} by {arguments}")
        if found > best:
            best, chosen = found, arguments
    return chosen, time.perf_counter() - began


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
