"""Splits written for others, read again by our own importers where there are any."""

import csv
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_runs import call, only_error, tiny_dataset

from genrec_bench.data.dataset import Dataset
from genrec_bench.data.exports import WRITERS, export_dataset, longest
from genrec_bench.data.importers import import_contents
from genrec_bench.errors import UserError
from genrec_bench.runs.histories import read_histories
from genrec_bench.runs.run_files import read_run_file


def named(**changes: Any) -> Dataset:
    """The tiny dataset with names that every layout can write, users and texts included."""
    contents = tiny_dataset().contents
    count = len(contents.item_names)
    told: dict[str, Any] = {
        "item_names": tuple(map(str, range(count))),
        "titles": tuple(f'Säge, {i}"' for i in range(count)),
        "descriptions": tuple(f"long, {i}" for i in range(count)),
        "categories": (("Tools", "Saws"),) * count,
        "user_names": tuple(f"u{i}" for i in range(320)),
    }
    return dataclasses.replace(contents, **(told | changes)).own


def rows_of(dataset: Dataset, split: str) -> list[tuple[str, list[str], str]]:
    """User, history and target by their names."""
    part, names = dataset.splits[split], dataset.catalog.item_names
    users = dataset.contents.user_names
    return [
        (users[user], [names[item] for item in part.history(i)], names[target])
        for i, (user, target) in enumerate(
            zip(part.users.tolist(), part.targets.tolist(), strict=True)
        )
    ]


@pytest.mark.parametrize("layout", ["minionerec", "recbole"])
def test_our_importers_read_what_was_written(layout: str, tmp_path: Path) -> None:
    dataset = named()
    export_dataset(dataset, layout, tmp_path / "out")
    card = dataclasses.replace(
        dataset.card, layout=layout, layouts={}, category="industrial", sha256={}
    )
    again = import_contents(layout, tmp_path / "out", card)[0].own
    for split in ("train", "valid", "test"):
        assert rows_of(again, split) == rows_of(dataset, split)
    assert again.catalog.item_names == dataset.catalog.item_names
    assert np.array_equal(again.catalog.sids, dataset.catalog.sids)
    assert again.contents.titles == dataset.contents.titles
    assert again.contents.descriptions == dataset.contents.descriptions
    assert again.contents.categories == dataset.contents.categories
    if layout == "minionerec":
        renamed = dataclasses.replace(again.contents, card=dataset.card)
        # The tiny dataset gives users of several splits one number, an importer one of its own.
        splits = {
            split: dataclasses.replace(part, users=dataset.splits[split].users)
            for split, part in renamed.splits.items()
        }
        same = dataclasses.replace(renamed, splits=splits)
        assert same.fingerprint == dataset.fingerprint
        assert again.sid_fingerprint == dataset.sid_fingerprint


def test_csv_is_what_recommend_reads_and_items_have_names_and_sids(tmp_path: Path) -> None:
    dataset = named()
    paths = export_dataset(dataset, "csv", tmp_path / "out")
    assert [path.name for path in paths] == [
        "train.csv",
        "valid.csv",
        "test.csv",
        "items.csv",
        "test.qrels",
        "README.txt",
    ]
    users, histories = read_histories(tmp_path / "out" / "test.csv")
    expected = rows_of(dataset, "test")
    assert users == [user for user, _, _ in expected]
    assert histories == [history for _, history, _ in expected]
    with (tmp_path / "out" / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["example"]) for row in rows] == list(range(30))
    assert [row["target"] for row in rows] == [target for _, _, target in expected]
    with (tmp_path / "out" / "items.csv").open(newline="", encoding="utf-8") as file:
        items = list(csv.DictReader(file))
    assert [row["item"] for row in items] == list(dataset.catalog.item_names)
    assert items[8]["sid"] == "1-1-0" and items[8]["title"] == 'Säge, 8"'
    assert sum(int(row["train_targets"]) for row in items) == len(dataset.train)
    judged = (tmp_path / "out" / "test.qrels").read_text().splitlines()
    assert judged[0] == f"0 0 {expected[0][2]} 1" and len(judged) == 30


def test_a_list_of_the_judged_items_comes_back_as_all_hits(tmp_path: Path) -> None:
    """Examples are numbered alike on both ways."""
    dataset = named()
    export_dataset(dataset, "csv", tmp_path / "out")
    judged = [line.split() for line in (tmp_path / "out" / "test.qrels").read_text().splitlines()]
    lines = [f"{example} Q0 {item} 1 1.0 oracle" for example, _, item, _ in judged]
    (tmp_path / "oracle.run").write_text("\n".join(lines))
    assert (read_run_file(tmp_path / "oracle.run", dataset).lists.item_ranks() == 0).all()


def test_cornac_has_whole_sequences(tmp_path: Path) -> None:
    dataset = named()
    export_dataset(dataset, "cornac", tmp_path / "out")
    for split in ("train", "test"):
        lines = [
            line.split("\t") for line in (tmp_path / "out" / f"{split}.tsv").read_text().split("\n")
        ]
        sessions: dict[str, tuple[str, list[str]]] = {}
        for user, session, item, time in lines[:-1]:
            place = sessions.setdefault(session, (user, []))[1]
            assert int(time) == len(place)
            place.append(item)
        expected = [(user, [*history, item]) for user, history, item in rows_of(dataset, split)]
        # All users of the tiny dataset's training split have one example each.
        assert sorted(sessions.values()) == sorted(expected)


def test_sequences_within_longer_ones_are_left_out() -> None:
    sequences = [("a", (1, 2)), ("a", (1, 2, 3)), ("b", (1, 2)), ("a", (2, 3)), ("a", (1, 2))]
    sequences += [("a", (1, 2, 4))]
    assert longest(sequences) == [("a", (1, 2, 3)), ("a", (1, 2, 4)), ("a", (2, 3)), ("b", (1, 2))]


def test_names_with_separators_are_refused_and_not_torn_apart(tmp_path: Path) -> None:
    dataset = tiny_dataset()
    with pytest.raises(UserError, match="item 'item 0' of industrial has a separator"):
        export_dataset(dataset, "recbole", tmp_path / "out")
    with pytest.raises(UserError, match="user 'u,1' of industrial has a separator"):
        export_dataset(named(user_names=("u,1",) * 320), "recbole", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    export_dataset(dataset, "csv", tmp_path / "out")
    assert not (tmp_path / "out" / "test.qrels").exists()
    export_dataset(dataset, "minionerec", tmp_path / "numbers")
    assert "number,item\n0,item 0\n" in (tmp_path / "numbers" / "items.csv").read_text()


def test_the_command_refuses_what_is_there(
    capsys: pytest.CaptureFixture[str], data: Path, tmp_path: Path
) -> None:
    words = ["export", "--dataset", "industrial", "--data-dir", str(data)]
    there = tmp_path / "there"
    there.mkdir()
    (there / "mine").write_text("mine")
    told = only_error(call(capsys, [*words, "--to", "csv", str(there)]))
    assert told.endswith("is there already and not empty; nothing is replaced")
    told = only_error(call(capsys, [*words, "--to", "recbol", str(tmp_path / "new")]))
    assert "did you mean 'recbole'" in told and all(layout in told for layout in WRITERS)
    called = call(capsys, [*words, "--to", "csv", str(tmp_path / "new")])
    assert called.code == 0, called.err
    written = called.out.splitlines()
    assert all(Path(line).is_file() for line in written) and len(written) == 5
    readme = (tmp_path / "new" / "README.txt").read_text()
    assert "genrec-bench score FILE --dataset industrial" in readme
