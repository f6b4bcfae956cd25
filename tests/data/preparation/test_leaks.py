import dataclasses
import json
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genrec_bench.data.dataset import Examples
from genrec_bench.data.preparation import leaks
from genrec_bench.data.preparation.interactions import Interactions
from genrec_bench.data.preparation.leaks import find_leaks
from genrec_bench.data.preparation.splits import chronological, leave_one_out

Row = tuple[int, tuple[int, ...], int, int]
"""User, history, target, and the target's time."""

ROWS = st.tuples(
    st.integers(0, 3),
    st.lists(st.integers(0, 2), max_size=3).map(tuple),
    st.integers(0, 2),
    st.integers(0, 5),
)
SPLITS = st.fixed_dictionaries(
    {name: st.lists(ROWS, max_size=12) for name in ("train", "valid", "test")}
)


def examples_of(rows: list[Row]) -> Examples:
    return Examples.from_lists(
        [row[0] for row in rows], [row[1] for row in rows], [row[2] for row in rows]
    )


def find(splits: dict[str, list[Row]], protocol: str = "") -> leaks.Leaks:
    return find_leaks(
        {name: examples_of(rows) for name, rows in splits.items()},
        {name: np.array([row[3] for row in rows], np.int64) for name, rows in splits.items()},
        protocol,
    )


def slow(splits: dict[str, list[Row]]) -> dict[tuple[str, str, str], tuple[int, int]]:
    """Count by looking at every pair of rows."""
    found = {}
    for name in leaks.SPLITS:
        rows = splits[name]
        others = sum(any(r[1] == s[1] and r[2] != s[2] for s in rows) for r in rows)
        found[leaks.OTHER_TARGETS, name, name] = (others, len(rows))
        repeated = [row[1:3] in [other[1:3] for other in rows[:i]] for i, row in enumerate(rows)]
        found[leaks.REPEATED_PAIRS, name, name] = (sum(repeated), len(rows))
    for other, name in combinations(leaks.SPLITS, 2):
        rows, known = splits[name], splits[other]
        late = [s for s in known if rows and s[3] > min(r[3] for r in rows)]
        users = {r[0] for r in rows}
        found[leaks.LATER_TARGETS, name, other] = (len(late), len(known))
        count = {
            leaks.LATER_REPEATS: [any(r[0] == s[0] and r[2] == s[2] for s in late) for r in rows],
            leaks.OTHER_TARGETS: [any(r[1] == s[1] and r[2] != s[2] for s in known) for r in rows],
            leaks.REPEATED_HISTORIES: [any(r[1] == s[1] for s in known) for r in rows],
            leaks.REPEATED_PAIRS: [any(r[1:3] == s[1:3] for s in known) for r in rows],
            leaks.REPEATED_ROWS: [any(r[:3] == s[:3] for s in known) for r in rows],
            leaks.USERS: [user in {s[0] for s in known} for user in users],
        }
        found |= {(what, name, other): (sum(hits), len(hits)) for what, hits in count.items()}
    trained = {item for row in splits["train"] for item in (*row[1], row[2])}
    for name in ("valid", "test"):
        items = {item for row in splits[name] for item in (*row[1], row[2])}
        cold = [row[2] not in trained for row in splits[name]]
        found[leaks.COLD_ITEMS, name, "train"] = (len(items - trained), len(items))
        found[leaks.COLD_TARGETS, name, "train"] = (sum(cold), len(cold))
    return found


@given(SPLITS)
def test_the_counts_are_those_of_a_slow_reference(splits: dict[str, list[Row]]) -> None:
    found = {(leak.what, leak.split, leak.other): leak for leak in find(splits).counts}
    assert {key: (leak.found, leak.of) for key, leak in found.items()} == slow(splits)


TRAIN: list[Row] = [
    (0, (1, 2), 3, 10),  # another target than the first of valid
    (0, (1, 2), 3, 20),  # repeats the row above
    (1, (4,), 5, 30),  # at the time of the first of test, and so not later
    (2, (4,), 6, 31),  # the one target later than that
]
VALID: list[Row] = [(0, (1, 2), 4, 25), (3, (7,), 8, 26)]
TEST: list[Row] = [(2, (5, 4), 6, 40), (1, (4,), 5, 30), (3, (7,), 8, 50)]


