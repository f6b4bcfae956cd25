"""The SFT start: supervised fine-tuning once, so that all algorithms begin at the same weights.

The stage is cached under a key of all that it depends on. What a comparison holds fixed is the
fingerprint of the weights themselves: two machines that train the same start may differ in the last
bits, and records of both must not meet on one board.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec_bench import benchmark_version
from genrec_bench.data.dataset import Dataset
from genrec_bench.errors import StorageError
from genrec_bench.policy.backbones import Backbone, make_policy, prompt_name
from genrec_bench.policy.policy import Policy
from genrec_bench.progress import Progress
from genrec_bench.storage.cached import Unsound
from genrec_bench.storage.digests import json_digest
from genrec_bench.storage.files import read_json
from genrec_bench.storage.folders import remove, remove_leftovers
from genrec_bench.storage.locks import locked
from genrec_bench.training.evaluation_cache import KeptEvaluation, evaluate_once
from genrec_bench.training.ledger import Cost
from genrec_bench.training.own_metrics import OwnMetrics
from genrec_bench.training.settings import AUTO, Settings
from genrec_bench.training.sft_tasks import tasks_digest
from genrec_bench.training.sft_training import (
    CHECKPOINTS,
    START_FILE,
    is_sound,
    start_content,
    train_start,
)
from genrec_bench.training.workers import Workers, give_memory_back


@dataclass(frozen=True)
class SFTStart:
    """A finished SFT stage: its folder, its weights' fingerprint, its cost without validation."""

    folder: Path
    fingerprint: str
    cost: Cost


def sft_start(
    backbone: Backbone,
    dataset: Dataset,
    settings: Settings,
    data_dir: Path,
    workers: Workers,
    progress: Progress,
) -> SFTStart:
    """Return the SFT start of a configuration, trained now if it is not in the cache.

    Args:
        dataset: its training examples are learned, its validation examples say when to stop.
        settings: those named ``sft_...`` and what the policy is made of.
    """
    folder, key = _place(backbone, dataset, settings, data_dir)
    done = folder / START_FILE
    with _locked(folder, workers):
        fault: str | None = None
        if workers.is_main:
            remove_leftovers(folder)
            try:
                fault = None if is_sound(folder, key) else ""
            except Unsound as error:
                fault = str(error)
        fault = workers.agree(fault)
        if fault is not None:
            if fault:
                progress.say(
                    f"{fault}; the SFT start is trained again, and runs that began at the one "
                    "before are comparable if its weights come out the same"
                )
            train_start(backbone, dataset, settings, folder, key, workers, progress)
            give_memory_back()
        elif workers.is_main:
            # The process was killed between writing the start and removing its checkpoints.
            remove(folder / CHECKPOINTS)
    content = start_content(read_json(done, constants=True), done)
    return SFTStart(folder, content.weights, content.cost)


def cost_if_trained(
    backbone: Backbone, dataset: Dataset, settings: Settings, data_dir: Path
) -> Cost | None:
    """Return what the SFT start of a configuration has cost, None if it is yet to be trained."""
    folder, key = _place(backbone, dataset, settings, data_dir)
    done = folder / START_FILE
    with contextlib.suppress(Unsound):
        if is_sound(folder, key):
            return start_content(read_json(done, constants=True), done).cost
    return None


def told_cost(
    backbone: Backbone, dataset: Dataset, settings: Settings, data_dir: Path
) -> Cost | None:
    """Return what a trained SFT start says that it has cost, None if there is none to ask.

    Nothing is hashed: for plans, which come before everything.
    """
    done = _place(backbone, dataset, settings, data_dir)[0] / START_FILE
    with contextlib.suppress(Unsound, StorageError):
        if done.is_file():
            return start_content(read_json(done, constants=True), done).cost
    return None


def steps_taken(start: SFTStart) -> int:
    """Return how many steps a start was trained for, whether or not validation ended it early.

    Raises:
        StorageError: the cache is damaged.
    """
    done = start.folder / START_FILE
    return start_content(read_json(done, constants=True), done).steps


def _place(
    backbone: Backbone, dataset: Dataset, settings: Settings, data_dir: Path
) -> tuple[Path, dict[str, Any]]:
    """Return the folder of a start, and all that it depends on."""
    key: dict[str, Any] = {
        "backbone": backbone.fingerprint,
        "benchmark": benchmark_version(),
        "dataset": dataset.fingerprint,
        "prompt": prompt_name(backbone, settings.prompt),
        "settings": settings.sft(),
        "sids": dataset.sid_fingerprint,
    }
    if tasks := tasks_digest(settings.sft_tasks, dataset):
        key["tasks"] = tasks
    digest = json_digest(key)
    return data_dir / "sft" / f"{dataset.name}-{digest[:16]}", key


def evaluate_start(
    start: SFTStart,
    backbone: Backbone,
    dataset: Dataset,
    settings: Settings,
    workers: Workers,
    progress: Progress,
    splits: Sequence[str] = ("valid", "test"),
    own: OwnMetrics | None = None,
) -> dict[str, KeptEvaluation]:
    """Evaluate the SFT start, once for each split and each way; no other split is read.

    Raises:
        UserError: a metric of one's own is at fault.
        StorageError: the cache is damaged or cannot be written.
    """
    way = f"beam-{settings.beam_width}-pass-{settings.pass_samples}"
    if settings.pass_samples:
        way += f"-{settings.pass_temperature!r}-{settings.pass_top_p!r}"
    if settings.mode == "reason":
        way += f"-thoughts-{settings.thought_tokens}"
    if settings.test_examples:
        way += f"-of-{settings.test_examples}"
    if dataset.world is not None:
        way += "-utility"  # earlier evaluations did not know it
    if settings.ks != AUTO:
        way += f"-ks-{'-'.join(map(str, settings.cutoffs))}"
    if own is not None:
        way += f"-own-{own.sha256[:16]}"
    way += "-2"  # earlier evaluations had neither the tail nor what each list is worth

    @functools.cache
    def policy() -> Policy:
        weights = start.folder / "policy"
        return make_policy(backbone, dataset, settings, workers.device, weights=weights)

    # Another run that needs the same evaluation waits for it and does not repeat it.
    with _locked(start.folder, workers):
        return {
            split: evaluate_once(
                start.folder / f"evaluation-{split}-{way}.json",
                start.fingerprint,
                policy,
                dataset,
                split,
                settings,
                workers,
                progress,
                title=f"SFT {split}",
                own=own,
            )
            for split in splits
        }


@contextlib.contextmanager
def _locked(folder: Path, workers: Workers) -> Iterator[None]:
    """Keep other runs from training the same start at once; they wait and then find it done."""
    with contextlib.ExitStack() as stack:
        if workers.is_main:
            stack.enter_context(locked(folder.with_name(f"{folder.name}.lock"), wait=True))
        yield
