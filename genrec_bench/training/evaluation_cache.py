"""Evaluations that are kept, so that a policy is evaluated once on each split and in each way."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genrec_bench.data.dataset import Dataset
from genrec_bench.errors import StorageError
from genrec_bench.policy.policy import Policy
from genrec_bench.progress import Progress
from genrec_bench.storage.cached import (
    FILES,
    MADE_OF,
    Unsound,
    check_files,
    check_made_of,
    digests_of,
    read_sealed,
    sealed,
)
from genrec_bench.storage.digests import json_digest
from genrec_bench.storage.field_kinds import Figures
from genrec_bench.storage.files import write_atomically, write_json
from genrec_bench.storage.parquet import parquet_bytes, read_frame
from genrec_bench.storage.validation import checked
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.evaluate import Evaluation, evaluate, judged
from genrec_bench.training.ledger import Cost, Ledger
from genrec_bench.training.loop import total_spent
from genrec_bench.training.metrics import outcome_metrics
from genrec_bench.training.own_metrics import OwnMetrics
from genrec_bench.training.settings import Settings
from genrec_bench.training.workers import Workers


@dataclass(frozen=True, kw_only=True)
class KeptEvaluation(Evaluation):
    """What was found on one split, and what that cost when it was done."""

    cost: Cost


def evaluate_once(
    file: Path,
    evaluated: str,
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
            beside it as ``.parquet``. What cannot be believed is evaluated again.
        evaluated: a digest of the policy.
        policy: makes the policy, if it is needed.
        split: to evaluate on; no example of another one is read.
        own: metrics of one's own to compute too.

    Raises:
        UserError: a metric of one's own is at fault.
        StorageError: the files cannot be written.
    """
    examples = judged(dataset, split, settings)
    what = {
        "dataset": dataset.fingerprint,
        "file": file.name,
        "policy": evaluated,
        "sids": dataset.sid_fingerprint,
    }
    fault: str | None = None
    if workers.is_main:
        try:
            fault = None if _is_sound(file, what, len(examples), settings) else ""
        except Unsound as error:
            fault = str(error)
    fault = workers.agree(fault)
    if fault is not None:
        if fault:
            progress.say(f"{fault}; {title} is evaluated again")
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
            outcomes = file.with_suffix(".parquet")
            table = parquet_bytes(found.outcomes)
            write_atomically(outcomes, table)
            # Written last: it says that both are there.
            _write(file, {"cost": cost, "metrics": found.metrics | figures}, what)
        workers.wait()
    kept = _read(read_sealed(file)[0], file)
    outcomes = file.with_suffix(".parquet")
    try:
        return KeptEvaluation(dict(kept.metrics), read_frame(outcomes), cost=kept.cost)
    except (OSError, ValueError):
        raise StorageError(f"{outcomes}: is damaged; delete it to evaluate again") from None


@dataclass(frozen=True)
class _Kept:
    """What an evaluation's file says; it may say more."""

    metrics: Figures
    cost: Cost


def _read(content: object, file: Path) -> _Kept:
    kept, wrong = checked(_Kept, content, extra="ignore")
    if kept is None:
        raise Unsound(f"{file}: {'; '.join(wrong)}")
    return kept


def _write(file: Path, content: Mapping[str, Any], what: Mapping[str, str]) -> None:
    files = digests_of(file.parent, [file.with_suffix(".parquet")])
    write_json(file, sealed({**content, FILES: files, MADE_OF: json_digest(what)}))


def _is_sound(file: Path, what: Mapping[str, str], count: int, settings: Settings) -> bool:
    """Return whether there is an evaluation that can be believed; False if there is none.

    One without a seal, from before there were any, is sealed if its figures follow from its
    outcomes.

    Args:
        what: it must have been made of.
        count: how many examples it must have.

    Raises:
        Unsound: it cannot be believed.
    """
    if not file.exists():
        return False
    content, has_seal = read_sealed(file)
    outcomes, kept = file.with_suffix(".parquet"), _read(content, file)
    if has_seal:
        check_made_of(content, what, file)
        check_files(file.parent, content.get(FILES))
        return True
    check_files(file.parent, {outcomes.name: content.get("outcomes")})
    try:
        rows = read_frame(outcomes)
        found = outcome_metrics(
            rows, settings.beam_width, settings.pass_samples, cutoffs=settings.cutoffs
        )
        same = all(math.isclose(kept.metrics[name], value) for name, value in found.items())
    except (KeyError, OSError, TypeError, ValueError):
        same = False
    if not same or len(rows) != count:
        raise Unsound(f"{file}: its figures are not those of its outcomes")
    bare = {key: value for key, value in content.items() if key != "outcomes"}
    with contextlib.suppress(StorageError):  # Of a data directory that is only read.
        _write(file, bare, what)
    return True
