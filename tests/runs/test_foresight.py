"""What a run will need is told, or refused, before an SFT start is trained."""

from collections import namedtuple
from pathlib import Path

import pytest
import torch
from small_models import save_backbone
from tiny_runs import (
    call,
    last_error,
    run_folders,
    run_words,
    save_tiny,
    shrink_backbone,
    tiny_dataset,
)

from genrec_bench.policy import room
from genrec_bench.policy.footprint import footprint
from genrec_bench.policy.room import free_memory
from genrec_bench.runs import foresight
from genrec_bench.runs.foresight import expected_memory
from genrec_bench.runs.jobs import Job, configured
from genrec_bench.runs.request import Request

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """No SFT start can be trained."""
    monkeypatch.setattr("genrec_bench.training.sft_start.train_start", None)


@pytest.mark.parametrize("algorithm", ["grpo", "ugr", "srpo", "vstar", "sft"])
@pytest.mark.parametrize("budget", ["10tok", "1kflop"])
def test_a_budget_below_one_step_is_refused_before_anything_is_trained(
    capsys: Capture, tmp_path: Path, untrained: None, algorithm: str, budget: str
) -> None:
    words = run_words(algorithm, save_tiny(tmp_path), tmp_path / "out", "--budget", budget)
    said = last_error(call(capsys, words))
    assert said.startswith(f"--budget {budget}: too small for one step of {algorithm}, which takes")
    assert not run_folders(tmp_path / "out")


def test_a_sweep_is_refused_whose_trials_do_not_pay_for_a_step(
    capsys: Capture, tmp_path: Path, untrained: None
) -> None:
    words = run_words("grpo", save_tiny(tmp_path), tmp_path / "out")
    words = ["sweep", *words[1:], "--total-budget", "1Mtok", "--trial-budget", "10tok"]
    said = last_error(call(capsys, words))
    assert said.startswith("--trial-budget 10tok: too small for one step of grpo")


Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("command", ["run", "sweep", "ablate"])
def test_a_disk_without_room_for_a_checkpoint_is_refused(
    capsys: Capture,
    tmp_path: Path,
    untrained: None,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(10, 0, 1000))
    words = [command, *run_words("ugr", save_tiny(tmp_path), tmp_path / "out")[1:]]
    more = {"sweep": ["--total-budget", "1Gflop", "--trial-budget", "1Gflop"]}
    said = last_error(call(capsys, [*words, *more.get(command, [])]))
    assert "a checkpoint and the policy take" in said and "GB are free" in said


@pytest.mark.parametrize(
    ("word", "told"),
    [
        ("precision=bf16", "precision=bf16: all weights are trained, and of weights in bfloat16"),
        ("dtype=bfloat16", "--set dtype: neither a hyperparameter of grpo nor a setting; set prec"),
        ("dtype=float32", "--set dtype: neither a hyperparameter of grpo nor a setting; set prec"),
    ],
)
def test_weights_are_not_trained_in_16_bits(
    capsys: Capture, tmp_path: Path, untrained: None, word: str, told: str
) -> None:
    given = run_words("grpo", save_tiny(tmp_path), tmp_path / "out", word)
    assert last_error(call(capsys, given)).startswith(told)


@pytest.mark.parametrize(
    ("free", "remedy"),
    [(10**9, ""), (2 * 10**7, "tokens_per_forward="), (10**6, "a smaller model")],
)
def test_memory_that_does_not_suffice_is_warned_of(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, remedy: str
) -> None:
    shrink_backbone(monkeypatch)
    monkeypatch.setattr(foresight, "free_memory", lambda _: free)
    monkeypatch.setattr("genrec_bench.training.sft_start.train_start", None)
    words = run_words("grpo", save_tiny(tmp_path), tmp_path / "out", "sft_batch=512")
    with pytest.raises(TypeError, match="not callable"):
        call(capsys, words)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert len(lines) == bool(remedy)
    assert all(line.startswith("warning: about ") and remedy in line for line in lines)


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (("group_size=4096", "prompts_per_step=65536"), "a smaller group_size, beam_width"),
        (("beam_width=4096", "pass_samples=4096"), "set a smaller group_size, beam_width"),
        (("sft_batch=65536", "tokens_per_forward=16777216"), "set tokens_per_forward="),
    ],
)
def test_what_the_machine_cannot_hold_is_refused_with_what_would_fit(
    capsys: Capture,
    tmp_path: Path,
    untrained: None,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    remedy: str,
) -> None:
    shrink_backbone(monkeypatch)
    there = {"group_size=4096": 10**10, "beam_width=4096": 4 * 10**6}.get(words[0], 10**8)
    monkeypatch.setattr(foresight, "whole_memory", lambda _: there)
    monkeypatch.setattr(foresight, "program_memory", lambda _: 0)
    given = run_words("grpo", save_tiny(tmp_path), tmp_path / "out", *words)
    said = last_error(call(capsys, given))
    assert "the run needs about" in said and "and this machine has" in said and remedy in said


