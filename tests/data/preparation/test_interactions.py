import tracemalloc

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from small_datasets import rows_of

from genrec_bench.data.preparation.interactions import Interactions

Log = list[tuple[str, str, int]]

NAMES = st.sampled_from(["", "B00", "b", "a b", "Zoë", "10", "9"])
LOGS = st.lists(st.tuples(NAMES, NAMES, st.integers(-(2**62), 2**62) | st.integers(0, 3)))


def content(interactions: Interactions) -> tuple[object, ...]:
    """Everything, to the byte."""
    columns = (interactions.users, interactions.items, interactions.times)
    return (
        *((column.dtype.str, column.tobytes()) for column in columns),
        interactions.user_names,
        interactions.item_names,
    )


def test_a_log_by_hand() -> None:
    log = [("eve", "pen", 7), ("ann", "rake", 7), ("ann", "pen", 7), ("bob", "hose", 3)]
    interactions = Interactions.gather(log)
    assert interactions.user_names == ("ann", "bob", "eve")
    assert interactions.item_names == ("hose", "pen", "rake")
    assert interactions.users.tolist() == [1, 0, 0, 2]
    assert interactions.items.tolist() == [0, 1, 2, 1]
    assert interactions.times.tolist() == [3, 7, 7, 7]
    columns = (interactions.users, interactions.items, interactions.times)
    assert [column.dtype.str for column in columns] == ["<i4", "<i4", "<i8"]
    assert interactions.per_user().tolist() == [2, 1, 1]


@given(LOGS)
def test_rows_are_sorted_by_time_user_name_and_item_name(log: Log) -> None:
    interactions = Interactions.gather(iter(log))
    assert rows_of(interactions) == sorted(log, key=lambda row: (row[2], row[0], row[1]))
    assert list(interactions.user_names) == sorted({user for user, _, _ in log})
    assert list(interactions.item_names) == sorted({item for _, item, _ in log})


@given(LOGS, st.data())
def test_what_is_kept_is_as_if_nothing_else_had_been_there(log: Log, data: st.DataObject) -> None:
    interactions = Interactions.gather(log)
    size = len(log)
    marks = np.array(data.draw(st.lists(st.booleans(), min_size=size, max_size=size)), dtype=bool)
    kept = interactions.keep(marks)
    assert kept.user_names == interactions.user_names
    left = [row for row, mark in zip(rows_of(interactions), marks, strict=True) if mark]
    assert rows_of(kept) == left
    assert content(kept.compact()) == content(Interactions.gather(left))


def test_a_row_costs_little_memory() -> None:
    """Two gigabytes for five million rows leave 400 bytes a row; a tuple a row would take more."""
    rows = 20_000
    tracemalloc.start()
    interactions = Interactions.gather((f"u{i % 100}", f"i{i % 70}", i) for i in range(rows))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(interactions) == rows
    assert peak < 100 * rows
