"""The SFT start: cut short anywhere it ends as if it had not been, and it is evaluated by split."""

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_runs import SETTINGS, Killed, shrink_backbone, tiny_dataset

from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.policy import backbones
from genrec_bench.policy.backbones import Backbone, find_backbone
from genrec_bench.progress import Progress
from genrec_bench.training import evaluate as evaluate_module
from genrec_bench.training import (
    evaluation_cache,
    loop,
    sft_start,
    sft_training,
    supervised_steps,
)
from genrec_bench.training.evaluate import evaluate
from genrec_bench.training.hyperparameters import from_words
from genrec_bench.training.settings import Settings
from genrec_bench.training.sft_start import SFTStart, evaluate_start
from genrec_bench.training.workers import Workers

DATASET = tiny_dataset()
QUIET = Progress(quiet=True)


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """Save after every step, of a smaller `tiny`."""
    shrink_backbone(monkeypatch)
    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)


def settings(*words: str) -> Settings:
    return from_words(Settings, dict(word.split("=") for word in (*SETTINGS, *words)))


def backbone() -> Backbone:
    return find_backbone("tiny")


def train(data: Path, *words: str) -> SFTStart:
    return sft_start.sft_start(backbone(), DATASET, settings(*words), data, Workers(), QUIET)


def content(start: SFTStart) -> dict[str, Any]:
    """What is kept of a start, but for what no two trainings share."""
    found: dict[str, Any] = json.loads((start.folder / "sft.json").read_text())
    for cost in found["spent"].values():
        del cost["seconds"], cost["peak_memory_bytes"]
    del found["seal"]
    return found


def dies(real: Callable[..., Any], when: Callable[[int], bool]) -> Callable[..., Any]:
    """The same function, dying at its n-th call for some n."""
    calls = 0

    def dying(*args: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if when(calls):
            raise Killed
        return real(*args, **options)

    return dying


def cut_short(
    data: Path, patch: pytest.MonkeyPatch, where: tuple[Any, str], number: int, *words: str
) -> None:
    with patch.context() as context:
        context.setattr(*where, dies(getattr(*where), lambda call: call == number))
        with pytest.raises(Killed):
            train(data, *words)


# Twelve steps, a validation after every fourth.
QUICK = ("sft_epochs=0.6", "sft_evaluations=5")

STEP = (supervised_steps.SupervisedStepper, "step")
LOOK = (evaluate_module, "evaluate")
SAVE = (loop, "save_training")
POLICY = (sft_training, "save_policy")
RECORD = (sft_training, "write_json")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., SFTStart]]:
    """Starts that were trained in one go, by their words."""
    done: dict[tuple[str, ...], SFTStart] = {}

    def of(*words: str) -> SFTStart:
        if words not in done:
            done[words] = train(tmp_path_factory.mktemp("whole"), *words)
        return done[words]

    yield of


