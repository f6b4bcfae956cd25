"""Kills at random moments: each command is given again, and its end is what it would have been.

    python benchmarks/kills.py [--kills N] [--minutes M] [--seed S] [--only KIND] [--keep FOLDER]

On a dataset of two dozen items and a smaller `tiny`, with MLflow: `run`, `compare` and `sweep`;
the latter two with two processes besides; and three runs that start at once where there is nothing
yet, neither MLflow's database nor the dataset, its SIDs or the SFT start. What takes long comes
once where others come several times. Killed is the command, one of its processes, or all; every
third one is killed once more when it is given again. Then

- records, weights, outcomes, curves, SFT starts and tables of trials are those of a command that
  nobody killed, but for times, and there is one record a run;
- `leaderboard verify` finds nothing, budgets among what it looks at, and sweeps keep to theirs;
- MLflow has the same runs, each ended as it should;
- nothing is left of what was being written.

The exit code is 1 if any of this is not so. A command that had said all before it was killed has
ended, and is not given again. Processes are forks of this one, so that no time goes into imports;
those of studies start anew, as always.
"""
# What is imported must know of the environment that is set here.
# ruff: noqa: E402

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import sqlite3
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SUPPORT = ROOT / "tests" / "support"
# Forks of a process that has threads of its own would wait for them for ever.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.pop("MLFLOW_TRACKING_URI", None)
sys.path[:0] = [str(ROOT), str(SUPPORT)]

import pandas as pd
import psutil
import pytest
from crashes import assert_same_end, in_root, run_command, study_command
from fake_training import checkpoint_every_step
from parallel_world import CUSTOMIZE
from raw_world import raw_world
from tabulate import tabulate
from tiny_runs import save_tiny, shrink_backbone

from genrec_bench.commands.cli import main as command_line
from genrec_bench.runs.records import RECORD_FILE
from genrec_bench.runs.run_folder import UNSEEN
from genrec_bench.tracking import store

LONGEST = 900.0
"""Seconds after which a command hangs, and does not compute."""

LATE = 1.1
"""Kills are drawn over so many times what the command takes."""

STARTS = 3
"""Runs that start at once."""

ALL, COMMAND, PROCESS = "all", "command", "process"
BUDGET = "--total-budget 200Mflop --trial-budget 60Mflop --sampler random --pruner none --trials 3"
COMPARED = "--tuning-budget 120Mflop --trial-budget 60Mflop --sampler random --pruner none " + (
    "--trials 2 --budget 80Mflop"
)


@dataclass
class Kind:
    """A kind of command, and what came of its kills."""

    name: str
    commands: list[list[str]]
    starts_with: Path | None = None
    share: int = 1
    takes: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)


def tracked(words: Sequence[str]) -> list[str]:
    """Return the words of a command that tells MLflow."""
    return [word for word in words if word != "--no-mlflow"]


def kinds(data: Path) -> list[Kind]:
    """All kinds; ``data`` holds the tiny dataset."""
    once = ("pass_samples=0", "validations=1")
    compare = study_command(f"compare --algorithms grpo {COMPARED} --seeds 1", *once)
    sweep = study_command(f"sweep grpo {BUDGET}", *once)
    first = [run_command("ugr", "--dataset", "sports", "--seed", str(n)) for n in range(STARTS)]
    return [
        Kind("run", [tracked(run_command("grpo"))], data, 5),
        Kind("compare", [tracked(compare)], data, 2),
        Kind("sweep", [tracked(sweep)], data, 3),
        Kind("compare by two", [tracked(by_two(compare))], data),
        Kind("sweep by two", [tracked(by_two(sweep))], data),
        Kind("first start", [tracked(words) for words in first], None, 2),
    ]


def by_two(words: Sequence[str]) -> list[str]:
    """Return the words of a study whose work two processes do."""
    return [words[0], "--workers", "2", *words[1:]]


def begin(words: Sequence[str], root: Path) -> int:
    """Give a command in a process and a group of its own, and return its number."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        os.chdir(root)
        log = os.open(root / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        with checkpoint_every_step():
            code = command_line(in_root(words, root))
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException as error:  # the copy of this process ends below, whatever it met
        os.write(2, f"{type(error).__name__}: {error}\n".encode())
    finally:
        # Streams that a command closed have nothing left to say.
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def ended(process: int, patience: float = LONGEST) -> int | None:
    """Return how a process ended; None if it has not by then."""
    until = time.monotonic() + patience
    while True:
        found, status = os.waitpid(process, os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            return None
        time.sleep(0.01)


def kill(process: int, what: str, draw: random.Random) -> None:
    """Kill a command, one of its processes, or all of them."""
    below = psutil.Process(process).children(recursive=True)
    if what == PROCESS and below:
        draw.choice(below).kill()
        return
    if what == COMMAND:
        os.kill(process, signal.SIGKILL)
    else:
        # It may have ended by itself before the moment came.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process, signal.SIGKILL)
    # Processes that were left alone end by themselves.
    _, alive = psutil.wait_procs(below, timeout=60)
    if alive:
        raise AssertionError("processes of a command that was killed go on")


def carry_out(commands: Sequence[Sequence[str]], root: Path) -> float:
    """Give commands at once, undisturbed, and return the seconds that they took."""
    began = time.monotonic()
    started = [begin(words, root) for words in commands]
    codes = [ended(process) for process in started]
    if any(codes):
        raise AssertionError(f"ended with {codes}, None being for a command that hangs")
    return time.monotonic() - began


def had_said_all(words: Sequence[str], root: Path) -> bool:
    """Return whether a run has ended but for its process."""
    if words[0] != "run":
        return False
    seed = words[words.index("--seed") + 1] if "--seed" in words else "0"
    records = root.glob(f"out/*/{words[1]}-seed{seed}-*/{RECORD_FILE}")
    return any(not (record.parent / UNSEEN).exists() for record in records)


def disturb(kind: Kind, root: Path, draw: random.Random) -> None:
    """Kill the kind's commands once or twice, and give them again until all have ended."""
    left = list(kind.commands)
    for turn in range(2 if draw.random() < 1 / 3 else 1):
        what = draw.choice((ALL, COMMAND, PROCESS))
        started = [(words, begin(words, root)) for words in left]
        moment = draw.uniform(0, LATE * kind.takes)
        time.sleep(moment)
        for words, process in started:
            if os.waitpid(process, os.WNOHANG)[0]:
                kind.counts["ended before"] += 1
                left.remove(words)
                continue
            kind.counts["kills"] += 1
            kind.counts["second kills"] += turn
            kill(process, what, draw)
            code = ended(process)
            if code not in (0, -signal.SIGKILL):
                raise AssertionError(f"ended with {code} when {what} was killed after {moment:.1f}")
            if code == 0 or had_said_all(words, root):
                kind.counts["went on" if what == PROCESS else "had said all"] += 1
                left.remove(words)
    if left:
        carry_out(left, root)


