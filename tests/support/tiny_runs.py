"""A dataset on which a run takes a second, and the command line called in this process."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_datasets import build_dataset
from torch import Tensor

from genrec_bench.commands.cli import main
from genrec_bench.data.cards import load_card
from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.data.dataset_store import save_contents
from genrec_bench.policy import backbones
from genrec_bench.runs.records import read_record

NUM_ITEMS = 24
SMALL = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "head_dim": 16,
}
SETTINGS = (
    "steps=2",
    "prompts_per_step=8",
    "group_size=4",
    "beam_width=10",
    "sft_epochs=2",
    "sft_learning_rate=0.02",
    "sft_batch=16",
    "sft_valid_examples=16",
)

MINE = '''
"""An algorithm of one's own.

It rewards all alike.
"""

from dataclasses import dataclass

from genrec_bench.algorithms.grpo import GRPO, GRPOHyperparameters
from genrec_bench.algorithm import hyperparameter

print("loaded")


@dataclass(frozen=True)
class Choices(GRPOHyperparameters):
    """One more."""

    strength: float = hyperparameter(0.5, low=0, high=2, help="how much")


class Mine(GRPO):
    """GRPO, told again."""

    hyperparameters_class = Choices
'''


class Killed(BaseException):
    """Stands for the end of the process."""


@dataclass(frozen=True)
class Called:
    """What a command said."""

    code: int
    out: str
    err: str


def tiny_dataset(seed: int = 0) -> Dataset:
    """Under the card of `industrial`: after item i mostly comes item i + 1; two share a SID."""
    generator = np.random.default_rng(seed)

    def examples(count: int) -> Examples:
        histories, targets = [], []
        for _ in range(count):
            first, length = generator.integers(NUM_ITEMS), generator.integers(1, 7)
            history = (first + np.arange(length + 1)) % NUM_ITEMS
            histories.append(history[:-1].tolist())
            noisy = generator.random() < 0.2
            targets.append(int(generator.integers(NUM_ITEMS) if noisy else history[-1]))
        return Examples.from_lists(range(count), histories, targets)

    items = np.arange(NUM_ITEMS)
    sids = np.stack([items // 6, items // 2 % 3, items % 2], axis=1).astype(np.int32)
    sids[7] = sids[8]
    return build_dataset(
        load_card("industrial"),
        sids,
        [f"item {item}" for item in items],
        [""] * NUM_ITEMS,
        {"train": examples(320), "valid": examples(24), "test": examples(30)},
        {split: {"HR@10": 0.85, "NDCG@10": 0.81} for split in ("valid", "test")},
    )


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """Prepare the dataset in a data directory, and return it."""
    save_contents(tiny_dataset(seed).contents, folder, {})
    return folder


def shrink_backbone(patch: pytest.MonkeyPatch) -> None:
    """Make `tiny` tinier, and learn so fast that the few steps of a test leave a mark."""
    for name, value in SMALL.items():
        patch.setitem(backbones.TINY, name, value)
    patch.setattr(backbones, "TINY_LEARNING_RATE", 3e-5)


def once_each(words: Sequence[str]) -> list[str]:
    """The same words, where the later of two values of an option stands for both."""
    last = {word: n for n, word in enumerate(words) if word.startswith("--")}
    kept: list[str] = []
    for n, word in enumerate(words):
        option = word if word.startswith("--") else words[n - 1] if n else ""
        if last.get(option, n) in (n, n - 1) or not option.startswith("--"):
            kept.append(word)
    return kept


def run_words(algorithm: str, data_dir: Path, output: Path, *more: str) -> list[str]:
    """The words of a quick run; what follows `--set` in `more` comes after the quick settings."""
    assignments = [word for word in more if "=" in word]
    replaced = {word.partition("=")[0] for word in assignments}
    kept = [word for word in SETTINGS if word.partition("=")[0] not in replaced]
    words = ["run", algorithm, "--dataset", "industrial", "--no-mlflow"]
    words += ["--data-dir", str(data_dir), "--output", str(output)]
    words += [word for word in more if "=" not in word]
    return [*once_each(words), "--set", *kept, *assignments]


def call(capsys: pytest.CaptureFixture[str], words: Sequence[str]) -> Called:
    """Call the command line; argparse leaves by SystemExit."""
    capsys.readouterr()
    handler = signal.getsignal(signal.SIGTERM)
    try:
        code = main(list(words))
    except SystemExit as left:
        code = int(left.code or 0)
    finally:
        signal.signal(signal.SIGTERM, handler)
    said = capsys.readouterr()
    return Called(code, said.out, said.err)


def only_error(called: Called) -> str:
    """The one line of a mistake of the user's."""
    assert called.code == 2, called.err
    assert called.out == ""
    (line,) = called.err.splitlines()
    assert line.startswith("genrec-bench: error: ")
    return line.removeprefix("genrec-bench: error: ")


def last_error(called: Called) -> str:
    """The one line of a mistake that showed when the run was under way."""
    assert called.code == 2 and called.out == "" and "Traceback" not in called.err
    *before, line = called.err.splitlines()
    assert not [said for said in before if "error" in said]
    assert line.startswith("genrec-bench: error: ")
    return line.removeprefix("genrec-bench: error: ")


def run_folders(output: Path) -> list[Path]:
    """The folders of runs, finished or not."""
    return sorted(file.parent for file in output.glob("*/*/run.json"))


def weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a saved policy."""
    found: dict[str, Tensor] = {}
    for file in sorted((folder / "policy").glob("*.safetensors")):
        found |= load_file(file)
    return found


def record_and_curves(folder: Path) -> tuple[dict[str, Any], pd.DataFrame]:
    """A run's record, checked, and its curves."""
    return read_record(folder), pd.read_parquet(folder / "curves.parquet")


def equal_weights(one: Path, other: Path) -> bool:
    """Whether two runs ended at the same policy, bit by bit."""
    first, second = weights(one), weights(other)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


class Bench:
    """Runs commands that share a data directory and an output folder."""

    def __init__(self, capsys: pytest.CaptureFixture[str], data: Path, output: Path) -> None:
        self.capsys, self.data, self.output = capsys, data, output

    def call(self, algorithm: str, *more: str) -> Called:
        return call(self.capsys, run_words(algorithm, self.data, self.output, *more))

    def run(self, algorithm: str, *more: str) -> Path:
        """Run to the end and return the folder of the run."""
        called = self.call(algorithm, *more)
        assert called.code == 0, called.err
        return Path(called.out.strip().removeprefix("record: ")).parent

    def record(self, algorithm: str, *more: str) -> dict[str, Any]:
        return record_and_curves(self.run(algorithm, *more))[0]
