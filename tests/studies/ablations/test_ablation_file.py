"""Ablations as files: those of papers, one of one's own, and files that are wrong."""

import json
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml

from genrec_bench.errors import UserError
from genrec_bench.runs.jobs import split_words
from genrec_bench.runs.registry import find
from genrec_bench.studies.ablations.ablation_file import (
    AblationRow,
    Metric,
    ablation_names,
    load_ablation,
)
from genrec_bench.training.hyperparameters import field_types, from_words
from genrec_bench.training.settings import SETTING_NAMES


def all_rows(name: str) -> list[tuple[str, AblationRow]]:
    _, ablation = load_ablation(name)
    return [
        (row.algorithm or ablation.algorithm, row)
        for table in ablation.tables
        for row in table.rows
        if not row.sft
    ]


def test_the_papers_ablations_are_here() -> None:
    assert ablation_names() == ["srpo", "ugr", "vstar"]
    shapes = {}
    for name in ablation_names():
        _, ablation = load_ablation(name)
        for table in ablation.tables:
            shapes[name, table.name] = (len(table.rows), [m.name for m in table.metrics])
            assert all(row.published for row in table.rows)
    assert shapes == {
        ("ugr", "2"): (6, ["HR@5", "HR@10", "NDCG@5", "NDCG@10"]),
        ("srpo", "3"): (4, ["Avg Direct", "Avg Pass"]),
        ("vstar", "2"): (3, ["NDCG@10", "HR@10"]),
        ("vstar", "3"): (3, ["NDCG@10", "HR@10"]),
        ("vstar", "4"): (3, ["NDCG@10", "HR@10"]),
    }


@pytest.mark.parametrize(
    ("name", "table", "label", "dataset", "figures"),
    [
        ("ugr", "2", "(a) SFT start", "yelp", (0.0264, 0.0423, 0.0165, 0.0217)),
        ("ugr", "2", "(b3) GRPO, uncertainty reward", "office", (0.1349, 0.1522, 0.1137, 0.1193)),
        ("ugr", "2", "(d) UGR, c with confidence", "industrial", (0.1179, 0.1393, 0.0965, 0.1033)),
        ("srpo", "3", "+ residual-sensitive reward", "instruments", (0.0891, 0.0724)),
        ("vstar", "2", "top-K sampling", "industrial", (0.1090, 0.1538)),
        ("vstar", "3", "H(s) alone", "office", (0.1259, 0.1688)),
        ("vstar", "4", "Sibling-GRPO", "office", (0.1335, 0.1749)),
    ],
)
def test_published_figures_are_the_papers(
    name: str, table: str, label: str, dataset: str, figures: tuple[float, ...]
) -> None:
    _, ablation = load_ablation(name)
    (chosen,) = ablation.only([table]).tables
    (row,) = [row for row in chosen.rows if row.label == label]
    assert row.published[dataset] == figures


@pytest.mark.parametrize("name", ["srpo", "ugr", "vstar"])
def test_every_row_can_be_configured(name: str) -> None:
    configured = set()
    for algorithm, row in all_rows(name):
        kind = find(algorithm, SETTING_NAMES).algorithm.hyperparameters_class
        texts = split_words(row.set) | split_words(row.evaluate)
        assert texts.keys() <= field_types(kind).keys()
        configured.add(repr(from_words(kind, texts)))
    # V-STAR's method as it is stands in all three of its tables.
    assert len(configured) == len(all_rows(name)) - (2 if name == "vstar" else 0)


TWO = {"label": "two", "set": ["confidence=false"]}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"titel": "x"}, r"unknown key 'titel'; did you mean 'title'\?"),
        ({"tables": []}, "key 'tables' must be a list that is not empty"),
        ({"metrics": ["HR@1", "HR@1"]}, "key 'tables.1.metrics' must be .*the same name twice"),
        ({"metrics": [{"name": "x"}]}, "missing key 'tables.1.metrics.1.mean'"),
        ({"metrics": [{"name": "x", "mean": []}]}, "key 'tables.1.metrics.1.mean' must be a list"),
        ({"rows": [TWO, TWO]}, "key 'tables.1.rows' must be .*the same name twice"),
        ({"rows": [{"label": "a", "sft": True}]}, "key 'tables.1.rows' must be more than the SFT"),
        (
            {"rows": [TWO, TWO | {"label": "b", "sft": True}]},
            "key 'tables.1.rows.2.sft' must be without algorithm, set and evaluate",
        ),
        (
            {"rows": [TWO | {"sft": "yes"}]},
            "'tables.1.rows.1.sft' must be true or false, not 'yes'",
        ),
        ({"rows": [TWO | {"set": ["x"]}]}, "key 'tables.1.rows.1.set' must be words key=value"),
        ({"rows": [TWO | {"set": ["x=1", "x=2"]}]}, "each key once"),
        (
            {"rows": [TWO, TWO | {"label": "b", "published": {"office": [0.1, 0.2, 0.3]}}]},
            "key 'tables.1.rows.2.published.office' must be a list of 2, one for each metric",
        ),
        ({"rows": [TWO | {"published": {"office": ["a", 1]}}]}, "must be a number, not 'a'"),
    ],
)
def test_a_bad_file_is_told_of_in_one_line(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    table = {"name": "1", "metrics": ["HR@10", "MRR"], "rows": [TWO]}
    content: dict[str, Any] = {"title": "Mine", "paper": "nobody 2026", "setting": "another one"}
    content |= {"algorithm": "ugr", "tables": [table]}
    file = tmp_path / "mine.yaml"
    file.write_text(yaml.safe_dump(content))
    assert load_ablation(str(file))[0] == "mine"
    (table if change.keys() <= {"metrics", "rows"} else content).update(change)
    # Parts that stand twice are written out: aliases are not read.
    file.write_text(yaml.safe_dump(json.loads(json.dumps(content))))
    with pytest.raises(UserError, match=message) as caught:
        load_ablation(str(file))
    assert str(caught.value).startswith(f"{file}: ") and "\n" not in str(caught.value)


def test_the_example_of_the_documentation_is_one(root: Path, tmp_path: Path) -> None:
    text = (root / "docs" / "ablations.md").read_text()
    block = text[text.index("    title: ") :]
    block = block[: block.index("\n\n")]
    (tmp_path / "mine.yaml").write_text(dedent(block))
    name, ablation = load_ablation(str(tmp_path / "mine.yaml"))
    assert name == "mine" and ablation.algorithm == "grpo"
    (table,) = ablation.tables
    assert table.metrics == (
        Metric("NDCG@10", ("NDCG@10",)),
        Metric("mean HR", ("HR@1", "HR@5", "HR@10")),
    )
    start, small, wide = table.rows
    assert start.sft and not small.sft and small.published == {"industrial": (0.1, None)}
    assert wide == AblationRow(
        "16 candidates, wider beam", set=("group_size=16",), evaluate=("beam_width=50",)
    )
