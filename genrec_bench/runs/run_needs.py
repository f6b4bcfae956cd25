"""What a run needs on this machine, by the plan's estimates, before anything is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray

from genrec_bench.errors import UserError
from genrec_bench.policy.backbones import find_backbone, prompt_name
from genrec_bench.policy.footprint import Footprint, footprint
from genrec_bench.policy.layer_pace import layer_pace
from genrec_bench.policy.precision import Precision
from genrec_bench.policy.prompts import Chains
from genrec_bench.policy.room import whole_memory
from genrec_bench.policy.text_prompt import WORDS
from genrec_bench.progress import duration
from genrec_bench.runs.foresight import GB, amount_text, expected_memory, trained_weights
from genrec_bench.runs.request import Request
from genrec_bench.training.budgets import Budget, SFTMultiple
from genrec_bench.training.evaluate import LOOK_BEAM
from genrec_bench.training.ledger import Cost
from genrec_bench.training.sft_tasks import task_weights

FORWARD, BACKWARD, BACKWARD_FROZEN = 2, 4, 2
"""FLOPs of a weight and token. Frozen weights hand gradients on and have none of their own."""


@dataclass(frozen=True)
class Needs:
    """Plain estimates; None for a backbone whose shape is not known here.

    FLOPs are those of matrix products with weights, for prompts read one after the other; attention
    and groups that are rejected come on top, and what candidates share is counted as if they did
    not.

    Attributes:
        dataset: on which, and whether it is partial.
        device: on which, by its kind.
        memory: in words, with its parts; of one device that has no others beside it.
        memory_bytes: in all.
        has_bytes: what the device has.
        parameters: of the backbone, with the catalog's codes.
        trained: of these, or adapters of them and the tables of tokens.
        sft_flops: of SFT, where no validation ends it early; 0 if the start is there.
        step_tokens: that a rollout and its update are charged.
        step_flops: of these.
        steps: how many the run takes; None where a budget in seconds or the start's cost says so.
        ranking_flops: of evaluations and looks at validation data.
        budget_seconds: of training, where the budget is in seconds.
        pace: FLOP/s of a layer of the backbone on this device, forward and back.
    """

    dataset: str
    device: str
    memory: str | None
    memory_bytes: float | None
    has_bytes: int
    parameters: int | None
    trained: int | None
    sft_flops: float | None
    step_tokens: int | None
    step_flops: float | None
    steps: int | None
    ranking_flops: float | None
    budget_seconds: float | None
    pace: float | None

    @property
    def seconds(self) -> float | None:
        """About how long SFT, training and evaluations take here; None where it is not known."""
        if self.pace is None or self.sft_flops is None or self.ranking_flops is None:
            return None
        around = (self.sft_flops + self.ranking_flops) / self.pace
        if self.budget_seconds is not None:
            return around + self.budget_seconds
        if self.steps is None or self.step_flops is None:
            return None
        return around + self.steps * self.step_flops / self.pace

    @property
    def in_short(self) -> str:
        """What a run's first lines say; empty where nothing is known."""
        if self.parameters is None or self.step_flops is None:
            return ""
        steps = "" if self.steps is None else f"{self.steps} steps, each "
        run = f"{steps}{self._step}" if self._trains else "no steps"
        took = "" if self.seconds is None else f"; about {duration(self.seconds)} in all"
        return f"{self._weights}; {self.memory}; {run}{took}"

    @property
    def _trains(self) -> bool:
        return self.step_flops != 0

    @property
    def _weights(self) -> str:
        if not self._trains:
            return f"{_millions(self.parameters)} parameters, none trained"
        if self.parameters == self.trained:
            return f"{_millions(self.parameters)} parameters, all trained"
        return f"{_millions(self.parameters)} parameters, {_millions(self.trained)} trained"

    @property
    def _step(self) -> str:
        tokens, flops = float(self.step_tokens or 0), float(self.step_flops or 0.0)
        return f"of about {amount_text(tokens, 'tokens')} and {amount_text(flops, 'flops')}"

    def __str__(self) -> str:
        """Write it for people."""
        head = f"On {self.dataset} and this device ({self.device}, {self.has_bytes / GB:.3g} GB):"
        if self.parameters is None or self.sft_flops is None or self.ranking_flops is None:
            why = "the backbone's shape is not known here, and not in the hub's cache"
            return f"{head}\n  memory and time: unknown, as {why}"
        sft = f"at most {amount_text(self.sft_flops, 'flops')}"
        run = "as many steps as its seconds pay for, each"
        if self.steps is not None:
            run = f"{self.steps:,} steps, each"
        elif self.budget_seconds is None:
            run = "as many steps as the budget pays for, each"
        took = "unknown"
        if self.seconds is not None and self.pace is not None:
            at = f"at the {amount_text(self.pace, 'flops')}/s of a layer of it here"
            took = f"about {duration(self.seconds)}, {at}"
        memory = (self.memory or "").replace(" of memory", "", 1)
        return "\n".join(
            [
                head,
                f"  parameters: {self._weights.replace(' parameters', '', 1)}",
                f"  memory: {memory}",
                f"  SFT: {sft if self.sft_flops else 'nothing, its start is there'}",
                f"  run: {f'{run} {self._step}' if self._trains else 'no steps'}",
                f"  evaluation: {amount_text(self.ranking_flops, 'flops')}",
                f"  time: {took}",
            ]
        )


