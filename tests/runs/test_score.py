"""Ranked lists of others: read, checked, evaluated as our own, and kept as a record."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tiny_runs import SETTINGS, Called, call, only_error, tiny_dataset

from genrec_bench.boards.evidence import read_evidence
from genrec_bench.boards.verify import verify
from genrec_bench.boards.verify_together import verify_together
from genrec_bench.errors import UserError
from genrec_bench.runs.record_schema import Record, mistakes_in
from genrec_bench.runs.records import read_record
from genrec_bench.runs.run_files import read_run_file
from genrec_bench.storage.row_files import write_rows
from genrec_bench.training.metrics import CUTOFFS, SampleMetric, evaluate_lists, find_metric

Capture = pytest.CaptureFixture[str]
NUM_EXAMPLES = 30


@pytest.fixture(scope="module")
def record(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Record:
    """A run of ours that kept its lists."""
    from genrec_bench.commands.cli import main

    output = tmp_path_factory.mktemp("ours")
    words = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(output)]
    words += ["--no-mlflow", "--set", *SETTINGS, "keep_lists=true"]
    assert main(["run", "grpo", *words]) == 0
    (path,) = output.rglob("record.json")
    return read_record(path)


def score(capsys: Capture, file: Path, data: Path, output: Path, *more: str) -> Called:
    words = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(output)]
    return call(capsys, ["score", str(file), *words, "--as", "theirs", *more])


def scored(capsys: Capture, file: Path, data: Path, output: Path, *more: str) -> Record:
    called = score(capsys, file, data, output, *more)
    assert called.code == 0, called.err
    return read_record(Path(called.out.splitlines()[-1].removeprefix("record: ")))


def of_lists(figures: dict[str, float]) -> dict[str, float]:
    """Those that lists tell; what was drawn for Pass@k is in none."""
    return {
        name: value
        for name, value in figures.items()
        if not isinstance((find_metric(name) or (None,))[0], SampleMetric)
    }


def places(record: Record, listed: str) -> pd.DataFrame:
    """The kept lists, a row a place."""
    lists = record.lists
    lists = lists[lists["split"] == "test"]
    return pd.DataFrame(
        [
            {"example": example, "rank": rank, listed.removesuffix("s"): name}
            for example, names in zip(lists["example"], lists[listed], strict=True)
            for rank, name in enumerate(names, start=1)
        ]
    )


def trec(table: pd.DataFrame) -> str:
    lines = [f"{e} Q0 item{int(i.split()[1])} {r} {-r} ours" for e, r, i in table.to_numpy()]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl", "kept"])
def test_our_own_lists_give_our_own_figures_to_the_last_digit(
    capsys: Capture, record: Record, data: Path, tmp_path: Path, ending: str
) -> None:
    assert record.path is not None
    file = record.path.with_name("lists.parquet")
    if ending != "kept":
        file = tmp_path / f"lists.{ending}"
        write_rows(file, places(record, "sids").sample(frac=1, random_state=0))
    found = scored(capsys, file, data, tmp_path / "runs")
    assert found["metrics"]["test"] == of_lists(record["metrics"]["test"])
    ours, theirs = read_evidence(record.path), read_evidence(found.path or Path())
    same = ["example", "item_rank", "sid_rank", "tail"]
    assert ours.of_split("test")[same].equals(theirs.of_split("test")[same])
    assert verify(theirs).findings == () and verify(theirs).metrics > 15
    assert verify_together([ours, theirs]) == []


def test_lists_of_items_give_our_figures_as_far_as_these_go(
    capsys: Capture, record: Record, data: Path, tmp_path: Path
) -> None:
    """Items 7 and 8 share a SID: of a beam's items those beyond its width are not in the file."""
    file = tmp_path / "lists.csv"
    write_rows(file, places(record, "items"))
    found = scored(capsys, file, data, tmp_path / "runs")["metrics"]["test"]
    ours = record["metrics"]["test"]
    exact = [f"{name}@{k}" for name in ("HR", "NDCG") for k in CUTOFFS if k <= 10]
    exact += ["coverage@10", "gini@10", "diversity@10", "popularity_lift@10", "invalid_rate"]
    assert {name: found[name] for name in exact} == {name: ours[name] for name in exact}


