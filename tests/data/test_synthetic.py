import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from genrec_bench.data import dataset_store
from genrec_bench.data.cards import Card, load_card
from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.data.dataset_store import load_dataset
from genrec_bench.data.synthetic import (
    Floats,
    PurchaseModel,
    build_model,
    ceiling,
    generate,
    padded_histories,
)

FINGERPRINT = "8c9219d99df8c8c49864f8ce82431c0b9fecbd5e15d49ba1e6c05d4b4a45fdaa"


def tiny_card(history_length: int = 3, **changes: Any) -> Card:
    """Return a card of 8 items: 2 categories of 2 subcategories of 2 items."""
    card = load_card("synthetic")
    assert card.synthetic is not None
    small: dict[str, Any] = {
        "users": 40,
        "items_per_subcategory": 2,
        "shared_sid_share": 0.125,
        "categories": {"garden": ("rake", "hose"), "office": ("pen", "lamp")},
    }
    parameters = dataclasses.replace(card.synthetic, **(small | changes))
    return dataclasses.replace(card, synthetic=parameters, history_length=history_length)


def model_of(card: Card) -> PurchaseModel:
    assert card.synthetic is not None
    rng = np.random.Generator(np.random.PCG64(card.synthetic.seed))
    return build_model(card, card.synthetic, rng)


def next_item(model: PurchaseModel, history: Sequence[int] | NDArray[np.integer]) -> Floats:
    """The probability of each item to come next, [num_items]."""
    visible = np.asarray(history, dtype=np.int64)[-model.history_length :]
    found: Floats = model.next_item_distributions(visible[None, :])[0]
    return found


def only(way: str) -> dict[str, Any]:
    ways = ("repeat", "link", "follow", "same_category", "noise")
    return {name: float(name == way) for name in ways}


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return generate(load_card("synthetic")).own


@pytest.fixture(scope="module")
def model() -> PurchaseModel:
    return model_of(load_card("synthetic"))


def test_it_is_what_the_card_says(dataset: Dataset) -> None:
    expected, catalog = dataset.card.expected, dataset.catalog
    users = np.concatenate([part.users for part in dataset.splits.values()])
    assert len(np.unique(users)) == expected.users
    assert catalog.num_items == expected.items
    assert len(catalog.unique_sids) == expected.distinct_sids
    rows = (len(dataset.train), len(dataset.valid), len(dataset.test))
    assert rows == (expected.train_rows, expected.valid_rows, expected.test_rows)
    assert catalog.codes_per_level == dataset.card.codes_per_level
    assert not dataset.partial


def test_one_seed_gives_one_dataset_and_another_seed_another(dataset: Dataset) -> None:
    # A change here is a change of the dataset: raise the card's version with it.
    assert dataset.fingerprint == FINGERPRINT
    assert generate(load_card("synthetic")).fingerprint == FINGERPRINT
    assert generate(tiny_card()).fingerprint != generate(tiny_card(seed=1)).fingerprint


def test_the_split_is_eight_to_one_to_one_in_order_of_time() -> None:
    # With no history cut off, a user's history lengths tell the order of the examples.
    dataset = generate(tiny_card(history_length=50)).own
    n = sum(map(len, dataset.splits.values()))
    first, second = n * 8 // 10, n * 9 // 10
    assert (len(dataset.train), len(dataset.valid)) == (first, second - first)
    longest: dict[int, int] = {}
    for part in dataset.splits.values():
        lengths = part.history_lengths.tolist()
        for user, length in zip(part.users.tolist(), lengths, strict=True):
            assert length == longest.get(user, 0) + 1
            longest[user] = length


def test_histories_are_cut_and_continue_each_other(dataset: Dataset) -> None:
    length = dataset.card.history_length
    last: dict[int, list[int]] = {}
    for part in dataset.splits.values():
        assert part.history_lengths.min() >= 1 and part.history_lengths.max() <= length
        for i, user in enumerate(part.users.tolist()):
            history = part.history(i).tolist()
            if user in last:
                assert history == last[user]
            last[user] = [*history, int(part.targets[i])][-length:]


def test_sids_reflect_the_hierarchy(dataset: Dataset) -> None:
    parameters, catalog = dataset.card.synthetic, dataset.catalog
    assert parameters is not None
    nouns = [noun for words in parameters.categories.values() for noun in words]
    noun_of = [next(n for n in nouns if title.endswith(" " + n)) for title in catalog.titles]
    category_of = {n: c for c, words in parameters.categories.items() for n in words}
    by_prefix: dict[tuple[int, ...], set[str]] = {}
    for sid, noun in zip(catalog.sids.tolist(), noun_of, strict=True):
        by_prefix.setdefault(tuple(sid[:1]), set()).add(category_of[noun])
        by_prefix.setdefault(tuple(sid[:2]), set()).add(noun)
    assert all(len(words) == 1 for words in by_prefix.values())
    assert len(by_prefix) == len(parameters.categories) + len(nouns)
    assert len(set(catalog.titles)) == catalog.num_items
    taken_over = catalog.num_items - len(catalog.unique_sids)
    assert taken_over == round(parameters.shared_sid_share * catalog.num_items)


def test_purchases_repeat_and_popularity_is_skewed(dataset: Dataset) -> None:
    train = dataset.train
    repeated = [train.targets[i] in train.history(i) for i in range(len(train))]
    parameters = dataset.card.synthetic
    assert parameters is not None
    assert np.mean(repeated) > parameters.repeat
    popularity = np.sort(dataset.catalog.popularity)[::-1]
    tenth = len(popularity) // 10
    assert popularity[:tenth].sum() > 2 * popularity.sum() / 10


