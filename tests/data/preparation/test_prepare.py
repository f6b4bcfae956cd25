import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Container, Iterator
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from raw_files import RawFiles, write_raw_files
from small_datasets import named_rows

from genrec_bench.data.cards import load_card
from genrec_bench.data.dataset import Contents
from genrec_bench.data.preparation import leaks
from genrec_bench.data.preparation import prepare as module
from genrec_bench.data.preparation.filters import Counts, Filtered
from genrec_bench.data.preparation.formats import FORMATS, Format, ItemText, Row
from genrec_bench.data.preparation.malformed import Malformed
from genrec_bench.data.preparation.prepare import (
    PreparationReport,
    check_counts,
    format_report,
    prepare,
)
from genrec_bench.data.preparation.raw_recipe import Columns, Raw, SourceFile, Step
from genrec_bench.errors import UserError
from genrec_bench.progress import Progress

WHERE = "datasets/beauty.yaml"
QUIET = Progress(quiet=True)
DAY = 86_400
FIRST = 16_204 * DAY  # 2014-05-14


def bought(user: str, **days: int | list[int]) -> list[tuple[str, str, int]]:
    """Return a user's rows: the days on which each item was taken."""
    return [
        (user, item, FIRST + day * DAY)
        for item, found in days.items()
        for day in (found if isinstance(found, list) else [found])
    ]


WHOLE = [
    *bought("ann", hose=[2, 9], rake=[1, 4], saw=3),
    *bought("bob", hose=[1, 6], rake=2, saw=5),
    *bought("cat", hose=3, rake=3, saw=[1, 8]),
]
LOG = [
    *WHOLE,
    *bought("ann", saw=0),  # outside the window
    *bought("ann", rake=1),  # twice
    *bought("bob", nub=4),  # has no title
    *bought("cat", pen=7),  # nobody else took it
    *bought("dan", rake=7),  # took nothing else
]
TEXTS = {
    name: (f"{name.title()}, 12 inch", f"A {name}.") for name in ("hose", "pen", "rake", "saw")
}
STEPS = (
    Step("window", since="2014-05-15"),
    Step("titles", longest_title=3),
    Step("duplicates", keep="exact"),
    Step("core", users=2, items=2),
)
CHRONOLOGICAL = {
    "train": [
        ("ann", ["rake"], "hose"),
        ("bob", ["hose"], "rake"),
        ("ann", ["rake", "hose"], "saw"),
        ("cat", ["saw"], "hose"),
        ("cat", ["saw", "hose"], "rake"),
        ("ann", ["rake", "hose", "saw"], "rake"),
        ("bob", ["hose", "rake"], "saw"),
        ("bob", ["hose", "rake", "saw"], "hose"),
    ],
    "valid": [("cat", ["saw", "hose", "rake"], "saw")],
    "test": [("ann", ["hose", "saw", "rake"], "hose")],
}
LEAVE_ONE_OUT = {
    "train": [
        ("ann", ["rake"], "hose"),
        ("ann", ["rake", "hose"], "saw"),
        ("bob", ["hose"], "rake"),
        ("cat", ["saw"], "hose"),
    ],
    "valid": [
        ("ann", ["rake", "hose", "saw"], "rake"),
        ("bob", ["hose", "rake"], "saw"),
        ("cat", ["saw", "hose"], "rake"),
    ],
    "test": [
        ("ann", ["hose", "saw", "rake"], "hose"),
        ("bob", ["hose", "rake", "saw"], "hose"),
        ("cat", ["saw", "hose", "rake"], "saw"),
    ],
}


def prepare_files(
    files: RawFiles,
    format: str = "csv",
    steps: tuple[Step, ...] = STEPS,
    protocol: str = "chronological",
    *,
    titled: bool = True,
    malformed: float = 0.0,
) -> tuple[Contents, PreparationReport]:
    raw = Raw(format, SourceFile("interactions"), SourceFile("items"), malformed=malformed)
    card = replace(load_card("beauty"), raw=raw, filters=steps, protocol=protocol, history_length=3)
    return prepare(card, files.interactions, files.items if titled else None, QUIET)


def by_name(prepared: Contents) -> dict[str, list[tuple[str, list[str], str]]]:
    return named_rows(prepared.splits, ("ann", "bob", "cat"), prepared.item_names)


def content(prepared: Contents) -> tuple[object, ...]:
    """Everything but the report, to the byte."""
    times = (when.tobytes() for when in prepared.times.values())
    return (prepared.fingerprint, *times, prepared.descriptions, prepared.categories)


@pytest.fixture
def files(tmp_path: Path) -> RawFiles:
    return write_raw_files("csv", tmp_path, LOG, TEXTS)


