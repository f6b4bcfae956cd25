"""Held-out examples teach nothing: not SIDs, SFT, embeddings or rewards.

Each part is done on one dataset, and on the same with other items in its validation and test
examples. A third one, with other training targets, shows that the part would notice. Sweeps, which
read validation and must not read test, have their guard in ``test_sweep.py``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from small_datasets import build_dataset
from tiny_runs import NUM_ITEMS, SETTINGS, shrink_backbone, tiny_dataset
from torch import Tensor

from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.data.sids.build import build_sids as build_sids
from genrec_bench.data.sids.sid_recipe import METHODS, SIDRecipe
from genrec_bench.data.vectors.embeddings import sid_embeddings
from genrec_bench.data.vectors.item_vectors import item_vectors
from genrec_bench.policy.backbones import find_backbone
from genrec_bench.progress import Progress
from genrec_bench.runs.post_training import post_train
from genrec_bench.runs.registry import Entry, discover
from genrec_bench.runs.request import Request
from genrec_bench.training.evaluate import evaluate
from genrec_bench.training.hyperparameters import from_words
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.settings import SETTING_NAMES, Settings
from genrec_bench.training.sft_start import SFTStart, sft_start
from genrec_bench.training.sft_training import START_FILE
from genrec_bench.training.workers import Workers

QUIET = Progress(quiet=True)
SOURCES = ("text", "collaborative")
PARTS = ("red", "blue", "small", "large", "new"), ("cup", "pan", "fork", "knife", "lid", "jar")
TITLES = [f"{PARTS[0][item % 5]} {PARTS[1][item % 6]} {item}" for item in range(NUM_ITEMS)]


def with_splits(**changed: Examples) -> Dataset:
    """The dataset of a few items, with titles, and with some of its splits replaced."""
    found = tiny_dataset()
    names, sids = found.catalog.item_names, found.catalog.sids
    return build_dataset(found.card, sids, names, TITLES, {**found.splits, **changed})


def poisoned(examples: Examples, seed: int = 0) -> Examples:
    """The same users with other targets, each of them, and with other and longer histories."""
    length = 10
    drawn = np.random.default_rng(seed).integers(NUM_ITEMS, size=(len(examples), length))
    targets = (examples.targets + NUM_ITEMS // 2) % NUM_ITEMS
    return Examples.from_lists(examples.users.tolist(), drawn.tolist(), targets.tolist())


CLEAN = with_splits()
POISONED = with_splits(valid=poisoned(CLEAN.valid), test=poisoned(CLEAN.test))
OTHER = with_splits(train=poisoned(CLEAN.train))


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_backbone(monkeypatch)


def settings(*words: str) -> Settings:
    return from_words(Settings, dict(word.split("=") for word in (*SETTINGS, *words)))


def equal(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """Whether weights are the same, bit by bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_popularity_counts_training_targets_alone() -> None:
    """The rarer one of two items that share a SID is every target of validation and test."""
    pair = CLEAN.catalog.items_of_sid(int(CLEAN.catalog.sid_of_item[7]))
    rarer = int(pair[-1])
    held_out = {
        split: replace(examples, targets=np.full_like(examples.targets, rarer))
        for split, examples in (("valid", CLEAN.valid), ("test", CLEAN.test))
    }
    everywhere = np.concatenate([CLEAN.train.targets, *(e.targets for e in held_out.values())])
    counted = np.bincount(everywhere)
    assert counted[rarer] > counted[pair[0]], "counting them would turn the order round"
    catalog = with_splits(**held_out).catalog
    assert np.array_equal(catalog.popularity, CLEAN.catalog.popularity)
    assert np.array_equal(catalog.items_of_sid(int(catalog.sid_of_item[7])), pair)


@pytest.mark.parametrize("source", SOURCES)
def test_vectors_embeddings_and_sids_are_made_without_held_out_examples(
    source: str, tmp_path: Path
) -> None:
    def vectors(dataset: Dataset) -> list[bytes]:
        """Those that SIDs are made of, and those of rewards; nothing is found in a cache."""
        nothing, folder = [""] * NUM_ITEMS, tmp_path / dataset.fingerprint / "vectors"
        found = item_vectors(source, TITLES, nothing, dataset.train, folder, QUIET)
        return [found.tobytes(), sid_embeddings(dataset, source, folder).tobytes()]

    def sids(dataset: Dataset, method: str) -> bytes:
        contents, folder = dataset.contents, tmp_path / dataset.fingerprint
        recipe = SIDRecipe(method, source)
        return build_sids(contents, recipe, (4, 4, 4), method, folder, QUIET)[0].codes.tobytes()

    clean = vectors(CLEAN)
    assert vectors(POISONED) == clean
    # A method sees vectors alone, so that one source is enough to try them all.
    for method in METHODS if source == "collaborative" else METHODS[:1]:
        assert sids(POISONED, method) == sids(CLEAN, method)
    # Text knows no interactions at all; collaborative vectors know those of training.
    noticed = [one != other for one, other in zip(vectors(OTHER), clean, strict=True)]
    assert noticed == [source == "collaborative"] * 2


@dataclass(frozen=True)
class Stage:
    """An SFT stage: where it is kept, its curve, and the policy's weights at each look."""

    start: SFTStart
    curve: list[dict[str, float]]
    looks: list[dict[str, Tensor]]

    def column(self, name: str) -> list[float]:
        return [row[name] for row in self.curve]


