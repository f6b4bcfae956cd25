"""The table of built and published SIDs: its figures by hand, and how it goes on."""

import importlib.util
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from tiny_runs import Called, save_tiny, shrink_backbone

from genrec_bench.storage.digests import file_sha256

Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def script(root: Path) -> ModuleType:
    """The script; benchmarks/ is no package."""
    path = root / "benchmarks" / "sids_against_published.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def run(script: ModuleType, sids: str, seed: int, hits: dict[str, int], sharing: int = 0) -> Any:
    """A run on ten items and four test examples."""
    return script.Run("toys", sids, seed, "setup", 10, sharing, 4, hits, 1.5)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_runs_values_are_those_of_its_hits(script: ModuleType) -> None:
    found = run(script, "mine", 0, {"0": 0, "2": 2})
    assert found.values("HR@10").tolist() == [1, 0, 1, 0]
    assert found.values("NDCG@10").tolist() == [1, 0, 0.5, 0]


def test_what_is_a_multiple_for_every_user_is_known_exactly(script: ModuleType) -> None:
    theirs = np.random.default_rng(0).random((3, 50))
    share, interval = script.change(2 * theirs, theirs)
    assert [share, interval.low, interval.high] == pytest.approx([1, 1, 1])


def test_the_interval_of_a_change_is_that_of_resampled_ratios(script: ModuleType) -> None:
    """Ratios of the means of the same users, drawn anew; both sides vary, and not as one."""
    generator = np.random.default_rng(1)
    theirs = (generator.random((1, 400)) < 0.3).astype(float)
    ours = np.where(generator.random((1, 400)) < 0.5, theirs, generator.random((1, 400)) < 0.4)
    drawn = generator.integers(400, size=(4000, 400))
    ratios = ours[0][drawn].mean(axis=1) / theirs[0][drawn].mean(axis=1) - 1
    low, high = np.quantile(ratios, [0.025, 0.975])
    share, interval = script.change(ours, theirs)
    assert share == pytest.approx(ours.mean() / theirs.mean() - 1)
    assert interval.high - interval.low == pytest.approx(high - low, rel=0.1)
    assert interval.low == pytest.approx(low, abs=0.1 * (high - low))


def test_the_table_by_hand(script: ModuleType) -> None:
    """Of seed 2 there is no published run: it counts for the mean, and not for the change."""
    runs = [
        run(script, "published", 0, {"0": 0, "1": 0}, sharing=2),
        run(script, "mine", 0, {"0": 0, "1": 0, "2": 2}),
        run(script, "published", 1, {"0": 0, "1": 0}, sharing=2),
        run(script, "mine", 1, {"0": 0, "1": 0, "2": 2}, sharing=4),
        run(script, "mine", 2, {}, sharing=8),
    ]
    head, _, theirs, ours = map(cells, script.table(runs).splitlines())
    first = ["dataset", "SIDs", "seeds", "items that share a SID"]
    assert head == [*first, "HR@10", "HR@10, change", "NDCG@10", "NDCG@10, change"]
    assert theirs[:4] == ["toys", "published", "2", "20.00%"]
    assert ours[:4] == ["toys", "mine", "3", "40.00%"]
    assert [cell.split()[0] for cell in theirs[4:]] == ["0.5000", "-", "0.5000", "-"]
    assert [cell.split()[0] for cell in ours[4:]] == ["0.5000", "+50.0%", "0.4167", "+25.0%"]


def test_a_single_seed_is_a_note_and_no_hit_is_no_change(script: ModuleType) -> None:
    runs = [run(script, "published", 0, {}), run(script, "mine", 0, {"1": 3})]
    *lines, empty, note = script.table(runs).splitlines()
    assert [cells(lines[-1])[place] for place in (5, 7)] == ["-", "-"]
    assert empty == "" and note == script.ONE_SEED


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Holds a dataset of a few items, without any text."""
    return save_tiny(tmp_path)


@pytest.fixture
def call(
    script: ModuleType, data_dir: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> Callable[..., Called]:
    """Calls the script on that dataset."""
    shrink_backbone(monkeypatch)
    words = ["--data-dir", str(data_dir), "--methods", "rq-kmeans", "--seeds", "2"]
    words += ["--set", "sft_epochs=0.2", "sft_valid_examples=8", "beam_width=10"]

    def call(*more: str) -> Called:
        monkeypatch.setattr(sys, "argv", ["script", *words, *more])
        code = script.main()
        said = capsys.readouterr()
        return Called(code, said.out, said.err)

    return call


def test_what_was_cut_short_goes_on_and_nothing_is_done_twice(
    call: Callable[..., Called], data_dir: Path, tmp_path: Path
) -> None:
    file = tmp_path / "runs.json"
    late = call("--json", str(file), "--limit", "0")
    assert late.code == 0 and late.err.count("left for another time") == 4 and not file.exists()
    whole = call("--json", str(file))
    assert whole.code == 0, whole.err
    done = json.loads(file.read_text())
    assert [(entry["sids"], entry["seed"]) for entry in done["runs"]] == [
        (sids, seed)
        for seed in (0, 1)
        for sids in ("published", "rq-kmeans-collaborative-3x256-move")
    ]
    published, ours = whole.out.splitlines()[2:]
    assert cells(published)[:4] == ["industrial (partial)", "published", "2", "8.33%"]
    assert cells(ours)[2] == "2"

    file.write_text(json.dumps({"runs": done["runs"][:3]}))
    rest = call("--json", str(file))
    assert rest.out == whole.out and rest.err.count("was done") == 3
    entries = json.loads(file.read_text())["runs"]
    assert [{**entry, "seconds": 0} for entry in entries] == [
        {**entry, "seconds": 0} for entry in done["runs"]
    ]
    # Built SIDs that are not there, or others than those of the run, are no reason to believe it.
    built = data_dir / "sids" / "industrial"
    shutil.move(built, tmp_path / "away")
    assert call("--json", str(file), "--limit", "0").err.count("was done") == 2
    shutil.move(tmp_path / "away", built)
    (first,) = built.glob("*-move")
    table = pq.read_table(first / "sids.parquet")
    pq.write_table(table.take(list(reversed(range(len(table))))), first / "sids.parquet")
    manifest = json.loads((first / "manifest.json").read_text())
    manifest["sha256"] = file_sha256(first / "sids.parquet")
    (first / "manifest.json").write_text(json.dumps(manifest))
    assert call("--json", str(file), "--limit", "0").err.count("was done") == 3

    # Other settings are other runs, which a limit leaves out here.
    other = call("--json", str(file), "--limit", "0", "--set", "sft_batch=64")
    assert other.err.count("left for another time") == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--set", "sft_epoch=1"], "--set sft_epoch: no setting of this script; did you mean"),
        (["--set", "sft_seed=1"], "--set sft_seed: no setting of this script; --seeds says"),
    ],
)
def test_mistakes_are_one_line(call: Callable[..., Called], words: list[str], message: str) -> None:
    called = call(*words)
    assert called.code == 2 and called.out == ""
    assert called.err.startswith(f"error: {message}") and called.err.count("\n") == 1


def test_a_file_of_something_else_is_left_alone(
    call: Callable[..., Called], tmp_path: Path
) -> None:
    file = tmp_path / "other.json"
    file.write_text('{"rows": []}')
    called = call("--json", str(file))
    assert called.code == 2 and "holds no runs of this script" in called.err
    assert file.read_text() == '{"rows": []}'
