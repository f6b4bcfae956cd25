"""Post-training: an algorithm trains the SFT start within its budget, and is evaluated."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from genrec_bench.data.dataset import Dataset
from genrec_bench.data.vectors.embeddings import sid_embeddings
from genrec_bench.data.worlds import Purchases
from genrec_bench.errors import UserError
from genrec_bench.policy.adapters import Adapter, add_adapters, merge_adapters
from genrec_bench.policy.added_tokens import added_rows, start_tokens
from genrec_bench.policy.backbones import Backbone, make_policy
from genrec_bench.policy.policy import Policy
from genrec_bench.progress import Progress
from genrec_bench.runs.request import Request, feedback_of
from genrec_bench.training.best_weights import BestWeights
from genrec_bench.training.budgets import Budget
from genrec_bench.training.evaluate import Evaluation, evaluate, judged, validation
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.loop import Limit, Watch, spent_of, train
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.settings import Settings
from genrec_bench.training.sft_start import SFTStart
from genrec_bench.training.steps import RolloutStepper
from genrec_bench.training.supervised_steps import Stepper, SupervisedStepper
from genrec_bench.training.workers import Workers

VALIDATION_SEED = 0
"""Chooses the validation examples, the same ones for all runs."""


def prepare(
    request: Request, backbone: Backbone, start: SFTStart, ledger: Ledger, workers: Workers
) -> tuple[Policy, Optimization, Stepper]:
    """Return the policy at the SFT start, metered, and what is needed to take steps from there."""
    dataset, settings, algorithm = request.dataset, request.settings, request.algorithm
    embeddings = None
    if algorithm.uses_embeddings:
        embeddings = device_embeddings(dataset, settings, request.data_dir, workers)
    torch.manual_seed(request.seed)
    policy = make_policy(
        backbone,
        dataset,
        settings,
        workers.device,
        weights=start.folder / "policy",
        tokens=algorithm.tokens,
        heads=algorithm.heads,
        embeddings=embeddings,
    )
    start_tokens(policy, algorithm.tokens)
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
        added_rows=added_rows(policy),
    )
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
            purchases=_purchases(request),
            anchor=settings.anchor,
            sft_batch=settings.sft_batch,
            sft_targets=settings.sft_targets,
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
            algorithm=algorithm,
            targets=settings.sft_targets,
        )
    return policy, optimization, stepper


def post_train(
    request: Request,
    backbone: Backbone,
    start: SFTStart,
    budget: Budget | None,
    ledger: Ledger,
    folder: Path,
    curves: list[dict[str, float]],
    on_validation: Callable[[float, dict[str, float]], None] | None,
    workers: Workers,
    progress: Progress,
) -> tuple[Policy, Adapter | None, dict[str, Evaluation]]:
    """Train from the SFT start within the budget, or the rest of it, and evaluate the policy.

    Args:
        budget: of the training, or None for the settings' number of steps.
        curves: an empty list, to be filled.

    Returns:
        The policy, adapters merged; these adapters, if any; and what was found on each split of the
        request.

    Raises:
        UserError: on a budget below one step, or a loss that is not finite.
        Pruned: as ``on_validation`` did.
    """
    dataset, settings, algorithm = request.dataset, request.settings, request.algorithm
    policy, optimization, stepper = prepare(request, backbone, start, ledger, workers)
    limit = Limit(budget, settings.steps, request.strict)
    watch = best = None
    if settings.keep == "best" and algorithm.trains:
        best = BestWeights(policy, curves)
    if settings.validations:
        look = validation(
            policy,
            dataset,
            ledger,
            workers,
            settings.validation_examples,
            VALIDATION_SEED,
            settings.beam_width,
            algorithm,
        )

        def told(share: float, figures: dict[str, float]) -> None:
            if best is not None:
                best.told()
            if on_validation is not None:
                on_validation(share, figures)

        modules = {} if best is None else {"best": best.module}
        watch = Watch(settings.validations, look, told, modules=modules)
    if algorithm.trains:
        train(stepper, optimization, ledger, limit, workers, folder, progress, watch, curves)
    else:
        _stand_still(stepper, ledger, limit, workers, watch, curves)
    if best is not None:
        progress.say(f"kept: the weights after step {best.put_back()} of {curves[-1]['step']:.0f}")
    adapter = merge_adapters(policy)
    with ledger.phase("evaluation"):
        results = {
            split: evaluate(
                policy,
                judged(dataset, split, settings),
                dataset.catalog,
                workers,
                settings.beam_width,
                progress,
                title=split,
                algorithm=algorithm,
                sampling=settings,
                world=dataset.world,
                cutoffs=settings.cutoffs,
            )
            for split in request.splits
        }
    own = {split: _with_own(request, split, found, progress) for split, found in results.items()}
    return policy, adapter, own


def _stand_still(
    stepper: Stepper,
    ledger: Ledger,
    limit: Limit,
    workers: Workers,
    watch: Watch | None,
    curves: list[dict[str, float]],
) -> None:
    """Evaluate what is not trained as it begins, after what it does before a first step."""
    stepper.begin()
    # Not after 0 steps, when heads that learn are untrained: here nothing is.
    looked = {} if watch is None else watch.look(1)
    shares = 0.0 if limit.budget is None else ledger.share(limit.budget)
    (share,) = workers.sum([shares])
    curves.append({"step": 0, "share": share, **looked, **spent_of(ledger, workers)})


def _with_own(request: Request, split: str, found: Evaluation, progress: Progress) -> Evaluation:
    """Add the metrics of one's own; what fails now must not cost the run, and is left out."""
    if request.own is None:
        return found
    try:
        own = request.own.figures(found.ranked(judged(request.dataset, split, request.settings)))
    except UserError as error:
        progress.say(f"warning: {error}; no metric of this file is in the record for {split}")
        return found
    return replace(found, metrics=found.metrics | own)


def device_embeddings(
    dataset: Dataset, settings: Settings, data_dir: Path, workers: Workers
) -> Tensor:
    """Return [num_sids, E] embeddings of SIDs for rewards and values, on the workers' device.

    Raises:
        UserError: as ``sid_embeddings``.
    """
    rows = workers.from_main(lambda: sid_embeddings(dataset, settings.embeddings, data_dir))
    return torch.from_numpy(rows).to(workers.device)


def _purchases(request: Request) -> Purchases | None:
    """Return what draws the targets of a run's rollouts; None where they are the logged ones."""
    dataset = request.dataset
    if dataset.world is None or feedback_of(request.settings, dataset) == "logged":
        return None
    return Purchases(dataset.world, dataset.train, request.seed)
