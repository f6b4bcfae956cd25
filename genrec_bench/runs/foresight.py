"""What a run will need, told or refused before it begins: steps, memory, disk.

These are plain estimates. What they refuse cannot work; what may work is warned of, once.
"""

from __future__ import annotations

import math
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from genrec_bench.errors import StorageError, UserError
from genrec_bench.policy.backbones import find_backbone, prompt_name
from genrec_bench.policy.footprint import Footprint, footprint
from genrec_bench.policy.precision import Precision
from genrec_bench.policy.room import (
    FLOAT,
    Pass,
    fit_pass,
    free_memory,
    program_memory,
    whole_memory,
)
from genrec_bench.policy.text_prompt import WORDS
from genrec_bench.progress import Progress
from genrec_bench.runs.request import Request
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.budgets import Budget

GB = 1e9

CANDIDATE, RANKED = 64, 16
"""Bytes that are held of a candidate's code, and of a place in a ranked list; rough."""

PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"), (1, ""))


def foresee(request: Request, device: torch.device, progress: Progress) -> None:
    """Warn of what a run will suffer from, and refuse what cannot come to its end.

    Raises:
        UserError: the budget does not pay for a step, or the machine cannot hold the model.
        StorageError: the disk has no room for a checkpoint and the policy.
    """
    codes = sum(request.dataset.catalog.codes_per_level)
    size = footprint(request.backbone, codes)
    warnings = []
    if size is not None:
        _check_size(request, size, device)
        _check_disk(request, size)
        warnings.append(_memory(request, device))
    for warning in warnings:
        if warning:
            progress.say_once(f"warning: {warning}")
    if isinstance(request.budget, Budget) and size is not None:
        _check_budget(request, request.budget, size)


def _prompt_tokens(request: Request) -> tuple[float, float]:
    """Return how many codes a training prompt has, on average, and their standard deviation."""
    lengths = np.diff(request.dataset.train.history_offsets) * len(
        request.dataset.catalog.codes_per_level
    )
    return float(lengths.mean()), float(lengths.std())


def check_budget(request: Request, budget: Budget) -> None:
    """Refuse a budget that is less than what a step takes at the very least; of seconds nothing.

    Raises:
        UserError: naming the algorithm, and what its step takes.
    """
    size = footprint(request.backbone, sum(request.dataset.catalog.codes_per_level))
    if size is not None:
        _check_budget(request, budget, size)


def _check_budget(request: Request, budget: Budget, size: Footprint) -> None:
    settings, algorithm = request.settings, request.algorithm
    if not algorithm.trains:
        return
    fresh = type(algorithm)(algorithm.hyperparameters)
    # One that has to look at the data before it can begin a step is not asked for one.
    if fresh.on_policy and type(fresh).begin is Algorithm.begin:
        fresh.begin_step(0, 0.0)
    rolls_out = fresh.on_policy and fresh.rolls_out
    batch = settings.prompts_per_step if rolls_out else settings.sft_batch
    batch = min(batch, len(request.dataset.train))
    mean, deviation = _prompt_tokens(request)
    # Hardly any batch is shorter; whatever else a prompt has makes it longer.
    tokens = batch * max(mean - 4 * deviation / math.sqrt(batch), 0.0)
    # A rollout reads the prompts, and an update reads them again, with gradients or without.
    passes = (2, 4 if fresh.trains_backbone else 2) if rolls_out else (1, 3)
    if not rolls_out:
        # Sequences of the supervised step are not prompts: several of a user's are one.
        tokens = batch * len(request.dataset.catalog.codes_per_level)
    layers = size.parameters - size.tables
    # Frozen weights need half of the backward pass.
    backward = passes[1] if not settings.lora_rank else passes[0] + (passes[1] - passes[0]) / 2
    least = {"tokens": passes[0] * tokens, "flops": 2.0 * layers * backward * tokens}
    if budget.kind in least and budget.amount < least[budget.kind]:
        raise UserError(
            f"{budget.option} {budget.shown}: too small for one step of {request.entry.name}, "
            f"which takes at least {amount_text(least[budget.kind], budget.kind)}; give more, or "
            f"set fewer {'prompts_per_step' if rolls_out else 'sft_batch'}"
        )


def amount_text(least: float, kind: str) -> str:
    """Write an amount as a budget is written."""
    unit = {"tokens": "tok", "flops": "flop"}[kind]
    factor, prefix = next(pair for pair in PREFIXES if least >= pair[0] or pair[0] == 1)
    return f"{least / factor:.3g}{prefix}{unit}"


def trained_weights(request: Request, size: Footprint) -> int:
    """Return how many weights are trained: all, or adapters and the tables of tokens."""
    rank = request.settings.lora_rank
    return size.tables + rank * size.adapters if rank else size.parameters


def _check_size(request: Request, size: Footprint, device: torch.device) -> None:
    """Refuse adapters as wide as the model, and weights that the machine cannot hold at all."""
    rank = request.settings.lora_rank
    if rank >= size.width:
        raise UserError(
            f"lora_rank={rank}: must be below the width of the backbone, {size.width}; 0 trains "
            "all weights"
        )
    # Weights, and of those that are trained gradients and two moments.
    held = _weights(request, size) + 3 * FLOAT * trained_weights(request, size)
    there = whole_memory(device)
    if held > there:
        raise UserError(
            f"--backbone {request.backbone}: its weights and their optimizer take "
            f"{held / GB:.2g} GB, and this machine has {there / GB:.2g} GB; take "
            "a smaller model, or lora_rank=16"
        )


