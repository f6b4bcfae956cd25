"""Baselines by the command line: records among the outside systems."""

from pathlib import Path

import numpy as np
import pytest
from tiny_runs import Called, call, only_error, tiny_dataset

from genrec_bench.boards.evidence import read_evidence
from genrec_bench.boards.verify import verify
from genrec_bench.runs import hosted_models
from genrec_bench.runs.records import read_record

Capture = pytest.CaptureFixture[str]


def baseline(capsys: Capture, name: str, data: Path, output: Path, *more: str) -> Called:
    words = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(output)]
    return call(capsys, ["baseline", name, *words, *more])


def path_of(called: Called) -> Path:
    assert called.code == 0, called.err
    return Path(called.out.splitlines()[-1].removeprefix("record: "))


@pytest.mark.parametrize("name", ["popularity", "last-item-successors"])
def test_counts_become_a_record_that_holds(
    capsys: Capture, name: str, data: Path, tmp_path: Path
) -> None:
    path = path_of(baseline(capsys, name, data, tmp_path, "--keep-lists"))
    one = read_evidence(path)
    assert verify(one).findings == () and one.lists is not None
    assert one.record["kind"] == "external" and one.record["algorithm"] == name
    told = one.record["external"]
    assert told["source"] == "genrec-bench baseline" and told["training_seconds"] >= 0
    again = baseline(capsys, name, data, tmp_path, "--keep-lists")
    assert path_of(again) == path and "found: " in again.err
    # Scored from its own lists it is the same.
    words = ["--dataset", "industrial", "--data-dir", str(data), "--output", str(tmp_path / "x")]
    file = str(path.with_name("lists.parquet"))
    scored = read_record(path_of(call(capsys, ["score", file, *words, "--as", name])))
    items = ("HR@1", "HR@5", "HR@10", "NDCG@10", "coverage@10", "gini@10")
    assert [scored["metrics"]["test"][key] for key in items] == [
        one.record["metrics"]["test"][key] for key in items
    ]


def test_successors_find_what_mostly_comes_next(
    capsys: Capture, data: Path, tmp_path: Path
) -> None:
    """After item i mostly comes i + 1, four times in five."""
    found = read_record(path_of(baseline(capsys, "last-item-successors", data, tmp_path)))
    dataset = tiny_dataset()
    last = [int(dataset.test.history(i)[-1]) for i in range(len(dataset.test))]
    follows = np.mean((np.array(last) + 1) % 24 == dataset.test.targets)
    assert found["metrics"]["test"]["HR@1"] == pytest.approx(follows, abs=0.1)
    popular = read_record(path_of(baseline(capsys, "popularity", data, tmp_path)))
    assert popular["metrics"]["test"]["HR@1"] < 0.3


def test_an_unknown_baseline_is_refused_before_any_work(
    capsys: Capture, data: Path, tmp_path: Path
) -> None:
    told = only_error(baseline(capsys, "popularit", data, tmp_path))
    assert "no baseline 'popularit'; did you mean 'popularity'?" in told


def test_counts_have_no_seeds_and_no_tuning(capsys: Capture, data: Path, tmp_path: Path) -> None:
    for more in (["--seeds", "3"], ["--trials", "2"], ["--set", "a=1"]):
        told = only_error(baseline(capsys, "popularity", data, tmp_path, *more))
        assert told.startswith(f"{more[0]}: popularity is made of counts")


def test_without_cornac_the_command_says_what_to_install(
    capsys: Capture, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted_models, "PACKAGE", "no-such-package")
    told = only_error(baseline(capsys, "sasrec", data, tmp_path))
    assert "`pip install genrec-bench[baselines]`" in told