def test_repeats_are_weighted_by_recency() -> None:
    model = model_of(tiny_card(recency_decay=0.5, **only("repeat")))
    # Items 4, 6, 4 from the oldest on: weights 1/4, 1/2, 1, of a sum of 7/4.
    expected = np.zeros(8)
    expected[4], expected[6] = 5 / 7, 2 / 7
    np.testing.assert_allclose(next_item(model, [4, 6, 4]), expected)


def test_noise_is_zipf() -> None:
    model = model_of(tiny_card(zipf_exponent=1.0, **only("noise")))
    harmonic = sum(1 / rank for rank in range(1, 9))
    got = np.sort(next_item(model, [0]))[::-1]
    np.testing.assert_allclose(got, [1 / rank / harmonic for rank in range(1, 9)])


@pytest.mark.parametrize(("way", "size"), [("link", 1), ("follow", 2)])
def test_links_lead_to_other_items_and_follow_ups_to_other_subcategories(
    way: str, size: int
) -> None:
    model = model_of(tiny_card(**only(way) | {f"{way}_weights": (0.75, 0.25)}))
    for item in range(8):
        got = next_item(model, [item]).reshape(-1, size).sum(axis=1)
        assert got[item // size] == 0
        np.testing.assert_allclose(np.sort(got)[-3:], [0, 0.25, 0.75], atol=1e-15)


def test_same_category_stays_there() -> None:
    model = model_of(tiny_card(**only("same_category")))
    for item in range(8):
        halves = next_item(model, [item]).reshape(2, 4)
        np.testing.assert_allclose(halves.sum(axis=1), np.eye(2)[item // 4])
        assert halves[item // 4].min() > 0


@settings(max_examples=50)
@given(history=st.lists(st.integers(0, 599), min_size=1, max_size=15))
def test_the_distribution_sums_to_one_and_sees_the_visible_history_only(
    model: PurchaseModel, history: list[int]
) -> None:
    got = next_item(model, history)
    assert got.min() >= 0 and math.isclose(got.sum(), 1)
    older = [*range(10 - len(history[:10])), *history]
    np.testing.assert_array_equal(next_item(model, [7, *older]), next_item(model, older))
    batch = padded_histories(Examples.from_lists([0], [history], [0]), 10)
    np.testing.assert_allclose(model.next_item_distributions(batch)[0], got)


def test_the_ceiling_is_brute_force_on_a_tiny_instance() -> None:
    card = tiny_card()
    model, dataset = model_of(card), generate(card)
    for split in ("valid", "test"):
        examples = dataset.splits[split]
        expected = {f"{name}@{k}": 0.0 for name in ("HR", "NDCG") for k in (1, 3, 5, 10, 20)}
        for i in range(len(examples)):
            p = next_item(model, examples.history(i))
            ranking = sorted(range(8), key=lambda item: -p[item])
            for k in (1, 3, 5, 10, 20):
                for target in ranking[:k]:
                    rank = 1 + ranking.index(target)
                    expected[f"HR@{k}"] += p[target] / len(examples)
                    expected[f"NDCG@{k}"] += p[target] / math.log2(1 + rank) / len(examples)
        for k in (1, 3, 5, 10, 20):
            expected |= {f"utility@{k}": expected[f"HR@{k}"], f"regret@{k}": 0.0}
        assert dataset.ceiling[split] == pytest.approx(expected)


def test_the_best_ranking_scores_what_the_ceiling_says(
    dataset: Dataset, model: PurchaseModel
) -> None:
    hits, expected, n = 0, 0.0, 0
    for part in dataset.splits.values():
        expected += ceiling(model, part)["HR@10"] * len(part)
        n += len(part)
        for start in range(0, len(part), 2000):
            some = part.subset(range(start, min(start + 2000, len(part))))
            p = model.next_item_distributions(padded_histories(some, 10))
            own = p[np.arange(len(some)), some.targets]
            hits += int(((p > own[:, None]).sum(axis=1) < 10).sum())
    rate = expected / n
    assert abs(hits / n - rate) < 4 * math.sqrt(rate * (1 - rate) / n)


def test_there_is_something_to_learn_and_something_that_cannot_be(dataset: Dataset) -> None:
    best = dataset.ceiling["test"]["HR@10"]
    assert 0.5 < best < 0.7
    popular = np.argsort(-dataset.catalog.popularity)[:10]
    assert np.isin(dataset.test.targets, popular).mean() < best / 3


def test_it_is_drawn_once_and_then_read(
    tmp_path: Path, dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = load_dataset("synthetic", tmp_path)
    monkeypatch.setattr(dataset_store, "generate", lambda card: pytest.fail("drawn again"))
    second = load_dataset("synthetic", tmp_path)
    assert first.fingerprint == second.fingerprint == dataset.fingerprint
    assert first.ceiling == second.ceiling == dataset.ceiling


def test_other_parameters_are_drawn_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset_store, "load_card", lambda name: tiny_card())
    first = load_dataset("synthetic", tmp_path)
    monkeypatch.setattr(dataset_store, "load_card", lambda name: tiny_card(seed=1))
    assert load_dataset("synthetic", tmp_path).fingerprint != first.fingerprint