def run_needs(request: Request, device: torch.device, start: Cost | None = None) -> Needs:
    """Estimate what a run needs.

    Args:
        start: what its SFT start has cost, if it is there.
    """
    dataset, settings = request.dataset, request.settings
    codes = sum(dataset.catalog.codes_per_level)
    size, need = footprint(request.backbone, codes), expected_memory(request, device)
    work = None if size is None else _Work(request, size)
    seconds = None
    if isinstance(request.budget, Budget) and request.budget.kind == "seconds":
        seconds = request.budget.amount
    precision = cast(Precision, settings.precision)
    return Needs(
        dataset=f"{dataset.name}{' (partial)' if dataset.partial else ''}",
        device=device.type,
        memory=None if need is None else str(need),
        memory_bytes=None if need is None else need.total,
        has_bytes=whole_memory(device),
        parameters=None if size is None else size.parameters,
        trained=None if size is None else trained_weights(request, size),
        sft_flops=None if work is None else 0.0 if start is not None else work.sft(),
        step_tokens=None if work is None else work.step()[0],
        step_flops=None if work is None else work.step()[1],
        steps=None if work is None else work.steps(start),
        ranking_flops=None if work is None else work.ranking(start is None),
        budget_seconds=seconds,
        pace=None if work is None else layer_pace(request.backbone, codes, precision, device),
    )


class _Work:
    """Tokens and FLOPs of the parts of a run."""

    def __init__(self, request: Request, size: Footprint) -> None:
        self._request, self._settings = request, request.settings
        self._layers = size.parameters - size.tables
        self._head = size.of_pass.vocabulary * size.width
        self._per_level = request.dataset.catalog.codes_per_level
        self._levels, self._sids = len(self._per_level), len(request.dataset.catalog.sids)
        name = prompt_name(find_backbone(request.backbone), self._settings.prompt)
        self._in_words = name != "compact"
        self._an_item = self._levels + 2 * self._in_words
        self._words = WORDS * self._in_words
        self._items = request.dataset.train.history_lengths

    def sft(self) -> float:
        """FLOPs of all of SFT's epochs."""
        visited = self._items
        if not self._in_words:
            visited = self._items[Chains.nested(self._request.dataset.train).last]
        tokens = float(visited.sum()) * self._an_item + len(visited) * (self._words + self._levels)
        heads = len(self._items) * self._levels
        # A question of another task is hardly longer than one on a history.
        tasks = 1 + sum(task_weights(self._settings.sft_tasks).values())
        return self._settings.sft_epochs * tasks * self._of(tokens, heads, learned=True)

    def step(self) -> tuple[int, float]:
        """Tokens and FLOPs of one step."""
        settings, algorithm = self._settings, self._request.algorithm
        if not algorithm.trains:
            return 0, 0.0
        if not algorithm.on_policy:
            tokens = settings.sft_batch * (self._prompt(self._items) + self._levels)
            heads = settings.sft_batch * self._levels
            return math.ceil(tokens), self._of(tokens, heads, learned=True)
        batch = min(settings.prompts_per_step, len(self._items))
        inner = self._inner(settings.group_size)
        tokens, heads = batch * (self._prompt(self._items) + inner), batch * (1 + inner)
        read = 1 + algorithm.uses_reference
        flops = read * self._of(tokens, heads)
        flops += algorithm.updates_per_rollout * self._of(tokens, heads, learned=True)
        return math.ceil(tokens * (read + algorithm.updates_per_rollout)), flops

    def steps(self, start: Cost | None) -> int | None:
        """How many steps the budget pays for, None if nobody knows before."""
        budget, (tokens, flops) = self._request.budget, self.step()
        if budget is None:
            return self._settings.steps
        if isinstance(budget, SFTMultiple):
            cost = self.sft() if start is None else start.flops
            try:
                budget = budget.exact(cost)
            except UserError:
                return None
        each = {"tokens": float(tokens), "flops": flops}.get(budget.kind)
        return max(round(budget.amount / each), 1) if each else None

    def ranking(self, of_start: bool) -> float:
        """FLOPs of evaluations; of the SFT start's too, where that is to be trained."""
        settings, dataset = self._settings, self._request.dataset
        inner = self._inner(settings.beam_width + settings.pass_samples)
        total = 0.0
        for split in self._request.splits:
            examples = dataset.splits[split]
            judged = min(settings.test_examples or len(examples), len(examples))
            total += (1 + of_start) * judged * self._ranked(examples.history_lengths, inner)
        lengths, inner = dataset.valid.history_lengths, self._inner(LOOK_BEAM)
        looked = settings.validations * min(settings.validation_examples, len(lengths))
        if of_start:
            looks = settings.sft_epochs * settings.sft_evaluations
            looked += math.ceil(looks * min(settings.sft_valid_examples, len(lengths)))
        return total + looked * self._ranked(lengths, inner)

    def _ranked(self, lengths: NDArray[np.integer], inner: int) -> float:
        return self._of(self._prompt(lengths) + inner, 1 + inner)

    def _prompt(self, lengths: NDArray[np.integer]) -> float:
        """Return how many tokens prompts on so long histories have, on average."""
        return float(lengths.mean()) * self._an_item + self._words

    def _inner(self, width: int) -> int:
        """Return how many prefixes of so many candidates are read, if they share no more."""
        found, most = 0, 1
        for codes in self._per_level[:-1]:
            most = min(most * codes, self._sids)
            found += min(width, most)
        return found

    def _of(self, tokens: float, heads: float, *, learned: bool = False) -> float:
        """Return the FLOPs of reading tokens, and predicting from some of them."""
        of_layers = of_head = FORWARD
        if learned:
            of_layers += BACKWARD_FROZEN if self._settings.lora_rank else BACKWARD
            of_head += BACKWARD
        return of_layers * self._layers * tokens + of_head * self._head * heads


def _millions(count: int | None) -> str:
    digits = 0 if (count or 0) >= 1e8 else 2
    return f"{(count or 0) / 1e6:,.{digits}f} million"
