import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from small_datasets import build_dataset

from genrec_bench.commands.cli import make_parser
from genrec_bench.data.cards import card_names, load_card
from genrec_bench.data.data_report import count_rows, history_rows, shared_sid_rows, sid_level_rows
from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.errors import UserError

SEQUENCES = {"u": [0, 1, 2, 1, 0], "v": [2, 2, 1, 0]}
INDEX = {
    "0": ["<a_0>", "<b_1>", "<c_0>", "<d_0>"],
    "1": ["<a_5>", "<b_3>", "<c_0>", "<d_0>"],
    "2": ["<a_0>", "<b_1>", "<c_0>", "<d_0>"],
}


def call(*arguments: str) -> int:
    args = make_parser().parse_args(["data", *arguments])
    code: int = args.execute(args)
    return code


@pytest.fixture
def beauty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny files named as Beauty's, and an empty data directory beside it."""
    monkeypatch.setenv("GENREC_BENCH_DATA", str(tmp_path / "data"))
    source = tmp_path / "source"
    source.mkdir()
    (source / "Beauty.inter.json").write_text(json.dumps(SEQUENCES))
    (source / "Beauty.index.json").write_text(json.dumps(INDEX))
    return source


def test_list_before_and_after_an_import(beauty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("list", "--json") == 0
    before = {row["dataset"]: row for row in json.loads(capsys.readouterr().out)}
    assert sorted(before) == card_names()
    assert not before["beauty"]["prepared"]

    assert call("import", "lcrec", str(beauty), "--as", "beauty") == 0
    said = capsys.readouterr().out
    assert "3 items; rows: 3 train, 2 valid, 2 test" in said
    assert "Beauty.inter.json differs from the card's checksum" in said
    assert "partial: 3 of about 131413 training rows" in said

    assert call("list", "--json") == 0
    row = next(r for r in json.loads(capsys.readouterr().out) if r["dataset"] == "beauty")
    assert row["prepared"] and row["partial"]
    assert (row["items"], row["train"], row["valid"], row["test"]) == (3, 3, 2, 2)
    assert call("list") == 0
    (line,) = [x for x in capsys.readouterr().out.splitlines() if x.startswith("beauty")]
    assert "partial" in line and "imported" in line and "the files'" in line


def test_list_names_bad_cards_and_lists_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.yaml").write_text("name: broken")
    (tmp_path / "yelp.yaml").write_text("name: yelp")
    monkeypatch.setenv("GENREC_BENCH_CARDS", str(tmp_path))
    assert call("list", "--data-dir", str(tmp_path / "data")) == 0
    lines = capsys.readouterr().out.splitlines()
    bad = [line.split()[0] for line in lines if "see below" in line]
    assert bad == ["broken", "yelp"] and any(line.startswith("sports") for line in lines)
    assert lines[-2].startswith(f"{tmp_path}/broken.yaml: missing key")
    assert lines[-1].startswith(f"{tmp_path}/yelp.yaml: there is a card 'yelp' already")
    assert call("list", "--json", "--data-dir", str(tmp_path / "data")) == 0
    rows = {row["dataset"]: row for row in json.loads(capsys.readouterr().out)}
    assert "missing key" in rows["broken"]["error"] and "error" not in rows["sports"]


def test_show_prints_counts_marks_and_differences(
    beauty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("import", "lcrec", str(beauty), "--as", "beauty")
    capsys.readouterr()
    assert call("show", "beauty") == 0
    shown = capsys.readouterr().out
    assert "beauty [partial]" in shown
    assert "Beauty.index.json differs from the card's checksum" in shown
    assert ["train", "rows", "3", "131413", "partial"] in [x.split() for x in shown.splitlines()]
    assert ["items", "3", "12101", "differs"] in [x.split() for x in shown.splitlines()]
    assert "Ceiling" not in shown
    assert call("show", "beauty", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["partial"] and report["ceiling"] == {}
    assert report["differs_from_card"] == ["Beauty.index.json", "Beauty.inter.json"]


def test_show_of_synthetic_has_the_ceiling(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("show", "synthetic", "--data-dir", str(tmp_path)) == 0
    shown = capsys.readouterr().out
    assert "Ceiling" in shown and "[partial]" not in shown and "differs" not in shown
    header = next(line for line in shown.splitlines() if "HR@10" in line)
    assert header.split()[1:6] == ["HR@1", "HR@3", "HR@5", "HR@10", "HR@20"]


def test_verify_finds_altered_and_missing_files(
    beauty: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    call("import", "lcrec", str(beauty), "--as", "beauty")
    assert call("verify", "beauty") == 0
    folder = beauty.parent / "data" / "beauty"
    with (folder / "valid.parquet").open("ab") as file:
        file.write(b"x")
    (folder / "items.parquet").unlink()
    with pytest.raises(UserError) as caught:
        call("verify", "beauty")
    assert "valid.parquet" in str(caught.value) and "items.parquet" in str(caught.value)
    assert "train.parquet" not in str(caught.value)
    # Importing again mends it.
    call("import", "lcrec", str(beauty), "--as", "beauty")
    assert call("verify", "beauty") == 0


def test_verify_finds_contents_that_the_manifest_does_not_describe(beauty: Path) -> None:
    call("import", "lcrec", str(beauty), "--as", "beauty")
    path = beauty.parent / "data" / "beauty" / "manifest.json"
    path.write_text(path.read_text().replace('"fingerprint": "', '"fingerprint": "0'))
    with pytest.raises(UserError, match="manifest.json: was changed since it was written"):
        call("verify", "beauty")


def test_what_was_not_imported_is_explained(beauty: Path) -> None:
    for command in ("show", "verify"):
        with pytest.raises(UserError, match="genrec-bench data import lcrec DIR --as beauty"):
            call(command, "beauty")
        with pytest.raises(UserError, match="unknown dataset 'beuaty'; did you mean 'beauty'"):
            call(command, "beuaty")


def test_a_failed_import_keeps_what_was_prepared(beauty: Path) -> None:
    call("import", "lcrec", str(beauty), "--as", "beauty")
    (beauty / "Beauty.inter.json").write_text("{")
    with pytest.raises(UserError, match="malformed JSON"):
        call("import", "lcrec", str(beauty), "--as", "beauty")
    assert call("verify", "beauty") == 0


@pytest.fixture
def small() -> Dataset:
    """Four items on two levels (0 and 3 share a SID) and splits that overlap."""
    card = dataclasses.replace(load_card("beauty"), codes_per_level=(3, 3))
    splits = {
        # History [0] has targets 1 and 2; its row with 1 stands twice.
        "train": Examples.from_lists([0, 1, 2, 3], [[0], [0], [0], [1, 2]], [1, 2, 1, 3]),
        "valid": Examples.from_lists([0, 1], [[0], [2, 1]], [1, 0]),
        "test": Examples.from_lists([4, 1, 5], [[0], [1, 2], [2, 1]], [3, 3, 1]),
    }
    sids = [[0, 1], [0, 2], [2, 2], [0, 1]]
    return build_dataset(card, np.array(sids, dtype=np.int32), list("abcd"), [""] * 4, splits)


def test_sid_tables(small: Dataset) -> None:
    first, second = sid_level_rows(small)
    assert (first["codes"], first["codes used"], first["distinct prefixes"]) == (3, 2, 2)
    assert (first["items per prefix (mean)"], first["items per prefix (max)"]) == (2.0, 3)
    assert (second["codes used"], second["distinct prefixes"]) == (2, 3)
    assert second["items per prefix (max)"] == 2
    shares = {row["among"]: row["that share their SID"] for row in shared_sid_rows(small)}
    assert shares == {"items": 2, "train targets": 1, "valid targets": 1, "test targets": 2}


def test_history_and_count_tables(small: Dataset) -> None:
    assert history_rows(small)[0] == {
        "split": "train", "min": 1, "median": 1.0, "mean": 1.25, "max": 2,
    }  # fmt: skip
    counts = {row["count"]: row["found"] for row in count_rows(small.contents, small)}
    assert counts["users"] == 6 and counts["distinct SIDs"] == 3
