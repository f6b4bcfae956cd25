"""What a run is asked for, what a comparison holds fixed of it, and what makes two runs equal."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genrec_bench import benchmark_version
from genrec_bench.data.dataset import Dataset
from genrec_bench.data.vectors.embeddings import texts_encoded
from genrec_bench.errors import UserError
from genrec_bench.policy.backbones import Backbone, backbone_name, find_backbone, prompt_name
from genrec_bench.progress import Progress
from genrec_bench.runs.environment import hardware
from genrec_bench.runs.preset_files import Preset
from genrec_bench.runs.registry import Entry, source_hash
from genrec_bench.storage.digests import json_digest
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.budgets import AnyBudget, Budget, SFTMultiple
from genrec_bench.training.checkpoints import check_policy_fits
from genrec_bench.training.own_metrics import OwnMetrics
from genrec_bench.training.settings import Settings
from genrec_bench.training.sft_start import SFTStart, sft_start
from genrec_bench.training.workers import Workers

EVALUATED = ("valid", "test")
"""The splits that a run is evaluated on."""


@dataclass(frozen=True)
class Request:
    """What a user asked for.

    Attributes:
        algorithm: made of ``entry``, with its hyperparameters.
        backbone: name, path or hub name.
        budget: of the training, or None for a number of steps.
        seed: of the training; the SFT start has its own.
        data_dir: holds the cache of SFT starts.
        splits: to be evaluated; a trial of a sweep leaves the test split alone.
        strict: whether the budget must not be exceeded, by however little.
        control: what the run is a control for, in words; empty if it is none.
        tuning: what was spent to find the hyperparameters; its ``limit`` is part of the track.
        own: metrics of one's own; they change what is reported, and no run.
        command: the words that asked for it, for the record alone.
        preset: whose settings it has where no word said others, for the record alone.
    """

    entry: Entry
    algorithm: Algorithm
    dataset: Dataset
    backbone: str
    settings: Settings
    budget: AnyBudget | None
    seed: int
    data_dir: Path
    output: Path
    splits: tuple[str, ...] = EVALUATED
    strict: bool = False
    control: str = ""
    tuning: Mapping[str, Any] | None = None
    own: OwnMetrics | None = None
    command: tuple[str, ...] = ()
    preset: Preset | None = None


@dataclass(frozen=True)
class Beginning:
    """What is known of a run before it is carried out.

    Attributes:
        start: trained.
        budget: of the training, a multiple of SFT's cost as what it comes to.
        track: all that a comparison holds fixed.
        digest: of all that makes two runs equal.
        parent: the folder of all runs on the dataset.
    """

    backbone: Backbone
    start: SFTStart
    budget: Budget | None
    track: dict[str, Any]
    digest: str
    parent: Path


def begin(request: Request, workers: Workers, progress: Progress) -> Beginning:
    """Train the SFT start if there is none yet, and say what the run is equal to.

    Raises:
        UserError: as ``fitting_backbone``.
    """
    dataset, settings = request.dataset, request.settings
    backbone = fitting_backbone(request)
    start = sft_start(backbone, dataset, settings, request.data_dir, workers, progress)
    budget = request.budget
    if isinstance(budget, SFTMultiple):
        budget = budget.exact(start.cost.flops)
    track = _track(request, start, budget, prompt_name(backbone, settings.prompt), workers)
    what = {
        **configuration_of(request),
        "algorithm": source_hash(request.entry),
        "benchmark": benchmark_version(),
        "control": request.control,
        "seed": request.seed,
        "splits": request.splits,
        "strict": request.strict,
        "track": track,
    }
    if texts := texts_of(request):
        what["texts"] = texts
    if request.tuning is not None and request.tuning["study"]:
        # A record states the cost of one sweep: runs after another sweep are other runs.
        what["tuning"] = [request.tuning[key] for key in ("study", "trials")]
    folder = request.output / dataset.name
    return Beginning(backbone, start, budget, track, json_digest(what), folder)


def fitting_backbone(request: Request) -> Backbone:
    """Look the backbone up.

    Raises:
        UserError: there is none of that name, or it was trained on other codes or another prompt
            format.
    """
    backbone = find_backbone(request.backbone)
    codes_per_level = request.dataset.catalog.codes_per_level
    prompt = prompt_name(backbone, request.settings.prompt)
    check_policy_fits(Path(request.backbone), codes_per_level, prompt)
    return backbone


def configuration_of(request: Request) -> dict[str, Any]:
    """Return the hyperparameters and settings as a record keeps them."""
    return {
        "hyperparameters": dataclasses.asdict(request.algorithm.hyperparameters),
        "settings": request.settings.resolved(),
    }


def texts_of(request: Request) -> str:
    """Return the hash of the texts that the run's item embeddings are made of; "" for none.

    The dataset's own fingerprint covers titles but no descriptions.
    """
    if not request.algorithm.uses_embeddings:
        return ""
    return texts_encoded(request.dataset, request.settings.embeddings)


def feedback_of(settings: Settings, dataset: Dataset) -> str:
    """Return what algorithms that roll out are given as targets; one of `FEEDBACK`.

    Raises:
        UserError: purchases are to be drawn where nobody knows what users want.
    """
    world = dataset.world
    if settings.feedback == "auto":
        return world.feedback if world is not None else "logged"
    if settings.feedback != "logged" and world is None:
        raise UserError(
            f"--set feedback={settings.feedback}: {dataset.name} is not drawn from a known world"
        )
    return settings.feedback


def _track(
    request: Request, start: SFTStart, budget: Budget | None, prompt: str, workers: Workers
) -> dict[str, Any]:
    """Return all that a comparison holds fixed."""
    settings, dataset = request.settings, request.dataset
    track: dict[str, Any] = {
        # Its weights are in the SFT start's fingerprint.
        "backbone": backbone_name(request.backbone),
        "beam_width": settings.beam_width,
        "budget": f"{settings.steps} steps of {settings.prompts_per_step} prompts",
        "dataset": dataset.fingerprint,
        "decoding": request.algorithm.decoding,
        "dtype": settings.resolved()["dtype"],
        "group_size": settings.group_size,
        "logprob_space": settings.logprob_space,
        "lora_rank": settings.lora_rank,
        "prompt": prompt,
        "samples": f"{settings.pass_samples} at temperature {settings.pass_temperature:g}, "
        f"top-p {settings.pass_top_p:g}",
        "sft": start.fingerprint,
        "sids": dataset.sid_fingerprint,
    }
    if settings.mode == "reason":
        track["samples"] += f", each after at most {settings.thought_tokens} tokens of thoughts"
    if settings.keep != "last":
        # Left out where it is "last", as in records that know no other choice.
        track["keep"] = settings.keep
    if settings.test_examples:
        track["test_examples"] = settings.test_examples
    if (feedback := feedback_of(settings, dataset)) != "logged":
        track["feedback"] = f"{feedback} for each visit of a prompt; logged in SFT"
    if request.tuning is not None:
        track["tuning"] = request.tuning["limit"]
    if budget is not None:
        track["budget"] = budget.text
        if budget.kind == "seconds":
            # What a second pays for depends on the machine.
            machine = hardware(str(workers.device))
            track["hardware"] = {k: v for k, v in machine.items() if k != "memory_bytes"}
            track["processes"] = workers.count
            track["threads"] = torch.get_num_threads()
    return track
