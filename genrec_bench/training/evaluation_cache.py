"""Evaluations that are kept, so that a policy is evaluated once on each split and in each way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from genrec_bench.data.dataset import Dataset
from genrec_bench.errors import StorageError
from genrec_bench.policy.policy import Policy
from genrec_bench.progress import Progress
from genrec_bench.storage.bounded_json import load_json
from genrec_bench.storage.digests import content_digest, file_sha256
from genrec_bench.storage.files import write_atomically, write_json
from genrec_bench.storage.parquet import parquet_bytes, read_frame
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.evaluate import Evaluation, evaluate, judged
from genrec_bench.training.ledger import Cost, Ledger
from genrec_bench.training.loop import total_spent
from genrec_bench.training.own_metrics import OwnMetrics
from genrec_bench.training.settings import Settings
from genrec_bench.training.workers import Workers


@dataclass(frozen=True, kw_only=True)
class KeptEvaluation(Evaluation):
    """What was found on one split, and what that cost when it was done."""

    cost: Cost


def evaluate_once(
    file: Path,
    policy: Callable[[], Policy],
    dataset: Dataset,
    split: str,
    settings: Settings,
    workers: Workers,
    progress: Progress,
    *,
    title: str,
    algorithm: Algorithm | None = None,
    own: OwnMetrics | None = None,
) -> KeptEvaluation:
    """Return an evaluation from its file, or evaluate now and write the file.

    Args:
        file: a JSON file whose name and folder say what is evaluated and how; the outcomes lie
            beside it as ``.parquet``.
        policy: makes the policy, if it is needed.
        split: to evaluate on; no example of another one is read.
        own: metrics of one's own to compute too.

    Raises:
        UserError: a metric of one's own is at fault.
        StorageError: the files are damaged or cannot be written.
    """
    examples = judged(dataset, split, settings)
    if not workers.agree(file.is_file()):
        loaded = policy()
        loaded.meter = ledger = Ledger(workers.device)
        with ledger.phase("evaluation"):
            found = evaluate(
                loaded,
                examples,
                dataset.catalog,
                workers,
                settings.beam_width,
                progress,
                title=title,
                algorithm=algorithm,
                sampling=settings,
                world=dataset.world,
                cutoffs=settings.cutoffs,
            )
        figures = own.figures(found.ranked(examples)) if own is not None else {}
        cost = total_spent(ledger, workers)["evaluation"]
        if workers.is_main:
            table = parquet_bytes(found.outcomes)
            write_atomically(file.with_suffix(".parquet"), table)
            content = {
                "cost": cost,
                "metrics": found.metrics | figures,
                "outcomes": content_digest(table),
            }
            # Written last: it says that both are there.
            write_json(file, content)
        workers.wait()
    try:
        content = load_json(file)
        outcomes = file.with_suffix(".parquet")
        if file_sha256(outcomes) != content["outcomes"]:
            raise ValueError
        return KeptEvaluation(
            content["metrics"], read_frame(outcomes), cost=Cost(**content["cost"])
        )
    except (KeyError, OSError, TypeError, ValueError):
        raise StorageError(
            f"{file} or the .parquet beside it is damaged; delete both to evaluate again"
        ) from None
