"""A vector for each item: numbers by hand, what may be read, files of the user's, and the cache."""

import pickle
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_datasets import Rows, examples, use_vectors

from genrec_bench.data.cards import load_card
from genrec_bench.data.importers import import_contents
from genrec_bench.data.vectors import item_vectors as module
from genrec_bench.data.vectors.embeddings import WORDS, collaborative_vectors
from genrec_bench.data.vectors.item_vectors import check_source, item_vectors
from genrec_bench.errors import StorageError, UserError
from genrec_bench.progress import Progress

QUIET = Progress(quiet=True)
TRAIN: Rows = [(0, [0], 1), (1, [1], 0), (2, [2], 3), (3, [4], 4)]
TITLES = ["red box", "red ball", "blue box", "green"]


def vectors(
    source: str,
    cache: Path,
    titles: Sequence[str] = TITLES,
    descriptions: Sequence[str] | None = None,
    train: Rows = TRAIN,
) -> np.ndarray[Any, Any]:
    descriptions = [""] * len(titles) if descriptions is None else descriptions
    return item_vectors(source, titles, descriptions, examples(train), cache, QUIET)


def test_words_by_hand(tmp_path: Path) -> None:
    # Every title is a word of its own, of length 1; the descriptions of items 0 and 1 are the same
    # word, of length 1/2: (1, 0, 0, 1/2) and (0, 1, 0, 1/2) have the cosine (1/4) / (5/4) = 1/5.
    # Item 2 has no description, and item 3 is 0 again.
    found = vectors("text", tmp_path, ["red", "blue", "grey", "red"], ["box", "Box", "", "box"])
    expected = [[1, 0.2, 0, 1], [0.2, 1, 0, 0.2], [0, 0, 1, 0], [1, 0.2, 0, 1]]
    assert found.dtype == np.float32
    assert found @ found.T == pytest.approx(np.array(expected), abs=1e-5)


def test_a_long_description_does_not_drown_the_title(tmp_path: Path) -> None:
    long, other = "one two three four five " * 20, "six seven eight nine ten " * 20
    found = vectors("text", tmp_path, ["red", "red", "blue"], [long, other, long])
    near = found @ found.T
    assert near[0, 1] == pytest.approx(0.8, abs=1e-5)
    assert near[0, 2] == pytest.approx(0.2, abs=1e-5)


