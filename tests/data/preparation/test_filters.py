from collections import Counter
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_datasets import rows_of

from genrec_bench.data.preparation.filters import (
    Counts,
    Filtered,
    apply_step,
    is_usable,
)
from genrec_bench.data.preparation.interactions import Interactions
from genrec_bench.data.preparation.raw_recipe import Step, check_steps
from genrec_bench.errors import UserError
from genrec_bench.storage.validation import validated

Log = list[tuple[str, str, int]]

LOGS = st.lists(
    st.tuples(st.sampled_from("abcdefg"), st.sampled_from("uvwxyz"), st.integers(0, 5)),
    max_size=60,
)


def left_of(step: Step, log: Log, **titles: str) -> Log:
    return rows_of(apply_step(step, Interactions.gather(log), titles)[0])


def told(step: Step, log: Log, **titles: str) -> Filtered:
    return apply_step(step, Interactions.gather(log), titles)[1]


def milliseconds(moment: str) -> int:
    return int(datetime.fromisoformat(moment).replace(tzinfo=UTC).timestamp() * 1000)


def in_order(log: Log) -> Log:
    return sorted(log, key=lambda row: (row[2], row[0], row[1]))


def slow_core(log: Log, users: int, items: int) -> Log:
    """Drop one row at a time, the first that may not stay."""
    rows = list(log)
    while True:
        of_user, of_item = Counter(row[0] for row in rows), Counter(row[1] for row in rows)
        weak = [row for row in rows if of_user[row[0]] < users or of_item[row[1]] < items]
        if not weak:
            return in_order(rows)
        rows.remove(weak[0])


def slow_duplicates(log: Log, keep: str) -> Log:
    kept: dict[object, tuple[str, str, int]] = {}
    for user, item, time in in_order(log):
        key = (user, item, time) if keep == "exact" else (user, item)
        if keep == "last" or key not in kept:
            kept[key] = (user, item, time)
    return in_order(list(kept.values()))


@given(LOGS, st.integers(0, 4), st.integers(0, 4))
def test_the_core_is_that_of_a_slow_reference(log: Log, users: int, items: int) -> None:
    step = Step("core", users=users, items=items)
    expected = slow_core(log, users, items)
    left, filtered = apply_step(step, Interactions.gather(log), {})
    assert rows_of(left) == expected
    assert set(left.user_names) == {row[0] for row in expected}  # and no other name is left
    assert set(left.item_names) == {row[1] for row in expected}
    assert sum(filtered.removed.values()) == len(log) - len(expected)


@given(LOGS, st.sampled_from(["first", "last", "exact"]))
def test_duplicates_are_those_of_a_slow_reference(log: Log, keep: str) -> None:
    expected = slow_duplicates(log, keep)
    assert left_of(Step("duplicates", keep=keep), log) == expected


def test_the_core_falls_like_dominoes() -> None:
    """Without y, c has one row; without c, x has one; without x, b has one; a and z stay."""
    chain = [("c", "y", 1), ("c", "x", 2), ("b", "x", 3), ("b", "z", 4)]
    core = [("a", "z", 5), ("a", "w", 6), ("d", "z", 7), ("d", "w", 8)]
    filtered = told(Step("core", users=2, items=2), chain + core)
    assert left_of(Step("core", users=2, items=2), chain + core) == core
    assert filtered == Filtered(
        step="core users 2 items 2",
        before=Counts(users=4, items=4, interactions=8),
        after=Counts(users=2, items=2, interactions=4),
        removed={"user with fewer than 2": 2, "item with fewer than 2": 2},
    )


def test_users_alone_need_no_second_round() -> None:
    log = [("a", "x", 1), ("a", "y", 2), ("b", "x", 3)]
    assert left_of(Step("core", users=2), log) == log[:2]
    assert left_of(Step("core", items=2), log) == [log[0], log[2]]


def test_a_window_begins_and_ends_at_midnight_utc() -> None:
    begins, ends = milliseconds("2016-10-01"), milliseconds("2018-11-01")
    log = [("a", "v", begins - 1), ("a", "w", begins), ("a", "x", ends - 1), ("a", "y", ends)]
    assert left_of(Step("window", since="2016-10-01", until="2018-11-01"), log) == log[1:3]
    assert left_of(Step("window", since="2016-10-01"), log) == log[1:]
    assert left_of(Step("window", until="2018-11-01"), log) == log[:3]
    filtered = told(Step("window", since="2016-10-01", until="2018-11-01"), log)
    assert filtered.removed == {"before 2016-10-01": 1, "from 2018-11-01 on": 1}
    assert filtered.step == "window since 2016-10-01 until 2018-11-01"
    long_ago = [("a", "x", milliseconds("1969-12-31") - 1), ("a", "x", milliseconds("1969-12-31"))]
    assert left_of(Step("window", since="1969-12-31"), long_ago) == long_ago[1:]


