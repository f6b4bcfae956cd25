"""A trained policy evaluated once more, with words that change inference alone."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from genrec_bench import benchmark_version
from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import Context, Job, configure, load_policy, split_words
from genrec_bench.runs.registry import source_hash
from genrec_bench.storage.digests import json_digest
from genrec_bench.storage.files import read_json, write_atomically
from genrec_bench.training.evaluate import Sampling, evaluate

Metrics = Mapping[str, float]


def with_words(job: Job, words: Sequence[str]) -> Job:
    """Return a job with more words of ``--set``, which replace its own for the same keys."""
    texts = split_words(job.assignments) | split_words(words)
    return dataclasses.replace(
        job, assignments=tuple(f"{key}={text}" for key, text in texts.items())
    )


def evaluate_again(
    record: Path, job: Job, words: Sequence[str], split: str, context: Context
) -> Metrics:
    """Return the metrics of a run's policy under other words.

    They are kept beside the record, so that a policy is evaluated with the same words once.

    Args:
        record: path of the finished run's record.
        job: the run's.
        words: ``key=value``, of hyperparameters or settings.
        split: what to evaluate on.
        context: the run's.

    Returns:
        By name, see ``evaluate.evaluate``.

    Raises:
        UserError: the saved policy or what was kept cannot be used.
    """
    job = with_words(job, words)
    entry, algorithm, settings = configure(job, context)
    key = {
        "algorithm": source_hash(entry),
        "benchmark": benchmark_version(),
        "hyperparameters": dataclasses.asdict(algorithm.hyperparameters),
        "settings": settings.resolved(),
        "split": split,
    }
    digest = json_digest(key)
    file = record.parent / f"evaluation-{digest[:16]}.json"
    workers = context.workers
    if not workers.agree(file.is_file()):
        context.progress.say(f"evaluating {record.parent.name} with {' '.join(words)}")
        policy, algorithm = load_policy(record, job, context)
        found = evaluate(
            policy,
            context.dataset.splits[split],
            context.dataset.catalog,
            workers,
            settings.beam_width,
            context.progress,
            title=split,
            algorithm=algorithm,
            sampling=Sampling.of(settings),
        )
        if workers.is_main:
            content = {"key": key, "metrics": found.metrics}
            write_atomically(file, json.dumps(content, indent=2, sort_keys=True).encode())
        workers.wait()
    metrics = read_json(file).get("metrics")
    if not isinstance(metrics, dict):
        raise UserError(f"{file}: is damaged; delete it")
    return metrics