def test_what_recommend_writes_is_a_run_file(
    capsys: Capture, record: Record, data: Path, tmp_path: Path
) -> None:
    assert record.path is not None
    dataset = tiny_dataset()
    names = dataset.catalog.item_names
    histories = [
        ",".join(names[item] for item in dataset.test.history(i)) for i in range(NUM_EXAMPLES)
    ]
    given, made = tmp_path / "histories.csv", tmp_path / "made.parquet"
    pd.DataFrame({"history": histories}).to_csv(given, index=False)
    words = ["--input", str(given), "--out", str(made), "--k", "5", "--data-dir", str(data)]
    assert call(capsys, ["recommend", str(record.path), *words]).code == 0
    found = scored(capsys, made, data, tmp_path / "runs")["metrics"]["test"]
    exact = [f"{name}@{k}" for name in ("HR", "NDCG") for k in (1, 3, 5)]
    assert {n: found[n] for n in exact} == {n: record["metrics"]["test"][n] for n in exact}


def simple() -> pd.DataFrame:
    """Three items for each example, of which the second is the target of every other one."""
    dataset = tiny_dataset()
    names = dataset.catalog.item_names
    rows = []
    for example, target in enumerate(dataset.test.targets.tolist()):
        near = [(target + 1) % 24, target if example % 2 else (target + 2) % 24, (target + 3) % 24]
        rows += [(example, rank, names[item]) for rank, item in enumerate(near, start=1)]
    return pd.DataFrame(rows, columns=["example", "rank", "item"])


def test_figures_by_hand(capsys: Capture, data: Path, tmp_path: Path) -> None:
    file = tmp_path / "theirs.csv"
    simple().to_csv(file, index=False)
    more = ["--seed", "3", "--backbone", "an MLP", "--training-seconds", "12.5", "--notes", "mine"]
    found = scored(capsys, file, data, tmp_path / "runs", *more, "--keep-lists")
    figures = found["metrics"]["test"]
    assert figures["HR@1"] == 0.0 and figures["HR@3"] == 0.5 and "HR@5" not in figures
    assert figures["NDCG@3"] == pytest.approx(0.5 / np.log2(3))
    assert figures["MRR"] == 0.25
    # 7 and 8 share a SID, which stands where the first of them does.
    dataset = tiny_dataset()
    lists = read_run_file(file, dataset).lists
    by_sid = [
        dataset.catalog.sid_of_item[target] in row
        for target, row in zip(dataset.test.targets, lists.candidates[:, :1], strict=True)
    ]
    assert figures["sid/HR@1"] == np.mean(by_sid)
    assert found["kind"] == "external" and found["seed"] == 3 and found["algorithm"] == "theirs"
    told = found["external"]
    assert (told["backbone"], told["training_seconds"]) == ("an MLP", 12.5)
    assert (told["source"], told["notes"], told["ranked"]) == ("run file", "mine", "item")
    assert told["file"] == "theirs.csv" and len(told["sha256"]) == 64
    assert found["metrics"]["valid"] == found["sft"]["test"] == found["budget"]["spent"] == {}
    again = score(capsys, file, data, tmp_path / "runs", *more, "--keep-lists")
    assert again.code == 0 and "found: " in again.err
    assert len(list(tmp_path.rglob("record.json"))) == 1
    evidence = read_evidence(found.path or Path())
    assert evidence.lists is not None and verify(evidence).findings == ()
    edited = evidence.record | {"metrics": {"valid": {}, "test": figures | {"HR@3": 0.9}}}
    assert mistakes_in(edited) == [
        "sha256 is not the hash of the record: it was changed after the run"
    ]
    (finding,) = verify(type(evidence)(edited, evidence.outcomes)).findings
    assert finding.key == "metrics.test.HR@3"


