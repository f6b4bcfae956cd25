"""Encoding of texts: what is encoded, what is kept, and that a kill loses nothing."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_datasets import use_encoder

from genrec_bench.data.vectors import text_encoder
from genrec_bench.data.vectors.text_encoder import encode_texts
from genrec_bench.data.vectors.vector_cache import load_vectors, save_vectors
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress
from genrec_bench.storage.cached import Unsound
from genrec_bench.storage.digests import texts_sha256

QUIET = Progress(quiet=True)
Floats = np.ndarray[Any, Any]


class Model:
    """Stands in for the package: a text's vector is its length and the count of its a's."""

    def __init__(self) -> None:
        self.loaded: list[str] = []
        self.batches: list[list[str]] = []
        self.fails_at: int | None = None
        self.width = 2

    def load(self, name: str, *, trust_remote_code: bool) -> "Model":
        assert not trust_remote_code
        if name == "missing":
            raise OSError("no such model\non the hub")
        self.loaded.append(name)
        return self

    def encode(self, texts: list[str], *, show_progress_bar: bool) -> Floats:
        assert not show_progress_bar
        if len(self.batches) == self.fails_at:
            raise KeyboardInterrupt
        self.batches.append(texts)
        rows = [[len(text), text.count("a"), 7][: self.width] for text in texts]
        return np.array(rows, dtype=np.float32)

    @property
    def encoded(self) -> list[str]:
        return [text for batch in self.batches for text in batch]


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Model:
    found = Model()
    use_encoder(monkeypatch, found.load)
    monkeypatch.setattr(text_encoder, "BATCH", 2)
    return found


def test_each_text_once_the_longest_first(model: Model, tmp_path: Path) -> None:
    texts = ["b", "a", " ", "aaa", "b", "", "ab"]
    found = encode_texts(texts, "m", tmp_path, QUIET)
    assert model.batches == [["aaa", "ab"], ["a", "b"]]
    assert found.tolist() == [[1, 0], [1, 1], [0, 0], [3, 3], [1, 0], [0, 0], [2, 1]]
    assert found.dtype == np.float32


def test_nothing_to_encode_loads_no_model(model: Model, tmp_path: Path) -> None:
    assert encode_texts(["", " "], "m", tmp_path, QUIET).tolist() == [[0], [0]]
    assert not model.loaded and not list(tmp_path.glob("[!.]*"))


def test_what_is_done_is_not_done_again(model: Model, tmp_path: Path) -> None:
    first = encode_texts(["a", "ab", "abc"], "m", tmp_path, QUIET)
    assert len(model.loaded) == 1
    # The same texts in another order, and one of them twice.
    again = encode_texts(["abc", "a", "ab", "a"], "m", tmp_path, QUIET)
    assert np.array_equal(again, first[[2, 0, 1, 0]])
    assert len(model.loaded) == 1 and len(list(tmp_path.glob("[!.]*"))) == 1


@pytest.mark.parametrize("done", [0, 1, 2])
def test_an_interrupted_encoding_goes_on(model: Model, tmp_path: Path, done: int) -> None:
    texts = ["a", "ab", "abc", "abcd", "abcde"]
    model.fails_at = done
    with pytest.raises(KeyboardInterrupt):
        encode_texts(texts, "m", tmp_path, QUIET)
    model.fails_at = None
    found = encode_texts(texts, "m", tmp_path, QUIET)
    assert found.tolist() == [[1, 1], [2, 1], [3, 1], [4, 1], [5, 1]]
    assert sorted(model.encoded) == sorted(texts), "no text is encoded twice"
    (file,) = tmp_path.glob("[!.]*")
    assert file.suffix == ".safetensors", "the batches are gone"


def test_a_damaged_batch_is_encoded_again(model: Model, tmp_path: Path) -> None:
    model.fails_at = 2
    with pytest.raises(KeyboardInterrupt):
        encode_texts(list("abcdef"), "m", tmp_path, QUIET)
    model.fails_at = None
    (folder,) = tmp_path.glob("[!.]*")
    sorted(folder.iterdir())[0].write_bytes(b"half")
    encode_texts(list("abcdef"), "m", tmp_path, QUIET)
    assert model.batches == [["a", "b"], ["c", "d"], ["a", "b"], ["e", "f"]]


SCRIPT = """
import sys
from pathlib import Path
from genrec_bench.data.vectors import text_encoder
from genrec_bench.progress import Progress
text_encoder.BATCH = 1
text_encoder.hub_files = lambda name, asked: frozenset()
print(text_encoder.encode_texts(["a", "bb", "ccc"], "m", Path(sys.argv[1]), Progress()).tolist())
"""

PACKAGE = """
import os, signal
from pathlib import Path
import numpy as np
log = Path(os.environ["ENCODED"])
class SentenceTransformer:
    def __init__(self, name, trust_remote_code): pass
    def encode(self, texts, show_progress_bar):
        if os.environ.get("KILLED") and log.exists():
            os.kill(os.getpid(), signal.SIGKILL)
        with log.open("a") as file:
            file.write(texts[0] + "\\n")
        return np.array([[len(text)] for text in texts])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such signal")
