"""A run: the SFT start, the algorithm's training within a budget, evaluation, and the record."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from genrec_bench.adapters import add_adapters, merge_adapters
from genrec_bench.algorithm import Algorithm
from genrec_bench.backbones import Backbone, find_backbone, make_policy, prompt_name
from genrec_bench.budget import Budget
from genrec_bench.checkpoints import check_policy_fits, save_policy
from genrec_bench.dataset import Dataset
from genrec_bench.embeddings import check_source, sid_embeddings
from genrec_bench.environment import commit, hardware, versions
from genrec_bench.evaluate import Evaluation, Sampling, evaluate
from genrec_bench.ledger import Ledger
from genrec_bench.optimization import Optimization
from genrec_bench.policy import Policy
from genrec_bench.progress import Progress
from genrec_bench.records import (
    RECORD_FILE,
    benchmark_version,
    build_record,
    join_outcomes,
    write_record,
)
from genrec_bench.registry import Entry, source_hash
from genrec_bench.run_folder import find_finished, run_folder
from genrec_bench.settings import Settings
from genrec_bench.sft_start import SFTStart, evaluate_start, sft_start
from genrec_bench.steps import RolloutStepper, Stepper, SupervisedStepper
from genrec_bench.tracking import NullTracker
from genrec_bench.training import Limit, total_spent, train
from genrec_bench.workers import Workers


@dataclass(frozen=True)
class Request:
    """What a user asked for.

    Attributes:
        entry: the algorithm as it was found.
        algorithm: with its hyperparameters.
        dataset: loaded.
        backbone: name, path or hub name.
        settings: of the harness.
        budget: of the training, or None for a number of steps.
        seed: of the training; the SFT start has its own.
        data_dir: holds the cache of SFT starts.
        output: folder of all results.
    """

    entry: Entry
    algorithm: Algorithm
    dataset: Dataset
    backbone: str
    settings: Settings
    budget: Budget | None
    seed: int
    data_dir: Path
    output: Path


def run(
    request: Request,
    workers: Workers,
    progress: Progress,
    tracker: NullTracker,
    *,
    reuse: bool = False,
) -> Path:
    """Carry a request out, or the rest of it if an earlier run of it was cut short.

    Args:
        request: what to do.
        workers: share the work.
        progress: shows it.
        tracker: is sent the figures.
        reuse: whether an equal run that is finished will do.

    Returns:
        The path of the record.

    Raises:
        UserError: on bad input, a budget below one step, or a loss that is not finite.
    """
    dataset, settings = request.dataset, request.settings
    backbone = find_backbone(request.backbone)
    _fitting_prompt(request, backbone)
    if request.algorithm.uses_embeddings:
        check_source(settings.embeddings)
    partial = " (partial)" if dataset.partial else ""
    progress.say(f"{request.entry.name} on {dataset.name}{partial}, backbone {backbone.name}")

    start, track, digest = _begin(request, workers, progress)
    parent = request.output / dataset.name
    if reuse:
        finished = find_finished(parent, digest, workers)
        if finished is not None:
            progress.say(f"found: {finished}")
            return finished
    with run_folder(parent, digest, request.entry.name, request.seed, workers) as opened:
        folder, run_id, started = opened
        ledger = Ledger(workers.device)
        for phase, cost in start.cost.items():
            if workers.is_main and phase == "sft":
                ledger.add(phase, cost)
        before = evaluate_start(start, backbone, dataset, settings, workers, progress)
        configuration = _configuration(request)
        tags = {
            "algorithm": request.entry.name,
            "dataset": dataset.name,
            "partial": str(dataset.partial).lower(),
            "seed": str(request.seed),
        }
        with tracker:
            tracker.start(run_id, {**configuration, "track": track}, tags)
            policy, curves, after = _train_and_evaluate(
                request, backbone, start, ledger, folder, workers, progress, tracker
            )
            progress.say(f"{'SFT start':<12} {_summary(before)}{partial}")
            progress.say(f"{request.entry.name:<12} {_summary(after)}{partial}")
            for split, result in after.items():
                figures = {f"{split}/{name}": value for name, value in result.metrics.items()}
                tracker.log(figures, len(curves))
            spent = total_spent(ledger, workers)
            for phase, amounts in spent.items():
                tracker.log({f"ledger/{phase}/{k}": v for k, v in amounts.items()}, len(curves))
            record = build_record(
                run_id=run_id,
                algorithm=request.entry.name,
                dataset=dataset.name,
                seed=request.seed,
                complete=True,
                partial=dataset.partial,
                track=track,
                **configuration,
                fingerprints={
                    "dataset": dataset.fingerprint,
                    "sids": dataset.sid_fingerprint,
                    "sft": start.fingerprint,
                    "algorithm": source_hash(request.entry),
                },
                versions=versions(),
                commit=commit(),
                hardware={**hardware(str(workers.device)), "processes": workers.count},
                budget_limit=request.budget.text if request.budget else None,
                spent=spent,
                sft={split: result.metrics for split, result in before.items()},
                metrics={split: result.metrics for split, result in after.items()},
                ceiling=dataset.ceiling,
                started=started,
                finished=datetime.now(UTC),
            )
            path = folder / RECORD_FILE
            if workers.is_main:
                save_policy(policy, folder / "policy")
                outcomes = join_outcomes({s: result.outcomes for s, result in after.items()})
                write_record(folder, record, outcomes, curves)
                shutil.rmtree(folder / "checkpoints", ignore_errors=True)
            workers.wait()
            tracker.finish(path, "FINISHED")
    return path


def find_equal(request: Request, workers: Workers, progress: Progress) -> Path | None:
    """Return the record of an equal run that is finished, or None.

    Args:
        request: what is asked for.
        workers: agree on what is found.
        progress: shows the training of the SFT start, if there is none yet.

    Raises:
        UserError: on bad input.
    """
    _, _, digest = _begin(request, workers, progress)
    return find_finished(request.output / request.dataset.name, digest, workers)


def _begin(
    request: Request, workers: Workers, progress: Progress
) -> tuple[SFTStart, dict[str, Any], str]:
    """Return the SFT start, the track, and the hash of all that makes two runs equal."""
    dataset, settings = request.dataset, request.settings
    backbone = find_backbone(request.backbone)
    prompt = _fitting_prompt(request, backbone)
    start = sft_start(backbone, dataset, settings, request.data_dir, workers, progress)
    track = _track(request, start, prompt, workers)
    return start, track, _digest(request, track)


def _fitting_prompt(request: Request, backbone: Backbone) -> str:
    """Return the name of the prompt format; refuse a backbone that was trained on another."""
    prompt = prompt_name(backbone, request.settings)
    codes_per_level = request.dataset.catalog.codes_per_level
    check_policy_fits(Path(request.backbone), codes_per_level, prompt)
    return prompt


def _train_and_evaluate(
    request: Request,
    backbone: Backbone,
    start: SFTStart,
    ledger: Ledger,
    folder: Path,
    workers: Workers,
    progress: Progress,
    tracker: NullTracker,
) -> tuple[Policy, pd.DataFrame, dict[str, Evaluation]]:
    dataset, settings, algorithm = request.dataset, request.settings, request.algorithm
    torch.manual_seed(request.seed)
    policy = make_policy(
        backbone,
        dataset,
        settings,
        workers.device,
        weights=start.folder / "policy",
        algorithm=algorithm,
    )
    policy.meter = ledger
    add_adapters(policy, settings.lora_rank)
    optimization = Optimization(
        policy,
        workers,
        learning_rate=algorithm.hyperparameters.learning_rate or backbone.learning_rate,
        head_learning_rate=algorithm.head_learning_rate or backbone.sft_learning_rate,
        weight_decay=settings.weight_decay,
        warmup=settings.warmup,
        max_grad_norm=settings.max_grad_norm,
    )
    embeddings = None
    if algorithm.uses_embeddings:
        found = sid_embeddings(dataset, settings.embeddings, request.data_dir, workers)
        embeddings = torch.from_numpy(found).to(workers.device)
    stepper: Stepper
    if algorithm.on_policy:
        stepper = RolloutStepper(
            policy,
            algorithm,
            dataset.train,
            optimization,
            ledger,
            workers,
            group_size=settings.group_size,
            prompts_per_step=settings.prompts_per_step,
            seed=request.seed,
            embeddings=embeddings,
        )
    else:
        stepper = SupervisedStepper(
            policy,
            dataset.train,
            optimization,
            ledger,
            workers,
            batch=settings.sft_batch,
            seed=request.seed,
            phase="update",
        )
    limit = Limit(request.budget, settings.steps)
    curves = train(
        stepper, optimization, ledger, limit, workers, folder / "checkpoints", progress, tracker
    )
    merge_adapters(policy)
    with ledger.phase("evaluation"):
        results = {
            split: evaluate(
                policy,
                dataset.splits[split],
                dataset.catalog,
                workers,
                settings.beam_width,
                progress,
                title=split,
                algorithm=algorithm,
                sampling=Sampling.of(settings),
            )
            for split in ("valid", "test")
        }
    return policy, curves, results


def _digest(request: Request, track: dict[str, Any]) -> str:
    """Hash all that makes two runs equal."""
    what = {
        **_configuration(request),
        "algorithm": source_hash(request.entry),
        "benchmark": benchmark_version(),
        "seed": request.seed,
        "track": track,
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()


def _configuration(request: Request) -> dict[str, Any]:
    return {
        "hyperparameters": dataclasses.asdict(request.algorithm.hyperparameters),
        "settings": request.settings.resolved(),
    }


def _track(request: Request, start: SFTStart, prompt: str, workers: Workers) -> dict[str, Any]:
    """Return all that a comparison holds fixed."""
    settings, dataset, folder = request.settings, request.dataset, Path(request.backbone)
    track: dict[str, Any] = {
        # A folder's place is nobody's business; its weights are in the SFT start's fingerprint.
        "backbone": folder.resolve().name if folder.is_dir() else request.backbone,
        "beam_width": settings.beam_width,
        "budget": f"{settings.steps} steps of {settings.prompts_per_step} prompts",
        "dataset": dataset.fingerprint,
        "decoding": request.algorithm.decoding,
        "dtype": settings.dtype,
        "group_size": settings.group_size,
        "logprob_space": settings.logprob_space,
        "lora_rank": settings.lora_rank,
        "prompt": prompt,
        "samples": f"{settings.pass_samples} at temperature {settings.pass_temperature:g}, "
        f"top-p {settings.pass_top_p:g}",
        "sft": start.fingerprint,
        "sids": dataset.sid_fingerprint,
    }
    if request.budget is not None:
        track["budget"] = request.budget.text
        if request.budget.kind == "seconds":
            # A second is worth what the machine makes of it.
            machine = hardware(str(workers.device))
            track["hardware"] = {k: v for k, v in machine.items() if k != "memory_bytes"}
            track["processes"] = workers.count
            track["threads"] = torch.get_num_threads()
    return track


def _summary(results: dict[str, Evaluation]) -> str:
    """Write the figures that people look for first."""
    metrics = results["test"].metrics
    names = [name for name in ("HR@1", "HR@10", "NDCG@10", "sid/HR@10") if name in metrics]
    return "test " + "  ".join(f"{name} {metrics[name]:.4f}" for name in names)