def test_ranks_from_0_trec_and_users_by_name_are_the_same(
    capsys: Capture, data: Path, tmp_path: Path
) -> None:
    dataset = tiny_dataset()
    table = simple()
    files = {name: tmp_path / name for name in ("one.csv", "zero.csv", "list.jsonl")}
    table.to_csv(files["one.csv"], index=False)
    table.assign(rank=table["rank"] - 1).to_csv(files["zero.csv"], index=False)
    rows = table.groupby("example")["item"].apply(list).reset_index(name="items")
    write_rows(files["list.jsonl"], rows)
    found = [evaluate_lists(read_run_file(file, dataset).lists) for file in files.values()]
    assert found[0][0] == found[1][0] == found[2][0]
    assert found[0][1].equals(found[1][1]) and found[0][1].equals(found[2][1])


def test_trec(tmp_path: Path) -> None:
    """Names of items have no blanks there; scores may not say something else than ranks."""
    dataset = tiny_dataset()
    plain = tuple(name.replace(" ", "") for name in dataset.catalog.item_names)
    named = dataclasses.replace(dataset.contents, item_names=plain).own
    file, table = tmp_path / "theirs.run", simple()
    file.write_text(trec(table))
    write_rows(tmp_path / "same.csv", table)
    same = read_run_file(tmp_path / "same.csv", dataset)
    assert evaluate_lists(read_run_file(file, named).lists)[1].equals(evaluate_lists(same.lists)[1])
    with pytest.raises(UserError, match=r"theirs\.run, line 1: .* has no item item\d+, among 24"):
        read_run_file(file, dataset)
    file.write_text(trec(table).replace(" -2 ours", " 2 ours", 1))
    with pytest.raises(UserError, match="line 2: rank 2 has a higher score than the rank before"):
        read_run_file(file, named)
    file.write_text("0 Q0 7 1 0.5\n")
    with pytest.raises(UserError, match="line 1: 5 fields; TREC has six"):
        read_run_file(file, named)


