"""The real Industrial data, from import to board; what the harness must reach on them."""

import dataclasses
import json
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_runs import call, run_folders

from genrec_bench.data.cards import load_card
from genrec_bench.data.dataset_store import save_contents
from genrec_bench.data.importers import import_contents
from genrec_bench.runs.records import read_record

Capture = pytest.CaptureFixture[str]
pytestmark = pytest.mark.real

TEST_EXAMPLES = 300


@pytest.fixture(scope="module")
def industrial(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with Industrial and Scientific, its evaluation cut to a few examples."""
    source = shared_data / "minionerec"
    contents, sources = import_contents("minionerec", source, load_card("industrial"))
    rows = np.arange(TEST_EXAMPLES)
    splits = dict(contents.splits)
    splits |= {name: splits[name].subset(rows) for name in ("valid", "test")}
    folder = tmp_path_factory.mktemp("industrial")
    save_contents(dataclasses.replace(contents, splits=splits), folder, sources)
    return folder


def test_ugr_on_industrial_is_marked_partial(
    capsys: Capture, industrial: Path, tmp_path: Path
) -> None:
    output, boards = str(tmp_path / "runs"), str(tmp_path / "boards")
    words = ["run", "ugr", "--dataset", "industrial", "--data-dir", str(industrial)]
    words += ["--output", output, "--no-mlflow", "--json"]
    words += ["--set", "steps=3", "sft_epochs=0.5", "sft_valid_examples=64", "beam_width=10"]
    called = call(capsys, words)
    assert called.code == 0, called.err
    assert called.err.startswith("ugr on industrial (partial), backbone tiny\n")
    record = json.loads(called.out)
    assert record["partial"] and record["complete"] and record["ceiling"] == {}
    test = record["metrics"]["test"]
    assert test["invalid_rate"] == 0.0 and test["unique_candidates"] == 10.0
    assert 0 < test["HR@10"] <= test["sid/HR@10"] < 1
    (folder,) = run_folders(tmp_path / "runs")
    assert read_record(folder) == record

    shown = call(capsys, ["leaderboard", "industrial", "--output", output, "--to", boards])
    assert shown.code == 0 and shown.out.startswith("industrial (partial)\n")
    assert "dataset industrial (partial)" in shown.out
    page = (tmp_path / "boards" / "industrial.md").read_text()
    assert page.startswith("# industrial (partial)\n") and "| industrial (partial)" in page


@pytest.mark.slow
def test_sft_on_industrial_reaches_what_a_throw_away_version_did(
    capsys: Capture, shared_data: Path, tmp_path: Path
) -> None:
    """Everything as a user types it, with every default; prints the times to write down."""
    data_dir = ["--data-dir", str(tmp_path / "data")]
    source = str(shared_data / "minionerec")
    imported = call(
        capsys, ["data", "import", "minionerec", source, "--as", "industrial", *data_dir]
    )
    assert imported.code == 0, imported.err
    words = ["run", "sft", "--dataset", "industrial", "--set", "steps=1", "--no-mlflow", "--json"]
    started = time.monotonic()
    called = call(capsys, [*words, *data_dir, "--output", str(tmp_path / "runs")])
    took = time.monotonic() - started
    assert called.code == 0, called.err
    record = json.loads(called.out)
    figures = record["sft"]["test"]
    spent = record["budget"]["spent"]
    with capsys.disabled():
        print(
            f"\nsid/HR@10 {figures['sid/HR@10']:.4f}  sid/NDCG@10 {figures['sid/NDCG@10']:.4f}  "
            f"SFT {spent['sft']['seconds']:.0f} s  "
            f"evaluation {spent['evaluation']['seconds']:.0f} s  in all {took:.0f} s"
        )
    assert figures["sid/HR@10"] >= 0.105 and figures["sid/NDCG@10"] >= 0.077
    assert figures["invalid_rate"] == 0.0
