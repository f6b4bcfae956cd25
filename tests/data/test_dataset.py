import dataclasses
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_datasets import build_dataset

from genrec_bench.data import dataset_store
from genrec_bench.data.cards import Card, Expected, load_card
from genrec_bench.data.dataset import Catalog, Dataset, Examples
from genrec_bench.data.dataset_store import (
    changed_files,
    data_directory,
    load_dataset,
    save_contents,
)
from genrec_bench.errors import UserError

CARDS = Path(__file__).parents[2] / "datasets"


def make_card(levels: int = 2, **changes: object) -> Card:
    expected = Expected(
        items=4, distinct_sids=3, train_rows=1, valid_rows=1, test_rows=1, source="by hand"
    )
    card = dataclasses.replace(
        load_card("beauty"), codes_per_level=(2,) * levels, expected=expected, sha256={}
    )
    return dataclasses.replace(card, **changes)  # type: ignore[arg-type]


def make_dataset(card: Card | None = None, **changes: object) -> Dataset:
    """Return four items, of which 0 and 2 share a SID, and one example in valid and test."""
    train = Examples.from_lists([0, 0, 1], [[0], [0, 2], [3]], [2, 2, 0])
    parts: dict[str, object] = {
        "sids": np.array([[1, 0], [0, 5], [1, 0], [0, 1]], dtype=np.int32),
        "item_names": ["p", "q", "r", "s"],
        "titles": ["P", "", "R, the 'third' – ü", "S"],
        "splits": {
            "train": train,
            "valid": Examples.from_lists([0], [[0, 2, 2]], [1]),
            "test": Examples.from_lists([1], [[3, 0]], [3]),
        },
    }
    return build_dataset(card or make_card(), **(parts | changes))  # type: ignore[arg-type]


def assert_same(a: Dataset, b: Dataset) -> None:
    """Fingerprints are of all but types and what follows from the rest."""
    for split in ("train", "valid", "test"):
        for column in dataclasses.fields(Examples):
            first, second = (getattr(d.splits[split], column.name) for d in (a, b))
            assert first.dtype == second.dtype
    assert (a.fingerprint, a.sid_fingerprint) == (b.fingerprint, b.sid_fingerprint)
    assert (a.partial, a.ceiling, a.card) == (b.partial, b.ceiling, b.card)


def test_history_and_subset() -> None:
    examples = Examples.from_lists([7, 8, 9], [[1, 2], [], [3]], [4, 5, 6])
    assert len(examples) == 3
    assert examples.history(0).tolist() == [1, 2]
    assert examples.history(1).tolist() == []
    part = examples.subset([2, 0, 2])
    assert part.users.tolist() == [9, 7, 9]
    assert [part.history(i).tolist() for i in range(3)] == [[3], [1, 2], [3]]
    assert part.targets.tolist() == [6, 4, 6]
    assert len(examples.subset([])) == 0


def test_examples_that_do_not_fit_together_are_refused() -> None:
    zero, one = np.zeros(1, np.int64), np.ones(1, np.int32)
    with pytest.raises(ValueError, match="rise"):
        Examples(zero, one, np.array([0, 2]), one)
    with pytest.raises(ValueError, match="rows"):
        Examples(zero, one, np.array([0]), one)


def test_catalog_derives_sids_popularity_and_levels() -> None:
    catalog = make_dataset().catalog
    assert catalog.num_items == 4 and catalog.num_levels == 2
    assert catalog.codes_per_level == (2, 6), "the card says 2, but code 5 occurs"
    assert catalog.popularity.tolist() == [1, 0, 2, 0]
    assert catalog.unique_sids.tolist() == [[0, 1], [0, 5], [1, 0]]
    assert catalog.sid_of_item.tolist() == [2, 1, 2, 0]


@pytest.mark.parametrize(("rule", "order"), [("popularity", [2, 0]), ("index", [0, 2])])
def test_items_of_a_shared_sid_follow_the_rule(rule: str, order: list[int]) -> None:
    catalog = make_dataset(make_card(shared_sids=rule)).catalog
    assert catalog.items_of_sid(2).tolist() == order
    assert catalog.items_of_sid(0).tolist() == [3]