def test_users_by_name_where_each_has_one_test_example(tmp_path: Path) -> None:
    dataset = tiny_dataset()
    file = tmp_path / "theirs.csv"
    table = simple()
    table.rename(columns={"example": "user"}).to_csv(file, index=False)
    with pytest.raises(UserError, match="prepared without the names of users"):
        read_run_file(file, dataset)
    names = tuple(f"u{user}" for user in range(320))
    named = dataclasses.replace(dataset.contents, user_names=names).own
    with pytest.raises(UserError, match="line 2: user 0 has no test example"):
        read_run_file(file, named)
    table.assign(user="u" + table["example"].astype(str)).drop(columns="example").to_csv(file)
    by_name = read_run_file(file, named).lists
    table.to_csv(file)
    assert np.array_equal(by_name.candidates, read_run_file(file, named).lists.candidates)
    twice = dataclasses.replace(named.test, users=named.test.users // 2)
    splits = {**named.splits, "test": twice}
    table.rename(columns={"example": "user"}).to_csv(file)
    with pytest.raises(UserError, match="users have several test examples each"):
        read_run_file(file, dataclasses.replace(named, splits=splits))


def cell(row: int, column: str, value: Any) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """An edit of one cell."""
    return lambda table: table.assign(
        **{column: [value if n == row else x for n, x in enumerate(table[column])]}
    )


WRONG: dict[str, tuple[Callable[[pd.DataFrame], pd.DataFrame], str]] = {
    "an unknown item": (cell(4, "item", "item 99"), r"line 6: industrial has no item item 99"),
    "several": (lambda table: table.assign(item="nothing"), r"line 2: .* \(and 89 more\)"),
    "a rank twice": (cell(4, "rank", 1), r"line 6: example 1 has rank 1 twice"),
    "a gap": (cell(5, "rank", 7), r"line 7: example 1 has a gap: rank 7 stands where 3 is due"),
    "no rank": (cell(5, "rank", "first"), r"line 7: rank first is no whole number"),
    "ranks from 5": (
        lambda table: table.assign(rank=table["rank"] + 4),
        r"the first rank is 5; ranks count from 0 or from 1",
    ),
    "an unknown example": (cell(89, "example", 30), r"line 91: there is no example 30; test of"),
    "a fraction": (cell(0, "example", 0.5), r"line 2: example 0.5 is no whole number"),
    "missing examples": (
        lambda table: table.drop(index=range(6)),
        r"example 0 and 1 others have no list; every one of the 30 examples of test must",
    ),
    "no column": (lambda table: table.rename(columns={"rank": "rang"}), "did you mean 'rang'"),
    "nothing": (lambda table: table.drop(index=table.index), "no list"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_line(name: str, tmp_path: Path) -> None:
    edit, told = WRONG[name]
    file = tmp_path / "theirs.csv"
    edit(simple()).to_csv(file, index=False)
    with pytest.raises(UserError, match=told) as error:
        read_run_file(file, tiny_dataset())
    assert str(error.value).startswith(str(file)) and "\n" not in str(error.value)


def test_an_item_twice_is_named(tmp_path: Path) -> None:
    file = tmp_path / "theirs.parquet"
    table = simple()
    write_rows(file, cell(5, "item", table["item"].iloc[3])(table))
    with pytest.raises(UserError, match=r"row 5: item item \d+ stands twice in the list of exam"):
        read_run_file(file, tiny_dataset())


@pytest.mark.parametrize(
    ("sid", "told"),
    [("9-9-9", "has no SID 9-9-9"), ("1-2", "2 levels, not 3"), ("x", "is not of the form")],
)
def test_unknown_sids_are_named(sid: str, told: str, tmp_path: Path) -> None:
    dataset = tiny_dataset()
    spelled = ["-".join(map(str, codes)) for codes in dataset.catalog.sids.tolist()]
    table = pd.DataFrame(
        {"example": range(NUM_EXAMPLES), "rank": 1, "sid": spelled[: NUM_EXAMPLES - 6] + [sid] * 6}
    )
    file = tmp_path / "theirs.csv"
    table.to_csv(file, index=False)
    with pytest.raises(UserError, match=told):
        read_run_file(file, dataset)


def test_mistakes_cost_no_work(capsys: Capture, data: Path, tmp_path: Path) -> None:
    there = tmp_path / "theirs.csv"
    simple().to_csv(there, index=False)
    none = score(capsys, tmp_path / "none.csv", data, tmp_path / "runs")
    assert only_error(none).endswith("none.csv: there is no such file")
    words = ["score", str(there), "--dataset", "industrial", "--data-dir", str(data)]
    assert "must be a plain name" in only_error(call(capsys, [*words, "--as", "a/b"]))
    other = tmp_path / "theirs.doc"
    other.write_bytes(there.read_bytes())
    assert "must end in .csv" in score(capsys, other, data, tmp_path / "runs").err
    assert not list(tmp_path.rglob("record.json"))


def test_an_outside_system_has_no_policy_and_is_not_run_again(
    capsys: Capture, data: Path, tmp_path: Path
) -> None:
    file = tmp_path / "theirs.csv"
    simple().to_csv(file, index=False)
    path = scored(capsys, file, data, tmp_path / "runs").path
    assert path is not None
    words = ["--data-dir", str(data), "--output", str(tmp_path)]
    told = only_error(call(capsys, ["run", "--from-record", str(path), *words, "--no-mlflow"]))
    assert "is of an outside system, which was not run here" in told
    told = only_error(call(capsys, ["recommend", str(path), "--history", "item 1"]))
    assert "of which there are lists, no policy" in told


def test_a_record_of_no_kind_is_refused(data: Path, tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "theirs.csv"
    simple().to_csv(file, index=False)
    record = dict(scored(capsys, file, data, tmp_path / "runs"))
    del record["sha256"]
    assert mistakes_in(record) == []
    assert "does not go with" in mistakes_in({**record, "kind": "run"})[0]
    assert (
        "does not go with" in mistakes_in({k: v for k, v in record.items() if k != "external"})[0]
    )
    other = {key: value for key, value in record.items() if key != "external"} | {"kind": "other"}
    assert "one of run, external" in mistakes_in(other)[0]
