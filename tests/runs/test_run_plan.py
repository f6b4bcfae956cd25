"""`run --plan` and a run's first lines say what it needs; nothing is trained for them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import save_backbone
from tiny_runs import call, last_error, only_error, run_words, save_tiny, shrink_backbone

from genrec_bench.policy import layer_pace as paces
from genrec_bench.policy.footprint import footprint
from genrec_bench.policy.layer_pace import layer_pace
from genrec_bench.runs import foresight

Capture = pytest.CaptureFixture[str]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small backbone, and a short calibration."""
    shrink_backbone(monkeypatch)
    monkeypatch.setattr(paces, "ENOUGH", 0.01)


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """No SFT start can be trained."""
    monkeypatch.setattr("genrec_bench.training.sft_start.train_start", None)


def plan(capsys: Capture, tmp_path: Path, *more: str) -> dict[str, Any]:
    data, output = save_tiny(tmp_path / "data"), tmp_path / "out"
    called = call(capsys, run_words("grpo", data, output, "--plan", "--json", *more))
    assert called.code == 0, called.err
    found: dict[str, Any] = json.loads(called.out)
    return found


def test_a_plan_says_all_and_trains_nothing(
    capsys: Capture, tmp_path: Path, untrained: None
) -> None:
    words = run_words("grpo", save_tiny(tmp_path / "data"), tmp_path / "out", "--plan")
    called = call(capsys, words)
    assert called.code == 0, called.err
    head, *lines = called.out.splitlines()
    assert head.startswith("On industrial (partial) and this device (cpu, ")
    named = dict(line.strip().split(": ", 1) for line in lines)
    assert list(named) == ["parameters", "memory", "SFT", "run", "evaluation", "time"]
    assert named["parameters"].endswith("million, all trained")
    for part in ("for weights and optimizer", "for a pass of", "for candidates", "for the program"):
        assert part in named["memory"]
    assert named["SFT"].startswith("at most ") and named["SFT"].endswith("flop")
    assert named["run"].startswith("2 steps, each of about ") and "tok and " in named["run"]
    assert named["time"].startswith("about ") and "flop/s of a layer" in named["time"]
    assert not list((tmp_path / "out").rglob("*.json"))


def test_adapters_are_counted_apart(capsys: Capture, tmp_path: Path) -> None:
    whole, part = plan(capsys, tmp_path), plan(capsys, tmp_path, "lora_rank=4")
    assert whole["trained"] == whole["parameters"] == part["parameters"] > part["trained"] > 0
    assert part["step_flops"] < whole["step_flops"] and part["step_tokens"] == whole["step_tokens"]


@pytest.mark.parametrize("prompts", [2, 8])
def test_a_budget_pays_for_so_many_steps(capsys: Capture, tmp_path: Path, prompts: int) -> None:
    free = plan(capsys, tmp_path, f"prompts_per_step={prompts}")
    tokens, flops = free["step_tokens"], free["step_flops"]
    for budget, steps in (
        (f"{10 * tokens}tok", 10),
        (f"{round(5 * flops)}flop", 5),
        ("2xsft", round(2 * free["sft_flops"] / flops)),
        ("90s", None),
    ):
        found = plan(capsys, tmp_path, "--budget", budget, f"prompts_per_step={prompts}")
        assert (found["steps"], found["step_tokens"]) == (steps, tokens)
        assert found["budget_seconds"] == (90 if budget == "90s" else None)


def test_a_plan_is_refused_where_the_run_would_be(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(foresight, "whole_memory", lambda _: 10**5)
    words = run_words("grpo", save_tiny(tmp_path / "data"), tmp_path / "out", "--plan")
    said = last_error(call(capsys, words))
    assert "its weights and their optimizer take" in said and "take a smaller model" in said


def test_what_is_not_trained_takes_no_steps(capsys: Capture, tmp_path: Path) -> None:
    words = run_words("d3", save_tiny(tmp_path / "data"), tmp_path / "out", "--plan")
    said = call(capsys, words).out
    assert "million, none trained" in said and "  run: no steps\n" in said


def test_a_plan_of_no_algorithm_is_refused(capsys: Capture) -> None:
    assert "name an algorithm" in only_error(call(capsys, ["run", "--plan"]))


def test_a_run_begins_with_its_plan(capsys: Capture, tmp_path: Path, untrained: None) -> None:
    words = run_words("grpo", save_tiny(tmp_path / "data"), tmp_path / "out")
    with pytest.raises(TypeError, match="not callable"):
        call(capsys, words)
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == "grpo on industrial (partial), backbone tiny"
    assert "million parameters, all trained; about " in second and "GB of memory (" in second
    assert "; 2 steps, each of about " in second and second.endswith(" in all")


def test_a_start_that_is_there_costs_nothing_more(capsys: Capture, tmp_path: Path) -> None:
    before = plan(capsys, tmp_path, "--budget", "3xsft")
    made = call(capsys, run_words("sft", tmp_path / "data", tmp_path / "out", "steps=1"))
    assert made.code == 0, made.err
    after = plan(capsys, tmp_path, "--budget", "3xsft")
    assert before["sft_flops"] > after["sft_flops"] == 0
    # What SFT has cost is known now: looks at validation data may have ended it early.
    (start,) = (tmp_path / "data" / "sft").glob("*/sft.json")
    spent = json.loads(start.read_text())["spent"]["sft"]["flops"]
    assert after["steps"] == round(3 * spent / after["step_flops"])
    # Its evaluation is there too.
    assert before["ranking_flops"] > after["ranking_flops"]


def test_the_pace_of_a_layer_needs_no_weights(tmp_path: Path) -> None:
    save_backbone(tmp_path / "model")
    for file in (tmp_path / "model").glob("*.safetensors"):
        file.unlink()
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    for name in ("tiny", str(tmp_path / "model"), "Qwen/Qwen2.5-0.5B"):
        found = layer_pace(name, 12, "fp32", CPU)
        assert found is not None and 1e6 < found < 1e13
        assert layer_pace(name, 12, "fp32", CPU) == found, "measured once"
    assert torch.equal(torch.rand(1), expected), "no random number is drawn"
    assert footprint(str(tmp_path / "nothing"), 12) is None
    assert layer_pace(str(tmp_path / "nothing"), 12, "fp32", CPU) is None