def test_descriptions_alone_are_enough(tmp_path: Path) -> None:
    found = vectors("text", tmp_path, ["", "", ""], ["red", "red", "blue"])
    expected = [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert found @ found.T == pytest.approx(np.array(expected), abs=1e-5)


def test_collaborative_has_the_directions_of_the_rewards_embeddings(tmp_path: Path) -> None:
    # Items 0 and 1 are alike, and 2 and 3 (worked out in test_embeddings); lengths are 1 here.
    found = vectors("collaborative", tmp_path, ["", "", "", "", "", ""])
    blocks = np.zeros((4, 4))
    blocks[:2, :2] = blocks[2:, 2:] = 1.0
    assert found[:4] @ found[:4].T == pytest.approx(blocks, abs=1e-5)
    raw = collaborative_vectors(examples(TRAIN), 6)[:4]
    assert found[:4] == pytest.approx(raw / np.linalg.norm(raw, axis=1, keepdims=True), abs=1e-5)


def test_unknown_items_borrow_evenly_and_are_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    titles = ["red", "blue", "green", *[" "] * 7]
    empty = [""] * len(titles)
    for _ in ("made", "read"):
        found = item_vectors("text", titles, empty, examples(TRAIN), tmp_path, Progress())
        assert capsys.readouterr().err == (
            "embeddings=text: nothing is known of 7 of 10 items; each has the vector of another "
            "item\n"
        )
    lender = (found[3:] @ found[:3].T).argmax(axis=1)
    assert np.array_equal(found[3:], found[lender])
    assert sorted(np.bincount(lender).tolist()) == [2, 2, 3]
    item_vectors("text", TITLES, [""] * 4, examples(TRAIN), tmp_path, Progress())
    assert capsys.readouterr().err == "", "items that are all known are no news"


def test_nothing_known_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^embeddings=text: .*; use embeddings=collaborative$"):
        vectors("text", tmp_path, ["", " ", "!"])
    with pytest.raises(UserError, match=r"^embeddings=collaborative: .*; use embeddings=text$"):
        vectors("collaborative", tmp_path, train=[(0, [1], 1), (1, [2], 2)])


def test_text_reads_no_interactions_and_collaborative_no_text(tmp_path: Path) -> None:
    other: Rows = [(0, [3], 2), (1, [2, 1], 0)]
    assert np.array_equal(vectors("text", tmp_path), vectors("text", tmp_path, train=other))
    assert len(list(tmp_path.glob("[!.]*"))) == 1
    ours = vectors("collaborative", tmp_path, [""] * 5)
    assert np.array_equal(ours, vectors("collaborative", tmp_path, ["red"] * 5))
    assert len(list(tmp_path.glob("[!.]*"))) == 2
    assert not np.array_equal(ours, vectors("collaborative", tmp_path, [""] * 5, train=other))


@pytest.mark.parametrize("source", ["text", "collaborative"])
def test_the_cache_is_read_and_a_damaged_one_is_made_again(
    source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    titles = [*TITLES, "grey"]
    first = vectors(source, tmp_path, titles)
    (file,) = tmp_path.glob("[!.]*")
    whole = file.read_bytes()
    with monkeypatch.context() as patch:
        for name in ("word_vectors", "collaborative_vectors"):
            patch.setattr(module, name, lambda *_: pytest.fail("made again"))
        assert np.array_equal(vectors(source, tmp_path, titles), first)
    for damaged in (b"", whole[:-4], b"x" * len(whole)):
        file.write_bytes(damaged)
        assert np.array_equal(vectors(source, tmp_path, titles), first)
        assert file.read_bytes() == whole
    assert list(tmp_path.glob("[!.]*")) == [file]


def test_what_the_cache_tells_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def count() -> int:
        return len(list(tmp_path.glob("[!.]*")))

    vectors("text", tmp_path)
    vectors("text", tmp_path, TITLES[::-1])
    vectors("text", tmp_path, TITLES, ["", "", "", "x"])
    assert count() == 3
    vectors("text", tmp_path, [""] * 4, TITLES)
    assert count() == 4, "what is a title is not a description"
    monkeypatch.setattr(module, "DESCRIPTION_WEIGHT", 0.25)
    vectors("text", tmp_path)
    assert count() == 5
    vectors("collaborative", tmp_path, [""] * 5)
    vectors("collaborative", tmp_path, [""] * 6)
    vectors("collaborative", tmp_path, [""] * 5, train=[(0, [0], 1), (2, [2], 3)])
    assert count() == 8
    monkeypatch.setattr(module, "versions_of", lambda packages: {"numpy": "9"})
    vectors("text", tmp_path)
    vectors("collaborative", tmp_path, [""] * 5)
    assert count() == 10
    monkeypatch.setattr(module, "DESCRIPTION_WORDS", WORDS)
    vectors("text", tmp_path)
    assert count() == 11


@settings(max_examples=50)
@given(
    texts=st.lists(
        st.tuples(st.text(alphabet="ab ,é1_", max_size=6), st.text(alphabet="ab ", max_size=9)),
        min_size=1,
        max_size=7,
    ),
    users=st.lists(st.integers(0, 2), min_size=1, max_size=6),
    data=st.data(),
)
def test_every_item_has_a_vector_of_length_1_or_there_is_a_reason(
    texts: list[tuple[str, str]],
    users: list[int],
    data: st.DataObject,
) -> None:
    titles, descriptions = zip(*texts, strict=True)
    item = st.integers(0, len(texts) - 1)
    rows = [(user, data.draw(st.lists(item, max_size=3)), data.draw(item)) for user in users]
    for source in ("text", "collaborative"):
        try:
            with TemporaryDirectory() as cache:
                found = vectors(source, Path(cache), titles, descriptions, rows)
        except UserError as error:
            assert "nothing is known of any item" in str(error)
            if source == "text":
                assert not any(c.isalnum() for text in titles + descriptions for c in text)
            else:
                assert np.abs(collaborative_vectors(examples(rows), len(texts))).max() < 1e-9
            continue
        assert found.shape[0] == len(texts) and found.shape[1] >= 1
        assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(len(texts)), abs=1e-5)


def test_a_model_reads_title_and_description_as_one_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoded = use_vectors(monkeypatch, lambda text: [3.0, 4.0] if "red" in text else [0.0, 5.0])
    texts = ["red box", "", "", "box"], ["a box", "blue", " ", ""]
    for _ in ("made", "read"):
        found = vectors("a/model", tmp_path, *texts)
    assert encoded == ["red box a box", "blue", "box"]
    assert found[[0, 1, 3]] == pytest.approx(np.array([[0.6, 0.8], [0, 1], [0, 1]]))
    assert found[2].tolist() in found[[0, 1, 3]].tolist(), "of the blank one nothing is known"


def test_a_model_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    for ask in (check_source, lambda source: vectors(source, tmp_path)):
        with pytest.raises(UserError, match=r"did you mean 'text'.*genrec-bench\[text\]"):
            ask("txt")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f8"])
def test_a_file_is_taken_as_it_is(dtype: str, tmp_path: Path) -> None:
    content = np.array([[0, 0, 0], [1, 2, 3], [-1, 0.5, 8], [1, 2, 3]], dtype=dtype)
    for number, array in enumerate((content, np.asfortranarray(content))):
        path = tmp_path / f"{number}.npy"
        np.save(path, array)
        check_source(str(path))
        found = vectors(str(path), tmp_path / "cache")
        assert found.dtype == np.float32 and found.tolist() == content.tolist()
        assert found.flags.c_contiguous and found.flags.writeable
    assert not (tmp_path / "cache").exists()


def saved(array: object) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.asarray(array))


