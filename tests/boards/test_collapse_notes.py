"""A board names the rows whose policies collapsed while they trained."""

from board_world import GOOD, whole

from genrec_bench.boards.sections import make_board


def test_a_collapse_is_told_by_row_and_seed() -> None:
    records = [
        whole("grpo", GOOD, looks=(0.2, 0.21, 0.22, 0.21)),
        whole("ugr", GOOD, looks=(0.2, 0.15, 0.10, 0.12)),
        whole("ugr", GOOD, 1, looks=(0.2, 0.2, 0.2, 0.2)),
    ]
    (section,) = make_board(records, "industrial").sections
    assert [note for note in section.notes if "collapsed" in note] == [
        "ugr collapsed in 1 of 2 runs. seed 0: NDCG@10 of looks fell from 0.2 (at 0% of the "
        "training) to 0.12."
    ]