def stage(dataset: Dataset, folder: Path, *words: str) -> Stage:
    """Train an SFT start, and keep the weights that each look at validation data finds."""
    looks: list[dict[str, Tensor]] = []

    def watched(policy: Any, *args: Any, **options: Any) -> Any:
        looks.append({name: value.clone() for name, value in policy.state_dict().items()})
        return evaluate(policy, *args, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("genrec_bench.training.evaluate.evaluate", watched)
        backbone = find_backbone("tiny")
        start = sft_start(backbone, dataset, settings(*words), folder, Workers(), QUIET)
    curve = json.loads((start.folder / START_FILE).read_text())["curve"]
    return Stage(start, curve, looks)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


ONE_LOOK = ("sft_epochs=0.5", "sft_evaluations=0.5")
EVERY_STEP = ("sft_epochs=0.5", "sft_evaluations=20")


def test_sft_with_one_look_at_its_end_learns_the_same_weights(data: Path) -> None:
    clean, other_valid, other_train = (
        stage(dataset, data, *ONE_LOOK) for dataset in (CLEAN, POISONED, OTHER)
    )
    assert len(clean.curve) == len(other_valid.curve) == 1
    assert clean.start.folder != other_valid.start.folder, "none was taken from the cache"
    assert clean.start.fingerprint == other_valid.start.fingerprint
    assert clean.start.fingerprint != other_train.start.fingerprint


@pytest.mark.parametrize("patience", [1, 100])
def test_validation_of_sft_chooses_among_weights_that_it_does_not_change(
    patience: int, data: Path
) -> None:
    """As the settings declare: NDCG@10 says when to stop, and which weights are kept."""
    words = (*EVERY_STEP, f"sft_patience={patience}")
    clean, other = stage(CLEAN, data, *words), stage(POISONED, data, *words)
    looks = min(len(clean.looks), len(other.looks))
    assert looks == 10 if patience == 100 else looks >= 2
    assert clean.column("loss")[:looks] == other.column("loss")[:looks]
    assert all(map(equal, clean.looks[:looks], other.looks[:looks]))
    assert not equal(clean.looks[0], clean.looks[1])
    assert clean.column("NDCG@10")[:looks] != other.column("NDCG@10")[:looks]
    for one in (clean, other):
        best = one.looks[int(np.argmax(one.column("NDCG@10")))]
        kept = load_file(one.start.folder / "policy" / "model.safetensors")
        assert equal(kept, {name: best[f"backbone.{name}"] for name in kept})


@dataclass(frozen=True)
class Trained:
    """What post-training ended with: the policy's weights, heads too, and the curves."""

    weights: dict[str, Tensor]
    curves: pd.DataFrame

    @property
    def looks(self) -> list[str]:
        """The columns with what was found on validation data."""
        return [name for name in map(str, self.curves) if name.startswith("valid/")]

    def without_looks(self) -> pd.DataFrame:
        """The curves of all steps, without what was found on validation data, and without times."""
        taken = self.curves[self.curves["step"] > 0].reset_index(drop=True)
        return taken.drop(columns=[*self.looks, "seconds"])


def post_trained(
    entry: Entry, dataset: Dataset, start: SFTStart, folder: Path, looks: int
) -> Trained:
    """Train two steps from a start, with embeddings that are made for this dataset."""
    chosen = settings(f"validations={looks}", "embeddings=collaborative")
    algorithm = entry.algorithm(entry.algorithm.hyperparameters_class())
    request = Request(entry, algorithm, dataset, "tiny", chosen, None, 0, folder, folder, splits=())
    curves: list[dict[str, float]] = []
    policy, *_ = post_train(
        request,
        find_backbone("tiny"),
        start,
        None,
        Ledger(torch.device("cpu")),
        folder / "checkpoints",
        curves,
        None,
        Workers(),
        QUIET,
    )
    return Trained(dict(policy.state_dict()), pd.DataFrame(curves))


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param(entry, id=entry.name)
        for entry in discover(SETTING_NAMES).entries
        if entry.algorithm.trains
    ],
)
def test_post_training_learns_nothing_from_held_out_examples(
    entry: Entry, data: Path, tmp_path: Path
) -> None:
    start = stage(CLEAN, data, *ONE_LOOK).start
    found = {
        (name, looks): post_trained(entry, dataset, start, tmp_path / f"{name}-{looks}", looks)
        for name, dataset, looks in (
            ("clean", CLEAN, 0),
            ("poisoned", POISONED, 0),
            ("clean", CLEAN, 2),
            ("poisoned", POISONED, 2),
            ("other", OTHER, 0),
        )
    }
    blind = found["clean", 0]
    assert len(blind.curves) == 2 and not blind.looks
    for case in (("poisoned", 0), ("clean", 2), ("poisoned", 2)):
        assert equal(found[case].weights, blind.weights), case
        # A first row of other columns changes their order, and nothing else.
        left, right = (one.without_looks() for one in (found[case], blind))
        pd.testing.assert_frame_equal(left, right, check_exact=True, check_like=True)
    seen = [found[name, 2].curves["valid/NDCG@10"].tolist() for name in ("clean", "poisoned")]
    assert len(seen[0]) == 3 and seen[0] != seen[1]
    assert not equal(found["other", 0].weights, blind.weights)
