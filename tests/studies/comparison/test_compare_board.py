"""The board of a comparison: made of records that hold, and kept in one run of MLflow."""

import json

import pytest
from board_world import reseal
from compare_world import Compare, Sweeps
from fake_mlflow import FakeServer, install
from tiny_runs import call

from genrec_bench.tracking.exporter import SENT_FILE


def test_no_board_is_made_of_records_that_do_not_hold(compare: Compare, sweeps: Sweeps) -> None:
    assert compare.call("grpo", "--seeds", "1").code == 0
    result = json.loads((compare.folder() / "result.json").read_text())
    path = (compare.folder() / result["cells"][0]["record"]).resolve()
    record = json.loads(path.read_text())
    record["metrics"]["test"]["HR@10"] = 0.99
    reseal(path, record)
    board = (compare.folder() / "board.md").read_bytes()
    called = compare.call("grpo", "--seeds", "1")
    assert called.code == 2 and called.out == ""
    (altered,) = [line for line in called.err.splitlines() if line.startswith("altered: ")]
    assert path.parent.name in altered and "metrics.test.HR@10: stated 0.99, found" in altered
    assert "some records do not hold" in called.err.splitlines()[-1]
    assert (compare.folder() / "board.md").read_bytes() == board


def test_the_same_comparison_again_is_one_run_of_mlflow(
    compare: Compare, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = install(monkeypatch, FakeServer())
    words = [word for word in compare.words("grpo", "--seeds", "1") if word != "--no-mlflow"]
    for _ in range(2):
        assert call(compare.capsys, words).code == 0
        found = server.by_name(f"compare-{compare.folder().name}")
        assert found.status == "FINISHED" and found.tags["kind"] == "comparison"
        assert set(found.files) == {"board.md", "board.csv", "board.html"}
    others = [run.tags["algorithm"] for run in server.runs.values() if run is not found]
    assert others == ["grpo", "sft", "grpo"]
    # What a server that is away misses is sent later: the folder says that it has ended again.
    server.away, ended = True, found.end_time
    assert call(compare.capsys, words).code == 0
    assert found.end_time == ended
    server.away = False
    assert call(compare.capsys, ["resend", "--output", str(compare.output)]).code == 0
    assert found.end_time != ended and found.status == "FINISHED"
    assert (compare.folder() / SENT_FILE).is_file()
