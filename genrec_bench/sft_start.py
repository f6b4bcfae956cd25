"""The SFT start: supervised fine-tuning once, so that all algorithms begin at the same weights.

The stage is cached under a key of all that it depends on. What a comparison holds fixed is the
fingerprint of the weights themselves: two machines that train the same start may differ in the last
bits, and records of both must not meet on one board.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from genrec_bench.adapters import add_adapters, merge_adapters
from genrec_bench.backbones import Backbone, make_policy, prompt_name
from genrec_bench.checkpoints import HEADS, read_json, save_policy
from genrec_bench.dataset import Dataset
from genrec_bench.errors import UserError
from genrec_bench.evaluate import Evaluation, Sampling, evaluate
from genrec_bench.ledger import Cost, Ledger
from genrec_bench.optimization import Optimization
from genrec_bench.progress import Progress
from genrec_bench.records import (
    benchmark_version,
    join_outcomes,
    parquet_bytes,
    write_atomically,
)
from genrec_bench.settings import Settings
from genrec_bench.steps import SupervisedStepper
from genrec_bench.store import file_sha256
from genrec_bench.training import total_spent
from genrec_bench.workers import Workers

VALIDATION_BEAM = 10


@dataclass(frozen=True)
class SFTStart:
    """A finished SFT stage.

    Attributes:
        folder: of the policy.
        fingerprint: of its weights.
        cost: of the stage, by phase of the ledger.
    """

    folder: Path
    fingerprint: str
    cost: Mapping[str, Cost]


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
        backbone: to begin with.
        dataset: its training examples are learned, its validation examples say when to stop.
        settings: those named ``sft_...`` and what the policy is made of.
        data_dir: holds the cache.
        workers: share the work.
        progress: shows loss and validation NDCG@10.
    """
    key = {
        "backbone": backbone.fingerprint,
        "benchmark": benchmark_version(),
        "dataset": dataset.fingerprint,
        "prompt": prompt_name(backbone, settings),
        "settings": settings.sft(),
        "sids": dataset.sid_fingerprint,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    folder = data_dir / "sft" / f"{dataset.name}-{digest[:16]}"
    done = folder / "sft.json"
    with _locked(folder, workers):
        if not workers.agree(done.is_file()):
            progress.say("training the SFT start, once for all runs that share it")
            _train(backbone, dataset, settings, folder, key, workers, progress)
    content = read_json(done)
    if content.get("weights") != _weights_hash(folder / "policy"):
        raise UserError(f"{folder}: the SFT start was changed; delete the folder to train it again")
    try:
        cost = {phase: Cost(**value) for phase, value in content["spent"].items()}
    except (KeyError, TypeError, AttributeError):
        raise UserError(f"{done}: is damaged; delete its folder to train it again") from None
    return SFTStart(folder, content["weights"], cost)


def evaluate_start(
    start: SFTStart,
    backbone: Backbone,
    dataset: Dataset,
    settings: Settings,
    workers: Workers,
    progress: Progress,
) -> dict[str, Evaluation]:
    """Evaluate the SFT start on validation and test examples, once for each way to do so."""
    beam_width = settings.beam_width
    sampling = Sampling.of(settings)
    samples = "0"
    if sampling is not None:
        samples = f"{sampling.count}-{sampling.temperature!r}-{sampling.top_p!r}"
    file = start.folder / f"evaluation-beam-{beam_width}-pass-{samples}.json"
    outcomes = file.with_suffix(".parquet")
    if not workers.agree(file.is_file() and outcomes.is_file()):
        weights = start.folder / "policy"
        policy = make_policy(backbone, dataset, settings, workers.device, weights=weights)
        found = {
            split: evaluate(
                policy,
                dataset.splits[split],
                dataset.catalog,
                workers,
                beam_width,
                progress,
                title=f"SFT {split}",
                sampling=sampling,
            )
            for split in ("valid", "test")
        }
        if workers.is_main:
            table = join_outcomes({split: result.outcomes for split, result in found.items()})
            write_atomically(outcomes, parquet_bytes(table))
            metrics = {split: result.metrics for split, result in found.items()}
            write_atomically(file, json.dumps(metrics, indent=2, sort_keys=True).encode())
        workers.wait()
    metrics = read_json(file)
    try:
        table = pd.read_parquet(outcomes)
        return {
            split: Evaluation(metrics[split], table[table["split"] == split].drop(columns="split"))
            for split in ("valid", "test")
        }
    except (KeyError, OSError, ValueError):
        raise UserError(f"{file} or {outcomes.name}: is damaged; delete both") from None


def _train(
    backbone: Backbone,
    dataset: Dataset,
    settings: Settings,
    folder: Path,
    key: Mapping[str, Any],
    workers: Workers,
    progress: Progress,
) -> None:
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
    generator = np.random.default_rng(settings.sft_seed)
    count = min(settings.sft_valid_examples, len(dataset.valid))
    chosen = np.sort(generator.choice(len(dataset.valid), size=count, replace=False))
    valid = dataset.valid.subset(chosen)

    # With no steps to take the start is the backbone as it is.
    best = -1.0
    curve: list[dict[str, float]] = []
    best_weights: dict[str, torch.Tensor] = {}
    worse = 0
    with progress.bar("SFT", num_steps) as bar:
        for step in range(num_steps):
            figures = stepper.step(step, step / num_steps)
            if (step + 1) % every == 0 or step + 1 == num_steps:
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
                score = found.metrics["NDCG@10"]
                curve.append({"step": step + 1, "loss": figures["loss"], "NDCG@10": score})
                worse = 0 if score > best else worse + 1
                if score > best:
                    best = score
                    best_weights = {
                        name: value.detach().clone() for name, value in policy.state_dict().items()
                    }
            valid_ndcg = max(best, 0.0)
            bar.update(step + 1, loss=figures["loss"], best_NDCG=valid_ndcg)
            if worse >= settings.sft_patience:
                break
    if best_weights:
        policy.load_state_dict(best_weights)
    merge_adapters(policy)
    spent = total_spent(ledger, workers)
    if workers.is_main:
        shutil.rmtree(folder, ignore_errors=True)
        save_policy(policy, folder / "policy")
        content = {
            "curve": curve,
            "key": key,
            "spent": spent,
            "weights": _weights_hash(folder / "policy"),
        }
        text = json.dumps(content, indent=2, sort_keys=True)
        write_atomically(folder / "sft.json", text.encode())
    workers.wait()


@contextlib.contextmanager
def _locked(folder: Path, workers: Workers) -> Iterator[None]:
    """Keep other runs from training the same start at once; they wait and then find it done."""
    with contextlib.ExitStack() as stack:
        if workers.is_main:
            try:
                folder.parent.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context(folder.with_name(f"{folder.name}.lock").open("w"))
            except OSError as error:
                raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _weights_hash(folder: Path) -> str:
    files = sorted(p for p in folder.glob("*.safetensors") if p.name != HEADS)
    return hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
