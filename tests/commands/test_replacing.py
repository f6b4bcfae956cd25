"""Nothing that is there is replaced without a word: datasets, SIDs, vectors, labels."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from raw_world import ITEMS, NAMES, RawWorld, raw_world
from tiny_runs import Called, call, last_error, only_error

from genrec_bench.data.dataset_store import load_contents, load_dataset
from genrec_bench.data.obtain import obtain_contents
from genrec_bench.progress import Progress

Capture = pytest.CaptureFixture[str]


class Commands:
    """Calls commands on one data directory."""

    def __init__(self, capsys: Capture, data: Path) -> None:
        self.capsys, self.data = capsys, data

    def __call__(self, *words: object) -> Called:
        return call(self.capsys, [*map(str, words), "--data-dir", str(self.data)])

    def done(self, *words: object) -> Called:
        called = self(*words)
        assert called.code == 0, called.err
        return called

    def files(self) -> dict[str, tuple[bytes, int]]:
        """Every file with its bytes and the time of its last change, but for locks."""
        return {
            str(path): (path.read_bytes(), path.stat().st_mtime_ns)
            for path in self.data.rglob("*")
            if path.is_file() and path.suffix != ".lock" and path.parent.name != "embeddings"
        }


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawWorld]:
    with raw_world("sports", tmp_path_factory.mktemp("world") / "here") as world:
        obtain_contents("sports", world.data, Progress(quiet=True))
        yield world


@pytest.fixture
def run(capsys: Capture, prepared: RawWorld, tmp_path: Path) -> Commands:
    return Commands(capsys, Path(shutil.copytree(prepared.data, tmp_path / "data")))


def vectors(file: Path, seed: int) -> Path:
    file.parent.mkdir(exist_ok=True)
    np.save(file, np.random.default_rng(seed).normal(size=(ITEMS, 4)))
    return file


def index(file: Path, shift: int = 0) -> Path:
    sids = {name: [place % 8, (place + shift) // 8, 0] for place, name in enumerate(NAMES)}
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(sids))
    return file


def test_vectors_of_two_folders_do_not_get_one_name(run: Commands, tmp_path: Path) -> None:
    first, second = (vectors(tmp_path / name / "emb.npy", seed) for seed, name in enumerate("ab"))
    build = ("sids", "build", "sports", "--embeddings")
    run.done(*build, first)
    before = run.files()
    said = only_error(run(*build, second))
    assert said.startswith("SIDs sports@rq-kmeans-emb-4x8-level are there already (")
    assert "SIDs of emb.npy by rq-kmeans (another file of that name, sha256 " in said
    assert "embeddings emb.npy" in said and "take another label with --as, or --replace" in said
    assert run.files() == before
    again = run.done(*build, first)
    assert "is there already, made so; nothing is built" in again.err
    assert run.files() == before
    run.done(*build, second, "--as", "mine")
    assert before.items() <= run.files().items()
    run.done(*build, second, "--replace")
    assert not before.items() <= run.files().items()


def test_files_of_sids_of_two_folders_do_not_get_one_name(run: Commands, tmp_path: Path) -> None:
    first, second = (index(tmp_path / name / "x.json", shift) for shift, name in enumerate("ab"))
    words = ("--as", "theirs")
    run.done("sids", "import", "sports", first, *words)
    before = run.files()
    said = only_error(run("sids", "import", "sports", second, *words))
    assert said.startswith("SIDs sports@theirs are there already (file x.json, sha256 ")
    assert "Those of x.json (another file of that name, sha256 " in said
    assert run.files() == before
    kept = load_dataset("sports@theirs", run.data).sid_fingerprint
    run.done("sids", "import", "sports", first, *words)
    assert load_dataset("sports@theirs", run.data).sid_fingerprint == kept
    run.done("sids", "import", "sports", second, *words, "--replace")
    assert load_dataset("sports@theirs", run.data).sid_fingerprint != kept


def test_a_label_is_of_one_recipe_and_one_source(run: Commands, tmp_path: Path) -> None:
    run.done("sids", "build", "sports", "--as", "mine")
    before = run.files()
    for words in (
        ("build", "sports", "--seed", "1"),
        ("build", "sports", "--codes", "6"),
        ("build", "sports", "--method", "rq-vae"),
        ("import", "sports", index(tmp_path / "x.json")),
    ):
        said = only_error(run("sids", *words, "--as", "mine"))
        assert said.startswith("SIDs sports@mine are there already (") and "rq-kmeans" in said
        assert run.files() == before
    run.done("sids", "build", "sports", "--as", "mine")
    assert run.files() == before


def test_damaged_sids_are_replaced_and_it_is_said(run: Commands) -> None:
    run.done("sids", "build", "sports", "--as", "mine")
    table = run.data / "sids" / "sports" / "mine" / "sids.parquet"
    table.write_bytes(b"")
    called = run.done("sids", "build", "sports", "--as", "mine", "--seed", "1")
    assert "SIDs sports@mine are damaged, and are replaced" in called.err
    assert load_dataset("sports@mine", run.data).catalog.num_items == ITEMS


def lcrec(folder: Path, *sequences: list[int]) -> Path:
    folder.mkdir()
    users = {str(user): sequence for user, sequence in enumerate(sequences)}
    (folder / "Sports.inter.json").write_text(json.dumps(users))
    sids = {str(item): [item, 0, 0, 0] for item in range(4)}
    (folder / "Sports.index.json").write_text(json.dumps(sids))
    return folder


def test_a_dataset_is_replaced_when_somebody_asks(
    run: Commands, prepared: RawWorld, tmp_path: Path
) -> None:
    first = lcrec(tmp_path / "a", [0, 1, 2], [1, 2, 3, 0])
    second = lcrec(tmp_path / "b", [0, 1, 2], [1, 2, 3, 3])
    run.done("sids", "build", "sports", "--as", "mine")
    take = ("data", "import", "lcrec")
    before = run.files()
    said = only_error(run(*take, first, "--as", "sports"))
    assert said.startswith("sports is there already, prepared (meta_Sports_and_Outdoors.json.gz, ")
    assert "30 items, rows: 60 test, 300 train, 60 valid, for which there are the SIDs mine" in said
    assert said.endswith("a card of its own, under another name, keeps both")
    assert run.files() == before

    run.done(*take, first, "--as", "sports", "--replace")
    there = run.files()
    called = run.done(*take, first, "--as", "sports")
    assert called.out.startswith("sports is there already, imported from these files: ")
    said = only_error(run(*take, second, "--as", "sports"))
    assert said.startswith("sports is there already, imported from lcrec (Sports.index.json, Spo")
    assert "with another content of Sports.inter.json (sha256 " in said
    assert "another content of Sports.index.json" not in said
    said = last_error(run("data", "prepare", "sports", *prepared.given))
    assert said.startswith("sports is there already, imported from lcrec (")
    assert run.files() == there and load_contents("sports", run.data).layout == "lcrec"

    run.done("data", "prepare", "sports", *prepared.given, "--replace")
    there = run.files()
    called = run.done("data", "prepare", "sports", *prepared.given)
    assert called.out.startswith("sports is there already, made of these files; --replace makes")
    assert run.files() == there


def test_a_damaged_dataset_is_replaced_and_it_is_said(run: Commands, tmp_path: Path) -> None:
    (run.data / "sports" / "train.parquet").write_bytes(b"")
    called = run.done("data", "import", "lcrec", lcrec(tmp_path / "a", [0, 1, 2]), "--as", "sports")
    assert f"{run.data / 'sports'} is damaged, and is replaced" in called.err
    assert load_contents("sports", run.data).layout == "lcrec"
