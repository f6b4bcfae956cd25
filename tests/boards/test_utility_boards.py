"""What a world knows of each list: kept with the outcomes, verified, tested beside NDCG@10."""

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from board_world import BEST, GOOD, whole

from genrec_bench.boards.board import RANKED, Board
from genrec_bench.boards.claims import Claim, Tried, verdict_cells, world_cells
from genrec_bench.boards.csv_table import to_csv
from genrec_bench.boards.evidence import Evidence
from genrec_bench.boards.html_page import to_html
from genrec_bench.boards.paper import to_latex
from genrec_bench.boards.rows import user_values
from genrec_bench.boards.sections import make_board
from genrec_bench.boards.tables import to_markdown, to_text
from genrec_bench.boards.verdict import verdict
from genrec_bench.boards.verify import verify
from genrec_bench.boards.verify_together import verify_together
from genrec_bench.runs.record_tables import is_outcomes
from genrec_bench.runs.records import join_outcomes

AFTER = (0.5, 0.75, 0.25, 0.5, 1.0, 0.0)
BEFORE = (0.25, 0.5, 0.25, 0.25, 0.5, 0.25)
BEST_LIST = 0.875
"""Mean worth of the best lists of ten."""


def worldly(
    algorithm: str,
    ranks: tuple[int, ...],
    worth: tuple[float, ...] = AFTER,
    seed: int = 0,
    *,
    keeps: bool = True,
    **changes: Any,
) -> Evidence:
    """A record of a world; one of an earlier version does not keep what each list is worth."""
    one = whole(algorithm, ranks, seed, seed, **changes)
    outcomes, record = one.outcomes.copy(), copy.deepcopy(one.record)
    if keeps:
        count = len(outcomes) // len(worth)
        outcomes["utility@10"] = np.tile(np.array(worth, dtype=np.float32), count)
        outcomes["start_utility@10"] = np.tile(np.array(BEFORE, dtype=np.float32), count)
    for key, values in (("metrics", worth), ("sft", BEFORE)):
        for split in ("valid", "test"):
            mean = float(np.mean(values))
            record[key][split] |= {"utility@10": mean, "regret@10": BEST_LIST - mean}
    return Evidence(record, outcomes, one.curves)


def board(*, keeps: bool = True) -> Board:
    """Two algorithms and SFT continued, three seeds each; only `grpo` has better lists."""
    generator = np.random.default_rng(0)
    records = []
    for seed in range(3):
        for name, gain in (("grpo", 0.25), ("ugr", 0.0), ("sft", 0.0)):
            noise = generator.normal(0, 0.001, 6)
            worth = tuple((np.array(BEFORE) + gain + noise).astype(np.float32).tolist())
            one = worldly(name, GOOD, worth, seed, keeps=keeps)
            if name == "sft":
                phases = one.record["budget"]["spent"]
                one.record["budget"]["spent"] = {
                    key: value for key, value in phases.items() if key != "rollout"
                }
            records.append(one)
    return make_board(records, "industrial")


def test_a_metric_is_the_mean_of_what_is_kept() -> None:
    one = worldly("grpo", GOOD)
    assert verify(one).findings == ()
    assert user_values([one, one], "utility@10") == pytest.approx(np.array([AFTER, AFTER]))
    assert user_values([one], "utility@10", "start_") == pytest.approx(np.array([BEFORE]))


@pytest.mark.parametrize(
    ("key", "metric", "by"),
    [
        ("metrics", "utility@10", 0.01),
        ("sft", "utility@10", 0.01),
        # The worth of the best list is the same for a run and its start.
        ("metrics", "regret@10", 0.01),
    ],
)
def test_a_figure_that_was_changed_is_found(key: str, metric: str, by: float) -> None:
    one = worldly("grpo", GOOD)
    one.record[key]["test"][metric] += by
    assert f"{key}.test.{metric}" in {finding.key for finding in verify(one).findings}


def test_records_of_earlier_versions_stay_valid() -> None:
    one = worldly("grpo", GOOD, keeps=False)
    assert verify(one).findings == ()
    assert user_values([one], "utility@10") is None
    made = board(keeps=False)
    section = made.sections[0]
    assert section.ranked == RANKED and "utility@10" not in section.pairs
    assert section.rows[1].means["utility@10"] > 0, "its mean is shown all the same"
    assert not any("By utility@10" in text for text in verdict(made, section))


def test_rows_are_told_apart_by_what_their_lists_are_worth() -> None:
    """All ranks are equal here, so that nothing can be told by them."""
    made = board()
    section = made.sections[0]
    assert section.ranked == (*RANKED, "utility@10")
    assert not any(pair.distinct for pair in section.declared["NDCG@10"])
    (gain,) = [
        pair
        for pair in section.declared["utility@10"]
        if (pair.first, pair.second) == ("grpo", "sft")
    ]
    assert gain.distinct and gain.difference == pytest.approx(0.25, abs=0.002)
    assert gain.interval.low == pytest.approx(0.25, abs=0.01)
    told = [text for text in verdict(made, section) if text.startswith("By utility@10")]
    assert len(told) == 1 and "grpo beats both the SFT start and SFT continued" in told[0]
    assert "ugr is not told apart from either" in told[0]
    assert verdict(made, section)[0].startswith("No algorithm was shown"), "NDCG@10 decides"


