import dataclasses
import json
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small_datasets import named_rows

from genrec_bench.data.cards import load_card
from genrec_bench.data.importers import import_contents
from genrec_bench.data.preparation.interactions import Interactions
from genrec_bench.data.preparation.splits import Splits, chronological, leave_one_out

Log = list[tuple[str, str, int]]
Example = tuple[str, list[str], str, int]
"""User, history, target, and the target's time."""

LOGS = st.lists(
    st.tuples(st.sampled_from("abcde"), st.sampled_from("uvwxyz"), st.integers(0, 6)), max_size=50
)


def by_name(splits: Splits, interactions: Interactions) -> dict[str, list[Example]]:
    """Read all examples back, name by name."""
    named = named_rows(splits.examples, interactions.user_names, interactions.item_names)
    times = {name: when.tolist() for name, when in splits.target_times.items()}
    return {
        name: [(*row, time) for row, time in zip(rows, times[name], strict=True)]
        for name, rows in named.items()
    }


def sequences_of(log: Log) -> dict[str, list[tuple[int, str]]]:
    sequences: dict[str, list[tuple[int, str]]] = {}
    for user, item, moment in log:
        sequences.setdefault(user, []).append((moment, item))
    return {user: sorted(sequences[user]) for user in sorted(sequences)}


def examples_of(user: str, sequence: list[tuple[int, str]], length: int) -> list[Example]:
    return [
        (user, [item for _, item in sequence[:place]][-length:], target, moment)
        for place, (moment, target) in enumerate(sequence)
        if place > 0
    ]


def slow_chronological(log: Log, length: int) -> dict[str, list[Example]]:
    found = []
    for user, sequence in sequences_of(log).items():
        found += examples_of(user, sequence, length)
    found.sort(key=lambda example: (example[3], example[0]))  # stable: places stay in order
    first, second = len(found) * 8 // 10, len(found) * 9 // 10
    return {"train": found[:first], "valid": found[first:second], "test": found[second:]}


def slow_leave_one_out(log: Log, length: int) -> dict[str, list[Example]]:
    splits: dict[str, list[Example]] = {"train": [], "valid": [], "test": []}
    for user, sequence in sequences_of(log).items():
        if len(sequence) >= 3:
            *rest, valid, test = examples_of(user, sequence, length)
            splits["train"] += rest
            splits["valid"].append(valid)
            splits["test"].append(test)
    return splits


@given(LOGS, st.integers(1, 5))
def test_both_splits_are_those_of_a_slow_reference(log: Log, length: int) -> None:
    interactions = Interactions.gather(log)
    found = by_name(chronological(interactions, length), interactions)
    assert found == slow_chronological(log, length)
    found = by_name(leave_one_out(interactions, length), interactions)
    assert found == slow_leave_one_out(log, length)


def test_a_chronological_split_by_hand() -> None:
    """Ten examples. At 5 ann comes before bob, and her pen before her rake."""
    log = [("ann", f"i{place}", place) for place in range(5)]
    log += [("bob", f"j{place}", place + 1) for place in range(4)]
    log += [("ann", "rake", 5), ("ann", "pen", 5), ("bob", "hose", 5), ("cat", "pen", 9)]
    interactions = Interactions.gather(log)
    splits = chronological(interactions, 2)
    assert by_name(splits, interactions) == {
        "train": [
            ("ann", ["i0"], "i1", 1),
            ("ann", ["i0", "i1"], "i2", 2),
            ("bob", ["j0"], "j1", 2),
            ("ann", ["i1", "i2"], "i3", 3),
            ("bob", ["j0", "j1"], "j2", 3),
            ("ann", ["i2", "i3"], "i4", 4),
            ("bob", ["j1", "j2"], "j3", 4),
            ("ann", ["i3", "i4"], "pen", 5),
        ],
        "valid": [("ann", ["i4", "pen"], "rake", 5)],
        "test": [("bob", ["j2", "j3"], "hose", 5)],
    }
    part = splits.examples["train"]
    arrays = (part.users, part.history_items, part.history_offsets, part.targets)
    assert [array.dtype for array in arrays] == [np.int64, np.int32, np.int64, np.int32]


def test_leave_one_out_by_hand() -> None:
    """ann has four, bob three, cat two."""
    log = [("ann", "w", 1), ("ann", "x", 2), ("ann", "y", 3), ("ann", "z", 4)]
    log += [("bob", "y", 5), ("bob", "x", 6), ("bob", "y", 6), ("cat", "x", 1), ("cat", "y", 2)]
    interactions = Interactions.gather(log)
    assert by_name(leave_one_out(interactions, 2), interactions) == {
        "train": [("ann", ["w"], "x", 2)],
        "valid": [("ann", ["w", "x"], "y", 3), ("bob", ["y"], "x", 6)],
        "test": [("ann", ["x", "y"], "z", 4), ("bob", ["y", "x"], "y", 6)],
    }


def test_nothing_in_nothing_out() -> None:
    for split in (chronological, leave_one_out):
        parts = split(Interactions.gather([]), 3).examples
        assert list(parts) == ["train", "valid", "test"]
        assert all(len(part) == 0 for part in parts.values())


def test_leave_one_out_is_that_of_the_importer(tmp_path: Path) -> None:
    """Ten users with three to nine interactions; items are named so that they sort as numbers."""
    rng = np.random.Generator(np.random.PCG64(0))
    bought = {
        str(user): rng.integers(0, 10, size=size).tolist()
        for user, size in enumerate([3, 4, 5, 6, 7, 8, 9, 3, 4, 5])
    }
    index = {str(item): [f"<a_{item}>", "<b_0>"] for item in range(10)}
    (tmp_path / "Tools.inter.json").write_text(json.dumps(bought))
    (tmp_path / "Tools.index.json").write_text(json.dumps(index))
    card = dataclasses.replace(
        load_card("beauty"), category="Tools", codes_per_level=(10, 1), history_length=4, sha256={}
    )
    imported, _ = import_contents("lcrec", tmp_path, card)
    log = [
        (user, str(item), place)
        for user, items in bought.items()
        for place, item in enumerate(items)
    ]
    interactions = Interactions.gather(log)
    assert interactions.item_names == imported.item_names
    for name, part in leave_one_out(interactions, 4).examples.items():
        expected = imported.splits[name]
        np.testing.assert_array_equal(part.users, expected.users)
        np.testing.assert_array_equal(part.history_items, expected.history_items)
        np.testing.assert_array_equal(part.history_offsets, expected.history_offsets)
        np.testing.assert_array_equal(part.targets, expected.targets)
