"""A trial of a sweep: a run on a smaller budget that never sees a test example."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from genrec_bench.data.dataset import Dataset
from genrec_bench.errors import StorageError, UserError, one_line
from genrec_bench.progress import Progress, Steps
from genrec_bench.runs.jobs import Context, Job, request_of, split_words
from genrec_bench.runs.records import read_record
from genrec_bench.runs.run import find_equal, run
from genrec_bench.runs.run_folder import saw
from genrec_bench.runs.run_tracker import NullTracker, shown_name
from genrec_bench.studies.sweeps.result import KINDS, OBJECTIVE
from genrec_bench.training.ledger import of_training
from genrec_bench.training.loop import PRUNED, Pruned

LOOKED_AT = f"valid/{OBJECTIVE}"
"""The objective on a few validation examples, while a trial trains."""

NOTHING = dict.fromkeys(KINDS, 0.0)


@dataclass(frozen=True)
class Ending:
    """What became of a trial.

    Attributes:
        cost: what counts against its budget: seconds, flops and tokens.
        value: validation NDCG@10 if it is complete.
        reason: why it is not.
    """

    state: Literal["complete", "pruned", "failed"]
    cost: Mapping[str, float]
    value: float = 0.0
    reason: str = ""


def run_trial(
    job: Job, context: Context, tracker: NullTracker, give_up: Callable[[float, float], bool]
) -> Ending:
    """Run a trial, or what is left of it; what an earlier process has finished is found.

    Args:
        context: with the trial's budget, a folder of its own as the output folder, and a dataset
            that ``blind`` returned.
        give_up: is told the share of the budget spent and validation NDCG@10 at every look, and
            says whether the trial is not worth the rest.

    Raises:
        StorageError: the disk refuses; the trial goes on when it is mended.
    """

    def on_validation(share: float, figures: Mapping[str, float]) -> None:
        if give_up(share, figures[LOOKED_AT]):
            raise Pruned(f"{PRUNED}{100 * share:.0f}% of its budget")

    workers, quiet = context.workers, _BarsOf(context.progress)
    try:
        request = replace(request_of(job, context), splits=("valid",), strict=True)
        # The objective needs no samples, and drawing them costs as much as ranking.
        request = replace(request, settings=replace(request.settings, pass_samples=0))
    except StorageError:
        raise
    except UserError as error:  # values that exclude each other
        return _never_began(job, context, tracker, str(error))
    reason = ""
    try:
        # Killed between its record and its end in the study: what was paid for is done.
        record = find_equal(request, workers, quiet, failed=True)
        if record is None:
            record = run(request, workers, quiet, tracker, on_validation=on_validation)
        else:
            tracker.settle(record.parent)
        saw(record)
    except (StorageError, BrokenPipeError):
        raise
    # Whatever a point leads to is a finding about it, and no reason to end the sweep.
    except Exception as error:
        known = isinstance(error, UserError | Pruned)
        kind = "" if known else f"{type(error).__name__}: "
        reason = one_line(f"{kind}{error}")
        record = find_equal(request, workers, quiet, failed=True)
    if record is None:
        return _never_began(job, context, tracker, reason)
    content = read_record(record)
    cost = {kind: of_training(content["budget"]["spent"], kind) for kind in KINDS}
    if content["complete"]:
        return Ending("complete", cost, float(content["metrics"]["valid"][OBJECTIVE]))
    reason = content["failure"] or reason
    return Ending("pruned" if reason.startswith(PRUNED) else "failed", cost, reason=reason)


def blind(dataset: Dataset) -> Dataset:
    """Return the dataset without its test examples: whoever asks for them gets others."""
    return replace(dataset, splits={**dataset.splits, "test": dataset.valid})


def tidy(folder: Path) -> None:
    """Remove what a trial that has ended needs no more; records stay."""
    for name in ("checkpoints", "policy"):
        for path in folder.glob(f"*/*/{name}"):
            shutil.rmtree(path, ignore_errors=True)


def _never_began(job: Job, context: Context, tracker: NullTracker, reason: str) -> Ending:
    """Close a trial that did not become a run, so that MLflow hears of it all the same."""
    given = split_words(context.assignments) | split_words(job.assignments)
    tags = {"algorithm": Path(job.algorithm).stem, "dataset": context.dataset.name}
    name = shown_name(tags["algorithm"], job.seed)
    with tracker.track(context.output, name, given, tags) as tracked:
        tracked.failed = True
    return Ending("failed", NOTHING, reason=reason)


class _BarsOf(Progress):
    """Shows what a trial is at as another does, and leaves the lines to the sweep."""

    def __init__(self, other: Progress) -> None:
        super().__init__(quiet=True)
        self._other = other

    @contextlib.contextmanager
    def bar(self, title: str, total: float) -> Iterator[Steps]:
        """Show a piece of work as the other does."""
        with self._other.bar(title, total) as steps:
            yield steps