@pytest.mark.parametrize(
    ("what", "split", "other", "found"),
    [
        (leaks.OTHER_TARGETS, "train", "train", 2),  # history 4 has 5 and 6
        (leaks.OTHER_TARGETS, "test", "test", 0),
        (leaks.REPEATED_PAIRS, "train", "train", 1),
        (leaks.REPEATED_PAIRS, "test", "valid", 1),
        (leaks.REPEATED_HISTORIES, "valid", "train", 1),
        (leaks.REPEATED_HISTORIES, "test", "train", 1),
        (leaks.REPEATED_PAIRS, "valid", "train", 0),
        (leaks.LATER_TARGETS, "valid", "train", 2),  # 30 and 31 after 25
        (leaks.LATER_TARGETS, "test", "train", 1),
        (leaks.LATER_REPEATS, "test", "train", 1),  # user 2 takes 6 again
        (leaks.LATER_REPEATS, "valid", "train", 0),
        (leaks.OTHER_TARGETS, "valid", "train", 1),
        (leaks.OTHER_TARGETS, "test", "train", 1),  # its own 5, and 6
        (leaks.OTHER_TARGETS, "test", "valid", 0),
        (leaks.REPEATED_ROWS, "test", "train", 1),
        (leaks.REPEATED_ROWS, "test", "valid", 1),
        (leaks.REPEATED_ROWS, "valid", "train", 0),
        (leaks.USERS, "valid", "train", 1),
        (leaks.USERS, "test", "train", 2),
        (leaks.COLD_ITEMS, "valid", "train", 2),  # 7 and 8
        (leaks.COLD_TARGETS, "test", "train", 1),
    ],
)
def test_counts_by_hand(what: str, split: str, other: str, found: int) -> None:
    splits = {"train": TRAIN, "valid": VALID, "test": TEST}
    assert find(splits).found(what, split, other) == found
    assert slow(splits)[what, split, other][0] == found


def test_without_times_later_targets_are_unknown() -> None:
    splits = {"train": TRAIN, "valid": VALID, "test": TEST}
    examples = {name: examples_of(rows) for name, rows in splits.items()}
    found = find_leaks(examples)
    assert found.found(leaks.LATER_TARGETS, "test", "train") is None
    assert found.found(leaks.LATER_REPEATS, "test", "train") is None
    assert found.found(leaks.REPEATED_ROWS, "test", "train") == 1
    assert found.note == "The source keeps no times, so that later targets are unknown."
    rows = [row for row in found.as_rows() if row["what"] == leaks.LATER_TARGETS]
    assert [(row["found"], row["share"]) for row in rows] == [("unknown", None)] * 3
    partly = find_leaks(examples, {"train": np.zeros(4, np.int64)})
    assert partly.found(leaks.LATER_TARGETS, "test", "train") is None


def test_a_row_of_the_table() -> None:
    found = find({"train": TRAIN, "valid": VALID, "test": TEST})
    (row,) = (
        row
        for row in found.as_rows()
        if (row["what"], row["split"], row["against"]) == (leaks.USERS, "test", "train")
    )
    assert (row["found"], row["of"], row["share"]) == (2, 3, 2 / 3)
    assert json.loads(json.dumps(dataclasses.asdict(found)))["note"] == ""
    with pytest.raises(KeyError):
        found.found(leaks.USERS, "train", "train")


def test_a_cut_by_time_has_no_later_targets_and_leave_one_out_says_that_it_has() -> None:
    rng = np.random.Generator(np.random.PCG64(0))
    log = [
        (f"u{user}", f"i{item}", int(moment))
        for user, item, moment in rng.integers(0, [40, 30, 100], size=(500, 3))
    ]
    interactions = Interactions.gather(log)
    cut = chronological(interactions, 5)
    found = find_leaks(cut.examples, cut.target_times, "chronological")
    assert found.found(leaks.LATER_TARGETS, "test", "train") == 0
    assert found.found(leaks.LATER_REPEATS, "test", "train") == 0
    assert found.note == ""
    out = leave_one_out(interactions, 5)
    found = find_leaks(out.examples, out.target_times, "leave-one-out")
    late = found.found(leaks.LATER_TARGETS, "test", "train")
    first = out.target_times["test"].min()
    assert late == sum(moment > first for moment in out.target_times["train"].tolist()) > 0
    assert "by design" in found.note
