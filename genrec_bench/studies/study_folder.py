"""The folder of a study's results: named by what was asked for, and shown in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genrec_bench.runs.jobs import Context
from genrec_bench.storage.digests import json_digest
from genrec_bench.storage.files import write_atomically

DIGEST_LENGTH = 16
"""Hexadecimal digits in a folder's name."""


def study_folder(context: Context, place: str, request: object, name: str = "") -> Path:
    """Return the folder beside the runs of a dataset that belongs to a request.

    Args:
        place: the folder of all studies of this kind.
        request: all that makes two studies equal, as JSON holds it.
    """
    digest = json_digest(request)[:DIGEST_LENGTH]
    return context.output / context.dataset.name / place / (f"{name}-{digest}" if name else digest)


def write_study(
    context: Context,
    folder: Path,
    contents: Mapping[str, bytes],
    kind: str,
    name: str,
    parameters: Mapping[str, Any],
    *,
    failed: bool = False,
) -> None:
    """Write a study's files, in their order, and show them in MLflow.

    Raises:
        StorageError: the disk refuses.
    """
    for file, content in contents.items():
        write_atomically(folder / file, content)
    tags = {"kind": kind, kind: name}
    show_study(context, folder, folder.name, tags, parameters, failed=failed)


def show_study(
    context: Context,
    folder: Path,
    run_name: str,
    tags: Mapping[str, str],
    parameters: Mapping[str, Any],
    *,
    failed: bool = False,
) -> None:
    """Show a study in MLflow; the same study again goes on with its run, which its folder names."""
    dataset = context.dataset
    tags = {**tags, "dataset": dataset.name, "partial": str(dataset.partial).lower()}
    with context.tracker.track(folder, run_name, parameters, tags) as tracked:
        tracked.failed = failed
