"""What a preset needs on a dataset and this machine, by the plan's estimates; nothing is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from genrec_bench.data.dataset import Dataset
from genrec_bench.policy.backbones import find_backbone, prompt_name
from genrec_bench.policy.flops import measure_peak
from genrec_bench.policy.footprint import footprint
from genrec_bench.policy.prompts import Chains
from genrec_bench.policy.room import whole_memory
from genrec_bench.policy.text_prompt import WORDS
from genrec_bench.progress import duration
from genrec_bench.runs.foresight import GB, expected_memory
from genrec_bench.runs.jobs import Job, configured
from genrec_bench.runs.preset_files import Preset
from genrec_bench.runs.request import Request
from genrec_bench.training.sft_tasks import task_weights

PEAK_SECONDS = 0.5

FORWARD, BACKWARD, BACKWARD_FROZEN = 2, 4, 2
"""FLOPs of a weight and token. Frozen weights hand gradients on and have none of their own."""


@dataclass(frozen=True)
class Needs:
    """Plain estimates; None for a backbone whose shape is not known here.

    FLOPs are those of the layers' matrix products on the tokens of one prompt after the other;
    heads, attention, evaluation and groups that are rejected come on top.

    Attributes:
        dataset: on which, and whether it is partial.
        device: on which, by its kind.
        memory: in words, with its parts; of one device that has no others beside it.
        memory_bytes: in all.
        has_bytes: what the device has.
        parameters: of the backbone, with the catalog's codes.
        sft_flops: of SFT, where no validation ends it early.
        step_flops: of a rollout and its update.
        steps: how many a run takes without ``--budget``.
        peak: FLOP/s that this device reaches in matrix products.
    """

    dataset: str
    device: str
    memory: str | None
    memory_bytes: float | None
    has_bytes: int
    parameters: int | None
    sft_flops: float | None
    step_flops: float | None
    steps: int
    peak: float

    @property
    def seconds(self) -> float | None:
        """The least that SFT and run take here, at the peak."""
        if self.sft_flops is None or self.step_flops is None:
            return None
        return (self.sft_flops + self.steps * self.step_flops) / self.peak

    def __str__(self) -> str:
        """Write it for people."""
        head = f"On {self.dataset} and this device ({self.device}, {self.has_bytes / GB:.3g} GB):"
        if self.seconds is None or self.parameters is None:
            why = "the backbone's shape is not known here, and not in the hub's cache"
            return f"{head}\n  memory and time: unknown, as {why}"
        run = self.steps * self.step_flops if self.step_flops else 0.0
        return "\n".join(
            [
                head,
                f"  parameters: {self.parameters / 1e6:,.0f} million",
                f"  memory: {self.memory}",
                f"  SFT: at most {self.sft_flops:.2g} FLOPs",
                f"  run: {self.steps} steps of {self.step_flops:.2g} FLOPs, {run:.2g} in all",
                f"  time: at least {duration(self.seconds)}, at the {self.peak:.2g} FLOP/s that "
                "matrix products reach here",
            ]
        )


def needs_of(preset: Preset, dataset: Dataset, device: torch.device | None = None) -> Needs:
    """Estimate what a run of a preset's own algorithm needs.

    Raises:
        UserError: its words do not fit the algorithm.
    """
    device = device or torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = preset.says.algorithm
    entry, algorithm, settings = configured(Job(name, name), (), preset)
    settings = settings.of_length(len(dataset.train))
    nowhere = Path()
    request = Request(
        entry, algorithm, dataset, preset.says.backbone, settings, None, 0, nowhere, nowhere
    )
    levels = dataset.catalog.num_levels
    size = footprint(request.backbone, sum(dataset.catalog.codes_per_level))
    need = expected_memory(request, device)
    found = Needs(
        dataset=f"{dataset.name}{' (partial)' if dataset.partial else ''}",
        device=device.type,
        memory=None if need is None else str(need),
        memory_bytes=None if need is None else need.total,
        has_bytes=whole_memory(device),
        parameters=None,
        sft_flops=None,
        step_flops=None,
        steps=settings.steps,
        peak=measure_peak(PEAK_SECONDS, torch.float32, device),
    )
    if size is None:
        return found
    layers = size.parameters - size.tables
    learning = FORWARD + (BACKWARD_FROZEN if settings.lora_rank else BACKWARD)
    items = visited = dataset.train.history_lengths
    in_words = prompt_name(find_backbone(request.backbone), settings.prompt) != "compact"
    if not in_words:
        visited = items[Chains.nested(dataset.train).last]
    an_item, words = (levels + 2, WORDS) if in_words else (levels, 0)
    prompt = float(items.mean()) * an_item + words
    sequences = float(visited.sum()) * an_item + len(visited) * (words + levels)
    # A question of another task is hardly longer than one on a history.
    sft = settings.sft_epochs * sequences * (1 + sum(task_weights(settings.sft_tasks).values()))
    batch = min(settings.prompts_per_step, len(dataset.train))
    step = batch * (prompt + settings.group_size * (levels - 1))
    passes = FORWARD * (1 + algorithm.uses_reference) + learning
    if not algorithm.on_policy:
        step, passes = settings.sft_batch * prompt, learning
    return replace(
        found,
        parameters=size.parameters,
        sft_flops=sft * learning * layers,
        step_flops=math.ceil(step) * passes * layers,
    )
