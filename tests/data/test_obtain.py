"""From a dataset's name to the dataset, and to a run, with nothing there but the raw files."""

import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from download_world import Watched, refused
from local_server import Answer
from raw_world import CODES, EACH, NAMES, RAW_CARDS, ROWS, TEXTS, RawWorld, raw_world, world_log
from tiny_runs import Bench, call, shrink_backbone

from genrec_bench.data import dataset as dataset_module
from genrec_bench.data import dataset_store, obtain
from genrec_bench.data.data_report import verify_data
from genrec_bench.data.dataset import Dataset
from genrec_bench.data.dataset_store import load_contents, load_dataset
from genrec_bench.data.sids import build as building
from genrec_bench.data.sids import sid_store
from genrec_bench.data.sids.sid_store import labels
from genrec_bench.progress import Progress
from genrec_bench.storage import locks

Capture = pytest.CaptureFixture[str]
QUIET = Progress(quiet=True)


@pytest.fixture
def sports(tmp_path: Path) -> Iterator[RawWorld]:
    with raw_world("sports", tmp_path / "world") as world:
        yield world


def get(world: RawWorld, name: str = "", progress: Progress = QUIET) -> Dataset:
    return obtain.obtain(name or world.name, world.data, progress)


def fingerprints(dataset: Dataset) -> tuple[str, str]:
    return dataset.fingerprint, dataset.sid_fingerprint


def looks(folder: Path) -> dict[str, int]:
    """When each file was changed last."""
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


@pytest.mark.parametrize("name", RAW_CARDS)
def test_every_dataset_comes_of_its_name_alone(name: str, tmp_path: Path) -> None:
    with raw_world(name, tmp_path / "world") as world:
        world.change_card(history_length=5)
        world.publish()
        heard = Watched()
        dataset, card = get(world, progress=heard), world.card
        assert card.sids is not None
        assert world.requests == len(world.servers)
        assert heard.lines[0].startswith(f"{name} is not prepared yet: making it from ")
        imported = f"`genrec-bench data import {card.layout} DIR --as {name}`"
        assert (imported in heard.lines[0]) == bool(card.layout)
        label = card.sids.label(card.codes_per_level)
        assert heard.lines[-1] == f"{name} has no SIDs yet: building {label}"

        assert (dataset.name, dataset.partial) == (name, False)
        assert dataset.catalog.item_names == tuple(NAMES)
        assert dataset.catalog.titles == tuple(TEXTS[item][0] for item in NAMES)
        levels = card.num_levels + (card.sids.collisions in ("level", "code"))
        assert dataset.catalog.codes_per_level == (CODES,) * levels
        distinct = len(dataset.catalog.unique_sids)
        assert distinct == len(NAMES) if card.sids.collisions != "keep" else distinct > 15
        assert tuple(map(len, dataset.splits.values())) == ROWS[card.protocol]
        assert [max(part.history_lengths) for part in dataset.splits.values()] == [5, 5, 5]
        times = load_contents(name, world.data).times
        # A user's rows stand together, and all but the first of them are targets.
        wanted = [1000 * row[2] for place, row in enumerate(world_log(card)) if place % EACH]
        assert sorted(np.concatenate([*times.values()]).tolist()) == sorted(wanted)

        before, heard = looks(world.data), Watched()
        assert fingerprints(get(world, progress=heard)) == fingerprints(dataset)
        assert not heard.lines and looks(world.data) == before
        assert world.requests == len(world.servers)

        # The same reviews and items in another order are the same dataset.
        other = tmp_path / "other"
        world.write_files(shuffle=1)
        world.publish(other)
        assert obtain.obtain_contents(name, other, QUIET).fingerprint == dataset.fingerprint
        sources = [
            json.loads((data / name / "manifest.json").read_text())["sources"]
            for data in (world.data, other)
        ]
        assert sources[0].keys() == sources[1].keys()
        assert all(sources[0][file] != sources[1][file] for file in sources[0])


def test_a_run_makes_its_dataset(sports: RawWorld, tmp_path: Path, capsys: Capture) -> None:
    bench = Bench(capsys, sports.data, tmp_path / "out")
    with pytest.MonkeyPatch.context() as patch:
        shrink_backbone(patch)
        first = bench.record("ugr", "--dataset", "sports")
        words = ["sids", "build", "sports", "--codes", "6", "--as", "small"]
        assert call(capsys, [*words, "--data-dir", str(sports.data)]).code == 0
        second = bench.record("ugr", "--dataset", "sports@small")
    assert (first["dataset"], second["dataset"]) == ("sports", "sports@small")
    assert first["complete"] and second["complete"] and not first["partial"]
    assert first["track"]["dataset"] == second["track"]["dataset"]
    assert first["track"]["sids"] != second["track"]["sids"]
    assert first["track_id"] != second["track_id"]
    dataset = load_dataset("sports", sports.data)
    assert fingerprints(dataset) == (first["track"]["dataset"], first["track"]["sids"])
    assert sports.requests == 2