def test_a_language_model_is_weighed_by_its_configuration(tmp_path: Path) -> None:
    save_backbone(tmp_path / "model")
    found = footprint(str(tmp_path / "model"), 12)
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    hidden = model.config.hidden_size
    tables = 1 if model.config.tie_word_embeddings else 2
    assert found is not None
    assert found.parameters == sum(p.numel() for p in model.parameters()) + 12 * hidden * tables
    assert found.of_pass.vocabulary == model.config.vocab_size + 12
    assert footprint(str(tmp_path), 12) is None


@pytest.mark.parametrize(
    ("backbone", "words", "fits"),
    [
        ("Qwen/Qwen2.5-1.5B", ("precision=bf16-mixed", "beta=0.01"), True),
        ("Qwen/Qwen3-8B", ("precision=bf16-mixed", "lora_rank=16", "beta=0.01"), True),
        ("Qwen/Qwen3-8B", ("precision=bf16", "lora_rank=16", "beta=0.01"), True),
        ("Qwen/Qwen3-8B", ("precision=bf16-mixed",), False),
    ],
)
def test_models_that_fit_a_gpu_of_80_gb_by_the_plan(
    monkeypatch: pytest.MonkeyPatch, backbone: str, words: tuple[str, ...], fits: bool
) -> None:
    whole, free = 80 * 10**9, 79 * 10**9
    monkeypatch.setattr(room, "free_memory", lambda _: free)
    monkeypatch.setattr(foresight, "program_memory", lambda _: 0)
    entry, algorithm, settings = configured(Job("grpo", "grpo"), [*words, "prompt=text"])
    where = (backbone, settings, None, 0, Path(), Path())
    need = expected_memory(Request(entry, algorithm, tiny_dataset(), *where), torch.device("cuda"))
    assert need is not None and (need.total < whole) == fits
    if fits:
        assert need.of_pass.tokens >= 1024, "a batch, or as many as a GPU is busy with"
        assert need.remedy(whole).startswith("set tokens_per_forward=")


def test_memory_of_a_container_is_what_its_limit_leaves() -> None:
    assert 0 < free_memory(torch.device("cpu")) < 2**50


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("lora_rank=65536", "lora_rank=65536: must be at most 4096"),
        ("lora_rank=4000", "lora_rank=4000: must be below the width of the backbone, 32"),
        ("lora_rank=32", "lora_rank=32: must be below the width of the backbone, 32"),
        ("group_size=100000", "group_size=100000: must be between 1 and 4096"),
        ("steps=99999999999", "steps=99999999999: must be at most 10000000"),
        ("sft_epochs=1e9", "sft_epochs=1000000000.0: must be at most 10000"),
        ("sft_evaluations=1e300", "sft_evaluations=1e+300: must be at most 1000"),
        ("tokens_per_forward=999999999", "tokens_per_forward=999999999: must be at most"),
    ],
)
def test_settings_have_bounds_that_make_sense(
    capsys: Capture,
    tmp_path: Path,
    untrained: None,
    monkeypatch: pytest.MonkeyPatch,
    word: str,
    said: str,
) -> None:
    shrink_backbone(monkeypatch)
    words = run_words("grpo", save_tiny(tmp_path), tmp_path / "out", word)
    assert last_error(call(capsys, words)).startswith(said)


@pytest.mark.parametrize("words", [(), ("lora_rank=8",), ("precision=bf16", "lora_rank=8")])
def test_a_model_that_the_machine_cannot_hold_is_refused(
    capsys: Capture,
    tmp_path: Path,
    untrained: None,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
) -> None:
    monkeypatch.setattr(foresight, "whole_memory", lambda _: 10**5)
    given = run_words("grpo", save_tiny(tmp_path), tmp_path / "out", *words)
    said = last_error(call(capsys, given))
    assert said.startswith("--backbone tiny: its weights and their optimizer take ")