def cut(path: Path) -> None:
    np.save(path, np.ones((4, 3)))
    path.write_bytes(path.read_bytes()[:-8])


def archived(path: Path) -> None:
    with path.open("wb") as file:
        np.savez(file, np.ones((4, 3)))


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: None, "there is no such file"),
        (lambda path: path.mkdir(), "is a folder, and a file is needed"),
        (lambda path: path.write_bytes(b""), "cannot be read as an array"),
        (lambda path: path.write_text("1,2\n3,4\n"), "cannot be read as an array"),
        (lambda path: path.write_bytes(pickle.dumps([1.0])), "cannot be read as an array"),
        (saved(np.array([{}], dtype=object)), "cannot be read as an array"),
        (cut, "cannot be read as an array"),
        (archived, "is an archive of arrays"),
        (saved(np.ones((4, 3), dtype=np.int64)), "holds int64; it must hold floats"),
        (saved(np.ones(4)), "has 1 dimensions"),
        (saved(np.ones((4, 3, 1))), "has 3 dimensions"),
        (saved(np.ones((3, 4))), r"has 3 rows for 4 items; .* \[4, E\]"),
        (saved([[1.0], [np.nan], [2.0], [np.inf]]), r"row 1 \(of 2 such rows\)"),
        (saved([[1.0], [2.0], [1e300], [3.0]]), r"row 2 \(of 1 such rows\)"),
    ],
)
def test_mistakes_in_a_file(write: Callable[[Path], None], message: str, tmp_path: Path) -> None:
    path = tmp_path / "own.npy"
    write(path)
    with pytest.raises(UserError, match=message) as raised:
        vectors(str(path), tmp_path / "cache")
    assert str(path) in str(raised.value) and "\n" not in str(raised.value)


def test_texts_that_do_not_fit_together(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="disagree"):
        vectors("text", tmp_path, TITLES, ["one"])


def test_a_disk_that_refuses(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(StorageError, match=r"^cannot write .*cache"):
        vectors("text", tmp_path / "cache")


@pytest.mark.real
def test_what_is_bought_next_is_near(shared_data: Path, tmp_path: Path) -> None:
    """The held-out target is often among the ten items nearest to the last one of the history."""
    folder = shared_data / "minionerec"
    data = import_contents("minionerec", folder, load_card("industrial"))[0].own
    titles, descriptions = data.contents.titles, data.contents.descriptions
    last = data.valid.history_items[data.valid.history_offsets[1:] - 1]
    moved = last != data.valid.targets
    here, there = last[moved], data.valid.targets[moved]

    def share(vectors: np.ndarray[Any, Any]) -> float:
        near = vectors[here] @ vectors.T
        rows = np.arange(len(here))
        near[rows, here] = -2
        nearer = (near > near[rows, there][:, None]).sum(axis=1)
        return float((nearer < 10).mean())

    both, titles_alone, together = (
        share(item_vectors(source, titles, said, data.train, tmp_path, QUIET))
        for source, said in (
            ("text", descriptions),
            ("text", [""] * len(titles)),
            ("collaborative", descriptions),
        )
    )
    # By chance it is 10 in 3685.
    assert both > 0.09 and both > titles_alone and together > 0.04