def test_all_forms_of_a_board_show_it() -> None:
    made = board()
    markdown, page, csv = to_markdown(made), to_html(made), to_csv(made)
    assert (
        "| gain in utility@10" in markdown and "### Declared comparisons by utility@10" in markdown
    )
    assert "gain in utility@10" in to_text(made)
    assert page.count("utility@10, 95% interval") == 2
    assert ",pair/utility@10," in csv and ",test/utility@10," in csv
    assert "NDCG@10, HR@10 and utility@10, and rank" in to_latex(made)


def test_which_columns_outcomes_may_have() -> None:
    table = worldly("grpo", BEST).outcomes
    names = list(table.columns)
    assert is_outcomes(names) and is_outcomes([*names, "tail"])
    assert not is_outcomes([*names, "names"]) and not is_outcomes(names[1:])
    plain = table.drop(columns=[name for name in names if name.startswith("start_")])
    by_split = {"test": plain[plain["split"] == "test"].drop(columns="split")}
    joined = join_outcomes(by_split, by_split)
    assert list(joined.columns)[-2:] == ["utility@10", "start_utility@10"]
    assert joined["utility@10"].dtype == np.float32
    assert joined["utility@10"].tolist() == list(AFTER)
    assert is_outcomes(list(joined.columns))


def test_records_of_one_dataset_have_one_long_tail() -> None:
    tail = np.array([True, False] * 6)
    one, other, earlier = worldly("grpo", GOOD), worldly("ugr", GOOD), worldly("sft", GOOD)
    for each, values in ((one, tail), (other, ~tail)):
        each.outcomes["tail"] = values
    assert verify_together([one, one, earlier]) == []
    assert [finding.key for finding in verify_together([one, other])] == [
        "outcomes: valid: tail",
        "outcomes: test: tail",
    ]


def test_the_hit_rate_of_the_long_tail_is_recomputed() -> None:
    """Ranks 0, 1, 3, 0, miss, 2: of the targets 1, 4 and 5 in the tail, two are hits.

    The start has them at miss, 12 and 1.
    """
    one = worldly("grpo", GOOD)
    table = one.outcomes
    table["tail"] = pd.Series(table["example"].isin([1, 4, 5]))
    for key, hits in (("metrics", 2 / 3), ("sft", 1 / 3)):
        one.record[key]["test"]["tail_HR@10"] = hits
        # In reverse order they have the ranks miss, 1 and 0; of the start 12, miss and 0.
        one.record[key]["valid"]["tail_HR@10"] = hits
    assert verify(one).findings == ()
    one.record["metrics"]["test"]["tail_HR@10"] = 0.9
    assert "metrics.test.tail_HR@10" in {finding.key for finding in verify(one).findings}


def test_the_page_of_claims_judges_by_it_too_and_ndcg_decides() -> None:
    claim = Claim("grpo", "synthetic-feedback", "answers teach", over=("control",))
    tried = Tried(claim, board())
    heads, lines = verdict_cells([tried])
    first, second = (dict(zip(heads, line, strict=True)) for line in lines)
    assert first["by"] == "NDCG@10" and first["verdict"].startswith("open: not told apart from SFT")
    assert second["by"] == "utility@10" and second["verdict"] == "holds: above SFT continued"
    assert tried.verdict.word == "open"
    heads, lines = world_cells(tried.board.sections[0] if tried.board else pytest.fail())
    assert "utility@10 over SFT continued" in heads
    row = next(line for line in lines if line[0] == "grpo")
    assert row[heads.index("utility@10 over SFT continued")].endswith("*")


def test_a_claim_is_judged_where_its_row_was_compared() -> None:
    """The first section may hold others, or none that the claim's row was compared with."""
    made = board()
    (judging,) = made.sections
    rows = tuple(row for row in judging.rows if row.algorithm != "grpo")
    other = replace(judging, rows=rows, track_id="other")
    claim = Claim("grpo", "synthetic-feedback", "answers teach", over=("control",))
    for sections in ((other, judging), (judging, other), (judging, judging)):
        assert Tried(claim, replace(made, sections=sections)).section is judging
    assert Tried(claim, replace(made, sections=(other,))).section is other
    assert Tried(claim, replace(made, sections=())).section is None


def test_of_sections_that_judge_a_claim_the_one_with_most_seeds_does() -> None:
    made = board()
    (judging,) = made.sections
    rows = tuple(
        replace(row, seeds=(*row.seeds, 98, 99)) if row.kind == "result" else row
        for row in judging.rows
    )
    more = replace(judging, rows=rows, track_id="more")
    claim = Claim("grpo", "synthetic-feedback", "answers teach", over=("control",))
    for sections in ((judging, more), (more, judging)):
        assert Tried(claim, replace(made, sections=sections)).section is more
