"""Texts in columns of Arrow: they read as tuples do, and take little room."""

import json
import pickle
import tracemalloc
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny_runs import tiny_dataset

from genrec_bench.contract.tiny_world import tiny_catalog
from genrec_bench.data import columns
from genrec_bench.data.columns import TextLists, Texts
from genrec_bench.data.dataset import Catalog
from genrec_bench.policy.trie import Trie

TEXTS = st.lists(st.text(max_size=4) | st.just(""), max_size=9)


@given(TEXTS, st.slices(9))
def test_texts_read_as_a_tuple_does(given_: list[str], chosen: slice) -> None:
    try:
        column = Texts.of(given_)
    except ValueError:
        assert any(0xD800 <= ord(letter) < 0xE000 for text in given_ for letter in text)
        return
    told = tuple(given_)
    assert (
        tuple(column) == told and column == told and column == given_ and len(column) == len(told)
    )
    assert [column[i] for i in range(-len(told), len(told))] == [*told, *told]
    assert tuple(column[chosen]) == told[chosen] and bool(column) is bool(told)
    assert column != (*told, "one more") and (not told or column != ("?" * 9, *told[1:]))
    assert pickle.loads(pickle.dumps(column)) == column and Texts.of(column) is column
    assert b"".join(column.json_pieces()) == json.dumps(told).encode()
    assert pa.array(column, pa.string()).to_pylist() == given_
    assert ("a" in column) is ("a" in told)
    with pytest.raises(IndexError):
        column[len(told)]


@given(st.lists(st.lists(st.sampled_from(["a", "", "é"]), max_size=3).map(tuple), max_size=6))
def test_lists_read_as_tuples_do(given_: list[tuple[str, ...]]) -> None:
    column, told = TextLists.of(given_), tuple(given_)
    assert tuple(column) == told and column == told and any(column) is any(told)
    assert [column[i] for i in range(len(told))] == given_
    assert pickle.loads(pickle.dumps(column)) == column
    again = pa.array(column, pa.list_(pa.string())).to_pylist()
    assert [tuple(entry) for entry in again] == given_


def test_json_is_written_in_pieces_that_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "AT_ONCE", 2)
    for texts in ([], ["a"], ["a", 'b"'], ["a", "b", "é"], ["", "", "", "", ""]):
        assert b"".join(Texts.of(texts).json_pieces()) == json.dumps(texts).encode()
        assert list(Texts.of(texts)) == texts


@pytest.mark.parametrize("wrong", [[1, "a"], [b"\xff", "a"], ["\ud800"], [["a"]]])
def test_what_is_no_text_is_refused(wrong: list[Any]) -> None:
    with pytest.raises(ValueError, match="^no column of texts: "):
        Texts.of(wrong)


def test_hashes_are_those_of_tuples() -> None:
    """What was prepared by earlier versions is still what its manifest says."""
    assert tiny_dataset().fingerprint == (
        "645ccf892e57f4e43719b70dc7304c0faa479eece8e1e20d8b2c60d8f7009f02"
    )


def test_a_catalog_takes_some_bytes_an_item() -> None:
    """Tuples took 150 bytes for name and title, beside the SIDs' 12."""
    count = 100_000
    tracemalloc.start()
    names = Texts(pa.array(np.arange(count)).cast(pa.large_string()))
    catalog = Catalog(
        sids=np.zeros((count, 3), np.int32),
        codes_per_level=(256, 256, 256),
        item_names=names,
        titles=names,
        popularity=np.zeros(count, np.int64),
        rank_shared="popularity",
    )
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    # Arrow's own memory is not traced.
    held += catalog.item_names.nbytes  # type: ignore[attr-defined]
    assert held / count < 40
    assert Texts.of([""] * count).nbytes == 0 and TextLists.empty(count).nbytes == 0


@pytest.mark.parametrize("codes", [(4, 4, 4), (2**31 - 1,) * 3])
def test_sids_are_sorted_alike_whichever_way(codes: tuple[int, ...]) -> None:
    catalog = tiny_catalog(30, (4, 4, 4))
    sids, inverse = np.unique(catalog.sids, axis=0, return_inverse=True)
    again = Catalog(catalog.sids, codes, ("",) * 31, ("",) * 31, catalog.popularity, "index")
    assert again._fit_one_number is (codes[0] == 4)
    assert (again.unique_sids == sids).all() and again.unique_sids.dtype == np.int32
    assert (again.sid_of_item == inverse.reshape(-1)).all() and again.sid_of_item.dtype == np.int32
    outside = Catalog(catalog.sids, (4, 4, 3), ("",) * 31, ("",) * 31, catalog.popularity, "index")
    with pytest.raises(ValueError, match="a code lies outside its level"):
        Trie.build(outside.unique_sids, outside.codes_per_level)
