"""``genrec-bench sids``: build, import, list and show."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from raw_world import CODES, ITEMS, NAMES, RawWorld, raw_world
from tiny_runs import Called, call, last_error, only_error

from genrec_bench.data.cards import load_card
from genrec_bench.data.dataset import Dataset
from genrec_bench.data.dataset_store import load_contents, load_dataset
from genrec_bench.data.obtain import obtain, obtain_contents
from genrec_bench.data.sids.sid_store import labels
from genrec_bench.progress import Progress

Capture = pytest.CaptureFixture[str]
QUIET = Progress(quiet=True)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RawWorld]:
    with raw_world("sports", tmp_path_factory.mktemp("world") / "here") as world:
        obtain_contents("sports", world.data, QUIET)
        yield world


class Sids:
    """The command, on a data directory of its own that has the dataset, without SIDs."""

    def __init__(self, capsys: Capture, data: Path) -> None:
        self.capsys, self.data = capsys, data

    def __call__(self, command: str, *words: str) -> Called:
        return call(self.capsys, ["sids", command, *words, "--data-dir", str(self.data)])

    def done(self, command: str, *words: str) -> str:
        called = self(command, *words)
        assert (called.code, called.err) == (0, ""), called.err
        return called.out

    def load(self, label: str) -> Dataset:
        return load_dataset(f"sports@{label}", self.data)


@pytest.fixture
def sids(capsys: Capture, prepared: RawWorld, tmp_path: Path) -> Sids:
    return Sids(capsys, Path(shutil.copytree(prepared.data, tmp_path / "data")))


@pytest.mark.parametrize(
    ("words", "label", "codes_per_level"),
    [
        ([], "rq-kmeans-text-4x8-level", (8, 8, 8, 8, 8)),
        (["--levels", "2"], "rq-kmeans-text-2x8-level", (8, 8, 8)),
        (["--codes", "5"], "rq-kmeans-text-4x5-level", (5, 5, 5, 5, 5)),
        (["--method", "rq-vae", "--collisions", "keep"], "rq-vae-text-4x8", (8, 8, 8, 8)),
        (
            ["--levels", "3", "--codes", "6", "--seed", "7", "--collisions", "keep"],
            "rq-kmeans-text-3x6-seed7",
            (6, 6, 6),
        ),
        (["--embeddings", "collaborative"], "rq-kmeans-collaborative-4x8-level", (8,) * 5),
        (["--as", "Mine_1.0", "--collisions", "keep"], "Mine_1.0", (8, 8, 8, 8)),
    ],
)
def test_options_and_labels(
    sids: Sids, words: list[str], label: str, codes_per_level: tuple[int, ...]
) -> None:
    out = sids.done("build", "sports", *words)
    assert labels("sports", sids.data) == [label]
    dataset = sids.load(label)
    assert dataset.catalog.codes_per_level == codes_per_level
    assert f"30 items, {len(dataset.catalog.unique_sids)} distinct SIDs" in out
    assert "reconstruction error: " in out and "perplexity" in out
    assert f"written to {sids.data / 'sids' / 'sports' / label}\n" in out
    assert out.endswith(f"to use them: genrec-bench run ugr --dataset sports@{label}\n")


def test_vectors_of_ones_own(sids: Sids, tmp_path: Path) -> None:
    file = tmp_path / "my vectors.npy"
    np.save(file, np.random.default_rng(0).normal(size=(ITEMS, 4)))
    sids.done("build", "sports", "--embeddings", str(file))
    assert labels("sports", sids.data) == ["rq-kmeans-my-vectors-4x8-level"]
    out = sids.done("show", "sports@rq-kmeans-my-vectors-4x8-level")
    assert "embeddings my vectors.npy" in out and str(tmp_path) not in out
    np.save(file, np.ones((ITEMS + 1, 4)))
    said = only_error(sids("build", "sports", "--embeddings", str(file), "--as", "other"))
    assert said.startswith(f"{file} has 31 rows for 30 items")
    assert "other" not in labels("sports", sids.data)


def test_json_of_every_command(sids: Sids, tmp_path: Path) -> None:
    assert json.loads(sids.done("list", "--json")) == []
    built = json.loads(sids.done("build", "sports", "--as", "mine", "--json"))
    assert (built["dataset"], built["items"], built["distinct"]) == ("sports@mine", 30, 30)
    assert built["folder"] == (sids.data / "sids" / "sports" / "mine").as_posix()
    shown = json.loads(sids.done("show", "sports@mine", "--json"))
    assert shown["recipe"]["method"] == "rq-kmeans"
    assert shown["quality"].items() <= built.items()
    file = write_index(tmp_path, index())
    imported = json.loads(sids.done("import", "sports", file, "--as", "theirs", "--json"))
    assert imported["dataset"] == "sports@theirs"
    assert json.loads(sids.done("list", "--json")) == [
        {"dataset": "sports", "label": label, "use": f"--dataset sports@{label}"}
        for label in ("mine", "theirs")
    ]


def test_list_and_show(sids: Sids) -> None:
    assert sids.done("list") == f"no SIDs were made yet in {sids.data}\n"
    label = "rq-kmeans-text-4x8-level"
    built = sids.done("build", "sports").split("\n\nwritten to")[0]
    assert sids.done("list").splitlines()[2].split() == [
        "sports", label, "--dataset", f"sports@{label}",
    ]  # fmt: skip
    out = sids.done("show", "sports")
    told, worth = out.split("\n\n", 1)
    assert told == (
        f"sports@{label}: codes_per_level [8, 8, 8, 8], collisions level, embeddings text, "
        "method rq-kmeans, seed 0"
    )
    assert worth == f"{built}\n"
    assert sids.done("show", f"sports@{label}") == out
    figure = sids.data / "sids" / "sports" / label / "quality.png"
    figure.write_bytes(b"")
    assert sids.done("show", "sports") == f"{out}\nfigure: {figure}\n"


def test_the_name_alone_means_the_sids_of_the_card(sids: Sids) -> None:
    sids.done("build", "sports", "--seed", "1", "--as", "other")
    said = only_error(sids("show", "sports"))
    assert "has no SIDs 'rq-kmeans-text-4x8-level'; there are other; make them with" in said
    label = "rq-kmeans-text-4x8-level"
    for words in (["--seed", "1"], ["--method", "rq-vae"], ["--codes", "4"]):
        said = only_error(sids("build", "sports", *words, "--as", label))
        assert said == (
            f"label {label!r} is that of the SIDs that sports has by its card: take another one "
            "with --as"
        )
    sids.done("build", "sports", "--as", label)
    by_name = load_dataset("sports", sids.data)
    assert by_name.sid_fingerprint == sids.load(label).sid_fingerprint
    assert by_name.sid_fingerprint != sids.load("other").sid_fingerprint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["sprots"], "unknown dataset 'sprots'; did you mean 'sports'?"),
        (["sports@mine"], "unknown dataset 'sports@mine'"),
        (["sports", "--as", "../mine"], "label '../mine': must be letters, digits"),
        (["sports", "--as", "rq-vae-x"], "label 'rq-vae-x' reads as the options of other SIDs"),
        (["sports", "--as", ""], "label '': must be letters, digits"),
        (["sports", "--as", "x" * 300], "label 'xxx"),
        (["sports", "--levels", "0"], "argument --levels: 0: must be a whole number"),
        (["sports", "--levels", "27"], "argument --levels: 27: must be a whole number"),
        (["sports", "--codes", "-1"], "argument --codes: -1: must be a whole number"),
        (["sports", "--codes", "2.5"], "argument --codes: 2.5: must be a whole number"),
        (["sports", "--seed", "-1"], "argument --seed: -1: must be a whole number"),
        (["sports", "--method", "vq"], "argument --method: invalid choice: 'vq'"),
        (["sports", "--collisions", "no"], "argument --collisions: invalid choice: 'no'"),
        (["sports", "--embeddings", "no.npy"], "embeddings={here}/no.npy: there is no such file"),
        (["sports", "--codes", "1"], "collisions=level: 30 items share the SID 0-0-0-0, and "),
    ],
)
def test_mistakes_in_what_is_asked_for(sids: Sids, words: list[str], message: str) -> None:
    message = message.replace("{here}", str(Path.cwd()))
    assert only_error(sids("build", *words)).startswith(message)
    assert not labels("sports", sids.data)


def test_a_mistyped_option_fetches_nothing(capsys: Capture, tmp_path: Path) -> None:
    with raw_world("industrial", tmp_path / "world") as world:
        sids = Sids(capsys, world.data)
        for words in (
            ["build", "industrial", "--as", "a/b"],
            ["build", "industrial", "--as", "rq-vae-x"],
            ["build", "industrial", "--embeddings", "no.npy"],
            ["import", "industrial", "no.json", "--as", "mine"],
            ["import", "industrial", str(world.files[0]), "--as", "a/b"],
            ["show", "industrial"],
        ):
            only_error(sids(*words))
        assert world.requests == 0 and not world.data.exists()
        called = sids("build", "industrial")
        assert called.code == 0 and world.requests == 2
        assert called.err.startswith("industrial is not prepared yet")
        assert labels("industrial", world.data) == ["rq-vae-text-3x8-move"]


def test_synthetic_has_sids_and_may_have_others(capsys: Capture, tmp_path: Path) -> None:
    sids = Sids(capsys, tmp_path / "data")
    sids.done("build", "synthetic", "--levels", "2", "--codes", "32")
    assert labels("synthetic", sids.data) == ["rq-kmeans-text-2x32"]
    dataset = load_dataset("synthetic@rq-kmeans-text-2x32", sids.data)
    own = load_dataset("synthetic", sids.data)
    assert dataset.catalog.codes_per_level == (32, 32)
    assert own.catalog.codes_per_level == load_card("synthetic").codes_per_level
    assert dataset.fingerprint == own.fingerprint
    said = only_error(sids("show", "synthetic"))
    assert said.startswith("synthetic has the SIDs that its files bring: see `genrec-bench data ")


def test_a_dataset_that_changes_leaves_its_sids_behind(sids: Sids, prepared: RawWorld) -> None:
    sids.done("build", "sports", "--as", "mine")
    fewer = prepared.root / "fewer"
    fewer.mkdir()
    given = [fewer / file.name for file in prepared.files]
    kept = [file.read_bytes() for file in prepared.files]
    prepared.write_files(users=50)
    for file, copy, before in zip(prepared.files, given, kept, strict=True):
        copy.write_bytes(file.read_bytes())
        file.write_bytes(before)
    words = ["data", "prepare", "sports", "--accept-counts", "--data-dir", str(sids.data)]
    words += ["--reviews", str(given[0]), "--metadata", str(given[1])]
    said = last_error(call(sids.capsys, words))
    assert said.startswith("sports is there already, prepared (") and "the SIDs mine. What" in said
    assert call(sids.capsys, [*words, "--replace"]).code == 0
    said = only_error(sids("show", "sports@mine"))
    assert "these SIDs were made for other contents; make them again with" in said
    assert "`genrec-bench sids build sports --as mine`" in said
    said = only_error(sids("build", "sports", "--as", "mine"))
    assert said.startswith("SIDs sports@mine are there already (") and "for other contents" in said
    sids.done("build", "sports", "--as", "mine", "--replace")
    assert len(sids.load("mine").test) == 50


def test_damage_is_told_in_one_line(sids: Sids) -> None:
    sids.done("build", "sports", "--as", "mine")
    folder = sids.data / "sids" / "sports" / "mine"
    manifest = (folder / "manifest.json").read_text()
    for content in ("{", manifest.replace('"levels"', '"floors"')):
        (folder / "manifest.json").write_text(content)
        assert only_error(sids("show", "sports@mine")).startswith(str(folder))
    (folder / "manifest.json").write_text(manifest)
    (folder / "sids.parquet").write_bytes(b"PAR1")
    assert only_error(sids("show", "sports@mine")).startswith(f"{folder} cannot be read (")


def index(**changes: Any) -> dict[str, Any]:
    """SIDs of all items in the layout of others: ten share a first code."""
    found = {name: [f"<a_{i // 10}>", f"<b_{i % 10}>", f"<c_{i}>"] for i, name in enumerate(NAMES)}
    return found | changes


def write_index(folder: Path, content: object) -> str:
    file = folder / "Sports.index.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return str(file)


def test_sids_of_others_are_taken_as_they_are(sids: Sids, tmp_path: Path) -> None:
    # Their order in the file is nobody's business.
    file = write_index(tmp_path, dict(reversed(index().items())))
    out = sids.done("import", "sports", file, "--as", "theirs")
    *told, written = out.splitlines(keepends=True)
    assert "".join(told[:2]) == (
        "sports@theirs: 30 items, 3 x 10 x 30 codes\n"
        "SIDs are read so: ['<a_0>', '<b_0>', '<c_0>'] has the codes 0, 0, 0\n"
    )
    assert told[2].startswith("items taken one after the other share of their SIDs")
    assert written == (f"written to {sids.data / 'sids' / 'sports' / 'theirs'}\n")
    dataset = obtain("sports@theirs", sids.data, QUIET)
    assert dataset.catalog.sids.tolist() == [[i // 10, i % 10, i] for i in range(ITEMS)]
    assert dataset.fingerprint == load_contents("sports", sids.data).fingerprint
    shown = sids.done("show", "sports@theirs")
    assert shown.startswith("sports@theirs: file Sports.index.json, sha256 ")
    assert "30 items, 30 distinct SIDs" in shown and str(tmp_path) not in shown


def test_codes_per_level_are_the_cards_where_they_suffice(sids: Sids, tmp_path: Path) -> None:
    four = {name: [*tokens, "<d_2>"] for name, tokens in index().items()}
    sids.done("import", "sports", write_index(tmp_path, four), "--as", "theirs")
    assert sids.load("theirs").catalog.codes_per_level == (CODES, 10, 30, CODES)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", " is empty"),
        ("{", ", line 1: malformed JSON: "),
        ("[]", ": expected a JSON object with at least one entry"),
        ("{}", ": expected a JSON object with at least one entry"),
        (
            json.dumps(index()).replace('"B001"', '"B000"'),
            ", line 1: malformed JSON: key 'B000' stands twice",
        ),
        (
            {name: sid for name, sid in index().items() if name != "B003"},
            ": 1 of 30 items of sports have no SID, such as 'B003'; the keys must be the ",
        ),
        ({"0": ["<a_0>"]}, ": 30 of 30 items of sports have no SID, such as 'B000'; the keys "),
        (index(B777=["<a_0>"]), ": 1 SIDs are for no item of sports, such as that of 'B777'"),
        (index(B004="a, b, c"), ", item 'B004': SID token 'a, b, c' is not of the form '<a_12>'"),
        (index(B004=[]), ", item 'B004': the SID is empty"),
        (index(B004=None), ", item 'B004': None is no SID"),
        (index(B004=["<a_0>", "<b_1>"]), ", item 'B004': SID has 2 levels, not 3"),
        (
            index(B004=["<a_0>", "<b_1>", "<c_1>", "<d_1>"]),
            ", item 'B004': SID has 4 levels, not 3",
        ),
        (
            index(B004=["<a_0>", "b_x", "<c_1>"]),
            ", item 'B004': SID token 'b_x' is not of the form '<a_12>'",
        ),
        (index(B004=[0, -1, 2]), ", item 'B004': SID code -1 is negative"),
        (
            index(B004=["<a_0>", "<c_1>", "<c_1>"]),
            ", item 'B004': SID token '<c_1>' stands where level 'b' belongs",
        ),
        (
            index(B004=["<a_0>", "<b_-1>", "<c_1>"]),
            ", item 'B004': SID token '<b_-1>' is not of the form '<a_12>'",
        ),
        (
            index(B004=["<a_0>", "<b_1>", "<c_65536>"]),
            ", item 'B004': SID token '<c_65536>': codes must be below 65536",
        ),
        (index(B004=["<a_0>", "<b_1>", f"<c_{'9' * 30}>"]), ", item 'B004': SID token '<c_999"),
    ],
)
def test_malformed_files(sids: Sids, tmp_path: Path, content: object, message: str) -> None:
    file = write_index(tmp_path, content)
    said = only_error(sids("import", "sports", file, "--as", "theirs"))
    assert said.startswith(f"{file}{message}")
    assert not labels("sports", sids.data)


def test_a_refused_import_keeps_the_earlier_one(sids: Sids, tmp_path: Path) -> None:
    sids.done("import", "sports", write_index(tmp_path, index()), "--as", "theirs")
    before = sids.load("theirs").sid_fingerprint
    last_error(sids("import", "sports", write_index(tmp_path, "{"), "--as", "theirs"))
    assert sids.load("theirs").sid_fingerprint == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no.json", "--as", "mine"], "no.json: there is no such file"),
        ([".", "--as", "mine"], ".: is a folder, and a file is needed"),
        (["no.json"], "the following arguments are required: --as"),
        (["no.json", "--as", ""], "label '': must be "),
        (["no.json", "--as", "rq-vae-x"], "label 'rq-vae-x' reads as the options of other SIDs"),
        (["no.json", "--as", "rq-kmeans-text-4x8-level"], "label 'rq-kmeans-text-4x8-level' is "),
    ],
)
def test_mistakes_in_what_is_imported(sids: Sids, words: list[str], message: str) -> None:
    assert only_error(sids("import", "sports", *words)).startswith(message)
