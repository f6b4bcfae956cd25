"""Runs that are judged on a draw of the examples: the same draw for all, marked, and verified."""

import copy

import numpy as np
import pytest
from tiny_runs import Bench, record_and_curves, tiny_dataset

from genrec_bench.boards.evidence import Evidence, read_evidence
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.verify import verify
from genrec_bench.boards.verify_together import verify_together
from genrec_bench.data.dataset import Examples
from genrec_bench.training.evaluate import judged
from genrec_bench.training.settings import Settings


def as_rows(examples: Examples) -> list[tuple[int, int, tuple[int, ...]]]:
    return [
        (int(examples.users[row]), int(examples.targets[row]), tuple(examples.history(row)))
        for row in range(len(examples))
    ]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_draw_is_a_part_of_the_split_and_always_the_same(split: str) -> None:
    dataset = tiny_dataset()
    whole = as_rows(dataset.splits[split])
    some = as_rows(judged(dataset, split, Settings(test_examples=5)))
    assert len(some) == 5 and some != whole[:5]
    places = [whole.index(row) for row in some]
    assert places == sorted(places)
    for more in (Settings(test_examples=5, beam_width=7), Settings(test_examples=5, sft_seed=3)):
        assert as_rows(judged(dataset, split, more)) == some
    for no_draw in (0, len(whole), len(whole) + 1):
        assert as_rows(judged(dataset, split, Settings(test_examples=no_draw))) == whole


def altered(one: Evidence, key: str, value: int) -> Evidence:
    record = copy.deepcopy(one.record)
    place = record["track"] if key == "track" else record["configuration"]["settings"]
    place["test_examples"] = value
    return Evidence(record, one.outcomes, one.curves, one.path)


def test_a_quick_look_is_marked_verified_and_on_a_track_of_its_own(bench: Bench) -> None:
    few, all_of = bench.run("grpo", "test_examples=5"), bench.run("sft")
    record, whole = record_and_curves(few)[0], record_and_curves(all_of)[0]
    assert record["track"]["test_examples"] == 5 and "test_examples" not in whole["track"]
    assert record["track_id"] != whole["track_id"]
    assert record["fingerprints"]["sft"] == whole["fingerprints"]["sft"], "the same SFT start"
    evidence, other = (read_evidence(folder / "record.json") for folder in (few, all_of))
    assert {len(evidence.of_split(split)) for split in ("valid", "test")} == {5}
    # The start was ranked on the same examples, and not taken from its evaluation on all of them.
    rows = evidence.of_split("test")
    dataset = tiny_dataset()
    examples = judged(dataset, "test", Settings(test_examples=5))
    everyone = other.of_split("test")["start_item_rank"].to_numpy()
    places = [as_rows(dataset.test).index(row) for row in as_rows(examples)]
    assert np.array_equal(rows["start_item_rank"].to_numpy(), everyone[places])

    assert not verify(evidence).findings and not verify_together([evidence, other])
    found = {f.key for f in verify(altered(evidence, "track", 50)).findings}
    assert "track.test_examples" in found
    found = {f.key for f in verify(altered(evidence, "settings", 3)).findings}
    assert {"track.test_examples", "outcomes: test"} <= found
    assert verify_together([other, Evidence(whole, rows, other.curves, other.path)])
    board = make_board([evidence, other], evidence.record["dataset"])
    notes = {bool(section.track.get("test_examples")): section.notes for section in board.sections}
    assert any("at most 5 examples of each split" in note for note in notes[True])
    assert not any("examples of each split" in note for note in notes[False])
