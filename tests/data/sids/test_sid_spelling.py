import numpy as np
import pytest

from genrec_bench.data.sids.sid_spelling import parse_sid, spelled_sids, zero_based
from genrec_bench.errors import UserError


@pytest.mark.parametrize(
    "value",
    [
        [12, 3],
        (12, 3),
        [12.0, 3.0],
        np.array([12, 3]),
        ["12", "3"],
        ["<a_12>", "<b_3>"],
        ["<|sid_begin|>", "<s_a_12>", "<s_b_3>", "<|sid_end|>"],
        "<a_12><b_3>",
        "<a_12> <b_3>",
        "['<a_12>', '<b_3>']",
        "<A12><B3>",
        "<a-12><b-3>",
        "<|a_12|><|b_3|>",
        "<|sid_0_12|><|sid_1_3|>",
        "<|sid_1_12|><|sid_2_3|>",
        "<|sid_begin|><s_a_12><s_b_3><|sid_end|>",
        "<C0_12><C1_3>",
        "<L1:12><L2:3>",
        "<sid_12><sid_3>",
        "<12><3>",
        "[12, 3]",
        "(12,3)",
        "12-3",
        "12,3",
        "12 3",
        "12_3",
        "12|3",
        "a_12 b_3",
        "a12b3",
        "a_12_b_3",
        "level0_12-level1_3",
        "sid_0_12 sid_1_3",
    ],
    ids=str,
)
def test_a_sid_is_read_in_any_spelling(value: object) -> None:
    assert parse_sid(value, 2, "here") == (12, 3)


def test_a_number_by_itself_is_one_level_and_there_may_be_many() -> None:
    assert parse_sid(7, 1, "here") == (7,)
    assert parse_sid(["<a_0>", "<b_10>", "<c_2>", "<d_3>", "<e_4>"], 5, "here") == (0, 10, 2, 3, 4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["<a_x>", "<b_1>"], "SID token '<a_x>' is not of the form"),
        (["<a_01>", "<b_1>"], "SID token '<a_01>' is not of the form"),
        (["<b_1>", "<a_1>"], "SID token '<b_1>' stands where level 'a' belongs"),
        ("<b_1><a_1>", "SID token 'b' stands where level 'a' belongs"),
        ([3, "<b_1>"], "some tokens name their level, some do not"),
        (["<a_1>"], "SID has 1 levels, not 2"),
        ("1-2-3", "SID has 3 levels, not 2"),
        ("<sid_1_1><sid_1_2>", "has 'sid_1' in place 2"),
        ("<sid_2_1><sid_3_2>", "has 'sid_2' in place 1"),
        ("1-2,3", "SID token '1-2,3' is not of the form"),
        ("1.5-2", "SID token '1.5-2' is not"),
        ("<a_1>x<b_2>", "SID token '<a_1>x<b_2>' is not"),
        ([1, -2], "SID code -2 is negative"),
        ([1.5, 2], "SID token 1.5 is not"),
        ([True, 1], "SID token True is not"),
        ([[1, 2], [3, 4]], r"SID token \[1, 2\] is not"),
        ([1, 65536], "codes must be below 65536"),
        ({"a": 1}, "is not of the form"),
        (None, "None is no SID"),
        ("", "the SID is empty"),
        ([0] * 27, "27 levels, more than 26"),
    ],
    ids=str,
)
def test_what_is_no_sid_is_named(value: object, message: str) -> None:
    with pytest.raises(UserError, match=f"^here: .*{message}"):
        parse_sid(value, 2, "here")


@pytest.mark.parametrize(
    ("codes", "declared", "right", "told"),
    [
        ([[0, 1], [3, 0]], (4, 4), [[0, 1], [3, 0]], ""),
        ([[1, 2], [4, 1]], (4, 4), [[0, 1], [3, 0]], "count from 1"),
        ([[1, 2], [3, 1]], (4, 4), [[1, 2], [3, 1]], ""),
        ([[0, 5], [3, 4]], (4, 4), [[0, 1], [3, 0]], "0, 4 is taken off"),
        ([[1, 6], [4, 5]], (4, 4), [[0, 1], [3, 0]], "1, 5 is taken off"),
        ([[0, 257], [255, 256]], (4, 4, 4), [[0, 1], [255, 0]], "0, 256 is taken off"),
        ([[0, 300], [255, 511]], (256, 256), [[0, 44], [255, 255]], "0, 256 is taken off"),
        ([[0, 9], [3, 8]], (4, 4), [[0, 1], [3, 0]], "0, 8 is taken off"),
    ],
)
def test_codes_count_from_0_on_each_level(
    codes: list[list[int]], declared: tuple[int, ...], right: list[list[int]], told: str
) -> None:
    found, notes = zero_based(np.array(codes), declared)
    assert found.tolist() == right
    assert told in " ".join(notes) and bool(notes) == bool(told)


def test_what_was_understood_is_told_by_the_first_sid() -> None:
    spelled = [("item 0", "<|sid_0_12|><|sid_1_3|>"), ("item 1", "<|sid_0_0|><|sid_1_1|>")]
    read = spelled_sids(spelled, (16, 16))
    assert read.codes.tolist() == [[12, 3], [0, 1]]
    assert read.notes == ("SIDs are read so: <|sid_0_12|><|sid_1_3|> has the codes 12, 3",)
    with pytest.raises(UserError, match="item 1: SID has 3 levels, not 2"):
        spelled_sids([("item 0", "1-2"), ("item 1", "1-2-3")], (16, 16))
