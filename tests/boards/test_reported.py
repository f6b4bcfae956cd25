"""Published figures: as printed, apart from ours, and every mistake in the file is named."""

import pytest

from genrec_bench.boards.reported import Reported, load_reported, parse_reported
from genrec_bench.errors import UserError

LINE = "{dataset: d, algorithm: a, metrics: {HR@10: 0.5}}"


def text(*rows: str, table: str = "Table 1", setting: str = "s") -> str:
    body = "".join(f"\n      - {row}" for row in rows)
    return f"tables:\n  - paper: P\n    table: {table}\n    setting: {setting}\n    rows:{body}"


def by_line(dataset: str) -> dict[tuple[str, str, str], Reported]:
    return {(one.paper, one.table, one.algorithm): one for one in load_reported(dataset)}


def test_figures_are_those_of_the_papers() -> None:
    industrial = by_line("industrial")
    assert industrial["UGR", "Table 1", "UGR"].metrics["NDCG@10"] == 0.1033
    assert industrial["UGR", "Table 2", "SFT only"].metrics["HR@10"] == 0.1378
    assert industrial["UGR", "Table 2", "GRPO, reward 0 or 1"].metrics["HR@10"] == 0.1303
    assert industrial["V-STAR", "Table 1", "V-STAR"].metrics["NDCG@10"] == 0.1217
    assert industrial["V-STAR", "Table 1", "MiniOneRec"].metrics["HR@3"] == 0.1143
    assert by_line("office")["V-STAR", "Table 1", "V-STAR"].metrics["HR@10"] == 0.1746
    beauty = by_line("beauty")
    assert beauty["GREAM", "Table 2", "GREAM with SRPO (RL)"].metrics["Pass@1"] == 0.0137
    assert by_line("instruments").keys() == beauty.keys()
    assert load_reported("synthetic") == ()


def test_one_algorithm_has_one_figure_wherever_a_paper_repeats_it() -> None:
    for dataset in ("industrial", "office"):
        lines = by_line(dataset)
        first = lines["UGR", "Table 1", "UGR"].metrics
        again = lines["UGR", "Table 2", "UGR"].metrics
        assert {name: first[name] for name in again} == dict(again)


@pytest.mark.parametrize("dataset", ["industrial", "office", "beauty", "instruments"])
def test_longer_lists_find_more(dataset: str) -> None:
    """A slip of the pen while copying would most likely break this order."""
    for line in load_reported(dataset):
        for kind in ("HR", "NDCG", "Pass"):
            known = sorted(
                (int(name.partition("@")[2]), value)
                for name, value in line.metrics.items()
                if name.startswith(f"{kind}@")
            )
            values = [value for _, value in known]
            assert values == sorted(values), line
        for k in (1, 3, 5, 10):
            if f"NDCG@{k}" in line.metrics:
                assert line.metrics[f"NDCG@{k}"] <= line.metrics[f"HR@{k}"], line


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (text(LINE, LINE), "f.yaml: P, Table 1, d, a: is there twice"),
        (text(LINE.replace("0.5", "50")), "rows.1.metrics.HR@10' must be between 0 and 1, not 50"),
        (
            text(LINE.replace("HR@10", "Recall@10")),
            "metrics.Recall@10' must be called HR@K, NDCG@K or Pass@K",
        ),
        (text(LINE.replace("HR@10: 0.5", "")), "must be a mapping with at least one figure"),
        (text(LINE, setting="''"), "key 'tables.1.setting' must be text that is not empty"),
    ],
)
def test_mistakes_are_named(content: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        parse_reported(content, "f.yaml")
    assert message in str(error.value) and str(error.value).startswith("f.yaml")
