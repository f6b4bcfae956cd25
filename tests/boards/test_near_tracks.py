"""Tracks that miss each other by one thing say by which."""

from board_world import TRACK, bare

from genrec_bench.boards.board import Section
from genrec_bench.boards.sections import make_board


def notes(*tracks: dict[str, object], versions: tuple[str, ...] = ("0.4", "0.4")) -> list[str]:
    records = [
        bare("ugr", 0.1, minutes=place, track=TRACK | track, benchmark=version)
        for place, (track, version) in enumerate(zip(tracks, versions, strict=True))
    ]
    sections: tuple[Section, ...] = make_board(records, "industrial").sections
    return [note for one in sections for note in one.notes if "differs from this one" in note]


def test_two_starts_of_one_configuration_say_how_to_share_one() -> None:
    first, second = notes({"sft": "a" * 64}, {"sft": "b" * 64})
    assert "only in `sft`: " in first and "sft export" in first
    assert {first.partition(": ")[2][:8], second.partition(": ")[2][:8]} == {"a" * 8, "b" * 8}


def test_any_single_thing_is_named_and_a_thing_that_one_lacks() -> None:
    (first, _) = notes({"beam_width": 20}, {"beam_width": 50})
    assert "only in `beam_width`: " in first and "sft export" not in first
    (first, _) = notes({}, {"keep": "best"})
    assert "only in `keep`" in first


def test_two_differences_or_two_versions_are_no_near_miss() -> None:
    assert not notes({"sft": "a" * 64}, {"sft": "b" * 64, "beam_width": 50})
    assert not notes({"sft": "a" * 64}, {"sft": "b" * 64}, versions=("0.3", "0.4"))
