"""The whole protocol: tuning, runs, controls and the board, cut short and gone on with."""

import fcntl
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from compare_world import BUDGET, TUNING, Compare, Sweeps
from tiny_runs import Killed, call, last_error, only_error, run_folders, save_tiny

from genrec_bench.commands import compare_command
from genrec_bench.runs import jobs, post_training
from genrec_bench.runs.records import read_record
from genrec_bench.studies.comparison import compare as compare_module
from genrec_bench.studies.comparison import comparison_result
from genrec_bench.studies.comparison.comparison_result import Tuned
from genrec_bench.training import evaluation_cache


def largest_step(record: Path, kind: str) -> float:
    """What the dearest step of a run cost."""
    spent = pd.read_parquet(record.parent / "curves.parquet")[kind]
    return float(spent.diff().max())


def test_the_whole_protocol_then_more_seeds(
    compare: Compare, sweeps: Sweeps, steps_taken: dict[str, Any]
) -> None:
    called = compare.call("grpo,ugr", "--seeds", "1")
    assert called.code == 0, called.err
    said = called.err.splitlines()
    # The plan comes first, and its price: 2 x 400, 2 x 100 and 2 x 100 MFLOP.
    assert said[0] == "Comparison on industrial (partial), backbone tiny"
    assert next(line for line in said if line.startswith("in all")).endswith(" 1.2 GFLOP")
    numbered = [line for line in said if line.startswith("[")]
    assert [line.split("  ")[0] for line in numbered] == [
        "[1/6] tuning grpo",
        "[2/6] tuning ugr",
        "[3/6] grpo, seed 0",
        "[4/6] ugr, seed 0",
        "[5/6] SFT continued, seed 0",
        "[6/6] random reward, seed 0",
    ]
    assert "spent 600 MFLOP of 1.2 GFLOP, about " in numbered[2]

    records = compare.records()
    assert list(records) == [("grpo", 0), ("ugr", 0), ("SFT continued", 0), ("random reward", 0)]
    # One track, or no board could compare them; what tuning cost is with those that were tuned.
    assert len({record["track_id"] for record in records.values()}) == 1
    assert {record["track"]["tuning"] for record in records.values()} == {"400Mflop"}
    chosen = {n: r["configuration"]["hyperparameters"] for (n, _), r in records.items()}
    assert chosen["grpo"]["learning_rate"] == 0.004 and chosen["ugr"]["learning_rate"] == 0.003
    assert chosen["random reward"]["reward"] == "random"
    assert chosen["random reward"]["learning_rate"] is None
    bills = {name: record["tuning"]["flops"] for (name, _), record in records.items()}
    assert bills == {"grpo": 3e8, "ugr": 3e8, "SFT continued": 0, "random reward": 0}
    controls = {name: record["control"] for (name, _), record in records.items()}
    assert controls["grpo"] == controls["ugr"] == ""
    assert controls["SFT continued"] == "SFT continued"
    assert controls["random reward"] == "random reward"

    # The price is what was spent, but for the smallest part of a step of each run.
    result = json.loads((compare.folder() / "result.json").read_text())
    assert result["announced"] == {"tuning": 8e8, "training": 2e8, "controls": 2e8}
    for cell in result["cells"]:
        step = largest_step(compare.folder() / cell["record"], "flops")
        # Prompts differ in length: an average is off by a part of the last step.
        assert abs(cell["spent"] - 1e8) <= step * 0.15
        curves = pd.read_parquet((compare.folder() / cell["record"]).with_name("curves.parquet"))
        assert cell["step"] == pytest.approx(cell["spent"] / curves["part"].sum() / 1e8)
        # Some three steps are a coarse budget, and the reader is told while it runs and at the end.
        words = f"{cell['name']}: a step takes {cell['step']:.1%} of the budget"
        assert called.err.count(words) == called.out.count(words) == 1
    spent = {cell["name"]: cell["spent"] for cell in result["cells"]}
    assert result["paid"] == {
        "tuning": 6e8,
        "training": spent["grpo"] + spent["ugr"],
        "controls": spent["SFT continued"] + spent["random reward"],
    }

    for name in ("board.md", "board.csv", "board.html", "plan.json"):
        assert (compare.folder() / name).stat().st_size > 100
    board = (compare.folder() / "board.md").read_text()
    for name in ("SFT start", "SFT continued", "random reward", "grpo", "ugr", "ceiling"):
        assert name in board
    # Every number's record is a link away from it.
    links = re.findall(r"\]\((\S+/record\.json)\)", board)
    assert len({read_record(compare.folder() / link)["run_id"] for link in links}) == 4
    assert "SFT continued" in called.out and "Paid, of what was announced: " in called.out

    # Given again it finds everything, and with more seeds all but these.
    taken, before = steps_taken["taken"], {key: value["run_id"] for key, value in records.items()}
    assert compare.call("ugr,grpo", "--seeds", "1").code == 0
    assert steps_taken["taken"] == taken
    called = compare.call("grpo,ugr", "--seeds", "2")
    assert "runs finished already: 4 of 8" in called.err
    after = {key: value["run_id"] for key, value in compare.records().items()}
    assert len(after) == 8 and before.items() <= after.items()
    assert len(run_folders(compare.output)) == 8