def _weights(request: Request, size: Footprint) -> int:
    """Return the bytes of one copy of all weights, as they are trained."""
    if request.settings.precision == "bf16":
        return FLOAT * size.tables + FLOAT // 2 * (size.parameters - size.tables)
    return FLOAT * size.parameters


def _check_disk(request: Request, size: Footprint) -> None:
    """Refuse a disk without room for one checkpoint (weights, two moments) and the policy."""
    least = FLOAT * (2 * size.parameters + 2 * trained_weights(request, size))
    for option, folder in (("--output", request.output), ("--data-dir", request.data_dir)):
        there: Path = folder
        while not there.exists() and there != there.parent:
            there = there.parent
        free = shutil.disk_usage(there).free
        if free < least:
            raise StorageError(
                f"{option} {folder}: a checkpoint and the policy take {least / GB:.2g} GB, and "
                f"{free / GB:.2g} GB are free"
            )


@dataclass(frozen=True)
class Need:
    """Bytes that a run will hold at its largest, roughly.

    Attributes:
        weights: of all copies, with gradients and moments.
        of_pass: a forward pass with gradients.
        lists: of the candidates of a rollout, or of the ranked lists of an evaluation.
        program: what the process holds already.
    """

    weights: int
    of_pass: Pass
    lists: int
    program: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.program + self.more

    @property
    def more(self) -> int:
        """What is not held yet."""
        return self.weights + self.of_pass.size + self.lists

    def remedy(self, room: int) -> str:
        """Say what would make what is not held yet fit into so many bytes."""
        left = room - self.weights - self.lists
        if tokens := self.of_pass.within(left):
            return f"set tokens_per_forward={tokens}"
        if self.lists > self.weights:
            return "set a smaller group_size, beam_width or prompts_per_step"
        if replace(self.of_pass, each=self.of_pass.recomputed).within(left):
            return "set checkpointing=on"
        return "take a smaller model, or lora_rank=16"

    def __str__(self) -> str:
        """Write it with its parts."""
        return (
            f"about {self.total / GB:.2g} GB of memory ({self.weights / GB:.2g} for weights and "
            f"optimizer, {self.of_pass.size / GB:.2g} for a pass of {self.of_pass.tokens} tokens, "
            f"{self.lists / GB:.2g} for candidates, {self.program / GB:.2g} for the program)"
        )


def expected_memory(request: Request, device: torch.device) -> Need | None:
    """Return what a run will need; None for a backbone of which too little is known."""
    size = footprint(request.backbone, sum(request.dataset.catalog.codes_per_level))
    if size is None:
        return None
    settings = request.settings
    weights, trained = _weights(request, size), FLOAT * trained_weights(request, size)
    reference = FLOAT * size.tables if settings.lora_rank else weights
    # With gradients, two moments and, in SFT always, the best; read they are on the CPU, twice.
    held = weights + 4 * trained
    if device.type == "cpu":
        held = max(held, 2 * weights)
    if copies := request.algorithm.uses_reference + request.algorithm.uses_opponent:
        kept = trained if settings.keep == "best" else 0
        held = max(held, weights + 3 * trained + kept + copies * reference)
    of_pass = fit_pass(
        size.of_pass,
        device,
        cast(Precision, settings.precision),
        asked=settings.tokens_per_forward,
        checkpointing=settings.checkpointing,
        taken=held,
    )
    # A batch may be less than a pass holds.
    of_pass = replace(of_pass, tokens=min(of_pass.tokens, _batch_tokens(request)))
    levels = len(request.dataset.catalog.codes_per_level)
    rollout = settings.prompts_per_step * settings.group_size if request.algorithm.on_policy else 0
    judged = max(len(request.dataset.splits[split]) for split in request.splits)
    ranked = min(judged, settings.test_examples or judged)
    ranked *= settings.beam_width + settings.pass_samples
    lists = max(CANDIDATE * levels * rollout, RANKED * ranked)
    return Need(held, of_pass, lists, program_memory(device))


def _memory(request: Request, device: torch.device) -> str:
    """Say that a run is going to need more memory than is free; nothing where it suffices.

    Raises:
        UserError: it needs more than the machine has.
    """
    need = expected_memory(request, device)
    if need is None:
        return ""
    there, free = whole_memory(device), free_memory(device)
    if need.total > there:
        raise UserError(
            f"the run needs {need}, and this machine has {there / GB:.2g} GB: "
            f"{need.remedy(there - need.program)}"
        )
    if need.more <= free:
        return ""
    return f"{need} will be needed, and {free / GB:.2g} GB are free: {need.remedy(free)}"


def _batch_tokens(request: Request) -> int:
    """Return about how many tokens the larger of SFT's batches and a rollout's has."""
    settings = request.settings
    mean, _ = _prompt_tokens(request)
    levels = len(request.dataset.catalog.codes_per_level)
    if prompt_name(find_backbone(request.backbone), settings.prompt) != "compact":
        mean = mean * (levels + 2) / levels + WORDS
    rollout = settings.prompts_per_step * (mean + settings.group_size * levels)
    return math.ceil(max(settings.sft_batch * (mean + levels), rollout))
