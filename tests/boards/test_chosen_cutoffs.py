"""Runs that were asked for other list lengths: recomputed, verified and shown at these."""

import copy
import re

import pytest
from board_world import GOOD, whole

from genrec_bench.boards.csv_table import to_csv
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import to_markdown
from genrec_bench.boards.verify import verify
from genrec_bench.training.metrics import outcome_metrics

KS = (2, 7, 10)


def asked(algorithm: str = "ugr", seed: int = 0) -> Evidence:
    """A record with metrics at K = 2, 7 and 10; beam 10."""
    one = whole(algorithm, GOOD, seed)
    record = copy.deepcopy(one.record) | {"cutoffs": list(KS)}
    for key, prefix in (("metrics", ""), ("sft", "start_")):
        for split in ("valid", "test"):
            rows = one.of_split(split)
            record[key][split] = outcome_metrics(rows, 10, 2, prefix, KS)
    return Evidence(record, one.outcomes, one.curves)


def test_figures_are_those_that_were_asked_for_and_hold() -> None:
    """Ranks 0, 1, 3, 0, miss, 2: three of six hit at 2, five at 7."""
    one = asked()
    figures = one.record["metrics"]["test"]
    assert figures["HR@2"] == pytest.approx(3 / 6) and figures["HR@7"] == pytest.approx(5 / 6)
    assert {name for name in figures if name.startswith("HR@")} == {"HR@2", "HR@7", "HR@10"}
    assert verify(one).findings == ()
    one.record["metrics"]["test"]["HR@7"] = 0.9
    assert [finding.key for finding in verify(one).findings] == ["metrics.test.HR@7"]
    other = asked()
    del other.record["metrics"]["test"]["HR@2"]
    assert [finding.key for finding in verify(other).findings] == ["metrics.test.HR@2"]


def test_a_board_shows_them_beside_its_own() -> None:
    """HR@5 and HR@1 were not asked for, and follow from the outcomes all the same."""
    made = make_board([asked(seed=seed) for seed in range(2)], "industrial")
    row = next(row for row in made.sections[0].rows if row.name == "ugr")
    assert row.means["HR@2"] == pytest.approx(3 / 6) and row.means["HR@5"] == pytest.approx(5 / 6)
    assert "HR@3" not in row.means
    start = made.sections[0].rows[0]
    assert start.kind == "start" and start.means["HR@2"] == pytest.approx(2 / 6)
    assert ",test/HR@7," in to_csv(made)
    assert re.search(r"\| +HR@2 \| +HR@7 \|", to_markdown(made))


def test_rows_with_other_lengths_stand_beside_each_other() -> None:
    """Lengths are no part of the track, nor of what makes a row."""
    made = make_board([asked(seed=0), whole("ugr", GOOD, 1)], "industrial")
    (section,) = made.sections
    row = next(row for row in section.rows if row.name == "ugr")
    assert row.seeds == (0, 1)
    assert row.means["HR@2"] == pytest.approx(3 / 6), "the other's outcomes tell it too"
