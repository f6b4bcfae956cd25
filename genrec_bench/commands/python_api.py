"""The Python API: what the commands do, for programs and notebooks. `genrec_bench` lends the names.

Functions may be called in any thread. They set no signal handlers and leave standard output and
torch's generators as they are. Training takes turns: torch has one generator for all threads, so a
second call waits for the first. Lines on how far work has come go to stderr unless ``quiet``.
"""

from __future__ import annotations

import argparse
import contextlib
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from genrec_bench.errors import UserError, one_line, storage_errors
from genrec_bench.runs.jobs import Job, do, words_of
from genrec_bench.runs.options import DATASET, open_context
from genrec_bench.storage.python_files import foreign_ends
from genrec_bench.tracking.tracker import Tracker
from genrec_bench.training.hyperparameters import Value
from genrec_bench.training.launchers import check_alone

if TYPE_CHECKING:
    import pandas as pd

    from genrec_bench.runs.recommender import Recommender
    from genrec_bench.runs.record_schema import Record

Folder = str | Path

FIRST = ("path", "dataset", "algorithm", "control", "seed", "complete", "track_id", "run_id")
"""Columns of records that come first."""

_turn = threading.RLock()


@dataclass(frozen=True)
class _Kind:
    """What an argument must be, in words, and whether a value is one."""

    what: str
    holds: Callable[[Any], bool]

    @property
    def or_none(self) -> _Kind:
        """The same, of an argument that may be left out."""
        return _Kind(self.what, lambda value: value is None or self.holds(value))


