"""Lists that a run keeps: with names, beside the record, and verified against all that it says."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from tiny_runs import SETTINGS, call

from genrec_bench.boards.evidence import Evidence, read_evidence
from genrec_bench.boards.verify import verify
from genrec_bench.data.dataset import Contents
from genrec_bench.data.dataset_store import changed_files, load_contents, save_contents
from genrec_bench.errors import UserError
from genrec_bench.runs.kept_lists import lists_bytes
from genrec_bench.runs.records import read_record
from genrec_bench.storage.parquet import read_frame
from genrec_bench.training.evaluate import Evaluation
from genrec_bench.training.list_figures import Lists
from genrec_bench.training.settings import Settings

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def record(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that kept its lists."""
    from genrec_bench.commands.cli import main

    output = tmp_path_factory.mktemp("kept")
    words = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(output)]
    words += ["--no-mlflow", "--set", *SETTINGS, "keep_lists=true"]
    assert main(["run", "grpo", *words]) == 0
    (path,) = output.rglob("record.json")
    return path


def edited(record: Path, edit: Callable[[pd.DataFrame], pd.DataFrame]) -> list[str]:
    """Keys that verification names after an edit of the lists."""
    one = read_evidence(record)
    assert one.lists is not None
    lists = one.lists.copy()
    lists["items"] = [list(items) for items in lists["items"]]
    lists = edit(lists)
    return [finding.key for finding in verify(dataclasses.replace(one, lists=lists)).findings]


def test_lists_have_names_and_say_what_the_outcomes_say(record: Path) -> None:
    one = read_evidence(record)
    assert one.lists is not None and verify(one).findings == ()
    assert read_record(record).lists.equals(one.lists)
    assert list(one.lists.columns) == ["split", "example", "user", "target", "items", "sids"]
    assert len(one.lists) == len(one.outcomes)
    outcomes = one.of_split("test")
    lists = one.lists[one.lists["split"] == "test"].reset_index(drop=True)
    for rank, target, items in zip(
        outcomes["item_rank"], lists["target"], lists["items"], strict=True
    ):
        assert len(items) <= 10
        assert (items[rank] == target) if 0 <= rank < len(items) else (target not in items)
    assert "keep_lists" not in one.record["configuration"]["settings"]
    compression = pq.ParquetFile(record.with_name("lists.parquet")).metadata.row_group(0).column(4)
    assert compression.compression == "ZSTD"


def test_lists_that_were_changed_are_found(record: Path) -> None:
    def swap(lists: pd.DataFrame) -> pd.DataFrame:
        for items, target in zip(lists["items"], lists["target"], strict=True):
            if target in items:
                place = items.index(target)
                items[place], items[place - 1] = items[place - 1], items[place]
                break
        return lists

    def same(lists: pd.DataFrame) -> pd.DataFrame:
        for items, target in zip(lists["items"], lists["target"], strict=True):
            others = [name for name in sorted(items) if name != target]
            items[:] = [name if name == target else others[0] for name in items]
        return lists

    assert edited(record, lambda lists: lists) == []
    assert edited(record, swap)[0].endswith("item_rank")
    assert {"metrics.valid.gini@10", "metrics.test.gini@10"} <= set(edited(record, same))
    assert edited(record, lambda lists: lists.drop(index=0))[0].startswith("lists: ")
    assert edited(record, lambda lists: lists.drop(columns="user")) == ["lists"]
    stated = read_evidence(record)
    other = copy.deepcopy(stated.record)
    other["lists"]["items"] += 1
    found = verify(Evidence(other, stated.outcomes, stated.curves, lists=stated.lists)).findings
    assert {finding.key.split("@")[0].rpartition(".")[2] for finding in found} == {
        "coverage",
        "gini",
    }


def test_a_changed_file_is_refused_and_a_missing_one_is_not(record: Path, tmp_path: Path) -> None:
    """Boards need no lists, so that they may stay where the run was made."""
    for name in ("record.json", "outcomes.parquet", "curves.parquet"):
        (tmp_path / name).write_bytes(record.with_name(name).read_bytes())
    one = read_evidence(tmp_path / "record.json")
    assert one.lists is None and verify(one).findings == ()
    (tmp_path / "lists.parquet").write_bytes(b"others")
    with pytest.raises(UserError, match=r"lists\.parquet was changed after the run"):
        read_record(tmp_path)


def test_a_run_keeps_none_unless_asked(capsys: Capture, data: Path, tmp_path: Path) -> None:
    words = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(tmp_path)]
    called = call(capsys, ["run", "sft", *words, "--no-mlflow", "--set", *SETTINGS])
    assert called.code == 0, called.err
    (path,) = tmp_path.rglob("record.json")
    assert "lists" not in read_record(path) and not path.with_name("lists.parquet").exists()


def named(contents: Contents) -> Contents:
    users = 1 + max(int(part.users.max()) for part in contents.splits.values())
    return dataclasses.replace(contents, user_names=tuple(f"user {i}" for i in range(users)))


def test_users_are_called_what_the_source_calls_them(data: Path, tmp_path: Path) -> None:
    contents = named(load_contents("industrial", data))
    save_contents(contents, tmp_path, {})
    again = load_contents("industrial", tmp_path)
    assert again.user_names == contents.user_names
    assert again.fingerprint == contents.fingerprint, "names of users decide nothing"
    assert changed_files("industrial", tmp_path) == []
    (tmp_path / "industrial" / "users.parquet").unlink()
    assert changed_files("industrial", tmp_path) == [str(tmp_path / "industrial" / "users.parquet")]
    dataset = again.own
    examples = dataset.test.subset(np.arange(2))
    candidates = np.array([[0, 1, -1], [2, -1, -1]], dtype=np.int32)
    lists = Lists(candidates, examples.targets, dataset.catalog)
    small = dataclasses.replace(dataset, splits={**dataset.splits, "test": examples})
    found = read_frame(
        lists_bytes({"test": Evaluation({}, pd.DataFrame(), lists)}, small, Settings())
    )
    assert found["user"].tolist() == [f"user {user}" for user in examples.users]
    names = dataset.catalog.item_names
    assert found["target"].tolist() == [names[item] for item in examples.targets]
    written = [[names[i] for i in row if i >= 0] for row in lists.items(3)]
    assert [list(items) for items in found["items"]] == written