def test_which_duplicate_stays() -> None:
    log = [("a", "x", 1), ("a", "x", 1), ("b", "x", 1), ("a", "y", 2), ("a", "x", 3)]
    first, last, exact = (Step("duplicates", keep=keep) for keep in ("first", "last", "exact"))
    assert left_of(first, log) == [("a", "x", 1), ("b", "x", 1), ("a", "y", 2)]
    assert left_of(last, log) == [("b", "x", 1), ("a", "y", 2), ("a", "x", 3)]
    assert left_of(exact, log) == [("a", "x", 1), ("b", "x", 1), ("a", "y", 2), ("a", "x", 3)]
    assert told(first, log).removed == {"repeats user and item": 2}
    assert told(exact, log).removed == {"repeats user, item and time": 1}


def test_items_without_a_usable_title_go() -> None:
    log = [("a", "none", 1), ("a", "empty", 2), ("a", "short", 3), ("a", "long", 4), ("a", "ok", 5)]
    titles = {"empty": "", "short": "x", "long": "one two three four", "ok": "one two three"}
    strict = Step("titles", longest_title=3)
    assert left_of(strict, log, **titles) == [("a", "ok", 5)]
    assert left_of(Step("titles"), log, **titles) == [("a", "long", 4), ("a", "ok", 5)]
    removed = told(strict, log, **titles).removed
    assert removed == {"item without a title": 2, "title too short or too long": 2}


@pytest.mark.parametrize(
    ("title", "longest", "usable"),
    [
        ("", 0, False),
        ("x", 0, False),
        ("xy", 0, True),
        ("a b c", 0, True),
        ("a b c", 3, True),
        ("a  b\tc", 3, True),
        ("a b c", 2, False),
    ],
)
def test_which_titles_are_usable(title: str, longest: int, usable: bool) -> None:
    assert is_usable(title, longest) is usable


@dataclass(frozen=True)
class Filters:
    filters: tuple[Step, ...]


def check(*steps: Step) -> None:
    """Check steps as those of a card are."""
    where = "datasets/mine.yaml"
    check_steps(validated(Filters, asdict(Filters(steps)), where).filters, where)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (Step("cores"), "'filters.2.step' must be one of titles, window, duplicates, core, not"),
        (Step("cores"), "not 'cores'; did you mean 'core'?"),
        (
            Step("titles", users=5),
            "'filters.2.users' must be left out of 'titles': it is of 'core'",
        ),
        (Step("core", users=5, keep="first"), "'filters.2.keep' must be left out of 'core'"),
        (Step("titles", longest_title=-1), "'filters.2.longest_title' must be at least 0, not -1"),
        (Step("window"), "'filters.2.since' must be a day such as 2016-10-01, or else 'until'"),
        (Step("window", since="2016-13-01"), "'filters.2.since' must be a day such as 2016-10-01"),
        (Step("window", until="20161001"), "'filters.2.until' must be a day such as 2016-10-01"),
        (Step("window", until="1.10.2016"), "not '1.10.2016'"),
        (
            Step("window", since="2016-10-01", until="2016-10-01"),
            "'filters.2.since' must be a day before 2016-10-01, which 'until' says, not 2016-10-01",
        ),
        (Step("duplicates"), "'filters.2.keep' must be one of first, last, exact, not ''"),
        (Step("duplicates", keep="both"), "must be one of first, last, exact, not 'both'"),
        (Step("core"), "'filters.2.users' must be at least 1, or else 'items'"),
        (Step("core", users=-1), "'filters.2.users' must be at least 0, not -1"),
        (Step("core", items=-5), "'filters.2.items' must be at least 0, not -5"),
    ],
)
def test_a_wrong_step_is_named_with_file_and_key(step: Step, message: str) -> None:
    with pytest.raises(UserError) as caught:
        check(Step("titles"), step)
    assert str(caught.value).startswith("datasets/mine.yaml: key 'filters.2.")
    assert message in str(caught.value)


def test_right_steps_pass() -> None:
    check(
        Step("window", since="2016-10-01", until="2018-11-01"),
        Step("titles", longest_title=20),
        Step("duplicates", keep="exact"),
        Step("core", users=5, items=5),
        Step("core", items=5),
        Step("window", until="2018-11-01"),
    )
