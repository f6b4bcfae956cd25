"""SIDs of a dataset's items, from vectors to what is kept of them."""

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from download_world import refused
from raw_world import ITEMS, RawWorld, raw_world
from small_datasets import use_vectors

from genrec_bench.data.dataset import Contents, Examples
from genrec_bench.data.dataset_store import load_dataset
from genrec_bench.data.obtain import obtain_contents
from genrec_bench.data.sids import build as module
from genrec_bench.data.sids.build import build_sids, load_built
from genrec_bench.data.sids.sid_quality import quality_of
from genrec_bench.data.sids.sid_recipe import COLLISIONS, METHODS, SIDRecipe
from genrec_bench.data.sids.sid_store import SIDs, load_sids
from genrec_bench.progress import Progress

QUIET = Progress(quiet=True)
PLAIN = SIDRecipe("rq-kmeans", "text")
Floats = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawWorld]:
    with raw_world("sports", tmp_path_factory.mktemp("world") / "here", figures=True) as found:
        yield found


@pytest.fixture(scope="module")
def contents(world: RawWorld) -> Contents:
    return obtain_contents("sports", world.data, QUIET)


@pytest.fixture
def no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Drawing takes longer than all else."""
    monkeypatch.setattr(module, "quality_png", lambda *words: None)


def make(
    contents: Contents,
    data: Path,
    recipe: SIDRecipe = PLAIN,
    codes_per_level: tuple[int, ...] = (8, 4),
    label: str = "mine",
) -> SIDs:
    return build_sids(contents, recipe, codes_per_level, label, data, QUIET, replace=True)[0]


def save_vectors(file: Path, vectors: Floats) -> str:
    np.save(file, vectors)
    return str(file)


def corners() -> Floats:
    """Items in three far corners, and in each of them in two or three places."""
    items = np.arange(ITEMS)
    return np.stack([100.0 * (items % 3 == corner) for corner in range(3)] + [items % 2], axis=1)


def groups(codes: Floats) -> list[list[int]]:
    """Which items have the same code, whatever it is."""
    return sorted(np.flatnonzero(codes == code).tolist() for code in np.unique(codes))


def test_codes_are_clusters_of_the_vectors(contents: Contents, tmp_path: Path) -> None:
    source = save_vectors(tmp_path / "corners.npy", corners())
    recipe = SIDRecipe("rq-kmeans", source)
    sids, worth, _ = build_sids(contents, recipe, (3, 2), "mine", tmp_path, QUIET)
    items = np.arange(ITEMS)
    assert groups(sids.codes[:, 0]) == groups(items % 3)
    assert groups(sids.codes[:, 1]) == groups(items % 2)
    assert (worth.items, worth.distinct, worth.largest, worth.sharing) == (30, 6, 5, 1.0)
    assert worth.error == pytest.approx(0, abs=1e-6) and worth.neighbours == 1.0


@pytest.mark.usefixtures("no_figure")
@pytest.mark.parametrize("collisions", COLLISIONS)
@pytest.mark.parametrize("method", METHODS)
def test_every_method_with_every_way_of_collisions(
    world: RawWorld, contents: Contents, method: str, collisions: str
) -> None:
    label = f"{method}-{collisions}"
    recipe = SIDRecipe(method, "text", collisions)
    # Kept, 30 items have to share 28 SIDs; moved, none is to lack a free code.
    codes = 7 if collisions == "keep" else 13
    sids = make(contents, world.data, recipe, (2, 2, codes), label)
    dataset = load_dataset(f"sports@{label}", world.data)
    assert dataset.name == f"sports@{label}"
    assert dataset.fingerprint == contents.fingerprint
    assert np.array_equal(dataset.catalog.sids, sids.codes)
    assert dataset.catalog.codes_per_level == sids.codes_per_level
    places = {"level": (codes,), "code": (int(sids.codes[:, -1].max()) + 1,)}
    assert sids.codes_per_level == (2, 2, codes, *places.get(collisions, ()))
    distinct = len(np.unique(sids.codes, axis=0))
    assert distinct < ITEMS if collisions == "keep" else distinct == ITEMS


@pytest.mark.parametrize("method", METHODS)
def test_the_same_twice_is_the_same_bytes(contents: Contents, tmp_path: Path, method: str) -> None:
    recipes = [SIDRecipe(method, "text", seed=seed) for seed in (3, 3, 4)]
    kept, codes = [], []
    for place, recipe in enumerate(recipes):
        data = tmp_path / str(place)
        codes.append(make(contents, data, recipe, (4, 4)).codes)
        folder = data / "sids" / "sports" / "mine"
        kept.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert kept[0] == kept[1] and np.array_equal(codes[0], codes[1])
    assert not np.array_equal(codes[0], codes[2])
    assert kept[0]["quality.png"].startswith(b"\x89PNG\r\n\x1a\n")


@pytest.mark.usefixtures("no_figure")
def test_nothing_of_validation_or_test_is_read(contents: Contents, tmp_path: Path) -> None:
    hidden = Examples.from_lists([0, 1], [[0, 0], [1]], [5, 5])
    other = dataclasses.replace(
        contents, splits={**contents.splits, "valid": hidden, "test": hidden}
    )
    for source in ("text", "collaborative"):
        recipe = SIDRecipe("rq-kmeans", source)
        found, again = (make(one, tmp_path, recipe).codes for one in (contents, other))
        assert np.array_equal(found, again)
    train = {**contents.splits, "train": contents.splits["test"]}
    fewer = make(dataclasses.replace(contents, splits=train), tmp_path, recipe)
    assert not np.array_equal(fewer.codes, found)


@pytest.mark.usefixtures("no_figure")
def test_what_is_kept_says_how_it_was_made(contents: Contents, tmp_path: Path) -> None:
    source = save_vectors(tmp_path / "mine.npy", corners())
    recipe = SIDRecipe("rq-kmeans", source, "code", seed=5)
    sids, worth, folder = build_sids(contents, recipe, (4, 2), "mine", tmp_path, QUIET)
    found = load_sids(contents, "mine", tmp_path)
    assert np.array_equal(found.codes, sids.codes)
    assert quality_of(found.quality) == worth
    assert found.recipe == {
        "method": "rq-kmeans",
        "embeddings": "mine.npy",
        "sha256": hashlib.sha256((tmp_path / "mine.npy").read_bytes()).hexdigest(),
        "collisions": "code",
        "seed": 5,
        "codes_per_level": [4, 2],
    }
    assert str(tmp_path) not in (folder / "manifest.json").read_text()


@pytest.mark.usefixtures("no_figure")
def test_a_model_of_ones_own_keeps_its_folder_to_itself(
    contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_vectors(monkeypatch, lambda text: [len(text), text.count("a")])
    folder = tmp_path / "somewhere" / "encoder"
    folder.mkdir(parents=True)
    recipes = []
    for weights in (b"1", b"2"):
        (folder / "weights").write_bytes(weights)
        recipes.append(make(contents, tmp_path, SIDRecipe("rq-kmeans", str(folder))).recipe)
    assert [recipe["embeddings"] for recipe in recipes] == ["encoder", "encoder"]
    assert recipes[0]["sha256"] != recipes[1]["sha256"]
    assert "somewhere" not in json.dumps(recipes)
    assert make(contents, tmp_path, SIDRecipe("rq-kmeans", "org/encoder")).recipe == {
        **dataclasses.asdict(SIDRecipe("rq-kmeans", "org/encoder")),
        "descriptions_sha256": contents.descriptions_sha256,
        "codes_per_level": [8, 4],
    }


@pytest.mark.usefixtures("no_figure")
def test_categories_are_held_against_prefixes(contents: Contents, tmp_path: Path) -> None:
    def agreement(categories: tuple[tuple[str, ...], ...]) -> float | None:
        known = dataclasses.replace(contents, categories=categories)
        where = (tmp_path, QUIET)
        return build_sids(known, PLAIN, (8,), "mine", *where, replace=True)[1].levels[0].agreement

    by_noun = tuple(("All", title.split()[1]) for title in contents.titles)
    assert agreement(by_noun) is not None
    assert agreement(((),) * ITEMS) is None
    assert agreement((("All",),) * ITEMS) is None


@pytest.mark.usefixtures("no_figure")
def test_whether_they_are_built(contents: Contents, tmp_path: Path) -> None:
    text, codes = SIDRecipe("rq-kmeans", "text"), (8, 8)
    together = SIDRecipe("rq-kmeans", "collaborative")
    how: dict[SIDRecipe, str] = {text: "mine", together: "ours"}

    def built(recipe: SIDRecipe, of: Contents = contents) -> bool:
        return load_built(of, recipe, codes, how[recipe], tmp_path) is not None

    assert not built(text)
    for recipe, label in how.items():
        build_sids(contents, recipe, codes, label, tmp_path, QUIET)
    assert built(text) and built(together)
    assert load_built(contents, together, codes, "mine", tmp_path) is None
    assert load_built(contents, text, (8, 4), "mine", tmp_path) is None
    other = dataclasses.replace(contents, titles=("?", *contents.titles[1:]))
    assert not built(text, other) and not built(together, other)
    # Descriptions are no part of a dataset's fingerprint, as no policy reads them.
    other = dataclasses.replace(contents, descriptions=("?", *contents.descriptions[1:]))
    assert not built(text, other) and built(together, other)
    assert built(text, dataclasses.replace(contents, categories=(("?",),) * ITEMS))
    (tmp_path / "sids" / "sports" / "mine" / "sids.parquet").write_bytes(b"")
    assert not built(text) and built(together)


@pytest.mark.usefixtures("no_figure")
def test_whether_they_are_built_of_a_file(contents: Contents, tmp_path: Path) -> None:
    source = save_vectors(tmp_path / "mine.npy", corners())
    recipe, other = (SIDRecipe("rq-kmeans", source, "code", seed=seed) for seed in (0, 1))
    build_sids(contents, recipe, (4, 2), "mine", tmp_path, QUIET)
    assert load_built(contents, recipe, (4, 2), "mine", tmp_path) is not None
    assert load_built(contents, other, (4, 2), "mine", tmp_path) is None
    save_vectors(tmp_path / "mine.npy", corners()[::-1])
    assert load_built(contents, recipe, (4, 2), "mine", tmp_path) is None
    (tmp_path / "mine.npy").unlink()  # what is gone may be what it was
    assert load_built(contents, recipe, (4, 2), "mine", tmp_path) is not None


def test_mistakes_come_before_the_work(
    contents: Contents, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*words: object) -> None:
        raise AssertionError("too late")

    with monkeypatch.context() as patch:
        patch.setattr(module, "item_vectors", work)
        said = refused(lambda: make(contents, tmp_path, label="../mine"))
        assert said.startswith("label '../mine': must be ")
        said = refused(lambda: make(contents, tmp_path, SIDRecipe("rq-kmeans", "no.npy")))
        assert said == "embeddings=no.npy: there is no such file"
    few = save_vectors(tmp_path / "few.npy", corners()[1:])
    said = refused(lambda: make(contents, tmp_path, SIDRecipe("rq-kmeans", few)))
    assert said.startswith(f"{few} has 29 rows for 30 items; ")
    equal = save_vectors(tmp_path / "equal.npy", np.ones((ITEMS, 3)))
    said = refused(lambda: make(contents, tmp_path, SIDRecipe("rq-kmeans", equal, "level")))
    assert said.startswith("collisions=level: 30 items share the SID 0-0, and the level that ")
    assert not (tmp_path / "sids").exists()