def in_mlflow(root: Path) -> list[tuple[str, str]]:
    """Return the name and the state of each run that MLflow knows."""
    with contextlib.closing(sqlite3.connect(root / "out" / "mlflow.db")) as database:
        asked = "select name, status from runs where lifecycle_stage = 'active'"
        return sorted(database.execute(asked).fetchall())


def check(kind: Kind, whole: Path, root: Path) -> None:
    """Compare what a disturbed command left with what an undisturbed one leaves."""
    told = in_mlflow(root)
    if told != in_mlflow(whole):
        raise AssertionError(f"MLflow has {told}, and should have {in_mlflow(whole)}")
    # What was told by when is MLflow's affair.
    for file in [*whole.glob("out/**/.tracking.*"), *root.glob("out/**/.tracking.*")]:
        file.unlink()
    assert_same_end(whole, root)
    for table in root.glob("out/*/sweeps/*/trials.csv"):
        rows = pd.read_csv(table)
        limit = 200e6 if kind.name.startswith("sweep") else 120e6
        if rows["charge"].sum() > limit or set(rows["state"]) != {"complete"}:
            raise AssertionError(f"trials: {rows.to_dict('records')}")
    carry_out([["leaderboard", "verify", str(root / "out")]], root)


def prepared(kind: Kind, root: Path) -> Path:
    """Make and return a folder in which a kind's commands can begin."""
    root.mkdir()
    if kind.starts_with is not None:
        shutil.copytree(kind.starts_with, root / "data")
    return root


@contextlib.contextmanager
def small_world(place: Path) -> Iterator[Path]:
    """Make `tiny` tinier in all processes, and serve raw files; yields a data directory."""
    customized = place / "customized"
    customized.mkdir()
    (customized / "sitecustomize.py").write_text(CUSTOMIZE)
    os.environ["PYTHONPATH"] = os.pathsep.join([str(customized), str(ROOT), str(SUPPORT)])
    store._import(database=True)  # once, and not in every fork
    with pytest.MonkeyPatch.context() as patch, raw_world("sports", place / "raw"):
        shrink_backbone(patch)
        yield save_tiny(place / "data")


def main() -> int:
    """Kill until it is enough, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="default: 100")
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument("--minutes", type=float, default=1e9, metavar="M", help="stop after these")
    parser.add_argument("--only", metavar="KIND", help="such as run, or 'sweep by two'")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="for what went wrong")
    args = parser.parse_args()
    draw, wrong = random.Random(args.seed), 0
    with tempfile.TemporaryDirectory() as temporary, small_world(Path(temporary)) as data:
        place = Path(temporary)
        chosen = [kind for kind in kinds(data) if args.only in (None, kind.name)]
        for kind in chosen:
            whole = prepared(kind, place / f"whole {kind.name}")
            kind.takes = carry_out(kind.commands, whole)
            print(f"{kind.name}: takes {kind.takes:.1f} s undisturbed", flush=True)
        turn, began = 0, time.monotonic()
        turns = [kind for kind in chosen for _ in range(kind.share)]
        draw.shuffle(turns)
        # Ctrl-C ends it with a table of what was done so far.
        with contextlib.suppress(KeyboardInterrupt):
            while sum(kind.counts["kills"] for kind in chosen) < args.kills:
                if time.monotonic() - began > 60 * args.minutes:
                    break
                kind = turns[turn % len(turns)]
                turn += 1
                root, whole = place / f"{kind.name} {turn}", place / f"whole {kind.name}"
                told = "the same end"
                try:
                    disturb(kind, prepared(kind, root), draw)
                    check(kind, whole, root)
                    kind.counts["same end"] += 1
                except AssertionError as error:
                    wrong += 1
                    told = " ".join(str(error).split())[:500]
                    if args.keep is not None:
                        shutil.copytree(root, args.keep / root.name)
                kind.counts["tries"] += 1
                print(f"{kind.name}, try {turn}: {told}", flush=True)
                shutil.rmtree(root)
    heads = [
        "tries",
        "kills",
        "second kills",
        "ended before",
        "had said all",
        "went on",
        "same end",
    ]
    rows = [[kind.name, *(kind.counts[head] for head in heads)] for kind in chosen]
    print(tabulate(rows, ["", *heads]))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
