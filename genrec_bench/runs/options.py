"""The options that commands share, for argparse; nothing slow is imported to read them."""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import pkgutil
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genrec_bench.progress import Progress
from genrec_bench.runs.jobs import Context, Crew, Job, configured, split_words
from genrec_bench.runs.preset_files import Preset, load_preset, preset_names
from genrec_bench.runs.run_tracker import NullTracker
from genrec_bench.storage.folders import check_writable
from genrec_bench.storage.secrets import told_words
from genrec_bench.training.budgets import parse_budget
from genrec_bench.training.launchers import launched

if TYPE_CHECKING:
    from genrec_bench.training.workers import Workers

MOST_SEED = 2**31 - 1
MOST_SEEDS = 1000
MOST_WORKERS = 512

DATASET, BACKBONE = "synthetic", "tiny"
"""What commands work on where nothing else is said."""

STARTS = "sft"
"""Folder of SFT starts in a data directory."""

BUDGET_HELP = "2xsft (times what the SFT start cost), 90s, 2h, 3e13flop or 20Mtok"


def whole_number(low: int, high: int | None = None) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``low``, at least 0, to ``high``, None for no limit."""
    most = math.inf if high is None else high
    limits = f"of at least {low}" if high is None else f"from {low} to {high}"

    def read(text: str) -> int:
        if text.isascii() and text.isdecimal() and low <= int(text) <= most:
            return int(text)
        raise argparse.ArgumentTypeError(f"{text}: must be a whole number {limits}")

    return read


one_seed = whole_number(0, MOST_SEED)


def several_seeds(text: str) -> tuple[int, ...]:
    """Read seeds: a number of them, which begin at 0, or each by itself, separated by commas."""
    if "," not in text:
        if not (text.isascii() and text.isdecimal() and 1 <= int(text) <= MOST_SEEDS):
            raise argparse.ArgumentTypeError(
                f"{text}: must be how many, from 1 to {MOST_SEEDS}, or each seed, such as 0,1,2; "
                "--seed N is a single one"
            )
        return tuple(range(int(text)))
    found = tuple(one_seed(part.strip()) for part in text.split(","))
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text}: a seed is given twice")
    return found


def add_seeds_options(parser: argparse.ArgumentParser, count: int | None, told: int) -> None:
    """Add ``--seeds`` and ``--seed``, the seeds of all rows as a tuple ``seeds``.

    Args:
        count: how many there are by default; None for a default that the command finds.
        told: how many ``--help`` says there are.
    """
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--seeds",
        type=several_seeds,
        default=None if count is None else tuple(range(count)),
        metavar="N|S,S,...",
        help="of each row: how many, on the seeds 0 to N-1, or each seed by itself, as 0,1,2; "
        f"default: {told}",
    )
    which.add_argument(
        "--seed",
        dest="seeds",
        type=lambda text: (one_seed(text),),
        default=argparse.SUPPRESS,
        metavar="S",
        help="a single one",
    )


def add_data_dir_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--data-dir``, which ``data_directory`` reads."""
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        help="folder of prepared data and SFT starts; default: $GENREC_BENCH_DATA, else a cache "
        "folder",
    )


def add_algorithm(parser: argparse.ArgumentParser, *, optional: bool = False) -> None:
    """Add the algorithm that a command is about; ``optional`` where a file may name it too."""
    action = parser.add_argument("algorithm", metavar="ALGO", help="name, or path of a Python file")
    if optional:
        action.nargs, action.required = "?", False
    completed(action, _algorithm_names)


def completed(action: argparse.Action, names: Callable[[], Iterable[str]]) -> None:
    """Have shells complete an argument by names, or else by files."""

    def complete(prefix: str, **_: object) -> list[str]:
        found = [name for name in names() if name.startswith(prefix)]
        if found:
            return found
        from argcomplete.completers import FilesCompleter

        return list(FilesCompleter()(prefix))

    # Argcomplete looks for it here; argparse does not know of it.
    action.completer = complete  # type: ignore[attr-defined]