def test_equally_popular_items_of_a_sid_go_by_index() -> None:
    sids = np.zeros((3, 1), dtype=np.int32)
    popularity = np.array([5, 5, 5])
    catalog = Catalog(sids, (1,), ("a", "b", "c"), ("", "", ""), popularity, "popularity")
    assert catalog.items_of_sid(0).tolist() == [0, 1, 2]


def test_partial_means_more_than_one_percent_short() -> None:
    expected = dataclasses.replace(make_card().expected, train_rows=100)
    card = make_card(expected=expected)
    for rows, short in ((99, False), (98, True)):
        train = Examples.from_lists([0] * rows, [[0]] * rows, [1] * rows)
        splits = {**make_dataset().splits, "train": train}
        assert make_dataset(card, splits=splits).partial is short


def test_fingerprints_change_with_what_they_cover_and_nothing_else() -> None:
    base = make_dataset()
    assert base.fingerprint == make_dataset().fingerprint
    other_sids = make_dataset(sids=np.zeros((4, 2), dtype=np.int32))
    assert other_sids.fingerprint == base.fingerprint
    assert other_sids.sid_fingerprint != base.sid_fingerprint
    changed = [
        make_dataset(titles=["P", "", "R", "S"]),
        make_dataset(item_names=["p", "q", "r", "x"]),
        make_dataset(make_card(version=2)),
        make_dataset(make_card(shared_sids="index")),
        make_dataset(splits={**base.splits, "valid": base.test, "test": base.valid}),
    ]
    assert len({base.fingerprint, *(d.fingerprint for d in changed)}) == 6
    assert {d.sid_fingerprint for d in changed} == {base.sid_fingerprint}


def test_items_outside_the_catalog_are_refused() -> None:
    bad = Examples.from_lists([0], [[4]], [0])
    with pytest.raises(ValueError, match="outside the catalog"):
        make_dataset(splits={**make_dataset().splits, "valid": bad})


@st.composite
def datasets(draw: st.DrawFn) -> Dataset:
    levels = draw(st.integers(1, 5))
    num_items = draw(st.integers(1, 6))
    code, item = st.integers(0, 9), st.integers(0, num_items - 1)
    sids = draw(st.lists(st.lists(code, min_size=levels, max_size=levels), min_size=num_items))
    texts = st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=num_items)
    row = st.tuples(st.integers(0, 99), st.lists(item, max_size=4), item)
    splits = {}
    for split in ("train", "valid", "test"):
        rows = draw(st.lists(row, max_size=5))
        users, histories, targets = zip(*rows, strict=True) if rows else ((), (), ())
        splits[split] = Examples.from_lists(users, histories, targets)
    return build_dataset(
        make_card(levels),
        np.array(sids[:num_items], dtype=np.int32),
        draw(texts)[:num_items],
        draw(texts)[:num_items],
        splits,
        draw(st.sampled_from([{}, {"test": {"HR@10": 1 / 3}}])),
    )


@settings(max_examples=40)
@given(dataset=datasets())
def test_saved_and_loaded_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, dataset: Dataset
) -> None:
    folder = tmp_path_factory.mktemp("data")
    with mock.patch.object(dataset_store, "load_card", lambda name: dataset.card):
        save_contents(dataset.contents, folder, {})
        assert_same(load_dataset("beauty", folder), dataset)


@pytest.fixture
def prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(dataset_store, "load_card", lambda name: make_card())
    save_contents(make_dataset().contents, tmp_path, {})
    return tmp_path


def test_saving_replaces_the_folder_as_a_whole_and_leaves_nothing_else(prepared: Path) -> None:
    (prepared / "beauty" / "stray.txt").write_text("old")
    other = make_dataset(titles=["1", "2", "3", "4"])
    save_contents(other.contents, prepared, {})
    assert [path.name for path in prepared.iterdir()] == ["beauty"]
    assert not (prepared / "beauty" / "stray.txt").exists()
    assert_same(load_dataset("beauty", prepared), other)


