"""SIDs on disk: written whole, read as they were, refused where they are not."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from download_world import refused

from genrec_bench.data.sids.sid_recipe import SIDRecipe
from genrec_bench.data.sids.sid_store import (
    SIDs,
    check_label,
    labels,
    load_sids,
    save_sids,
    sids_folder,
)
from genrec_bench.errors import StorageError

FINGERPRINT = "0" * 64
CODES = [[0, 1, 2], [3, 0, 0], [0, 1, 2]]
RECIPE = {"method": "rq-kmeans", "seed": 0}


def made_of(fingerprint: str = FINGERPRINT, descriptions: str = "", items: int = len(CODES)) -> Any:
    """Stands in for the contents of `tools`."""
    return SimpleNamespace(
        card=SimpleNamespace(name="tools"),
        fingerprint=fingerprint,
        descriptions_sha256=descriptions,
        item_names=[f"item {number}" for number in range(items)],
    )


def sids(codes: list[list[int]] = CODES) -> SIDs:
    return SIDs(np.array(codes, dtype=np.int32), (4, 2, 300), RECIPE, {"distinct": 2})


def save(data: Path, label: str = "mine", codes: list[list[int]] = CODES) -> Path:
    return save_sids(sids(codes), made_of(), label, data, b"figure")


def load(
    data: Path,
    label: str = "mine",
    fingerprint: str = FINGERPRINT,
    descriptions: str = "",
    items: int = len(CODES),
) -> SIDs:
    return load_sids(made_of(fingerprint, descriptions, items), label, data)


def contents_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = save(tmp_path)
    assert folder == tmp_path / "sids" / "tools" / "mine" == sids_folder("tools", "mine", tmp_path)
    assert contents_of(folder).keys() == {"sids.parquet", "manifest.json", "quality.png"}
    found = load(tmp_path)
    assert found.codes.dtype == np.int32 and found.codes.tolist() == CODES
    assert found.codes_per_level == (4, 2, 300)
    assert (found.recipe, found.quality) == (RECIPE, {"distinct": 2})


@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (7, 4)])
def test_any_codes_come_back(tmp_path: Path, shape: tuple[int, int]) -> None:
    table = np.random.default_rng(0).integers(10, size=shape, dtype=np.int32)
    save_sids(SIDs(table, (10,) * shape[1], {}, {}), made_of(), "mine", tmp_path, None)
    assert np.array_equal(load(tmp_path, items=shape[0]).codes, table)


def test_the_same_sids_are_the_same_bytes(tmp_path: Path) -> None:
    assert contents_of(save(tmp_path / "one")) == contents_of(save(tmp_path / "two"))


def test_labels(tmp_path: Path) -> None:
    assert labels("tools", tmp_path) == []
    for label in ("b", "a.2", "grün_1"):
        save(tmp_path, label)
    (tmp_path / "sids" / "tools" / "empty").mkdir()
    assert labels("tools", tmp_path) == ["a.2", "b", "grün_1"]
    assert labels("other", tmp_path) == []


@pytest.mark.parametrize(
    "label",
    ["", ".", "..", "../mine", "a/b", "/a", "a\\b", ".mine", "a b", "a@b", "a\n", "x" * 101],
)
def test_labels_that_are_no_folder(tmp_path: Path, label: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: sids_folder("tools", label, tmp_path),
        lambda: save(tmp_path, label),
        lambda: load(tmp_path, label),
        lambda: check_label("tools", label, tmp_path),
    ]
    for call in calls:
        assert refused(call).startswith(f"label {label!r}: must be letters, digits")
    assert not list(tmp_path.iterdir())


def test_what_is_not_there_is_told_with_what_is(tmp_path: Path) -> None:
    typed = "make them with `genrec-bench sids build tools --as miene`, or import them"
    said = refused(lambda: load(tmp_path, "miene"))
    assert said == f"dataset 'tools' has no SIDs 'miene'; {typed}"
    save(tmp_path, "mine")
    save(tmp_path, "yours")
    there = "did you mean 'mine'?; there are mine, yours"
    said = f"dataset 'tools' has no SIDs 'miene'; {there}; {typed}"
    assert refused(lambda: load(tmp_path, "miene")) == said
    assert refused(lambda: check_label("tools", "miene", tmp_path)) == said
    check_label("tools", "mine", tmp_path)


def test_sids_of_other_contents_are_refused(tmp_path: Path) -> None:
    folder = save(tmp_path)
    said = refused(lambda: load(tmp_path, fingerprint="1" * 64))
    assert said.startswith(f"{folder}: these SIDs were made for other contents; make them again ")
    assert "`genrec-bench sids build tools --as mine`" in said


Harm = Callable[[Path], object]


def manifest(change: Callable[[dict[str, Any]], object]) -> Harm:
    def harm(folder: Path) -> None:
        content = json.loads((folder / "manifest.json").read_text())
        change(content)
        (folder / "manifest.json").write_text(json.dumps(content))

    return harm


def text(content: str) -> Harm:
    return lambda folder: (folder / "manifest.json").write_text(content)


def other_table(folder: Path) -> None:
    """A table that is no table of SIDs, and the manifest says so."""
    pq.write_table(pa.table({"sids": [1]}), folder / "sids.parquet")
    checksum = hashlib.sha256((folder / "sids.parquet").read_bytes()).hexdigest()
    manifest(lambda content: content.update(sha256=checksum))(folder)


def other_codes(folder: Path) -> None:
    """The table of other SIDs, in which nothing else is wrong."""
    other = save(folder.parent / "elsewhere", codes=[[1, 1, 1]] * 3)
    (folder / "sids.parquet").write_bytes((other / "sids.parquet").read_bytes())


HARMS: dict[str, Harm] = {
    "other codes": other_codes,
    "no table": lambda folder: (folder / "sids.parquet").unlink(),
    "other table": other_table,
    "empty manifest": text(""),
    "cut manifest": text('{"contents": "'),
    "list": text("[]"),
    "null": text("null"),
    "bytes": lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"),
    "no contents": manifest(lambda content: content.pop("contents")),
    "no codes": manifest(lambda content: content.pop("codes_per_level")),
    "codes": manifest(lambda content: content.update(codes_per_level="x")),
    "number": manifest(lambda content: content.update(codes_per_level=3)),
    "one level more": manifest(lambda content: content["codes_per_level"].append(4)),
    "no levels": manifest(lambda content: content["codes_per_level"].clear()),
    "recipe": manifest(lambda content: content.update(recipe="x")),
    "quality": manifest(lambda content: content.update(quality=None)),
    "a code too many": manifest(lambda content: content.update(codes_per_level=[3, 2, 300])),
}


@pytest.mark.parametrize("harm", HARMS.values(), ids=HARMS)
def test_damage_is_told_in_one_line(tmp_path: Path, harm: Harm) -> None:
    folder = save(tmp_path)
    harm(folder)
    said = refused(lambda: load(tmp_path))
    assert said.startswith(f"{folder} cannot be read (")
    assert "make them again with `genrec-bench sids build tools --as mine`" in said
    save(tmp_path)
    assert load(tmp_path).codes.tolist() == CODES


@pytest.mark.parametrize("where", ["write_table", "rename"])
def test_cut_short_it_leaves_the_earlier_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    folder = save(tmp_path)
    before = contents_of(folder)
    rename = Path.rename

    def interrupt(*words: object) -> None:
        raise KeyboardInterrupt

    def full(path: Path, target: Path) -> Path:
        if path.name == "new":
            raise OSError(28, "No space left on device", str(target))
        return rename(path, target)

    with monkeypatch.context() as patch:
        if where == "write_table":
            patch.setattr(pq, where, interrupt)
        else:
            patch.setattr(Path, where, full)
        with pytest.raises((KeyboardInterrupt, StorageError)):
            save(tmp_path, codes=[[1, 1, 1]])
    assert contents_of(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["mine"], "nothing else is left"
    save(tmp_path, codes=[[1, 1, 1]])
    assert load(tmp_path, items=1).codes.tolist() == [[1, 1, 1]]


@pytest.mark.parametrize(
    ("recipe", "codes_per_level", "label"),
    [
        (SIDRecipe("rq-kmeans", "text"), (256, 256, 256), "rq-kmeans-text-3x256"),
        (SIDRecipe("rq-vae", "text", "code"), (8, 4), "rq-vae-text-8x4-code"),
        (SIDRecipe("rq-vae", "org/a model", seed=3), (8,), "rq-vae-a-model-1x8-seed3"),
        (SIDRecipe("rq-vae", "in/my vectors.npy"), (8,), "rq-vae-my-vectors-1x8"),
        (SIDRecipe("rq-vae", "in/..."), (8,), "rq-vae-...-1x8"),
    ],
)
def test_recipes_have_labels(
    tmp_path: Path, recipe: SIDRecipe, codes_per_level: tuple[int, ...], label: str
) -> None:
    assert recipe.label(codes_per_level) == label
    assert re.fullmatch(r"[\w.-]+", label)
    sids_folder("tools", label, tmp_path)
