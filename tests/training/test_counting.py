"""The two rankers by counts, against counts made by hand."""

from collections import Counter

import numpy as np
from small_datasets import build_dataset

from genrec_bench.data.cards import load_card
from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.training.counting import popularity_lists, successor_lists


def small() -> Dataset:
    """Five items; after 0 comes 2 twice, 4 and 3 once; after 1 comes 0; nothing follows 4."""
    train = Examples.from_lists(range(6), [[0], [1, 0], [3, 0], [0], [1], [3]], [2, 2, 4, 3, 0, 4])
    test = Examples.from_lists(range(4), [[1, 0], [0, 1], [4], []], [2, 0, 1, 3])
    sids = np.arange(15).reshape(5, 3).astype(np.int32)
    splits = {"train": train, "valid": test, "test": test}
    return build_dataset(load_card("industrial"), sids, list("abcde"), [""] * 5, splits, {})


def test_popularity_counts_targets_and_ties_go_by_the_catalog() -> None:
    dataset = small()
    assert dataset.catalog.popularity.tolist() == [1, 0, 2, 1, 2]
    found = popularity_lists(dataset, dataset.test, 4)
    assert found.tolist() == [[2, 4, 0, 3]] * 4
    assert popularity_lists(dataset, dataset.test, 9).shape == (4, 5)


def test_successors_by_hand() -> None:
    """3 and 4 followed 0 once each: 4 is the more popular; behind them by popularity."""
    dataset = small()
    found = successor_lists(dataset, dataset.test, 5)
    assert found.tolist() == [
        [2, 4, 3, 0, 1],
        [0, 2, 4, 3, 1],
        [2, 4, 0, 3, 1],
        [2, 4, 0, 3, 1],
    ]
    assert successor_lists(dataset, dataset.test, 2).tolist() == [row[:2] for row in found.tolist()]


def test_successors_as_a_plain_count_says() -> None:
    generator = np.random.default_rng(0)
    histories = [generator.integers(7, size=generator.integers(1, 4)).tolist() for _ in range(200)]
    targets = generator.integers(7, size=200).tolist()
    train = Examples.from_lists(range(200), histories, targets)
    test = Examples.from_lists(range(7), [[i] for i in range(7)], [0] * 7)
    sids = np.arange(21).reshape(7, 3).astype(np.int32)
    splits = {"train": train, "valid": test, "test": test}
    dataset = build_dataset(load_card("industrial"), sids, list("abcdefg"), [""] * 7, splits, {})
    popular = Counter(targets)
    follows = Counter((h[-1], t) for h, t in zip(histories, targets, strict=True))
    expected = [
        sorted(range(7), key=lambda item: (-follows[last, item], -popular[item], item))
        for last in range(7)
    ]
    assert successor_lists(dataset, test, 7).tolist() == expected
