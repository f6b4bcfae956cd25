"""What runs there are, and what of them can go."""

import contextlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from tiny_runs import Bench, Called, Killed, call, only_error

from genrec_bench.commands.clean_command import size_text, time_text
from genrec_bench.runs.records import read_record
from genrec_bench.storage.locks import try_lock
from genrec_bench.training import loop, steps

pytestmark = pytest.mark.usefixtures("somewhere")


def clean(bench: Bench, *words: str) -> Called:
    return call(bench.capsys, ["clean", *words, "--output", str(bench.output)])


def told(bench: Bench, *words: str) -> dict[str, Any]:
    called = clean(bench, *words, "--json")
    assert called.code == 0, called.err
    content: dict[str, Any] = json.loads(called.out)
    return {row["kind"]: row for row in content["kinds"]} | {"paths": content["paths"]}


def states(bench: Bench) -> dict[str, str]:
    called = call(bench.capsys, ["runs", "list", "--output", str(bench.output), "--json"])
    assert called.code == 0, called.err
    return {row["run"]: row["state"] for row in json.loads(called.out)}


@pytest.fixture
def house(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """A finished run with what a kill left, a failed one, and one that was cut short."""
    finished = bench.run("sft")
    (finished / ("checkpoints/step-00000001")).mkdir(parents=True)
    (finished / "checkpoints/step-00000001/state.json").write_text("{}")
    (finished / f".policy.{'a' * 32}").mkdir()
    known = {"finished": finished}
    for name, error in (("failed", RuntimeError("no")), ("cut", Killed())):
        before = set(bench.output.glob("*/*/run.json"))
        with monkeypatch.context() as patch, pytest.raises(type(error)):
            patch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
            taken: list[int] = []
            step = steps.RolloutStepper.step

            def stops(
                self: Any, *args: Any, step: Any = step, taken: Any = taken, error: Any = error
            ) -> Any:
                taken.append(1)
                if len(taken) == 2:
                    raise error
                return step(self, *args)

            patch.setattr(steps.RolloutStepper, "step", stops)
            bench.call("grpo", "--seed", "1" if name == "cut" else "2")
        (new,) = set(bench.output.glob("*/*/run.json")) - before
        known[name] = new.parent
    return known


def test_what_sets_a_run_apart_is_listed(bench: Bench) -> None:
    bench.run("sft")
    draw = bench.run("sft", "test_examples=10").relative_to(bench.output).as_posix()
    words = ["runs", "list", "--output", str(bench.output)]
    rows = json.loads(call(bench.capsys, [*words, "--json"]).out)
    marks = {row["run"]: row["marks"] for row in rows}
    part = "part of the training data"
    assert marks.pop(draw) == [part, "judged on a draw of 10"] and [*marks.values()] == [[part]]
    table = call(bench.capsys, words).out
    assert f"{part}; judged on a draw of 10" in table
    assert table.endswith("whole ones, which have none\n")


def test_nothing_goes_unless_it_is_asked_for(bench: Bench, house: dict[str, Path]) -> None:
    names = {name: folder.relative_to(bench.output).as_posix() for name, folder in house.items()}
    assert states(bench) == {
        names["finished"]: "complete",
        names["failed"]: "failed",
        names["cut"]: "cut short",
    }
    files = sorted(bench.output.rglob("*"))
    rows = told(bench)
    counts = {kind: row["number"] for kind, row in rows.items() if kind != "paths"}
    assert counts == {"leftovers": 1, "checkpoints": 2, "policies": 1, "unfinished": 1}
    spent = read_record(house["finished"])["budget"]["spent"]["update"]["seconds"]
    assert rows["policies"]["seconds"] == spent and rows["checkpoints"]["seconds"] == 0
    assert rows["unfinished"]["seconds"] > 0 and rows["policies"]["bytes"] > 10_000
    shown = clean(bench)
    assert "would be removed by `genrec-bench clean --yes`; nothing was changed" in shown.out
    assert sorted(bench.output.rglob("*")) == files


def test_what_nobody_misses_goes_first(bench: Bench, house: dict[str, Path]) -> None:
    called = clean(bench, "--yes")
    assert called.code == 0 and "\nremoved: " in called.out
    assert {path.name for path in house["finished"].iterdir()} == {
        *("run.json", "record.json", "outcomes.parquet", "curves.parquet", "policy")
    }
    assert not (house["failed"] / "checkpoints").exists()
    assert (house["cut"] / "checkpoints").exists()
    assert told(bench)["checkpoints"]["number"] == 0
    # The run that was cut short goes on.
    assert bench.run("grpo", "--seed", "1") == house["cut"]


def test_policies_and_runs_that_were_cut_short_go_by_name(
    bench: Bench, house: dict[str, Path]
) -> None:
    assert clean(bench, "policies", "unfinished", "--yes").code == 0
    assert not house["cut"].exists() and not (house["finished"] / "policy").exists()
    assert (house["finished"] / "checkpoints").exists()
    read_record(house["finished"])
    words = ["recommend", str(house["finished"]), "--history", "item 1"]
    assert "run --from-record" in only_error(call(bench.capsys, words))


def test_a_run_at_work_is_left_alone(bench: Bench, house: dict[str, Path]) -> None:
    with contextlib.ExitStack() as stack:
        for folder in house.values():
            assert try_lock(folder / "run.json", stack)
        assert set(states(bench).values()) == {"at work"}
        assert clean(bench, "leftovers", "checkpoints", "policies", "unfinished", "--yes").code == 0
    assert all(folder.exists() for folder in house.values())
    assert (house["finished"] / "policy").exists() and (house["failed"] / "checkpoints").exists()


def test_a_damaged_record_is_named_and_left(bench: Bench, house: dict[str, Path]) -> None:
    (house["finished"] / "record.json").write_text("[")
    assert sorted(states(bench).values()) == ["cut short", "damaged", "failed"]
    assert clean(bench, "policies", "--yes").code == 0
    assert (house["finished"] / "policy").exists()


def test_mistakes_are_one_line(bench: Bench) -> None:
    message = only_error(clean(bench, "policy"))
    assert message.startswith("clean policy: must be one of leftovers, checkpoints, policies")
    assert message.endswith("did you mean 'policies'?")
    shutil.rmtree(bench.output, ignore_errors=True)
    assert "there is no such folder" in only_error(clean(bench))
    bench.output.mkdir()
    called = call(bench.capsys, ["runs", "list", "--output", str(bench.output)])
    assert called.out == "no runs\n"


def test_sizes_and_times_are_written_for_people() -> None:
    assert [size_text(n) for n in (0, 999, 4_226_296, 10**13)] == [
        "0 B",
        "999 B",
        "4.23 MB",
        "10 TB",
    ]
    assert [time_text(n) for n in (0, 59.6, 600, 9000)] == ["none", "60 s", "10 min", "2.5 h"]