@pytest.mark.parametrize("name", ["sports", "synthetic"])
def test_a_run_reads_each_table_once_and_hashes_it_once(
    name: str, sports: RawWorld, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    did: Counter[str] = Counter()

    def count(module: ModuleType, function: str, told: Callable[..., str]) -> None:
        real = getattr(module, function)

        def counted(*words: Any) -> Any:
            did[told(*words)] += 1
            return real(*words)

        monkeypatch.setattr(module, function, counted)

    count(dataset_store, "read_table", lambda path: path.name)
    count(sid_store, "read_table", lambda content: "sids.parquet")
    count(dataset_store, "generate", lambda card: "drawn")
    count(dataset_module, "_add_array", lambda digest, array, dtype: "hashed")
    shrink_backbone(monkeypatch)
    bench = Bench(capsys, sports.data, tmp_path / "out")
    # Users, histories, offsets and targets of three splits, and the SIDs.
    once = {"hashed": 4 * 3 + 1}
    drawn = {"drawn": 1} if name == "synthetic" else {}
    bench.record("ugr", "--dataset", name)
    assert did == once | drawn
    did.clear()
    bench.record("ugr", "--dataset", name, "--seed", "1")
    # Users have names where the data were prepared from raw files.
    tables = ["items", "train", "valid", "test"] + ["sids", "users"] * (name == "sports")
    assert did == once | {f"{table}.parquet": 1 for table in tables}


def test_what_cannot_be_fetched_ends_a_run_in_one_line(
    sports: RawWorld, tmp_path: Path, capsys: Capture
) -> None:
    url = sports.servers[0].url
    sports.servers[0].script = [Answer(status=404)]
    called = Bench(capsys, sports.data, tmp_path / "out").call("ugr", "--dataset", "sports")
    assert called.code == 2 and called.out == "" and "Traceback" not in called.err
    said, line = called.err.splitlines()
    assert said.startswith("sports is not prepared yet")
    assert line.startswith(f"genrec-bench: error: cannot fetch {url}/reviews_Sports_and_Outdoors_")
    assert not (tmp_path / "out").exists()


def test_labels_that_are_not_there_fetch_nothing(sports: RawWorld) -> None:
    for prepared in (False, True):
        fetched = sports.requests
        said = refused(lambda: get(sports, "sports@nothing"))
        assert said.startswith("dataset 'sports' has no SIDs 'nothing'")
        assert "`genrec-bench sids build sports --as nothing`" in said
        assert ("; there are rq-kmeans-text-4x8-level;" in said) == prepared
        assert "label '../../beauty': must be" in refused(
            lambda: get(sports, "sports@../../beauty")
        )
        assert "unknown dataset 'sprots'; did you mean 'sports'" in refused(
            lambda: get(sports, "sprots@nothing")
        )
        assert sports.requests == fetched
        get(sports)


def test_what_is_there_is_read_without_writing(
    sports: RawWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a data directory that many share, one person makes datasets."""
    dataset = get(sports)

    def refuse(*words: object, **options: object) -> None:
        raise AssertionError("nothing is to be written")

    monkeypatch.setattr(locks, "locked", refuse)
    monkeypatch.setattr(Path, "mkdir", refuse)
    assert fingerprints(get(sports)) == fingerprints(dataset)
    assert fingerprints(get(sports, "sports@rq-kmeans-text-4x8-level")) == fingerprints(dataset)


def test_what_was_cut_short_goes_on(sports: RawWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*words: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(building, "quantize", interrupt)
        with pytest.raises(KeyboardInterrupt):
            get(sports)
    assert labels("sports", sports.data) == []
    heard = Watched()
    get(sports, progress=heard)
    assert heard.lines == ["sports has no SIDs yet: building rq-kmeans-text-4x8-level"]
    assert sports.requests == 2


def test_damaged_sids_of_the_card_are_built_again(sports: RawWorld) -> None:
    dataset = get(sports)
    (folder,) = (sports.data / "sids" / "sports").iterdir()
    (folder / "sids.parquet").write_bytes(b"?")
    assert fingerprints(get(sports)) == fingerprints(dataset)


def test_vectors_that_change_are_new_sids(sports: RawWorld) -> None:
    vectors = np.random.default_rng(0).random((len(NAMES), 4))
    np.save(sports.root / "v.npy", vectors)
    sids = {"method": "rq-kmeans", "embeddings": str(sports.root / "v.npy"), "collisions": "level"}
    sports.change_card(sids=sids)
    before = get(sports)
    assert verify_data("sports", sports.data) == [] and fingerprints(get(sports)) == fingerprints(
        before
    )
    np.save(sports.root / "v.npy", vectors[::-1])
    assert "are not of the card's recipe and vectors" in verify_data("sports", sports.data)[0]
    heard = Watched()
    after = get(sports, progress=heard)
    assert "has SIDs that are damaged or made of something else" in heard.lines[0]
    assert after.sid_fingerprint != before.sid_fingerprint
    assert verify_data("sports", sports.data) == []


def test_a_dataset_that_was_prepared_anew_has_new_sids(sports: RawWorld) -> None:
    get(sports)
    label = sports.card.sids.label(sports.card.codes_per_level) if sports.card.sids else ""
    sports.write_files(users=50)
    obtain.prepare_dataset(
        sports.card,
        sports.data,
        QUIET,
        interactions=sports.files[0],
        items=sports.files[1],
        accept_counts=True,
        replace=True,
    )
    said = refused(lambda: get(sports, f"sports@{label}"))
    assert "were made for other contents" in said and "options that the label tells" in said
    refused(lambda: load_dataset("sports", sports.data))
    dataset = get(sports)
    assert tuple(map(len, dataset.splits.values())) == (250, 50, 50)
    assert fingerprints(get(sports, f"sports@{label}")) == fingerprints(dataset)


def test_counts_that_are_not_the_cards_name_the_command(sports: RawWorld) -> None:
    sports.write_files(users=50)
    sports.publish()
    said = refused(lambda: get(sports))
    assert "users: 50 found, 60 expected (-16.7%)" in said
    assert "`genrec-bench data prepare sports --accept-counts`" in said
    assert not (sports.data / "sports").exists()


def test_sids_that_files_bring_are_not_built(tmp_path: Path, capsys: Capture) -> None:
    with raw_world("beauty", tmp_path / "world") as world:
        tokens = {str(i): [f"<{level}_{i}>" for level in "abcd"] for i in range(3)}
        files: dict[str, Any] = {"inter": {"u": [0, 1, 2, 1], "v": [2, 0, 1]}, "index": tokens}
        for kind, content in files.items():
            (tmp_path / f"Beauty.{kind}.json").write_text(json.dumps(content))
        words = ["data", "import", "lcrec", str(tmp_path), "--as", "beauty"]
        assert call(capsys, [*words, "--data-dir", str(world.data)]).code == 0
        dataset = get(world)
        assert dataset.catalog.sids.tolist() == [[0] * 4, [1] * 4, [2] * 4]
        assert world.requests == 0 and labels("beauty", world.data) == []


PROCESS = """
import sys
from pathlib import Path
tests, root, data = sys.argv[1:]
sys.path.insert(0, tests)
import pytest
from raw_world import use_cards
from genrec_bench.data.obtain import obtain
from genrec_bench.progress import Progress
with pytest.MonkeyPatch.context() as patch:
    use_cards(patch, Path(root))
    dataset = obtain("sports", Path(data), Progress())
    print(dataset.fingerprint, dataset.sid_fingerprint)
"""


def test_processes_that_come_at_once_make_it_once(sports: RawWorld, tmp_path: Path) -> None:
    """One of this process, one of another; both have to wait before they begin."""
    words = [sys.executable, "-c", PROCESS]
    words += map(str, (Path(__file__).parents[1] / "support", sports.root, sports.data))
    waiting = "sports: another process is making it; waiting"
    here, there = Watched(), tmp_path / "there.txt"
    with there.open("wb") as stderr, ThreadPoolExecutor() as pool:
        with locks.locked(sports.data / ".sports.lock"):
            mine = pool.submit(get, sports, progress=here)
            other = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=stderr, text=True)
            until = time.monotonic() + 60
            while not here.lines or waiting not in there.read_text():
                assert time.monotonic() < until and other.poll() is None
                time.sleep(0.02)
        said = [" ".join(fingerprints(mine.result(60))), other.communicate(timeout=60)[0].strip()]
    assert other.returncode == 0 and said[0] == said[1]
    assert sports.requests == 2
    heard = [here.lines, there.read_text().splitlines()]
    assert [lines[0] for lines in heard] == [waiting] * 2
    first, second = sorted(heard, key=len)
    assert len(first) == 1 and sum("building" in line for line in second) == 1
