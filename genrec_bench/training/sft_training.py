"""The SFT stage: what is common to all algorithms, trained until validation says to stop."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from genrec_bench.data.dataset import Dataset
from genrec_bench.errors import StorageError, UserError
from genrec_bench.policy.adapters import add_adapters, merge_adapters
from genrec_bench.policy.added_tokens import start_codes
from genrec_bench.policy.backbones import Backbone, make_policy
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.precision import shrink_frozen
from genrec_bench.policy.prompts import PromptFormat
from genrec_bench.progress import Progress
from genrec_bench.storage.cached import (
    FILES,
    Unsound,
    check_files,
    digests_of,
    read_sealed,
    sealed,
)
from genrec_bench.storage.digests import files_digest, json_digest
from genrec_bench.storage.field_kinds import Count, Line, Number, Scalars, Sha256, Word
from genrec_bench.storage.files import write_json
from genrec_bench.storage.folders import remove
from genrec_bench.storage.validation import checked
from genrec_bench.training.best_weights import SCORE, BestWeights
from genrec_bench.training.checkpoints import HEADS, save_policy
from genrec_bench.training.curriculum import CurriculumStepper, batches_of_epoch
from genrec_bench.training.evaluate import validation
from genrec_bench.training.ledger import Cost, Ledger
from genrec_bench.training.loop import Limit, Watch, total_spent, train
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.settings import Settings
from genrec_bench.training.sft_price import sft_price
from genrec_bench.training.sft_tasks import task_weights, visits_of_epoch
from genrec_bench.training.supervised_steps import SupervisedStepper
from genrec_bench.training.task_steps import TaskStepper
from genrec_bench.training.traces import load_traces
from genrec_bench.training.workers import Workers

START_FILE = "sft.json"
"""Written last: a stage whose folder has it is finished."""

CHECKPOINTS = "checkpoints"


@dataclass(frozen=True)
class _Key:
    backbone: Line
    benchmark: Word
    dataset: Line
    prompt: Word
    settings: Scalars
    sids: Line


@dataclass(frozen=True)
class _Look:
    step: Count
    loss: Number


@dataclass(frozen=True)
class StartContent:
    """What `START_FILE` says; it may say more.

    Attributes:
        key: all that the start depends on.
        spent: by phase of the ledger.
        curve: a row for each look at validation data.
    """

    key: _Key
    spent: Mapping[Word, Cost]
    weights: Sha256
    curve: tuple[_Look, ...]

    @property
    def cost(self) -> Cost:
        """What training it took; nothing is charged to SFT where the backbone is the start."""
        return self.spent.get("sft", Cost())

    @property
    def steps(self) -> int:
        """How many steps were taken: there is a look at the end, and none without a step."""
        return max((look.step for look in self.curve), default=0)


def start_content(content: object, where: object) -> StartContent:
    """Return what a start's file says; Unsound, naming `where`, if it is not what one says."""
    found, wrong = checked(StartContent, content, extra="ignore")
    if found is None:
        raise Unsound(f"{where}: {'; '.join(wrong)}")
    return found


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
        folder: gets the policy, the ledger, the curve and the hash of the weights.
        key: all that the start depends on, kept beside it.

    Raises:
        UserError: a loss is not finite, or the disk refuses.
    """
    if workers.is_main:
        # Without START_FILE, any evaluation in the folder belongs to weights that are gone.
        for path in folder.iterdir() if folder.is_dir() else ():
            if path.name != CHECKPOINTS:
                remove(path)
    torch.manual_seed(settings.sft_seed)
    ledger = Ledger(workers.device)
    policy = make_policy(backbone, dataset, settings, workers.device)
    if settings.sft_code_tokens == "titles" and not start_codes(policy, dataset.catalog):
        raise UserError(
            f"sft_code_tokens=titles: --backbone {backbone.name} knows the tokens of all codes "
            "already; leave it out"
        )
    add_adapters(policy, settings.lora_rank)
    policy.meter = ledger
    optimization = Optimization(
        policy,
        workers,
        learning_rate=settings.sft_learning_rate or backbone.sft_learning_rate,
        weight_decay=settings.sft_weight_decay,
        warmup=settings.warmup,
        max_grad_norm=settings.max_grad_norm,
    )
    stepper = _stepper(policy, dataset, settings, optimization, ledger, workers)
    steps_of_epoch = len(stepper) / settings.sft_batch
    num_steps = math.ceil(settings.sft_epochs * steps_of_epoch)
    curves: list[dict[str, float]] = []
    best = BestWeights(policy, curves)

    def enough() -> bool:
        found = [score for _, score in best.looks()]
        return bool(found) and len(found) - 1 - found.index(max(found)) >= settings.sft_patience

    watch = Watch(
        count=0,
        look=validation(
            policy, dataset, ledger, workers, settings.sft_valid_examples, settings.sft_seed
        ),
        every=max(1, round(steps_of_epoch / settings.sft_evaluations)),
        told=lambda share, figures: best.told(),
        enough=enough,
        modules={"best": best.module},
    )
    said = "training the SFT start, once for all runs that share it"
    if num_steps and workers.is_main and not progress.quiet:
        said += f": {sft_price(policy, dataset, settings, stepper, workers)}"
    progress.say(said)
    # Without a step to take, the start is the backbone as it is.
    if num_steps:
        train(
            stepper,
            optimization,
            ledger,
            Limit(None, num_steps),
            workers,
            folder / CHECKPOINTS,
            progress,
            watch,
            curves,
            title="SFT",
        )
        best.put_back()
    merge_adapters(policy)
    if settings.precision == "bf16":
        # As whoever starts here reads it, and as policies that are stored as adapters find it.
        shrink_frozen(policy.backbone)
    spent = total_spent(ledger, workers)
    if workers.is_main:
        save_policy(policy, folder / "policy")
        content = {
            "curve": [
                {"step": row["step"], "loss": row["loss"], "NDCG@10": row[SCORE]}
                for row in curves
                if SCORE in row
            ],
            "key": key,
            "spent": spent,
            "weights": weights_hash(folder / "policy"),
        }
        write_json(folder / START_FILE, _sealed(folder, content))
        remove(folder / CHECKPOINTS)
    workers.wait()


def sequences_of_epoch(prompt_format: PromptFormat, dataset: Dataset, settings: Settings) -> int:
    """Return how many sequences SFT visits in an epoch, of next-item and all else."""
    chains = len(prompt_format.chains(dataset.train, settings.sft_targets))
    sequences = sum(visits_of_epoch(chains, task_weights(settings.sft_tasks)))
    if not settings.sft_traces:
        return sequences
    traces = len(load_traces(settings.sft_traces, dataset))
    return settings.sft_batch * sum(batches_of_epoch(sequences, traces, settings.sft_batch))


def _stepper(
    policy: Policy,
    dataset: Dataset,
    settings: Settings,
    optimization: Optimization,
    ledger: Ledger,
    workers: Workers,
) -> SupervisedStepper:
    """Return what learns next-item, and other tasks where there are any."""
    weights = task_weights(settings.sft_tasks)
    parts = (optimization, ledger, workers)
    options: dict[str, Any] = {
        "batch": settings.sft_batch,
        "seed": settings.sft_seed,
        "phase": "sft",
        "targets": settings.sft_targets,
    }
    if settings.sft_traces:
        traces = load_traces(settings.sft_traces, dataset)
        if traces.sha256 != settings.traces_sha256:
            raise UserError(f"sft_traces={settings.sft_traces}: was changed since the run began")
        options["traces"] = traces
        options |= {"epochs": settings.sft_epochs, "pace": settings.sft_trace_pace}
        return CurriculumStepper(policy, dataset, weights, *parts, **options)
    if weights:
        return TaskStepper(policy, dataset, weights, *parts, **options)
    return SupervisedStepper(policy, dataset.train, *parts, **options)


def is_sound(folder: Path, key: Mapping[str, Any]) -> bool:
    """Return whether a folder holds a start that can be believed; False if there is none.

    One without a seal, from before there were any, is believed if its weights are those that it
    names: what it cost cannot be found out. It is sealed then.

    Args:
        key: all that it must depend on.

    Raises:
        Unsound: it cannot be believed.
    """
    done = folder / START_FILE
    if not done.is_file():
        return False
    content, has_seal = read_sealed(done)
    if json_digest(content.get("key")) != json_digest(key):
        raise Unsound(f"{done}: was made of something else")
    found = start_content(content, done)
    if has_seal:
        check_files(folder, content.get(FILES))
    if found.weights != weights_hash(folder / "policy"):
        raise Unsound(f"{folder}: its weights were changed")
    if not has_seal:
        with contextlib.suppress(StorageError):  # Of a data directory that is only read.
            write_json(done, _sealed(folder, content))
    return True


def _sealed(folder: Path, content: Mapping[str, Any]) -> dict[str, Any]:
    files = (path for path in (folder / "policy").iterdir() if path.is_file())
    return sealed({**content, FILES: digests_of(folder, files)})


def weights_hash(folder: Path) -> str:
    """Return the fingerprint of a saved policy's weights, without its heads."""
    files = sorted(p for p in folder.glob("*.safetensors") if p.name != HEADS)
    return files_digest(files)