def test_a_failed_save_keeps_the_old_dataset(
    prepared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def fail_on_the_third(table: object, path: Path) -> None:
        calls.append(path)
        if len(calls) == 3:
            raise OSError("no space left")
        pq.write_table(table, path)

    with monkeypatch.context() as patch:
        patch.setattr(dataset_store, "pq", mock.Mock(write_table=fail_on_the_third))
        with pytest.raises(UserError, match="no space left"):
            save_contents(make_dataset(titles=["1", "2", "3", "4"]).contents, prepared, {})
    assert [path.name for path in prepared.iterdir()] == ["beauty"]
    assert_same(load_dataset("beauty", prepared), make_dataset())


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / "train.parquet").unlink(), r"train\.parquet is missing"),
        (
            lambda folder: (folder / "test.parquet").write_bytes(b"x"),
            "test.parquet was changed since",
        ),
        (lambda folder: (folder / "manifest.json").write_text("{"), "manifest.json: cannot be rea"),
        (lambda folder: (folder / "manifest.json").write_text("{}"), "is not a manifest"),
    ],
)
def test_damage_is_named_with_the_command_that_mends_it(
    prepared: Path, damage: object, message: str
) -> None:
    damage(prepared / "beauty")  # type: ignore[operator]
    with pytest.raises(UserError, match=message) as caught:
        load_dataset("beauty", prepared)
    assert "genrec-bench data import lcrec DIR --as beauty" in str(caught.value)


def test_contents_altered_behind_the_manifest_are_found(prepared: Path) -> None:
    path = prepared / "beauty" / "train.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    assert changed_files("beauty", prepared) == [str(path)]
    with pytest.raises(UserError, match=r"train\.parquet was changed since"):
        load_dataset("beauty", prepared)


def test_the_manifest_says_what_was_read_and_what_differs(tmp_path: Path) -> None:
    card = make_card(sha256={"a.json": "00", "b.json": "11"})
    sources = {"a.json": "00", "b.json": "22", "c.json": "33"}
    save_contents(make_dataset(card).contents, tmp_path, sources)
    manifest = json.loads((tmp_path / "beauty" / "manifest.json").read_text())
    assert manifest["sources"] == sources
    assert manifest["differs_from_card"] == ["b.json"]
    assert manifest["rows"] == {"train": 3, "valid": 1, "test": 1}


def test_a_dataset_of_another_card_version_is_refused(prepared: Path) -> None:
    newer = make_card(version=2)
    with mock.patch.object(dataset_store, "load_card", lambda name: newer):
        with pytest.raises(UserError, match="another version of the card") as caught:
            load_dataset("beauty", prepared)
    # Each command can be typed as it stands.
    assert "`genrec-bench data prepare beauty --replace`" in str(caught.value)
    assert "`genrec-bench data import lcrec DIR --as beauty --replace`" in str(caught.value)


def test_what_no_program_may_fetch_is_named_again() -> None:
    card = load_card("yelp")
    assert "`genrec-bench data prepare yelp`" in dataset_store.ways_to_prepare(card)
    again = dataset_store.ways_to_prepare(card, again=True)
    assert "`genrec-bench data prepare yelp --reviews FILE --metadata FILE --replace`" in again


def test_a_dataset_not_imported_says_what_to_type(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="`genrec-bench data import minionerec DIR --as industrial`"
    ):
        load_dataset("industrial", tmp_path)


def test_data_directory_by_precedence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENREC_BENCH_DATA", "/from/environment")
    assert data_directory("/from/argument") == Path("/from/argument")
    assert data_directory(None) == Path("/from/environment")
    monkeypatch.delenv("GENREC_BENCH_DATA")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", "/cache")
    assert data_directory(None) == Path("/cache/genrec-bench")
