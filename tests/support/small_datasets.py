"""Datasets that tests put together by hand, and a package of text encoders that does nothing."""

import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

from genrec_bench.data.cards import Card
from genrec_bench.data.dataset import Contents, Dataset, Examples
from genrec_bench.data.preparation.interactions import Interactions
from genrec_bench.data.vectors import text_encoder

Rows = Sequence[tuple[int, Sequence[int], int]]
"""User, history, target."""


def examples(rows: Rows) -> Examples:
    users, histories, targets = zip(*rows, strict=True)
    return Examples.from_lists(users, histories, targets)


def rows_of(interactions: Interactions) -> list[tuple[str, str, int]]:
    """User name, item name and time of each row."""
    columns = (interactions.users, interactions.items, interactions.times)
    return [
        (interactions.user_names[user], interactions.item_names[item], int(time))
        for user, item, time in zip(*columns, strict=True)
    ]


def named_rows(
    splits: Mapping[str, Examples], users: Sequence[str], items: Sequence[str]
) -> dict[str, list[tuple[str, list[str], str]]]:
    """The examples of each split with the names of user, history and target."""
    return {
        name: [
            (users[part.users[i]], [items[j] for j in part.history(i)], items[part.targets[i]])
            for i in range(len(part))
        ]
        for name, part in splits.items()
    }


def use_encoder(patch: pytest.MonkeyPatch, load: Callable[..., object]) -> None:
    """Have sentence-transformers installed, whose models `load` returns."""
    package = ModuleType("sentence_transformers")
    package.__spec__ = ModuleSpec("sentence_transformers", None)
    patch.setitem(sys.modules, "sentence_transformers", package)
    patch.setattr(package, "SentenceTransformer", load, raising=False)
    patch.setattr(text_encoder, "hub_files", lambda name, asked: frozenset())


def use_vectors(patch: pytest.MonkeyPatch, vector: Callable[[str], Sequence[float]]) -> list[str]:
    """Have models whose vector of a text is that of a function; return what they will encode."""
    encoded: list[str] = []

    class Model:
        def __init__(self, name: str, *, trust_remote_code: bool) -> None:
            assert not trust_remote_code

        def encode(self, texts: list[str], *, show_progress_bar: bool) -> NDArray[np.float32]:
            assert not show_progress_bar
            encoded.extend(texts)
            return np.array([vector(text) for text in texts], dtype=np.float32)

    use_encoder(patch, Model)
    return encoded


def build_dataset(
    card: Card,
    sids: NDArray[np.int32],
    item_names: Sequence[str],
    titles: Sequence[str],
    splits: Mapping[str, Examples],
    ceiling: Mapping[str, Mapping[str, float]] | None = None,
    descriptions: Sequence[str] = (),
) -> Dataset:
    """A dataset that brings its SIDs."""
    names, told = (tuple(item_names), tuple(titles)), tuple(descriptions)
    return Contents(card, *names, splits, sids, told, ceiling=ceiling or {}).own
