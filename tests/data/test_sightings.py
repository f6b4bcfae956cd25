"""What an import says at once: copies, ties, collapsed and wasted codes, shifted indices."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from genrec_bench.data.agreement import agreements
from genrec_bench.data.cards import load_card
from genrec_bench.data.dataset import Contents
from genrec_bench.data.importers import import_contents
from genrec_bench.data.preparation.interactions import Interactions
from genrec_bench.data.preparation.leaks import find_leaks
from genrec_bench.data.sightings import code_lines, copy_lines, log_lines, seen, tie_lines
from genrec_bench.data.synthetic import generate


@pytest.fixture(scope="module")
def world() -> Contents:
    """600 items whose titles and SIDs say the same, and users who stay within categories."""
    return generate(load_card("synthetic"))


def lines_of(contents: Contents, sids: NDArray[np.int32] | None) -> list[str]:
    return [one.told() for one in agreements(contents, sids)]


def rolled(texts: Sequence[str], by: int) -> tuple[str, ...]:
    return tuple(texts[-by:]) + tuple(texts[:-by])


def test_files_of_the_same_items_agree(world: Contents) -> None:
    lines = lines_of(world, world.sids)
    assert len(lines) == 3 and not any("warning" in line for line in lines)
    assert lines[0].startswith("items with the most alike words share of their SIDs 0.6")


@pytest.mark.parametrize("by", [1, -1])
def test_sids_counted_from_another_number_are_seen(world: Contents, by: int) -> None:
    assert world.sids is not None
    lines = lines_of(world, np.roll(world.sids, by, axis=0))
    assert lines[0].startswith("warning: items with the most alike words")
    assert lines[0].endswith("if all are moved by one place: is one of the files counted from "
                             "another number?")  # fmt: skip


@pytest.mark.parametrize("by", [1, -1])
def test_titles_counted_from_another_number_are_seen(world: Contents, by: int) -> None:
    moved = dataclasses.replace(world, titles=rolled(world.titles, by))
    lines = lines_of(moved, world.sids)
    assert "warning" in lines[0] and "moved by one place" in lines[0]
    assert "warning" not in lines[1], "SIDs and sequences are of the same items"


def test_sids_of_other_items_agree_as_chance_does(world: Contents) -> None:
    assert world.sids is not None
    other = np.random.default_rng(0).permutation(world.sids)
    for line in lines_of(world, other)[:2]:
        assert line.startswith("warning: ") and "that is what chance gives" in line


def test_nothing_is_said_of_what_is_too_little_to_tell(world: Contents) -> None:
    few = dataclasses.replace(
        world,
        item_names=world.item_names[:20],
        titles=world.titles[:20],
        descriptions=(),
        categories=(),
        splits={name: part.subset([]) for name, part in world.splits.items()},
    )
    assert lines_of(few, np.zeros((20, 3), dtype=np.int32)) == []


def grid(*shape: int, items: int) -> NDArray[np.int32]:
    return np.stack(np.unravel_index(np.arange(items) % np.prod(shape), shape), axis=1).astype("i4")


@pytest.mark.parametrize(
    ("sids", "codes", "told"),
    [
        (grid(5, 17, 1, items=3459), (256, 256, 256), "collapse: 85 distinct SIDs for 3,459 items"),
        (grid(1, 1, 100, items=100), (8, 8, 100), "level 1 of the SIDs collapses: 1 of 8 codes"),
        (grid(16, 1, 40, items=640), (16, 16, 40), "level 2 of the SIDs collapses: 1 of 16 codes"),
        (grid(120, 1, 1, items=120), (256, 256, 256), "wasted: 256 first codes for 120 items"),
        (grid(10, 12, items=120), (64, 64), "wasted: 64 first codes for 120 items"),
        (grid(8, 8, 8, items=400), (8, 8, 8), ""),
        (grid(16, 16, 16, items=3000), (16, 16, 16), ""),
        (grid(256, 15, 1, items=3840), (256, 15, 1), ""),
    ],
)
def test_codebooks_that_collapse_and_codes_that_are_wasted(
    sids: NDArray[np.int32], codes: tuple[int, ...], told: str
) -> None:
    lines = code_lines(sids, codes)
    assert all(line.startswith("warning: ") for line in lines)
    assert told in "\n".join(lines) and bool(lines) == bool(told)


def log(*rows: tuple[str, str, int]) -> Interactions:
    return Interactions.gather(rows)


TIED = [("u", "a", 1), ("u", "b", 2), ("u", "c", 2), ("v", "a", 1), ("v", "b", 1), ("v", "c", 3)]


def test_exact_copies_in_a_log_are_counted() -> None:
    twice = log(*TIED, TIED[0], TIED[0])
    (line,) = log_lines(twice, drops_copies=False)
    assert line.startswith("2 of 8 interactions repeat user, item and time of another; the step")
    assert log_lines(twice, drops_copies=True) == [line.partition(";")[0]]
    assert log_lines(log(*TIED), drops_copies=False) == []


def test_ties_in_time_that_decide_a_target_are_counted() -> None:
    (line,) = tie_lines(log(*TIED), "leave-one-out")
    assert line.startswith("warning: 1 of 2 users have their last two interactions at one time")
    (line,) = tie_lines(log(*TIED), "chronological")
    assert line.startswith("warning: 2 of 6 interactions have the time of the user's one before")
    assert tie_lines(log(*TIED[:2], *TIED[5:]), "leave-one-out") == []


def test_copies_and_equal_splits_are_told(world: Contents) -> None:
    splits = {**world.splits, "test": world.splits["valid"]}
    lines = copy_lines(splits, find_leaks(splits))
    assert lines[0].startswith("rows that repeat history and target of another: ")
    told = "warning: 1,876 of 1,876 test rows are in valid too, with the same history and target"
    assert any(line.startswith(told) for line in lines)
    plain = copy_lines(world.splits, find_leaks(world.splits))
    assert not any("warning" in line for line in plain)
    train = world.splits["train"]
    moved = dataclasses.replace(train, users=train.users + 10_000)
    users = np.concatenate([train.users, moved.users])
    rows = np.tile(np.arange(len(train)), 2)
    both = {**world.splits, "train": dataclasses.replace(train.subset(rows), users=users)}
    lines = copy_lines(both, find_leaks(both))
    assert any("users with 5 items or more have the items of another user" in x for x in lines)


def test_an_import_prints_what_it_saw(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    sequences = {str(user): rng.integers(0, 40, 6).tolist() for user in range(30)}
    index = {str(item): [0, 0, 0, item % 3] for item in range(40)}
    (tmp_path / "Beauty.inter.json").write_text(json.dumps(sequences))
    (tmp_path / "Beauty.index.json").write_text(json.dumps(index))
    contents, _ = import_contents("lcrec", tmp_path, load_card("beauty"))
    told = "\n".join(contents.report["notes"])
    assert "warning: items: 40, and the card expects 12,101" in told
    assert "warning: users: 30, and the card expects 22,363" in told
    assert "warning: the codebooks collapse: 3 distinct SIDs for 40 items" in told
    assert "warning: codes are wasted: 256 first codes for 40 items" in told
    assert "items taken one after the other share of their SIDs" in told
    assert [*seen(contents, find_leaks(contents.splits))] == contents.report["notes"][1:]
