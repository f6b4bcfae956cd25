"""All methods alike: shapes, what the reconstruction is, seeds and threads, and mistakes."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from genrec_bench.data.sids.methods import Quantized, quantize
from genrec_bench.data.sids.sid_recipe import METHODS
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress

Vectors = np.ndarray[tuple[int, int], np.dtype[np.float32]]

QUIET = Progress(quiet=True)
EVERY_METHOD = pytest.mark.parametrize("method", METHODS)
CODES_PER_LEVEL = (8, 6, 4)


def clustered(items: int = 120, seed: int = 0) -> Vectors:
    rng = np.random.default_rng(seed)
    centres = 3 * rng.normal(size=(6, 10)) + 2
    return (centres[rng.integers(6, size=items)] + rng.normal(size=(items, 10))).astype(np.float32)


def make(method: str, vectors: Vectors, seed: int = 0) -> Quantized:
    return quantize(vectors, method, CODES_PER_LEVEL, seed, QUIET)


@EVERY_METHOD
def test_codes_codebooks_and_reconstruction_fit_together(method: str) -> None:
    vectors = clustered()
    found = make(method, vectors)
    assert found.codes.shape == (120, 3) and found.codes.dtype == np.int32
    assert (found.codes >= 0).all() and (found.codes < CODES_PER_LEVEL).all()
    for codebook, num_codes, used in zip(
        found.codebooks, CODES_PER_LEVEL, found.codes.max(axis=0), strict=True
    ):
        assert codebook.dtype == np.float32 and used < len(codebook) <= num_codes
    assert found.reconstruction.shape == vectors.shape
    assert found.reconstruction.dtype == np.float32
    left = np.square(vectors.astype(np.float64) - found.reconstruction).sum(axis=1)
    np.testing.assert_allclose(found.distances, left)
    whole = np.square(vectors - vectors.mean(axis=0)).sum()
    assert found.errors[-1] == pytest.approx(left.sum() / whole, rel=1e-5)
    assert len(found.errors) == 3 and 1 > found.errors[0] > found.errors[-1] > 0
    # Items that share a SID share what it stands for.
    _, first, sid = np.unique(found.codes, axis=0, return_index=True, return_inverse=True)
    shared = found.reconstruction[first[sid.reshape(-1)]]
    np.testing.assert_allclose(shared, found.reconstruction, atol=1e-5)


@pytest.mark.parametrize("method", ["rq-kmeans", "rq-kmeans-balanced"])
def test_k_means_reconstructs_by_the_sum_of_its_centroids(method: str) -> None:
    found = make(method, clustered())
    for item in (0, 7, 119):
        chosen = [book[found.codes[item, level]] for level, book in enumerate(found.codebooks)]
        np.testing.assert_allclose(found.reconstruction[item], np.sum(chosen, axis=0), rtol=1e-5)


@EVERY_METHOD
def test_equal_seeds_make_equal_sids_whatever_the_threads(method: str) -> None:
    vectors = clustered()
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = make(method, vectors)
        torch.set_num_threads(2)
        two = make(method, vectors)
        assert torch.get_num_threads() == 2, "the setting is put back"
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_array_equal(one.codes, two.codes)
    np.testing.assert_array_equal(one.reconstruction, two.reconstruction)
    assert not np.array_equal(one.codes, make(method, vectors, seed=1).codes)


def test_libraries_that_load_late_have_one_thread_too() -> None:
    """In a process of its own: here scikit-learn may be loaded already."""
    program = (
        "from genrec_bench.data.sids.methods import _one_thread\n"
        "with _one_thread():\n"
        "    import sklearn.cluster\n"
        "    from threadpoolctl import threadpool_info\n"
        "    print({pool['num_threads'] for pool in threadpool_info()})\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "3"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["{1}"]


@EVERY_METHOD
def test_the_vectors_are_left_as_they_are(method: str) -> None:
    vectors = clustered()
    vectors.flags.writeable = False
    make(method, vectors)


@EVERY_METHOD
@pytest.mark.parametrize("vectors", [np.zeros((5, 2)), np.ones((1, 3)), np.eye(4)])
def test_few_or_equal_vectors_make_no_trouble(method: str, vectors: Vectors) -> None:
    found = make(method, vectors.astype(np.float32))
    assert found.codes.shape == (len(vectors), 3)
    assert np.isfinite(found.reconstruction).all()
    assert all(np.isfinite(book).all() for book in found.codebooks)
    equal = bool((vectors == vectors[0]).all())
    assert np.isnan(found.errors).all() == equal


def test_mistakes_are_named() -> None:
    good = clustered(10)
    bad = good.copy()
    bad[3, 1] = np.nan
    for vectors, method, codes_per_level, expected in (
        (good, "rq-kmean", (4,), "unknown method 'rq-kmean'; did you mean 'rq-kmeans'"),
        (bad, "rq-kmeans", (4,), "row 3 (from 0) has an entry that is not finite"),
        (good[:0], "rq-kmeans", (4,), "must be a table"),
        (good, "rq-kmeans", (), "at least one level"),
        (good, "rq-kmeans", (4, 0), "at least one code"),
    ):
        with pytest.raises(UserError) as caught:
            quantize(vectors, method, codes_per_level, 0, QUIET)
        assert expected in str(caught.value) and "\n" not in str(caught.value)
