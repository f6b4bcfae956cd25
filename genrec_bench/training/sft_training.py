"""The SFT stage: what is common to all algorithms, trained until validation says to stop.

A stage that was cut short goes on from its last checkpoint, as a run does.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.policy.adapters import add_adapters, merge_adapters
from genrec_bench.policy.backbones import Backbone, make_policy
from genrec_bench.policy.policy import Policy
from genrec_bench.progress import Progress
from genrec_bench.storage.digests import files_digest
from genrec_bench.storage.files import write_atomically
from genrec_bench.storage.folders import remove
from genrec_bench.training import loop
from genrec_bench.training.checkpoints import (
    HEADS,
    random_state,
    resume_training,
    save_policy,
    save_training,
    set_random_state,
)
from genrec_bench.training.evaluate import evaluate
from genrec_bench.training.ledger import Cost, Ledger
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.settings import Settings
from genrec_bench.training.steps import SupervisedStepper
from genrec_bench.training.workers import Workers

START_FILE = "sft.json"
"""Written last: a stage whose folder has it is finished."""

VALIDATION_BEAM = 10

CHECKPOINTS = "checkpoints"
BEST = "best."
"""Before the names of the best weights among a checkpoint's tensors."""


def train_start(
    backbone: Backbone,
    dataset: Dataset,
    settings: Settings,
    folder: Path,
    key: Mapping[str, Any],
    workers: Workers,
    progress: Progress,
) -> None:
    """Train a start, or the rest of it, into a folder that nobody else writes.

    Args:
        backbone: to begin with.
        dataset: its training examples are learned, its validation examples say when to stop.
        settings: those named ``sft_...`` and what the policy is made of.
        folder: gets the policy, the ledger, the curve and the hash of the weights.
        key: all that the start depends on, kept beside it.
        workers: share the work.
        progress: shows loss and validation NDCG@10.

    Raises:
        UserError: a loss is not finite, or the disk refuses.
    """
    if workers.is_main:
        # An evaluation that is there is of weights that are not.
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name != CHECKPOINTS:
                remove(path)
    torch.manual_seed(settings.sft_seed)
    ledger = Ledger(workers.device)
    policy = make_policy(backbone, dataset, settings, workers.device)
    policy.meter = ledger
    add_adapters(policy, settings.lora_rank)
    optimization = Optimization(
        policy,
        workers,
        learning_rate=settings.sft_learning_rate or backbone.sft_learning_rate,
        weight_decay=settings.sft_weight_decay,
        warmup=settings.warmup,
        max_grad_norm=settings.max_grad_norm,
    )
    stepper = SupervisedStepper(
        policy,
        dataset.train,
        optimization,
        ledger,
        workers,
        batch=settings.sft_batch,
        seed=settings.sft_seed,
        phase="sft",
    )
    steps_of_epoch = len(stepper) / settings.sft_batch
    num_steps = math.ceil(settings.sft_epochs * steps_of_epoch)
    every = max(1, round(steps_of_epoch / settings.sft_evaluations))
    valid = _validation_examples(dataset, settings)

    stage = _Stage(policy, optimization, ledger, folder / CHECKPOINTS, workers)
    step = stage.resume()
    if step:
        progress.say(f"resumed after step {step} of the SFT start")
    saved = time.monotonic()
    with progress.bar("SFT", num_steps) as bar:
        while step < num_steps and stage.worse < settings.sft_patience:
            figures = stepper.step(step, step / num_steps)
            step += 1
            if step % every == 0 or step == num_steps:
                with ledger.phase("evaluation"):
                    found = evaluate(
                        policy,
                        valid,
                        dataset.catalog,
                        workers,
                        VALIDATION_BEAM,
                        Progress(quiet=True),
                        title="validation",
                    )
                stage.judge(step, figures["loss"], found.metrics["NDCG@10"])
            bar.update(step, loss=figures["loss"], best_NDCG=max(stage.best, 0.0))
            # Every process saves, or none: adding up what they spent takes all of them.
            late = time.monotonic() - saved > loop.SECONDS_BETWEEN_CHECKPOINTS
            if workers.agree(late):
                stage.save(step)
                saved = time.monotonic()
    if step:
        stage.save(step)
    # With no steps to take the start is the backbone as it is.
    if stage.best_weights:
        policy.load_state_dict(stage.best_weights)
    merge_adapters(policy)
    spent = loop.total_spent(ledger, workers)
    if workers.is_main:
        save_policy(policy, folder / "policy")
        content = {
            "curve": stage.curve,
            "key": key,
            "spent": spent,
            "weights": weights_hash(folder / "policy"),
        }
        text = json.dumps(content, indent=2, sort_keys=True)
        write_atomically(folder / START_FILE, text.encode())
        remove(folder / CHECKPOINTS)
    workers.wait()