@pytest.mark.parametrize("ratings", [False, True])
@pytest.mark.parametrize("format", FORMATS)
def test_from_raw_files_of_each_format_to_examples(
    tmp_path: Path, format: str, ratings: bool
) -> None:
    files = write_raw_files(format, tmp_path, LOG, TEXTS, ratings=ratings)
    prepared, _ = prepare_files(files, format)
    assert by_name(prepared) == CHRONOLOGICAL
    assert prepared.item_names == ("hose", "rake", "saw")
    assert prepared.titles == ("Hose, 12 inch", "Rake, 12 inch", "Saw, 12 inch")
    if format not in ("yelp", "movielens"):  # which have none
        assert prepared.descriptions == ("A hose.", "A rake.", "A saw.")
    if format != "csv":
        assert prepared.categories == (("Tools", "Hand Tools"),) * 3
    days = [(time // 1000 - FIRST) // DAY for time in prepared.times["train"].tolist()]
    assert days == [2, 2, 3, 3, 3, 4, 5, 6]

    out, _ = prepare_files(files, format, protocol="leave-one-out")
    assert by_name(out) == LEAVE_ONE_OUT


@pytest.mark.parametrize("protocol", ["chronological", "leave-one-out"])
@pytest.mark.parametrize("format", FORMATS)
def test_the_order_of_lines_changes_nothing(tmp_path: Path, format: str, protocol: str) -> None:
    found = set()
    for seed in (None, 1, 2, 3):
        folder = tmp_path / str(seed)
        folder.mkdir()
        files = write_raw_files(format, folder, LOG, TEXTS, shuffle=seed)
        found.add(content(prepare_files(files, format, protocol=protocol)[0]))
    assert len(found) == 1


def test_the_report_by_hand(files: RawFiles) -> None:
    _, report = prepare_files(files)
    assert report.raw == Counts(users=4, items=5, interactions=18)
    assert report.days == ("2014-05-14", "2014-05-23")
    left = [Counts(*n) for n in ((4, 5, 18), (4, 5, 17), (4, 4, 16), (4, 4, 15), (3, 3, 13))]
    removed = {
        "window since 2014-05-15": {"before 2014-05-15": 1},
        "titles longest_title 3": {"item without a title": 1},
        "duplicates keep exact": {"repeats user, item and time": 1},
        "core users 2 items 2": {"user with fewer than 2": 1, "item with fewer than 2": 1},
    }
    assert report.steps == tuple(
        Filtered(step, *counts, reasons)
        for (step, reasons), counts in zip(removed.items(), pairwise(left), strict=True)
    )
    rows = {"train_rows": 8, "valid_rows": 1, "test_rows": 1}
    assert report.counts == {"users": 3, "items": 3, "interactions": 13, **rows}
    assert (report.untitled, report.malformed, report.malformed_examples) == (0, {}, ())
    assert report.files == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (files.interactions, files.items)
    }
    assert report.leaks.found(leaks.USERS, "test", "train") == 1
    assert report.leaks.found(leaks.LATER_TARGETS, "test", "train") == 0
    assert json.loads(json.dumps(asdict(report)))["steps"][3]["after"]["interactions"] == 13

    text = format_report(report)
    assert re.search("core users 2 items 2 +3 +3 +13 +2 ", text)
    assert "user with fewer than 2: 1; item with fewer than 2: 1" in text
    assert max(len(line.rstrip()) for line in text.splitlines()) <= 130
    assert "raw, 2014-05-14 to 2014-05-23" in text
    assert "Malformed" not in text


def test_malformed_lines_are_in_the_report(files: RawFiles) -> None:
    with files.interactions.open("a") as file:
        file.write("eve,rake,yesterday\neve,saw\n")
    with pytest.raises(UserError, match="2 of 20 lines are malformed"):
        prepare_files(files)
    prepared, report = prepare_files(files, malformed=0.1)
    assert by_name(prepared) == CHRONOLOGICAL
    assert report.malformed["interactions.csv"] == {
        "time is not a number": 1,
        "fewer fields than columns": 1,
    }
    shown = [(example.file, example.line) for example in report.malformed_examples]
    assert shown == [("interactions.csv", 20), ("interactions.csv", 21)]
    text = format_report(report)
    assert "interactions.csv" in text and "time is not a number" in text
    assert len(json.loads(json.dumps(asdict(report)))["malformed_examples"]) == 2


def test_without_items_everything_but_titles_works(files: RawFiles) -> None:
    steps = tuple(step for step in STEPS if step.step != "titles")
    prepared, report = prepare_files(files, steps=steps, titled=False)
    assert by_name(prepared) == CHRONOLOGICAL
    assert prepared.titles == prepared.descriptions == ("", "", "")
    assert prepared.categories == ((), (), ())
    assert report.untitled == 3
    assert list(report.files) == ["interactions.csv"]


def test_items_of_something_else_are_refused(tmp_path: Path, files: RawFiles) -> None:
    other = write_raw_files("csv", tmp_path, LOG, {"lamp": ("Lamp", "")}).items
    with pytest.raises(UserError, match=r"has none of the 5 items of .*, such as 'hose'"):
        prepare_files(replace(files, items=other))


def test_two_files_of_one_name_are_refused(tmp_path: Path, files: RawFiles) -> None:
    (tmp_path / "b").mkdir()
    items = files.items.rename(tmp_path / "b" / files.interactions.name)
    with pytest.raises(UserError, match="have one name; rename one of them"):
        prepare_files(replace(files, items=items))


def test_users_too_short_for_the_split_are_left_out_and_reported(files: RawFiles) -> None:
    prepared, report = prepare_files(files, steps=())
    assert report.counts["users"] == 3, "and dan is none of them"
    assert len(prepared.user_names) == 3 and "dan" not in prepared.user_names
    users = {int(user) for part in prepared.splits.values() for user in part.users}
    assert users <= set(range(3))
    (line,) = report.steps
    assert line.removed == {"user with fewer than 2": 1}
    assert (line.step, line.before.users, line.after.users) == ("split", 4, 3)
    assert report.untitled == 1  # the nub


def test_items_are_read_once_and_as_few_as_can_be(
    monkeypatch: pytest.MonkeyPatch, files: RawFiles
) -> None:
    wanted_by_call = []

    def interactions(path: Path, malformed: Malformed, columns: Columns) -> Iterator[Row]:
        yield from ((user, item, seconds * 1000) for user, item, seconds in LOG)

    def items(
        path: Path, wanted: Container[str], malformed: Malformed, columns: Columns
    ) -> Iterator[tuple[str, ItemText]]:
        wanted_by_call.append({name for name in (*TEXTS, "nub") if name in wanted})
        yield from ((name, ItemText(title, "", ())) for name, (title, _) in TEXTS.items())

    monkeypatch.setattr(module, "FORMATS", {"mine": Format(interactions, items)})
    core = (Step("core", users=2, items=2),)
    prepare_files(files, "mine", core)
    assert wanted_by_call == [{"hose", "rake", "saw"}]
    wanted_by_call.clear()
    prepare_files(files, "mine", (*core, Step("titles"), *core, Step("titles", longest_title=9)))
    assert wanted_by_call == [{"hose", "rake", "saw"}]
    wanted_by_call.clear()
    prepare_files(files, "mine", (Step("titles"), *core))
    assert wanted_by_call == [{"hose", "rake", "saw", "pen", "nub"}]


def test_counts_that_are_not_the_cards(files: RawFiles) -> None:
    _, report = prepare_files(files)
    expected = {"users": 3, "items": None, "interactions": 14, "train_rows": 8, "test_rows": 2}
    assert check_counts(report.counts, expected) == [
        "interactions: 13 found, 14 expected (-7.1%)",
        "test_rows: 1 found, 2 expected (-50.0%)",
    ]
    assert check_counts(report.counts, expected, slack=0.08) == [
        "test_rows: 1 found, 2 expected (-50.0%)"
    ]
    assert check_counts(report.counts, {"interactions": 13, "distinct_sids": 9}) == []
    assert check_counts(report.counts, {"valid_rows": 100}, slack=0.99) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"steps": (STEPS[0], Step("window", until="2014-05-15"))},
            f"{WHERE}: key 'filters.2' (window until 2014-05-15) leaves none of 17 interactions: "
            "from 2014-05-15 on: 17",
        ),
        (
            {"steps": (Step("core", items=10),)},
            f"{WHERE}: key 'filters.1' (core items 10) leaves none of 18 interactions: "
            "item with fewer than 10: 18",
        ),
        (
            {"steps": (Step("window", until="2014-05-15"),)},
            f"{WHERE}: key 'protocol' (split) leaves none of 1 interactions: "
            "user with fewer than 2: 1",
        ),
        ({"titled": False}, f"{WHERE}: key 'filters' has the step 'titles', but there are none"),
    ],
)
def test_what_cannot_be_prepared(files: RawFiles, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError) as caught:
        prepare_files(files, **changes)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_split_without_examples_is_refused(tmp_path: Path) -> None:
    """Of three interactions leave-one-out leaves nothing to train on."""
    files = write_raw_files("csv", tmp_path, bought("ann", hose=1, rake=2, saw=3), TEXTS)
    with pytest.raises(UserError, match="the leave-one-out split leaves no train rows: 3"):
        prepare_files(files, steps=(), protocol="leave-one-out")


@pytest.mark.parametrize("missing", ["interactions", "items"])
def test_a_missing_file_is_named_before_anything_is_read(files: RawFiles, missing: str) -> None:
    path: Path = getattr(files, missing)
    path.unlink()
    with pytest.raises(UserError) as caught:
        prepare_files(files)
    assert str(caught.value) == f"{path} is missing"


def test_nothing_heavy_is_imported() -> None:
    """Two gigabytes have to do for five million reviews; torch alone takes a good part of one."""
    code = (
        "import sys, genrec_bench.data.preparation.prepare\n"
        "print(*sorted({'torch', 'transformers', 'sklearn', 'mlflow'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