def do_second_word(args: argparse.Namespace) -> int:
    """Do what the second word of a command on prepared data says; return its exit code."""
    from genrec_bench.data.dataset_store import data_directory

    args.data_dir = data_directory(args.data_dir)
    code: int = args.act(args)
    return code


def _algorithm_names() -> list[str]:
    """Return the names of the package's algorithms, without loading one."""
    from genrec_bench import algorithms

    return [module.name for module in pkgutil.iter_modules(algorithms.__path__)]


def _dataset_names() -> list[str]:
    from genrec_bench.data.cards import card_names

    return card_names()


def add_context_options(parser: argparse.ArgumentParser, *, budget: bool = True) -> None:
    """Add the options that ``context_of`` reads.

    Args:
        budget: whether the command has one budget, and not several that it reads itself.
    """
    dataset = parser.add_argument(
        "--dataset", default=DATASET, metavar="NAME", help=f"default: {DATASET}"
    )
    completed(dataset, _dataset_names)
    parser.add_argument(
        "--backbone", metavar="tiny|PATH|HUB_ID", help=f"default: {BACKBONE}, or the preset's"
    )
    preset = parser.add_argument(
        "--preset",
        metavar="NAME|FILE",
        help="a paper's own settings, for all that is not said here; `genrec-bench presets` lists "
        "them",
    )
    completed(preset, preset_names)
    parser.set_defaults(budget=None)
    if budget:
        parser.add_argument(
            "--budget", metavar="B", help=f"{BUDGET_HELP}; default: a number of steps"
        )
    parser.add_argument(
        "--set",
        action="extend",
        nargs="+",
        default=[],
        metavar="key=value",
        help="hyperparameters and settings; `genrec-bench algorithms NAME` lists them",
    )
    add_data_dir_option(parser)
    parser.add_argument("--output", default="runs", metavar="DIR", help="default: runs")
    parser.add_argument("--no-mlflow", action="store_true", help="do not log to MLflow")


def asked_preset(args: argparse.Namespace) -> Preset | None:
    """Return the preset that options name, if any; UserError where it cannot be used."""
    return None if args.preset is None else load_preset(args.preset)


def asked_backbone(args: argparse.Namespace) -> str:
    """Return the backbone that options name, or else their preset, or the default."""
    preset = asked_preset(args)
    return str(args.backbone or (preset.says.backbone if preset else BACKBONE))


def add_crew_options(parser: argparse.ArgumentParser, what: str) -> None:
    """Add who carries out independent jobs, which ``context_of`` reads; ``what`` they are."""
    parser.add_argument(
        "--workers",
        type=whole_number(1, MOST_WORKERS),
        metavar="N",
        help=f"{what} at once, in N processes that share out this machine's threads and GPUs; "
        "default: 1, and on a cluster as many as it has room for",
    )
    parser.add_argument(
        "--on",
        type=_cluster,
        metavar="ray|ray://HOST:PORT",
        help="have a Ray cluster do it: the one that this machine is part of, or another",
    )


def _cluster(text: str) -> str:
    if text == "ray" or (text.startswith("ray://") and len(text) > len("ray://")):
        return text
    raise argparse.ArgumentTypeError(f"{text}: must be ray or ray://HOST:PORT")


def crew_of(args: argparse.Namespace) -> Crew:
    """Return who carries out independent jobs; this process alone without the options for it."""
    cluster = getattr(args, "on", None) or ""
    return Crew(getattr(args, "workers", None) or (0 if cluster else 1), cluster)


@contextlib.contextmanager
def context_of(
    args: argparse.Namespace,
    tracker: Callable[[Path, str], NullTracker] | None = None,
    jobs: Sequence[Job] = (),
) -> Iterator[Context]:
    """Open the context that the options of ``add_context_options`` ask for; see `open_context`.

    In the body of the ``with`` statement standard output goes to stderr, since it is for results
    alone: print these after it.
    """
    with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
        yield open_context(args, tracker, jobs)