@dataclass
class _Stage:
    """What a stage knows beside its step, and how that comes through a kill.

    Attributes:
        policy: is trained, with its adapters.
        optimization: its optimizer.
        ledger: what the steps and validations charge.
        folder: of the checkpoints.
        workers: share the work.
        best: the highest validation NDCG@10 so far.
        best_weights: the policy's at that time.
        worse: validations since then.
        curve: loss and validation NDCG@10 by step.
    """

    policy: Policy
    optimization: Optimization
    ledger: Ledger
    folder: Path
    workers: Workers
    best: float = -1.0
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    worse: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)

    def judge(self, step: int, loss: float, score: float) -> None:
        """Take note of a validation, and of the weights if none was better."""
        self.curve.append({"step": step, "loss": loss, "NDCG@10": score})
        self.worse = 0 if score > self.best else self.worse + 1
        if score > self.best:
            self.best = score
            self.best_weights = {
                name: value.detach().clone() for name, value in self.policy.state_dict().items()
            }

    def save(self, step: int) -> None:
        """Write a checkpoint; every process's ledger is in it, added up."""
        spent = loop.total_spent(self.ledger, self.workers)
        if self.workers.is_main:
            tensors = self.optimization.state()
            tensors |= {f"{BEST}{name}": value for name, value in self.best_weights.items()}
            state = {
                "best": self.best,
                "curve": self.curve,
                "random": random_state(self.workers.device),
                "spent": spent,
                "worse": self.worse,
            }
            save_training(self.folder, step, {"policy": self.policy}, tensors, state)
        self.workers.wait()

    def resume(self) -> int:
        """Take the last checkpoint up, and return its step; 0 if there is none."""
        found = resume_training(self.folder, {"policy": self.policy}, self.workers)
        if found is None:
            return 0
        tensors, state = found
        device = self.workers.device
        for name in [name for name in tensors if name.startswith(BEST)]:
            self.best_weights[name.removeprefix(BEST)] = tensors.pop(name).to(device)
        self.optimization.load(tensors)
        self.best, self.worse, self.curve = state["best"], state["worse"], state["curve"]
        set_random_state(state["random"], device)
        # The checkpoint holds what all processes have spent: one of them takes it over.
        for phase, cost in state["spent"].items():
            if self.workers.is_main:
                self.ledger.add(phase, Cost(**cost))
        return int(state["step"])


def _validation_examples(dataset: Dataset, settings: Settings) -> Examples:
    """Return the validation examples that say when to stop, drawn by the seed of the stage."""
    generator = np.random.default_rng(settings.sft_seed)
    count = min(settings.sft_valid_examples, len(dataset.valid))
    chosen = np.sort(generator.choice(len(dataset.valid), size=count, replace=False))
    return dataset.valid.subset(chosen)


def weights_hash(folder: Path) -> str:
    """Return the fingerprint of a saved policy's weights, without its heads."""
    files = sorted(p for p in folder.glob("*.safetensors") if p.name != HEADS)
    return files_digest(files)
