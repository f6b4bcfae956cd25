"""A trained policy evaluated once more, with words that change inference alone."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

from genrec_bench import benchmark_version
from genrec_bench.policy.policy import Policy
from genrec_bench.runs.jobs import Context, Job, configure, load_policy, split_words
from genrec_bench.runs.registry import source_hash
from genrec_bench.storage.digests import json_digest
from genrec_bench.storage.files import read_json
from genrec_bench.training.evaluation_cache import evaluate_once

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

    Raises:
        UserError: the saved policy or what was kept of it cannot be used.
    """
    job = with_words(job, words)
    entry, algorithm, settings = configure(job, context)
    key = {
        "algorithm": source_hash(entry),
        "benchmark": benchmark_version(),
        "hyperparameters": dataclasses.asdict(algorithm.hyperparameters),
        "settings": settings.resolved() | {"ks": settings.ks},
        "split": split,
    }

    def policy() -> Policy:
        context.progress.say(f"evaluating {record.parent.name} with {' '.join(words)}")
        return load_policy(record, job, context)[0]

    found = evaluate_once(
        record.parent / f"evaluation-{split}-{json_digest(key)[:16]}.json",
        str(read_json(record).get("sha256")),
        policy,
        context.dataset,
        split,
        settings,
        context.workers,
        context.progress,
        title=split,
        algorithm=algorithm,
    )
    return found.metrics