def _is_list(value: object, of: type) -> bool:
    """Return whether a value is a list of such things, an array too, and neither text nor table."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Collection):
        return False
    return all(isinstance(each, of) for each in value)


_TEXT = _Kind("text", lambda value: isinstance(value, str))
_BUDGET = _Kind("text with a unit, such as '2xsft' or '90s'", _TEXT.holds).or_none
_WHOLE = _Kind("a whole number", lambda value: isinstance(value, Integral))
_PATH = _Kind("a path", lambda value: isinstance(value, str | Path))
_LIST = _Kind("a list of texts", lambda value: _is_list(value, str)).or_none
_SEEDS = _Kind(
    "a whole number, or a list of them",
    lambda value: isinstance(value, Integral) or _is_list(value, Integral),
).or_none
_MAPPING = _Kind(
    "a mapping of names to values",
    lambda value: isinstance(value, Mapping) and _is_list([*value], str),
).or_none


def _check(kind: _Kind, **given: object) -> None:
    """Raise UserError for the first argument that is not of its kind: nobody else checks types."""
    for name, value in given.items():
        if not kind.holds(value):
            raise UserError(one_line(f"{name}={value!r}: must be {kind.what}"))


@dataclass(frozen=True, eq=False)
class Comparison:
    """What came of a comparison.

    Attributes:
        verdict: the board's first sentences.
        summary: what the command prints: rows, tests, what failed, the bill.
        folder: holds ``board.html``, ``board.md`` and ``board.csv``.
        table: the board, one line for each row and quantity, as ``board.csv`` has it.
        records: one row a run, see `load_records`.
        failures: what failed and why; empty if nothing did.
    """

    verdict: str
    summary: str
    folder: Path
    table: pd.DataFrame
    records: pd.DataFrame
    failures: tuple[str, ...]

    @property
    def page(self) -> Path:
        """The board as a page for a browser."""
        return self.folder / "board.html"

    def __str__(self) -> str:
        return self.summary


def run(
    algorithm: str,
    dataset: str = DATASET,
    *,
    budget: str | None = None,
    seed: int = 0,
    backbone: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Value] | None = None,
    output: Folder = "runs",
    data_dir: Folder | None = None,
    reuse: bool = True,
    mlflow: bool = False,
    quiet: bool = False,
) -> Record:
    """Train an algorithm from the SFT start, evaluate it, and return the record.

    A call that is interrupted goes on when it is made again.

    Args:
        algorithm: a name, or the path of a Python file.
        budget: such as ``2xsft``, ``90s``, ``3e13flop`` or ``20Mtok``; None for a number of steps.
        backbone: ``tiny``, a folder, or a name on the Hugging Face hub; by default the preset's, or
            else ``tiny``.
        preset: name or file of a paper's settings, for all that is not said here.
        settings: hyperparameters and settings, as ``--set`` takes them.
        output: where runs are kept.
        data_dir: prepared data and SFT starts; by default as for the commands.
        reuse: whether an equal run that is finished will do.
        mlflow: whether MLflow is told.

    Raises:
        UserError: a mistake in what was asked for; a run that fails leaves a record that says so.
    """
    from genrec_bench.runs.records import read_record
    from genrec_bench.runs.run_folder import saw

    _check(_TEXT, algorithm=algorithm, dataset=dataset)
    _check(_TEXT.or_none, backbone=backbone, preset=preset)
    _check(_BUDGET, budget=budget)
    _check(_WHOLE, seed=seed)
    _check(_MAPPING, settings=settings)
    _check(_PATH, output=output)
    _check(_PATH.or_none, data_dir=data_dir)
    options = argparse.Namespace(
        dataset=dataset,
        backbone=backbone,
        preset=preset,
        budget=budget,
        set=list(words_of(settings or {})),
        data_dir=data_dir,
        output=output,
        no_mlflow=not mlflow,
        quiet=quiet,
    )
    options.typed = ["run", algorithm, "--seed", str(seed)]
    for name in ("dataset", "backbone", "preset", "budget", "data_dir", "output"):
        if getattr(options, name) is not None:
            options.typed += [f"--{name.replace('_', '-')}", str(getattr(options, name))]
    options.typed += ["--set", *options.set] if options.set else []
    job = Job(algorithm, algorithm, seed=seed)
    with _our_turn():
        context = open_context(options, Tracker, [job])
        path = do(job, context, reuse=reuse)
        record = read_record(path)
        saw(path)
        return record


def compare(
    dataset: str = DATASET,
    algorithms: Sequence[str] | None = None,
    *,
    quick: bool = False,
    budget: str | None = None,
    seeds: int | Sequence[int] | None = None,
    controls: Sequence[str] | None = None,
    tuning_budget: str | None = None,
    trial_budget: str | None = None,
    backbone: str | None = None,
    preset: str | None = None,
    settings: Mapping[str, Value] | None = None,
    output: Folder = "runs",
    data_dir: Folder | None = None,
    workers: int = 1,
    mlflow: bool = False,
    quiet: bool = False,
) -> Comparison:
    """Tune algorithms alike, run them on several seeds, and make the board.

    Arguments are the options of ``genrec-bench compare``, which tells their defaults. What is
    finished is found again, and a call that is interrupted goes on when it is made again.

    Args:
        quick: a first answer without tuning.
        seeds: how many, or which.
        workers: processes that do independent parts at once.

    Raises:
        UserError: a mistake in what was asked for.
    """
    import pandas as pd

    from genrec_bench.boards.verdict import verdict
    from genrec_bench.commands import compare_command
    from genrec_bench.studies.comparison.report import summary

    _check(_TEXT, dataset=dataset)
    _check(_TEXT.or_none, backbone=backbone, preset=preset)
    _check(_BUDGET, budget=budget, tuning_budget=tuning_budget, trial_budget=trial_budget)
    _check(_LIST, algorithms=algorithms, controls=controls)
    _check(_SEEDS, seeds=seeds)
    _check(_WHOLE, workers=workers)
    _check(_MAPPING, settings=settings)
    _check(_PATH, output=output)
    _check(_PATH.or_none, data_dir=data_dir)
    told = {
        "--dataset": dataset,
        "--backbone": backbone,
        "--preset": preset,
        "--budget": budget,
        "--algorithms": None if algorithms is None else ",".join(algorithms),
        "--controls": None if controls is None else ",".join(controls),
        "--tuning-budget": tuning_budget,
        "--trial-budget": trial_budget,
        "--output": output,
        "--data-dir": data_dir,
        "--workers": workers,
    }
    if isinstance(seeds, Collection):
        told["--seed" if len(seeds) == 1 else "--seeds"] = ",".join(map(str, seeds))
    elif seeds is not None:
        told["--seeds"] = seeds
    words = [f"{option}={value}" for option, value in told.items() if value is not None]
    if settings:
        words += ["--set", *words_of(settings)]
    words += ["--quick"] * quick + ["--no-mlflow"] * (not mlflow)
    parser = _Words()
    compare_command.add_options(parser)
    options = parser.parse_args(words)
    options.quiet, options.typed = quiet, ["compare", *words]
    with _our_turn():
        context = open_context(options, Tracker, compare_command.first_jobs(options))
        result, folder, board, more = compare_command.compared(options, context)
    said = [text for section in board.sections for text in verdict(board, section)]
    return Comparison(
        verdict="\n".join(said),
        summary="\n\n".join(filter(None, [summary(result, folder, board), more])),
        folder=folder,
        table=pd.read_csv(folder / "board.csv"),
        records=load_records(*(run.record for run in result.runs)),
        failures=tuple(f"{what}: {failure.reason}" for _, what, failure in result.failures),
    )


def load_records(*places: Folder) -> pd.DataFrame:
    """Return records as a table, one row a run.

    Columns are the record's keys, joined by dots where one lies in another, such as
    ``metrics.test.NDCG@10`` or ``configuration.settings.beam_width``, after ``path``. A record that
    does not hold is left out with a warning.

    Args:
        places: records, or folders at any depth above them; by default ``runs``.

    Raises:
        UserError: a place is not there.
    """
    import pandas as pd

    from genrec_bench.boards.collecting import record_paths
    from genrec_bench.runs.records import read_record

    for given in places:
        _check(_PATH, place=given)
    paths: list[Path] = []
    for place in map(Path, places or ("runs",)):
        if not place.exists():
            raise UserError(f"{place}: there is no such record or folder")
        paths += [place] if place.is_file() else record_paths([place])
    rows = []
    for path in dict.fromkeys(paths):
        try:
            rows.append({"path": str(path), **read_record(path)})
        except UserError as error:
            warnings.warn(f"left out: {error}", UserWarning, stacklevel=2)
    table = pd.json_normalize(rows)
    first = [name for name in FIRST if name in table]
    return table[[*first, *(name for name in table if name not in first)]]


def load_policy(
    path: Folder, *, algorithm: str | None = None, data_dir: Folder | None = None
) -> Recommender:
    """Load a trained policy, which recommends items to histories.

    Args:
        path: a run's record or folder, or the folder of a policy.
        algorithm: name or file of an algorithm that ranks in a way of its own, where it is not
            found by its name.
        data_dir: has the SFT start of a policy that is stored as an adapter; by default as for the
            commands.

    Raises:
        UserError: something is missing, damaged, or does not fit.
    """
    from genrec_bench.runs.opened_policy import open_policy
    from genrec_bench.runs.options import quieten

    _check(_PATH, path=path)
    _check(_PATH.or_none, data_dir=data_dir)
    _check(_TEXT.or_none, algorithm=algorithm)
    with _our_turn():
        quieten()
        place = None if data_dir is None else str(data_dir)
        return open_policy(Path(path), algorithm=algorithm, data_dir=place)


class _Words(argparse.ArgumentParser):
    """Reads options without a command line: mistakes are raised."""

    def error(self, message: str) -> NoReturn:
        raise UserError(message)


@contextlib.contextmanager
def _our_turn() -> Iterator[None]:
    """Wait for others who train, and leave torch's generators as they were found."""
    check_alone("a call from Python")
    with _turn:
        import torch

        devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
        with torch.random.fork_rng(devices=devices), storage_errors(), foreign_ends():
            yield
