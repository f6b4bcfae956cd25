"""Item embeddings: numbers by hand, what may be read, and the cache."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_datasets import Rows, build_dataset, examples, use_vectors

from genrec_bench.data.cards import load_card
from genrec_bench.data.dataset import Dataset
from genrec_bench.data.vectors import embeddings
from genrec_bench.data.vectors.embeddings import (
    collaborative_vectors,
    resolve_source,
    sid_embeddings,
    sid_means,
    texts_encoded,
    word_vectors,
)
from genrec_bench.errors import UserError

TITLES = ("red", "red", "red blue", "red blue")


def dataset(
    titles: Sequence[str],
    train: Rows = ((0, [0], 1),),
    held_out: Rows = ((0, [0], 1),),
    codes: Sequence[int] | None = None,
    descriptions: Sequence[str] = (),
) -> Dataset:
    """One item a title; `codes` are their codes at the third level, by default all different."""
    third = np.arange(len(titles)) if codes is None else np.asarray(codes)
    sids = np.stack([third * 0, third * 0, third], axis=1).astype(np.int32)
    return build_dataset(
        load_card("industrial"),
        sids,
        [f"item {i}" for i in range(len(titles))],
        list(titles),
        {"train": examples(train), "valid": examples(held_out), "test": examples(held_out)},
        descriptions=descriptions,
    )


def title_vectors(titles: Sequence[str]) -> np.ndarray[Any, Any]:
    return word_vectors(titles, [""] * len(titles), embeddings.DIMENSIONS)


def cosines(vectors: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    units = vectors / np.where(length > 1e-9, length, 1.0)
    return np.asarray(units @ units.T)


def files(folder: Path) -> list[Path]:
    """What is cached of SIDs; what a model gave for the titles lies beside it."""
    found = sorted((folder / "embeddings").glob("[!.]*"))
    return [path for path in found if not path.name.startswith("texts-")]


def test_text_by_hand() -> None:
    # Features: red (in 4 of 4 titles), blue (2 of 4), "red blue" (2 of 4). Weights:
    # ln(5 / 5) + 1 = 1 and ln(5 / 3) + 1 = 1.510826. So the titles are (1, 0, 0) and
    # (1, 1.510826, 1.510826), of squared length 1 + 2 * 2.282594 = 5.565188, and their cosine is
    # 1 / sqrt(5.565188) = 0.423897. Two different rows have two dimensions: nothing is cut off.
    found = cosines(title_vectors(TITLES))
    across = 0.423897
    expected = [[1, 1, across, across]] * 2 + [[across, across, 1, 1]] * 2
    assert found == pytest.approx(np.array(expected), abs=1e-5)


def test_a_word_said_twice_counts_less_than_twice() -> None:
    # "a a" holds a twice and "a a" once, "a" holds a once. Sublinear: 1 + ln 2 = 1.693147, where
    # counts would say 2. Both features and lengths: a is in 4 of 4 titles (weight 1), "a a" in 2
    # of 4 (1.510826). Cosine 1.693147 / sqrt(1.693147^2 + 1.510826^2) = 0.746147.
    found = cosines(title_vectors(["a", "a", "a a", "A A!"]))
    assert found[0, 2] == pytest.approx(0.746147, abs=1e-5)


def test_titles_and_descriptions_by_hand(tmp_path: Path) -> None:
    # Titles are at right angles, each of length 1. Descriptions have length 0.5 and one word each:
    # items 0 and 1 share theirs. Their cosine is 0.25 / (1 + 0.25) = 0.2. Item 2 has no description
    # and shares the title of item 0: 1 / sqrt(1.25) = 0.894427.
    titles, descriptions = ["red", "blue", "red"], ["round", "round", ""]
    expected = np.array([[1, 0.2, 0.894427], [0.2, 1, 0], [0.894427, 0, 1]])
    assert cosines(word_vectors(titles, descriptions, 9)) == pytest.approx(expected, abs=1e-5)
    found = sid_embeddings(dataset(titles, descriptions=descriptions), "auto", tmp_path)
    assert cosines(found) == pytest.approx(expected, abs=1e-5)


def test_titles_alone_are_what_they_were(tmp_path: Path) -> None:
    """Sixty-five words at right angles: 64 dimensions, and 128 only where there is more to say."""
    titles = [chr(0x4E00 + place) for place in range(65)]
    assert sid_embeddings(dataset(titles), "text", tmp_path).shape == (65, 64)
    described = dataset(titles, descriptions=["round", *[""] * 64])
    assert sid_embeddings(described, "text", tmp_path).shape == (65, 65)


def test_collaborative_by_hand() -> None:
    # Users 0 and 1 have items 0 and 1, user 2 has items 2 and 3, user 3 has item 4 alone.
    # n_00 = n_01 = n_11 = 2, n_22 = n_23 = n_33 = 1, n_44 = 1, all = 8 + 4 + 1 = 13; sums of rows
    # 4, 4, 2, 2, 1. Entries: ln(2 * 13 / 16) = 0.485508 and ln(13 / 4) = 1.178655. So items 0 and
    # 1 are alike, as are 2 and 3, and both pairs have nothing in common. The lengths are
    # sqrt(2) times the entries: 0.686612 and 1.666870.
    train = examples([(0, [0], 1), (1, [1], 0), (2, [2], 3), (3, [4], 4)])
    vectors = collaborative_vectors(train, 6)
    blocks = np.zeros((6, 6))
    blocks[:2, :2] = blocks[2:4, 2:4] = 1.0
    assert cosines(vectors) == pytest.approx(blocks, abs=1e-6)
    lengths = [0.686612] * 2 + [1.666870] * 2 + [0, 0]
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(lengths, abs=1e-5)


def test_company_in_common_makes_items_alike() -> None:
    # Three users have items 0 and 2, three items 1 and 2, one has 3 and 4. n_00 = n_11 = n_02 =
    # n_12 = 3, n_22 = 6, all = 3 + 3 + 6 + 4 * 3 + 4 = 28; sums of rows 6, 6, 12, 2, 2. Item 0 is
    # (ln(3 * 28 / 36), 0, ln(3 * 28 / 72)) = (0.847298, 0, 0.154151), item 1 the same with the
    # first two changed about: their cosine is 0.023762 / (0.717914 + 0.023762) = 0.032038.
    train = examples([(u, [2], i) for u, i in enumerate([0, 1] * 3)] + [(9, [3], 4)])
    found = cosines(collaborative_vectors(train, 6))
    assert found[0, 1] == pytest.approx(0.032038, abs=1e-5)
    assert found[0, 3] == pytest.approx(0.0, abs=1e-6)


def test_a_user_counts_once() -> None:
    """Examples that repeat each other say no more than the longest of them."""
    nested = [(0, [0], 1), (0, [0, 1], 2), (0, [0, 1, 2], 3), (1, [3], 4), (1, [3, 4], 5)]
    longest = [(0, [0, 1, 2], 3), (1, [3, 4], 5)]
    every_user_another = [(user, *row[1:]) for user, row in enumerate(nested)]
    found = collaborative_vectors(examples(nested), 7)
    assert np.array_equal(found, collaborative_vectors(examples(longest), 7))
    assert not np.allclose(found, collaborative_vectors(examples(every_user_another), 7))


def test_an_item_bought_twice_is_one_item() -> None:
    once = collaborative_vectors(examples([(0, [0, 1], 2), (1, [3], 4)]), 6)
    twice = collaborative_vectors(examples([(0, [0, 1, 0, 1], 2), (1, [3, 3], 4)]), 6)
    assert np.array_equal(once, twice)


@pytest.mark.parametrize("source", ["text", "collaborative"])
def test_held_out_examples_are_not_read(source: str, tmp_path: Path) -> None:
    titles = ["red", "blue", "green", "red blue"]
    train = [(0, [0], 1), (1, [1], 2), (2, [3], 3)]
    ours = dataset(titles, train, held_out=[(0, [0], 1)])
    theirs = dataset(titles, train, held_out=[(5, [3, 0], 2), (6, [3], 0)])
    found = [sid_embeddings(d, source, tmp_path) for d in (ours, theirs)]
    assert np.array_equal(found[0], found[1])
    assert len(files(tmp_path)) == 2, "each dataset has its own file"


def test_rows_follow_the_sids_and_unknown_items_are_left_out() -> None:
    # SID 0 has items 1 and 3, at right angles; SID 1 has item 0 and item 2, of which nothing is
    # known; SID 2 has item 4 alone, of which nothing is known either.
    vectors = np.array([[0.0, 3.0], [5.0, 0.0], [0.0, 0.0], [0.0, 0.1], [1e-15, 0.0]])
    found = sid_means(vectors, np.array([1, 0, 1, 0, 2], dtype=np.int32), 3)
    assert found.tolist() == [[0.5, 0.5], [0.0, 1.0], [0.0, 0.0]]


def test_the_whole_way(tmp_path: Path) -> None:
    # Sorted by SID: code 0 is item 2, code 1 items 0 and 3, code 2 item 1.
    data = dataset(["red", "blue", "blue", "red"], codes=[1, 2, 0, 1])
    found = sid_embeddings(data, "text", tmp_path)
    assert found.dtype == np.float32
    assert cosines(found) == pytest.approx(np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]]), abs=1e-5)


@pytest.mark.parametrize(
    ("titles", "expected"),
    [
        (["red", "blue"], "text"),
        (["red", " "], "text"),
        (["red", "", ""], "collaborative"),
        (["", ""], "collaborative"),
    ],
)
def test_auto(titles: list[str], expected: str) -> None:
    assert resolve_source(dataset(titles), "auto") == expected
    # A description is a text too.
    turned = dataset([""] * len(titles), descriptions=titles)
    assert resolve_source(turned, "auto") == expected


def test_texts_are_told_apart() -> None:
    data = [
        dataset(["red", "blue"]),
        dataset(["red", "blue"], descriptions=["round", ""]),
        dataset(["red", "blue"], descriptions=["", "round"]),
        dataset(["red", ""], descriptions=["", "blue round"]),
    ]
    assert len({one.fingerprint for one in data[:3]}) == 1, "no policy reads descriptions"
    assert len({texts_encoded(one, "auto") for one in data}) == 4
    assert texts_encoded(data[1], "model") == texts_encoded(data[1], "text") != ""
    assert texts_encoded(data[1], "collaborative") == ""
    # That there are none is said when embeddings are made.
    assert texts_encoded(dataset(["", ""]), "text") == ""


@given(
    titles=st.lists(st.text(alphabet="ab ,é1", max_size=6), min_size=1, max_size=7),
    users=st.lists(st.integers(0, 2), min_size=1, max_size=6),
    data=st.data(),
)
def test_nothing_breaks_on_small_catalogs(
    titles: list[str], users: list[int], data: st.DataObject
) -> None:
    item = st.integers(0, len(titles) - 1)
    rows = [(user, data.draw(st.lists(item, max_size=3)), data.draw(item)) for user in users]
    for vectors in (title_vectors(titles), collaborative_vectors(examples(rows), len(titles))):
        assert vectors.shape[0] == len(titles) and vectors.shape[1] >= 1
        assert np.isfinite(vectors).all()
    empty = [not any(c.isalnum() for c in title) for title in titles]
    assert not title_vectors(titles)[empty].any()


def test_the_cache_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = dataset(TITLES)
    first = sid_embeddings(data, "text", tmp_path)
    monkeypatch.setattr(embeddings, "word_vectors", lambda *_: pytest.fail("computed again"))
    assert np.array_equal(sid_embeddings(data, "auto", tmp_path), first)


def test_what_the_cache_tells_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count() -> int:
        return len(files(tmp_path))

    sid_embeddings(dataset(TITLES), "text", tmp_path)
    sid_embeddings(dataset(TITLES), "collaborative", tmp_path)
    assert count() == 2
    sid_embeddings(dataset(TITLES, codes=[3, 2, 1, 0]), "text", tmp_path)
    # Of a dataset it is the content that counts, and not its name.
    sid_embeddings(dataset([*TITLES[:3], "green"]), "text", tmp_path)
    assert count() == 4
    monkeypatch.setattr(embeddings, "DIMENSIONS", 1)
    sid_embeddings(dataset(TITLES), "text", tmp_path)
    assert count() == 5
    described = [dataset(TITLES, descriptions=[*TITLES[:3], word]) for word in ("round", "")]
    for data in described:
        sid_embeddings(data, "text", tmp_path)
    assert count() == 7
    monkeypatch.setattr(embeddings, "DESCRIPTION_WEIGHT", 0.25)
    sid_embeddings(described[0], "text", tmp_path)
    assert count() == 8
    # Which of an item's purchases are known has nothing to do with its description.
    for data in described:
        sid_embeddings(data, "collaborative", tmp_path)
    assert count() == 9


def test_without_titles_text_is_a_mistake(tmp_path: Path) -> None:
    for source in ("text", "some/model"):
        with pytest.raises(
            UserError, match="neither titles nor descriptions; use embeddings=collab"
        ):
            sid_embeddings(dataset(["", ""]), source, tmp_path)


def test_a_model_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(UserError, match=r"did you mean 'text'.*genrec-bench\[text\]") as raised:
        sid_embeddings(dataset(TITLES), "txt", tmp_path)
    assert "\n" not in str(raised.value)


def test_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = use_vectors(monkeypatch, lambda text: [len(text), 1.0])
    data = dataset(["abc", " ", "abc"])
    # (3, 1) / sqrt(10); a title that is blank has no vector, whatever a model makes of it.
    near = [3 / 10**0.5, 1 / 10**0.5]
    found = sid_embeddings(data, "model", tmp_path)
    assert found == pytest.approx(np.array([near, [0, 0], near]))
    described = dataset(["abc", " ", "abc"], descriptions=["d", "e", ""])
    found = sid_embeddings(described, "model", tmp_path)
    assert encoded == ["abc", "abc d", "abc", "e"], "title and description, as one text"
    expected = np.array([[5, 1], [1, 1], [3, 1]]) / np.array([[26], [2], [10]]) ** 0.5
    assert found == pytest.approx(expected)
    folder = tmp_path / "own"
    folder.mkdir()
    for content in ("one", "other"):
        (folder / "weights").write_text(content)
        sid_embeddings(data, str(folder), tmp_path)
    assert len(files(tmp_path)) == 4, "a folder whose content changed is another model"
