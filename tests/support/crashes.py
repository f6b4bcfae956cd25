"""Commands that die and are given again; and what two ways to the same end must have in common.

A kill leaves what is on the disk at that moment, and nothing else counts afterwards. So it can be
had in two ways: a process that is really killed (`killed.py`), and a copy of all files taken while
the command runs in this process, which costs a fraction of a second. The command is then given
again, in the copy.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from board_world import comparable
from fake_training import checkpoint_every_step
from tiny_runs import run_words, save_tiny

from genrec_bench.boards.collecting import record_paths
from genrec_bench.commands.cli import main
from genrec_bench.runs.records import read_record
from genrec_bench.storage.files import LEFTOVER

MOMENTS = ("fsync", "mkdir", "rename", "replace", "rmdir", "unlink")
"""Functions of `os` around which a kill matters: everything that is written comes by them."""

ROOT = "{root}"
"""In the words of a command, the folder that holds its data directory and its output."""

QUICK = "steps=4 validations=2 sft_epochs=0.2 sft_evaluations=10 pass_samples=2 prompts_per_step=4"

RUNS: dict[str, tuple[str, ...]] = {
    "grpo": ("grpo", "beta=0.1", "sync_every=1", "minibatches=2", "updates_per_rollout=2"),
    # Its candidates are drawn, and refills decide which prompts come next.
    "srpo": ("srpo", "k=2", "--budget", "100Mflop"),
    # It has a head with an optimizer state, and searches that draw.
    "vstar": ("vstar", "token_budget=2", "minibatches=2"),
    "sft with adapters": ("sft", "lora_rank=2"),
}

ABLATION = """
title: With and without
paper: nobody 2026
setting: another one
algorithm: ugr
tables:
  - name: "1"
    metrics: [HR@10, MRR]
    rows:
      - {label: with}
      - {label: without, set: [confidence=false]}