def test_a_killed_encoding_goes_on_where_it_stopped(root: Path, tmp_path: Path) -> None:
    (tmp_path / "sentence_transformers.py").write_text(PACKAGE)
    log = tmp_path / "encoded"

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", SCRIPT, str(tmp_path / "cache")],
            env=os.environ | {"PYTHONPATH": f"{tmp_path}:{root}", "ENCODED": str(log)} | more,
            capture_output=True,
            text=True,
            timeout=120,
        )

    assert run(KILLED="1").returncode == -signal.SIGKILL
    assert log.read_text().split() == ["ccc"]
    finished = run()
    assert finished.stdout == "[[1.0], [2.0], [3.0]]\n", finished.stderr
    assert log.read_text().split() == ["ccc", "bb", "a"]


def test_what_the_cache_tells_apart(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, folder = tmp_path / "cache", tmp_path / "own"
    (folder / "part").mkdir(parents=True)
    (folder / "part" / "weights").write_text("one")

    def count(texts: list[str], name: str) -> int:
        encode_texts(texts, name, cache, QUIET)
        return len(list(cache.glob("[!.]*")))

    assert count(["a", "b"], "m") == 1
    assert count(["a", "c"], "m") == 2
    assert count(["ab"], "m") == 3
    assert count(["a", "b"], "n") == 4
    assert count(["a", "b"], str(folder)) == 5
    (folder / "part" / "weights").write_text("other")
    assert count(["a", "b"], str(folder)) == 6
    folder.rename(tmp_path / "moved")
    assert count(["a", "b"], str(tmp_path / "moved")) == 6, "the same model elsewhere"
    monkeypatch.setattr(
        text_encoder, "versions_of", lambda packages: {"sentence-transformers": "9"}
    )
    assert count(["a", "b"], "m") == 7


def test_a_model_that_cannot_be_loaded(model: Model, tmp_path: Path) -> None:
    line = r"^embeddings=missing: .* \(no such model on the hub\); other sources are text, missin; "
    with pytest.raises(UserError, match=line + "did you mean 'missin'"):
        encode_texts(["a"], "missing", tmp_path, QUIET, ["text", "missin"])


@pytest.mark.parametrize("given", [[[np.nan, 1.0]], [1.0], [[1.0], [2.0]]])
def test_what_is_no_vector_is_refused_and_not_kept(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[Any]
) -> None:
    monkeypatch.setattr(model, "encode", lambda texts, show_progress_bar: np.array(given))
    with pytest.raises(UserError, match=r"^embeddings=m: .* not a vector of finite numbers"):
        encode_texts(["a"], "m", tmp_path, QUIET)
    assert not list(tmp_path.glob("[!.]*"))


def test_a_model_that_was_replaced_half_way(model: Model, tmp_path: Path) -> None:
    model.fails_at = 1
    with pytest.raises(KeyboardInterrupt):
        encode_texts(list("abc"), "m", tmp_path, QUIET)
    model.fails_at, model.width = None, 3
    with pytest.raises(UserError, match=r"vectors of 3 numbers, and those in .* have 2; delete"):
        encode_texts(list("abc"), "m", tmp_path, QUIET)


def test_vectors_come_back_as_they_were_whatever_their_order_in_memory(tmp_path: Path) -> None:
    vectors = np.arange(6, dtype=np.float32).reshape(2, 3)
    for order in (vectors, np.asfortranarray(vectors), vectors[::-1]):
        save_vectors(tmp_path / "v", order, "these")
        found = load_vectors(tmp_path / "v", 2, "these")
        assert found is not None and found.tolist() == order.tolist()
    with pytest.raises(Unsound, match="something else"):
        load_vectors(tmp_path / "v", 2, "those")
    with pytest.raises(Unsound, match="was changed"):
        load_vectors(tmp_path / "v", 3, "these")
    save_vectors(tmp_path / "v", vectors * np.float32(np.nan), "these")
    with pytest.raises(Unsound):
        load_vectors(tmp_path / "v", 2, "these")


TEXTS = st.lists(st.text(alphabet='ab\n",', max_size=3), max_size=3)


@given(one=TEXTS, other=TEXTS)
def test_texts_have_a_hash_of_their_own(one: list[str], other: list[str]) -> None:
    assert (texts_sha256(one) == texts_sha256(other)) == (one == other)