@pytest.mark.parametrize(
    ("where", "number"),
    [(STEP, 1), (STEP, 4), (LOOK, 2), (SAVE, 1), (SAVE, 6), (POLICY, 1), (RECORD, 1)],
)
def test_a_stage_that_was_cut_short_ends_as_if_it_had_not_been(
    where: tuple[Any, str],
    number: int,
    undisturbed: Callable[..., SFTStart],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    expected = undisturbed(*QUICK)
    cut_short(tmp_path, monkeypatch, where, number, *QUICK)
    taken: list[int] = []
    real = supervised_steps.SupervisedStepper.step

    def count(self: Any, index: int, share: float, part: float = 1.0) -> dict[str, float]:
        taken.append(index)
        return real(self, index, share, part)

    monkeypatch.setattr(supervised_steps.SupervisedStepper, "step", count)
    start = train(tmp_path, *QUICK)
    curve = content(expected)["curve"]
    assert [point["step"] for point in curve] == [4, 8, 12]
    # Saved at the start and after every step; a look comes between the step and its checkpoint.
    first = {STEP: number - 1, SAVE: max(number - 2, 0), LOOK: 4 * number - 1}.get(where, 12)
    assert taken == list(range(first, 12))
    assert content(start) == content(expected), "weights, curve and ledger"
    assert start.fingerprint == expected.fingerprint
    assert {path.name for path in start.folder.iterdir()} == {"policy", "sft.json"}


@pytest.mark.parametrize("more", [("lora_rank=2",), ("sft_patience=1", "sft_learning_rate=0.5")])
def test_adapters_and_patience_come_through_kills(
    more: tuple[str, ...],
    undisturbed: Callable[..., SFTStart],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = (*QUICK, *more)
    expected = undisturbed(*words)
    last = content(expected)["curve"][-1]["step"]
    assert (last < 12) == ("sft_patience=1" in more), "patience ends before the epochs do"
    # Killed again and again: every process but the last takes one step, and none is taken twice.
    for _ in range(last - 1):
        cut_short(tmp_path, monkeypatch, STEP, 2, *words)
    start = train(tmp_path, *words)
    assert content(start) == content(expected)
    one, other = (load_file(s.folder / "policy" / "model.safetensors") for s in (start, expected))
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_random_draws_go_on_where_they_were(
    undisturbed: Callable[..., SFTStart], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Some backbones have dropout; ours has not, and gets it here.
    without = undisturbed(*QUICK).fingerprint
    monkeypatch.setitem(backbones.TINY, "attention_dropout", 0.5)
    expected = train(tmp_path / "whole", *QUICK)
    assert expected.fingerprint != without
    cut_short(tmp_path, monkeypatch, STEP, 6, *QUICK)
    assert content(train(tmp_path, *QUICK)) == content(expected)


def test_a_damaged_checkpoint_of_a_stage_costs_no_more_than_its_steps(
    undisturbed: Callable[..., SFTStart], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_short(tmp_path, monkeypatch, STEP, 7, *QUICK)
    checkpoints = sorted(tmp_path.glob("sft/*/checkpoints/step-*"))
    assert [path.name for path in checkpoints] == ["step-00000005", "step-00000006"]
    file = checkpoints[-1] / "policy.safetensors"
    file.write_bytes(file.read_bytes()[:1000])
    assert content(train(tmp_path, *QUICK)) == content(undisturbed(*QUICK))


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    start = train(tmp_path, *QUICK)
    # Killed after the start was finished, before the checkpoints were gone.
    (start.folder / "checkpoints" / "step-00000012").mkdir(parents=True)
    (start.folder / f".evaluation-test-beam-10-pass-0.json.{'0' * 32}").write_text("{")
    assert train(tmp_path, *QUICK) == start
    names = {path.name for path in start.folder.iterdir()}
    assert names == {"policy", "sft.json"}
    # An evaluation beside a start that is to be trained anew is of other weights.
    (start.folder / "sft.json").unlink()
    for name in ("evaluation-test-beam-10-pass-0.json", f".sft.json.{'0' * 32}"):
        (start.folder / name).write_text("{}")
    assert content(train(tmp_path, *QUICK)) == content(start)
    assert {path.name for path in start.folder.iterdir()} == names


def evaluated(
    start: SFTStart, dataset: Dataset = DATASET, *, splits: tuple[str, ...] = ("valid", "test")
) -> dict[str, evaluation_cache.KeptEvaluation]:
    return evaluate_start(start, backbone(), dataset, settings(), Workers(), QUIET, splits)


def test_a_start_is_evaluated_split_by_split(
    undisturbed: Callable[..., SFTStart], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = undisturbed("sft_epochs=0.2")
    asked: list[str] = []

    def counted(*args: Any, **options: Any) -> Any:
        asked.append(options["title"])
        return evaluate(*args, **options)

    monkeypatch.setattr(evaluation_cache, "evaluate", counted)
    blind = dataclasses.replace(
        DATASET, splits={**DATASET.splits, "test": Examples.from_lists([], [], [])}
    )
    valid = evaluated(start, blind, splits=("valid",))
    assert list(valid) == ["valid"] and asked == ["SFT valid"]
    both = evaluated(start)
    assert list(both) == ["valid", "test"] and asked == ["SFT valid", "SFT test"]
    again = evaluated(start)
    assert len(asked) == 2
    for split, found in both.items():
        examples = DATASET.splits[split]
        assert found.outcomes["example"].tolist() == list(range(len(examples)))
        assert np.mean(found.outcomes["item_rank"].between(0, 9)) == found.metrics["HR@10"]
        assert again[split].metrics == found.metrics
        # What it cost is what it cost when it was done.
        assert again[split].cost == found.cost
    assert valid["valid"].cost == both["valid"].cost


def test_what_an_evaluation_of_the_start_costs(undisturbed: Callable[..., SFTStart]) -> None:
    start = undisturbed("sft_epochs=0.2")
    levels = DATASET.catalog.num_levels
    for split, found in evaluated(start).items():
        cost = found.cost
        assert cost.seconds > 0 and cost.flops > 0 and cost.peak_memory_bytes > 0
        # The prompts alone have a token for each code of a history.
        assert cost.tokens > levels * DATASET.splits[split].history_lengths.sum()
    assert start.cost.tokens > 0


@pytest.mark.parametrize("name", ["json", "parquet"])
@pytest.mark.parametrize("damage", ["cut", "empty", "gone", "a list"])
def test_a_damaged_evaluation_is_made_again(
    name: str, damage: str, undisturbed: Callable[..., SFTStart]
) -> None:
    start = undisturbed("sft_epochs=0.2")
    whole = evaluated(start, splits=("valid",))
    (file,) = start.folder.glob(f"evaluation-valid-*.{name}")
    content = file.read_bytes()
    try:
        if damage == "gone":
            file.unlink()
        else:
            file.write_bytes({"cut": content[:-20], "empty": b"", "a list": b"[]"}[damage])
        assert evaluated(start, splits=("valid",))["valid"].metrics == whole["valid"].metrics
    finally:
        file.write_bytes(content)


def test_windows_of_a_user_share_sequences_where_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users, histories, targets = [], [], []
    for user in range(12):
        for place in range(1, 12):
            users.append(user)
            histories.append([(user + step) % 24 for step in range(max(0, place - 4), place)])
            targets.append((user + place) % 24)
    longer = dataclasses.replace(
        DATASET,
        splits={**DATASET.splits, "train": Examples.from_lists(users, histories, targets)},
    )
    monkeypatch.setattr(f"{__name__}.DATASET", longer)
    words = ("sft_epochs=1", "sft_batch=8")
    usual = train(tmp_path / "usual", *words)
    apart = train(tmp_path / "apart", *words, "sft_targets=1")
    joined = train(tmp_path / "joined", *words, "sft_targets=3")
    # Twelve users: what begins with them, and seven windows of each, three to a sequence.
    assert [point["step"] for point in content(usual)["curve"]] == [12]
    assert [point["step"] for point in content(joined)["curve"]] == [6]
    assert content(apart) == content(usual) and apart.folder.name == usual.folder.name
    assert joined.folder.name != usual.folder.name
    assert joined.fingerprint != usual.fingerprint
    assert joined.cost.tokens == usual.cost.tokens / 2
    assert joined.cost.flops < 0.65 * usual.cost.flops
    assert content(train(tmp_path / "again", *words, "sft_targets=3")) == content(joined)
    cut_short(tmp_path / "cut", monkeypatch, STEP, 3, *words, "sft_targets=3")
    assert content(train(tmp_path / "cut", *words, "sft_targets=3")) == content(joined)