"""


def run_command(algorithm: str, *more: str) -> list[str]:
    """The words of a quick run."""
    given = {word.partition("=")[0] for word in more if "=" in word}
    quick = [word for word in QUICK.split() if word.partition("=")[0] not in given]
    return run_words(algorithm, Path(ROOT) / "data", Path(ROOT) / "out", *more, *quick)


def study_command(words: str, *settings: str) -> list[str]:
    """The words of a study that makes quick runs."""
    _, _, *rest = run_command("grpo", *settings)
    return [*words.split(), *rest]


COMMANDS: dict[str, list[str]] = {
    **{name: run_command(*words) for name, words in RUNS.items()},
    "ablate": study_command(f"ablate {ROOT}/ablation.yaml --seed 0"),
    "compare": study_command(
        "compare --algorithms grpo --tuning-budget 120Mflop --trial-budget 60Mflop "
        "--budget 80Mflop --seeds 1",
        "pass_samples=0",
        "validations=1",
    ),
    # The pruner has a say in it.
    "sweep": study_command(
        "sweep grpo --total-budget 240Mflop --trial-budget 60Mflop --sampler random",
        "pass_samples=0",
        "validations=4",
    ),
}
"""To be killed, by name."""


def in_root(words: Sequence[str], root: Path) -> list[str]:
    """The same words for a certain folder."""
    return [word.replace(ROOT, str(root)) for word in words]


def prepare(root: Path) -> Path:
    """Make a folder in which a command can run."""
    save_tiny(root / "data")
    (root / "ablation.yaml").write_text(ABLATION)
    return root


@contextlib.contextmanager
def moments(root: Path, reached: Callable[[int, str], None]) -> Iterator[None]:
    """Call a function just before every moment that leaves a trace below a folder.

    It is given how many moments there were before, and which of `MOMENTS` this one is.
    """
    count = 0
    busy = False
    real: dict[str, Callable[..., Any]] = {name: getattr(os, name) for name in MOMENTS}

    def watched(name: str) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            nonlocal count, busy
            # What removes a tree names its parts by the folder that it has open.
            inside = options.get("dir_fd") is not None or name == "fsync"
            if not busy and (inside or str(args[0]).startswith(str(root))):
                busy = True
                count += 1
                try:
                    reached(count - 1, name)
                finally:
                    busy = False
            return real[name](*args, **options)

        return call

    for name in MOMENTS:
        setattr(os, name, watched(name))
    try:
        yield
    finally:
        for name, function in real.items():
            setattr(os, name, function)


def carry_out(words: Sequence[str], root: Path, expected_code: int = 0) -> None:
    """Give a command in this process."""
    with checkpoint_every_step():
        assert main(in_root(words, root)) == expected_code


def count_moments(words: Sequence[str], root: Path) -> int:
    """Carry a command out, and return how many moments there were to kill it."""
    names: list[str] = []
    with moments(root, lambda number, name: names.append(name)):
        carry_out(words, root)
    return len(names)


def kills(words: Sequence[str], root: Path, chosen: Sequence[int], copies: Path) -> list[Path]:
    """Carry a command out, and return copies of what kills at some moments would have left."""
    taken: list[Path] = []

    def reached(number: int, name: str) -> None:
        if number in chosen:
            taken.append(copies / str(number))
            shutil.copytree(root, taken[-1], symlinks=True)

    with moments(root, reached):
        carry_out(words, root)
    return taken


def assert_same_end(expected: Path, found: Path, *, repeats: bool = False) -> None:
    """Compare what a command left that was killed with what it leaves when it is not.

    With `repeats` it may have made a run once more, being killed when it had said all.
    """
    runs, others = _runs(expected / "out"), _runs(found / "out")
    assert runs and runs.keys() == others.keys(), "records, but for times"
    for key, folders in others.items():
        assert repeats or len(folders) == len(runs[key])
        for folder in folders:
            _assert_same_run(runs[key][0], folder)
    starts = [sorted((root / "data").glob("sft/*/sft.json")) for root in (expected, found)]
    assert [file.parent.name for file in starts[0]] == [file.parent.name for file in starts[1]]
    for first, second in zip(*starts, strict=True):
        _assert_same_start(first.parent, second.parent)
    tables = [
        {file.relative_to(root): file.read_bytes() for file in root.glob("out/*/ablations/*/*")}
        for root in (expected, found)
    ]
    assert tables[0] == tables[1]
    sweeps = [sorted(root.glob("out/*/sweeps/*/trials.csv")) for root in (expected, found)]
    for first, second in zip(*sweeps, strict=True):
        assert first.parent.name == second.parent.name, "the same study"
        one, other = (pd.read_csv(file).drop(columns="seconds") for file in (first, second))
        pd.testing.assert_frame_equal(one, other)
    # A process that is killed while it makes its folder leaves one that no run ever began in.
    left = [
        path
        for path in found.rglob("*")
        if LEFTOVER.fullmatch(path.name) and not path.name.startswith("..run.json.")
    ]
    assert not left, f"left of those who were killed: {left}"


def _runs(output: Path) -> dict[str, list[Path]]:
    """The folders of records by what is comparable in them."""
    found: dict[str, list[Path]] = {}
    for path in record_paths([output]):
        # Somebody may commit while the tests run.
        view = comparable(read_record(path)) | {"commit": None}
        found.setdefault(json.dumps(view, sort_keys=True), []).append(path.parent)
    return found


def _assert_same_run(expected: Path, found: Path) -> None:
    assert _contents(found / "policy") == _contents(expected / "policy"), "weights"
    assert (found / "outcomes.parquet").read_bytes() == (expected / "outcomes.parquet").read_bytes()
    one, other = (pd.read_parquet(folder / "curves.parquet") for folder in (expected, found))
    pd.testing.assert_frame_equal(one.drop(columns="seconds"), other.drop(columns="seconds"))
    # Seconds differ, but they only ever add up.
    assert (other["seconds"].diff().dropna() > 0).all()
    names = {path.name for path in expected.iterdir()}
    assert {path.name for path in found.iterdir()} == names and "checkpoints" not in names


def _assert_same_start(expected: Path, found: Path) -> None:
    assert {path.name for path in found.iterdir()} == {path.name for path in expected.iterdir()}
    assert _contents(found / "policy") == _contents(expected / "policy")
    for file in expected.glob("*.parquet"):
        assert (found / file.name).read_bytes() == file.read_bytes()
    for file in expected.glob("*.json"):
        assert _timeless(found / file.name) == _timeless(file)


def _timeless(file: Path) -> Any:
    """A JSON file without what no two processes share."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            left = {k: without(v) for k, v in value.items()}
            return {
                k: v for k, v in left.items() if k not in ("peak_memory_bytes", "seal", "seconds")
            }
        return value

    return without(json.loads(file.read_text()))


def _contents(folder: Path) -> dict[str, bytes]:
    # A trial of a sweep keeps no weights.
    files = sorted(folder.iterdir()) if folder.is_dir() else []
    return {path.name: path.read_bytes() for path in files}