def test_supervised_controls_and_a_way_to_decode_stand_beside_what_is_trained(
    compare: Compare, sweeps: Sweeps
) -> None:
    called = compare.call("grpo", "--seeds", "1", "--controls", "sft,bear,d3")
    assert called.code == 0, called.err
    records = compare.records()
    names = ["grpo", "SFT continued", "bear untuned", "d3 untuned"]
    assert [name for name, _ in records] == names
    assert records["d3 untuned", 0]["trained"] is False
    cells = json.loads((compare.folder() / "result.json").read_text())["cells"]
    assert [cell["name"] for cell in cells if cell["step"] == 0] == ["d3 untuned"]
    board = (compare.folder() / "board.md").read_text()
    assert all(name in board for name in names)


def without(words: list[str], *options: str) -> list[str]:
    """The same command without some options and their values."""
    places = [words.index(option) for option in options]
    return [word for n, word in enumerate(words) if n not in places and n - 1 not in places]


def test_runs_have_the_budget_of_the_plan_though_none_was_given(
    compare: Compare,
    sweeps: Sweeps,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(compare_command, "BUDGET", "0.05xsft")
    words = without(compare.words("grpo", "--seeds", "1"), "--budget")
    called = call(capsys, words)
    assert called.code == 0, called.err
    plan = json.loads((compare.folder() / "plan.json").read_text())
    records = compare.records()
    assert [name for name, _ in records] == ["grpo", "SFT continued", "random reward"]
    assert {record["budget"]["limit"] for record in records.values()} == {plan["budget"]}
    assert {record["track"]["budget"] for record in records.values()} == {plan["budget"]}


def test_a_quick_one_tunes_nothing_and_says_what_the_full_one_adds(
    compare: Compare, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("QUICK_BUDGET", "BUDGET"):
        monkeypatch.setattr(compare_command, name, BUDGET)
    words = without(compare.words("grpo", "--quick"), "--tuning-budget", "--budget")
    told = call(capsys, [*words, "--plan"])
    assert told.code == 0 and "Nothing is tuned" in told.out
    called = call(capsys, [*words, "--seeds", "2"])
    assert called.code == 0, called.err
    records = compare.records()
    assert list(records) == [("grpo", 0), ("SFT continued", 0), ("grpo", 1), ("SFT continued", 1)]
    assert {record["budget"]["limit"] for record in records.values()} == {BUDGET}
    assert {str(record["tuning"]) for record in records.values()} == {"None"}
    assert not any("tuning" in record["track"] for record in records.values())
    chosen = records["grpo", 0]["configuration"]["hyperparameters"]
    assert chosen["learning_rate"] is None
    # Which one to use comes first, and last what the full comparison would add and cost.
    first, last = called.out.splitlines()[0], called.out.splitlines()[-1]
    assert first.startswith(("Use ", "No algorithm was shown to beat both the SFT start and "))
    assert last.startswith("The full comparison, without --quick, adds tuning of every algorithm")
    assert "each, or more); the control random reward. It costs " in last
    for name in ("board.md", "board.html"):
        assert last.split("(")[0] in (compare.folder() / name).read_text()


def test_small_steps_are_not_told_of(
    compare: Compare, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(comparison_result, "LARGE_STEP", 0.9)
    called = compare.call("grpo", "--seeds", "1")
    assert called.code == 0 and "a step takes" not in called.err + called.out


def test_a_result_of_another_study_is_another_run_with_its_own_bill(
    compare: Compare, sweeps: Sweeps
) -> None:
    compare.json("grpo", "--seeds", "1")
    # Another way to search ends at the same point, and so do more trials of it.
    bills = {("another", 3): 2e8, ("another", 5): 2.5e8}
    for number, ((sweeps.study, sweeps.trials), sweeps.flops) in enumerate(bills.items()):
        (cell, *_) = compare.json("grpo", "--seeds", "1")["cells"]
        record = read_record(compare.folder() / cell["record"])
        assert record["tuning"]["flops"] == sweeps.flops
        # Its own run; the controls are the same.
        assert len(run_folders(compare.output)) == 4 + number


def test_several_processes_are_refused_before_anything_starts(
    compare: Compare, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for words in ((), ("--plan",)):
        message = only_error(compare.call("grpo", *words))
        assert message.startswith("compare is one of 2 processes that a launcher started")
    assert not sweeps.asked and not compare.output.exists()


def test_a_run_that_is_killed_goes_on(
    compare: Compare,
    sweeps: Sweeps,
    steps_taken: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("genrec_bench.training.loop.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    assert compare.call("grpo", "--seeds", "2").code == 0
    wanted, steps_needed = compare.comparable_records(), steps_taken["taken"]
    shutil.rmtree(compare.output)

    # In the second step of the first run, and in the last of the last.
    steps_taken["raise"] = {steps_needed + 2: Killed(), 2 * steps_needed + 1: Killed()}
    for _ in range(2):
        with pytest.raises(Killed):
            compare.call("grpo", "--seeds", "2")
    assert compare.call("grpo", "--seeds", "2").code == 0
    # Two steps were begun twice; none was ended twice.
    assert steps_taken["taken"] == 2 * steps_needed + 2
    assert compare.comparable_records() == wanted
    assert len(run_folders(compare.output)) == len(wanted) == 6


def test_a_plan_starts_nothing(
    compare: Compare, sweeps: Sweeps, data: Path, tmp_path: Path
) -> None:
    fresh = save_tiny(tmp_path / "data")
    compare.data, before = fresh, sorted(fresh.rglob("*"))
    called = compare.call("grpo,sft", "--plan")
    assert called.code == 0 and called.err == ""
    # 2 x 400, 2 x 10 x 100, and one control: SFT is tuned.
    assert "in all" in called.out and "3.8 GFLOP" in called.out
    told = compare.json("grpo,sft", "--plan", "--seeds", "2", "--tuning-budget", "1Gflop")
    assert told["total"] == 2e9 + 4e8 + 2e8 and told["seeds"] == [0, 1]
    assert sorted(fresh.rglob("*")) == before and not compare.output.exists()
    assert not sweeps.asked
    assert "not known before the SFT start is trained" in called.out
    # With an SFT start its rate is known.
    compare.data = data
    assert compare.call("grpo", "--seeds", "1").code == 0
    assert "Time: about " in compare.call("grpo", "--seeds", "1", "--plan").out


def test_a_second_one_at_the_same_time_is_refused(
    compare: Compare, sweeps: Sweeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    def tune(*_: Any) -> Tuned:
        # What a second process would find.
        lock = compare.folder() / "lock"
        with lock.open("ab") as handle, pytest.raises(BlockingIOError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(compare_module, "tune", tune)
        compare.call("grpo", "--seeds", "1")
    with (compare.folder() / "lock").open("ab") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        called = compare.call("grpo", "--seeds", "1")
        # Another one is no matter.
        assert "at work" not in compare.call("grpo", "--seeds", "1", "--trials", "2").err
    assert last_error(called).endswith("an equal comparison is at work on it; wait for its end")


def test_mistakes_are_told_before_anything_starts(compare: Compare, sweeps: Sweeps) -> None:
    for algorithms, words, message in (
        ("grop", [], "there is no algorithm 'grop'; did you mean 'grpo'?"),
        ("grpo,grpo", [], "--algorithms: grpo is given twice"),
        (",", [], "--algorithms: name at least one"),
        ("grpo", ["--controls", "sft,grpp"], "there is no algorithm 'grpp'; did you mean 'grpo'?"),
        ("grpo", ["--controls", "sft,sft"], "--controls: SFT continued is given twice"),
        ("grpo", ["--tuning-budget", "9s"], "--tuning-budget 9s and --budget 100Mflop: must be"),
        ("grpo", ["--tuning-budget", "10Mflop"], "--trial-budget 50Mflop: is more than --tuning"),
        ("ugr", ["alpha_min=0"], "--set alpha_min: neither a hyperparameter of sft nor a setting"),
        ("grpo", ["precision=int8"], "precision=int8: must be one of auto, fp32, bf16-mixed, bf16"),
    ):
        assert last_error(compare.call(algorithms, *words)).startswith(message)
    for words, message in (
        (["--seeds", "0"], "argument --seeds: 0: must be how many, from 1 to 1000, or each seed"),
        (["--seeds", "1", "--seed", "2"], "argument --seed: not allowed with argument --seeds"),
        (["--seed", "1000"], "--seeds: 1000 is the seed of tuning"),
        (["--trials", "-1"], "argument --trials: -1: must be a whole number from 1 to 100000"),
        (["--sampler", "grid"], "argument --sampler: invalid choice: 'grid'"),
    ):
        assert only_error(compare.call("grpo", *words)).startswith(message)
    assert not sweeps.asked and not run_folders(compare.output)


def test_tuning_reads_no_test_example_and_goes_on_where_it_was_killed(
    compare: Compare, steps_taken: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("genrec_bench.training.loop.SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    events: list[str] = []
    for module in (post_training, evaluation_cache):

        def evaluate(*args: Any, title: str, real: Any = module.evaluate, **more: Any) -> Any:
            events.append(title)
            return real(*args, title=title, **more)

        monkeypatch.setattr(module, "evaluate", evaluate)
    monkeypatch.setattr(compare_module, "do", _marked(jobs.do, events))

    words = (*TUNING, "100Mflop")
    assert compare.call("grpo", *words).code == 0
    tuning, cells = events[: events.index("run")], events[events.index("run") :]
    assert tuning.count("valid") == 3 and not [title for title in tuning if "test" in title]
    # Once a run; that of the SFT start is kept.
    assert cells.count("test") == 3 and cells.count("SFT test") <= 1
    wanted, needed = compare.records(), steps_taken["taken"]
    equal = compare.comparable_records()
    bill = wanted["grpo", 0]["tuning"]
    assert bill["trials"] == 3 and bill["failed"] == 0 and 0 < bill["flops"] <= 3e8
    result = json.loads((compare.folder() / "result.json").read_text())
    assert result["paid"]["tuning"] == bill["flops"]
    (tuned,) = result["tuned"]
    chosen = wanted["grpo", 0]["configuration"]["hyperparameters"]
    assert f"learning_rate={chosen['learning_rate']!r}" in tuned["set"]

    shutil.rmtree(compare.output)
    # In the middle of the second trial.
    steps_taken["raise"] = {needed + 4: Killed()}
    with pytest.raises(Killed):
        compare.call("grpo", *words)
    assert compare.call("grpo", *words).code == 0
    assert steps_taken["taken"] == 2 * needed + 1
    assert compare.comparable_records() == equal


def _marked(action: Callable[..., Path], events: list[str]) -> Callable[..., Path]:
    def marked(*args: Any, **more: Any) -> Path:
        events.append("run")
        return action(*args, **more)

    return marked
