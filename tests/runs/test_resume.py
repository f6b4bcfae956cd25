"""A run that is cut short, at whatever point, and taken up; and equal runs side by side."""

import json
from typing import Any

import pandas as pd
import pytest
from board_world import comparable
from tiny_runs import (
    Bench,
    Called,
    Killed,
    equal_weights,
    last_error,
    record_and_curves,
    run_folders,
    weights,
)

from genrec_bench.runs import post_training
from genrec_bench.runs import run_folder as run_folder_module
from genrec_bench.storage.digests import json_digest
from genrec_bench.storage.locks import try_lock
from genrec_bench.training import loop, steps, supervised_steps
from genrec_bench.training.checkpoints import STATE, training_checkpoints


@pytest.mark.parametrize(
    ("algorithm", "more"),
    [
        ("ugr", ()),
        ("ugr", ("--budget", "500Mflop")),
        ("grpo", ("beta=0.1", "sync_every=1", "minibatches=2", "updates_per_rollout=2")),
        ("sft", ()),
        # Its best look comes before the end of the process.
        ("sft", ("keep=best", "learning_rate=0.1", "validation_examples=24")),
        ("grpo", ("lora_rank=2", "sft_epochs=0.2", "reward=random")),
        # Its candidates are drawn, and refills decide which prompts come next.
        ("srpo", ("sft_epochs=0.5", "k=2")),
        # It has a head with an optimizer state, and searches that draw.
        ("vstar", ("sft_epochs=0.5", "token_budget=2", "minibatches=2")),
    ],
)
def test_the_same_command_resumes_a_run_that_was_cut_short(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, algorithm: str, more: tuple[str, ...]
) -> None:
    more = (*more, "steps=6")
    whole = bench.run(algorithm, *more)
    kind = supervised_steps.SupervisedStepper if algorithm == "sft" else steps.RolloutStepper
    real = kind.step
    taken: list[int] = []

    def die_at_four(self: Any, index: int, share: float, part: float = 1.0) -> dict[str, float]:
        if index == 4:
            raise Killed
        return real(self, index, share, part)

    def count(self: Any, index: int, share: float, part: float = 1.0) -> dict[str, float]:
        taken.append(index)
        return real(self, index, share, part)

    monkeypatch.setattr(loop, "SECONDS_BETWEEN_CHECKPOINTS", -1.0)
    monkeypatch.setattr(kind, "step", die_at_four)
    with pytest.raises(Killed):
        bench.call(algorithm, *more)
    (cut,) = set(run_folders(bench.output)) - {whole}
    assert not (cut / "record.json").exists()
    names = [path.name for path in training_checkpoints(cut / "checkpoints")]
    assert names == ["step-00000003", "step-00000004"]

    monkeypatch.setattr(kind, "step", count)
    called = bench.call(algorithm, *more)
    assert called.out.strip() == f"record: {cut / 'record.json'}"
    assert "resumed after step 4" in called.err and taken[0] == 4
    (expected, expected_curves), (record, curves) = map(record_and_curves, (whole, cut))
    assert comparable(record) == comparable(expected)
    pd.testing.assert_frame_equal(
        curves.drop(columns="seconds"), expected_curves.drop(columns="seconds")
    )
    if algorithm == "srpo":
        assert (curves["accepted"] < 1).sum() > 2
    assert equal_weights(whole, cut)
    if algorithm == "vstar":
        assert any(key.startswith("value") for key in weights(cut))
        assert (curves["value_loss"][1:] > 0).all() and curves["value_loss"].nunique() > 1
    assert not (cut / "checkpoints").exists()

    # What is finished is left alone.
    before = (cut / "record.json").read_bytes()
    third = bench.run(algorithm, *more)
    assert third not in (whole, cut) and (cut / "record.json").read_bytes() == before


def cut_after_training(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(post_training, "merge_adapters", lambda _: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            bench.call("grpo")


def test_a_run_cut_short_in_its_evaluation_does_not_train_again(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = bench.run("grpo")
    expected = record_and_curves(whole)[0]
    cut_after_training(bench, monkeypatch)
    (cut,) = set(run_folders(bench.output)) - {whole}
    with monkeypatch.context() as patch:
        patch.delattr(steps.RolloutStepper, "step")
        assert bench.run("grpo") == cut
    assert comparable(record_and_curves(cut)[0]) == comparable(expected)


def test_another_request_does_not_take_a_cut_run_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut_after_training(bench, monkeypatch)
    (cut,) = run_folders(bench.output)
    for more in (("--seed", "1"), ("clip_low=0.1",), ("steps=3",), ("beam_width=12",)):
        assert bench.run("grpo", *more) != cut
    assert bench.run("ugr") != cut


@pytest.mark.parametrize(
    ("where", "name"), [(steps.RolloutStepper, "step"), (run_folder_module, "try_lock")]
)
def test_two_equal_runs_at_once_get_a_folder_each(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, where: Any, name: str
) -> None:
    """Overtaken by another in a step, or between making its folder and locking it."""
    inner: list[Called] = []
    real = getattr(where, name)

    def overtaken(*arguments: Any) -> Any:
        if not inner:
            # Set before the call: the other run starts no third one.
            inner.append(Called(0, "", ""))
            inner[0] = bench.call("grpo")
        return real(*arguments)

    monkeypatch.setattr(where, name, overtaken)
    outer = bench.run("grpo")
    folders = run_folders(bench.output)
    assert inner[0].code == 0 and len(folders) == 2 and outer in folders
    one, other = (record_and_curves(folder)[0] for folder in folders)
    assert comparable(one) == comparable(other)


def test_a_run_that_ends_while_it_is_looked_at_is_not_taken_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other run's lock is free because it has finished, not because it was cut short."""
    finished = bench.run("grpo")
    record = finished / "record.json"
    hidden = record.rename(finished / "hidden")

    def finish_first(*arguments: Any) -> bool:
        if hidden.exists():
            hidden.rename(record)
        return try_lock(*arguments)

    monkeypatch.setattr(run_folder_module, "try_lock", finish_first)
    before = hidden.read_bytes()
    assert bench.run("grpo") != finished
    assert record.read_bytes() == before


@pytest.mark.parametrize(
    "changes",
    [{"stepper": {}}, {"random": {"cpu": [1, 2]}}, {"spent": {"update": {"x": 1}}}, {"step": "x"}],
    ids=str,
)
def test_a_checkpoint_of_other_work_is_not_taken_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    cut_after_training(bench, monkeypatch)
    (cut,) = run_folders(bench.output)
    state = training_checkpoints(cut / "checkpoints")[-1] / STATE
    content = json.loads(state.read_text())["content"] | changes
    state.write_text(json.dumps({"content": content, "sha256": json_digest(content)}))
    assert "its last checkpoint is of other work" in last_error(bench.call("grpo"))