def open_context(
    args: argparse.Namespace,
    tracker: Callable[[Path, str], NullTracker] | None = None,
    jobs: Sequence[Job] = (),
) -> Context:
    """Return the context that the options of ``add_context_options`` ask for.

    Cheap checks come first: a typo should not wait for torch.

    Args:
        args: may have ``quiet`` too, where nobody waits, and ``typed``, the words for records.
        tracker: makes what is told of all runs, unless the options say ``--no-mlflow``, from the
            output folder and the name of the dataset; None for nothing.
        jobs: what the command is going to run, so far as it is known: refused before the dataset
            is made, if their algorithms or words are wrong.

    Raises:
        UserError: on a budget, a dataset or a backbone that cannot be used, folders that cannot be
            written, or words that are not key=value or fit no job.
    """
    budget = None if args.budget is None else parse_budget(args.budget)
    split_words(args.set)
    crew = crew_of(args)
    crew.check(budget)
    preset, backbone = asked_preset(args), asked_backbone(args)

    from genrec_bench.data.cards import load_card
    from genrec_bench.data.dataset_store import data_directory, split_name
    from genrec_bench.data.obtain import obtain

    data_dir = data_directory(None if args.data_dir is None else str(args.data_dir))
    load_card(split_name(args.dataset)[0])
    output = Path(args.output)
    check_writable(output, f"--output {output}")
    check_writable(data_dir / STARTS, f"cannot write to {data_dir} (--data-dir)")
    _check_jobs(args, jobs, data_dir)
    joined = _workers() if launched() > 1 else None
    silent = getattr(args, "quiet", False)
    quiet = silent or (joined is not None and not joined.is_main)
    # Who wants JSON is told as little beside it as ever.
    logged = not getattr(args, "json", False)
    dataset = obtain(args.dataset, data_dir, Progress(quiet=quiet, logged=logged))
    workers = joined or _workers()
    # Processes that share a run speak with one voice.
    if args.no_mlflow or not workers.is_main:
        tracker = None
    return Context(
        dataset=dataset,
        backbone=backbone,
        budget=budget,
        assignments=tuple(args.set),
        data_dir=data_dir,
        output=output,
        workers=workers,
        progress=Progress(quiet=silent or not workers.is_main, logged=logged),
        tracker=tracker(output, dataset.name) if tracker else NullTracker(),
        crew=crew,
        command=tuple(told_words(getattr(args, "typed", ()))),
        preset=preset,
    )


def _check_jobs(args: argparse.Namespace, jobs: Sequence[Job], data_dir: Path) -> None:
    """Refuse what can be refused without data: words that fit no job, backbone and encoder."""
    from genrec_bench.data.vectors.embeddings import check_reward_source
    from genrec_bench.policy.backbone_files import check_backbone
    from genrec_bench.policy.backbones import find_backbone

    preset, backbone = asked_preset(args), asked_backbone(args)
    made = [configured(job, args.set, preset)[1:] for job in jobs]
    prompts = {settings.prompt for _, settings in made}
    for prompt in prompts or {split_words(args.set).get("prompt", "auto")}:
        check_backbone(backbone, prompt)
    find_backbone(backbone)
    for source in {settings.embeddings for one, settings in made if one.uses_embeddings}:
        check_reward_source(source, data_dir)


def _workers() -> Workers:
    """Return this process among those of a launcher; takes its time to import what it needs."""
    quieten()
    from genrec_bench.training.workers import Workers

    return Workers()


def quieten() -> None:
    """Keep libraries from telling the person who waits what is meant for each other's authors."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # What unpacks GGUF files asks nobody else whether to draw a bar.
    os.environ.setdefault("TQDM_DISABLE", "1")
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\.")
