"""Settings: what they refuse, and what of them a result and an SFT start depend on."""

import dataclasses

import pytest

from genrec_bench.errors import UserError
from genrec_bench.runs.registry import discover
from genrec_bench.training.hyperparameters import describe_fields, from_words
from genrec_bench.training.settings import (
    PASSES,
    REPORTED,
    SETTING_NAMES,
    UNSAID,
    Settings,
    as_asked,
)

IN_THE_SFT_START = {
    "sft_epochs": "3",
    "sft_batch": "64",
    "sft_targets": "10",
    "sft_learning_rate": "0.001",
    "sft_weight_decay": "0.2",
    "sft_evaluations": "4",
    "sft_patience": "9",
    "sft_valid_examples": "100",
    "sft_seed": "1",
    "logprob_space": "trie",
    "warmup": "0.1",
    "max_grad_norm": "2",
    "sft_tasks": "next-item,title-sid",
    "sft_code_tokens": "titles",
    "sft_traces": __file__,
    "sft_trace_pace": "2",
    "lora_rank": "8",
    "precision": "bf16-mixed",
}
ELSEWHERE = {
    "anchor": "0.5",
    "group_size": "8",
    "prompts_per_step": "32",
    "steps": "7",
    "beam_width": "50",
    "prompt": "text",
    "weight_decay": "0.1",
    "tokens_per_forward": "512",
    "checkpointing": "on",
    "acceleration": "record",
    "ks": "1,7",
    "metrics": "mine.py",
    "keep_lists": "true",
    "mode": "reason",
    "thought_tokens": "8",
    "pass_samples": "0",
    "pass_temperature": "1",
    "pass_top_p": "1",
    "embeddings": "collaborative",
    "keep": "best",
    "epochs": "2",
    "feedback": "logged",
    "validations": "0",
    "validation_examples": "100",
    "test_examples": "100",
}


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("group_size", "0", "group_size=0: must be between 1 and 4096"),
        ("steps", "-3", "steps=-3: must be at least 1"),
        ("steps", "1.5", "steps=1.5: must be an int"),
        ("warmup", "1", "warmup=1.0: must be between 0 and 0.9"),
        ("warmup", "nan", "warmup=nan: must be between 0 and 0.9"),
        ("max_grad_norm", "0", "max_grad_norm=0.0: must be at least 1e-06"),
        ("sft_seed", "9999999999", "sft_seed=9999999999: must be between 0 and 2147483647"),
        ("sft_targets", "0", "sft_targets=0: must be between 1 and 4096"),
        ("sft_epochs", "-1", "sft_epochs=-1.0: must be at least 0"),
        ("sft_learning_rate", "2", "sft_learning_rate=2.0: must be between 1e-08 and 1"),
        ("precision", "fp64", "precision=fp64: must be one of auto, fp32, bf16-mixed, bf16"),
        ("precision", "bf16", "precision=bf16: all weights are trained"),
        ("logprob_space", "tree", "logprob_space=tree: must be one of full, level, trie"),
        ("pass_samples", "-1", "pass_samples=-1: must be between 0 and 4096"),
        ("pass_temperature", "0", "pass_temperature=0.0: must be between 0.01 and 100"),
        ("pass_top_p", "0", "pass_top_p=0.0: must be between 1e-06 and 1"),
        ("pass_top_p", "1.1", "pass_top_p=1.1: must be between 1e-06 and 1"),
        # What is open above is still finite.
        ("sft_epochs", "inf", "sft_epochs=inf: must be a finite number"),
        ("max_grad_norm", "inf", "max_grad_norm=inf: must be a finite number"),
        ("sft_evaluations", "inf", "sft_evaluations=inf: must be a finite number"),
        ("prompt", "words", "prompt=words: must be one of auto, compact, text"),
    ],
)
def test_a_wrong_value_is_refused(name: str, text: str, said: str) -> None:
    with pytest.raises(UserError) as raised:
        from_words(Settings, {name: text})
    assert str(raised.value).startswith(said)


def test_a_setting_that_may_be_left_to_the_backbone() -> None:
    assert from_words(Settings, {"sft_learning_rate": "none"}) == Settings()
    assert from_words(Settings, {"sft_learning_rate": "0.01"}).sft_learning_rate == 0.01


def test_every_setting_is_said_to_bear_on_the_sft_start_or_not() -> None:
    assert IN_THE_SFT_START.keys() | ELSEWHERE.keys() == set(SETTING_NAMES)


@pytest.mark.parametrize(("name", "text"), IN_THE_SFT_START.items())
def test_what_the_sft_start_depends_on(name: str, text: str) -> None:
    changed = from_words(Settings, {name: text})
    assert changed.sft() != Settings().sft()
    assert changed.resolved() != Settings().resolved()


@pytest.mark.parametrize(("name", "text"), ELSEWHERE.items())
def test_what_the_sft_start_does_not_depend_on(name: str, text: str) -> None:
    changed = from_words(Settings, {name: text})
    assert changed != Settings() and changed.sft() == Settings().sft()


def test_how_many_tokens_go_through_at_once_changes_no_result() -> None:
    changed = dataclasses.replace(Settings(), tokens_per_forward=64)
    assert changed.resolved() == Settings().resolved()
    # What chooses nothing is not written down.
    said = from_words(Settings, {name: (IN_THE_SFT_START | ELSEWHERE)[name] for name in UNSAID})
    assert not UNSAID.keys() & Settings().resolved().keys()
    written = set(as_asked(said.resolved()))
    assert written == set(SETTING_NAMES) - {*PASSES, "epochs", *REPORTED}


def test_a_choice_that_is_not_made_leaves_starts_their_name() -> None:
    usual = Settings(sft_targets=1)
    assert usual == Settings() and "sft_targets" not in usual.sft() | usual.resolved()
    assert Settings(sft_targets=10).sft() == usual.sft() | {"sft_targets": 10}


def test_epochs_become_steps() -> None:
    asked = Settings(epochs=1.5, prompts_per_step=64)
    assert asked.of_length(100) == Settings(steps=3, prompts_per_step=64)
    assert asked.of_length(3).steps == 1 and Settings().of_length(100) == Settings()


def test_samples_are_drawn_as_the_paper_draws_them() -> None:
    usual = Settings()
    drawn = usual.pass_samples, usual.pass_temperature, usual.pass_top_p
    assert drawn == (10, 0.7, 0.9), "GREAM's 6.1.2"


def test_every_setting_is_explained() -> None:
    for row in describe_fields(Settings):
        assert row["meaning"], row["name"]
    allowed = {row["name"]: row["allowed"] for row in describe_fields(Settings)}
    assert allowed["sft_seed"] == "0 .. 2147483647", "every digit"
    assert allowed["sft_learning_rate"] == "1e-08 .. 1"


def test_no_algorithm_takes_a_settings_name() -> None:
    for entry in discover().entries:
        own = {field.name for field in dataclasses.fields(entry.algorithm.hyperparameters_class)}
        assert not own & set(SETTING_NAMES), entry.name


@pytest.mark.parametrize(
    ("ks", "beam_width", "expected"),
    [
        ("auto", 20, (1, 3, 5, 10, 20, 50)),
        ("1,5,10,50", 50, (1, 5, 10, 50)),
        # Boards go by figures at 10, which is there wherever the beam allows.
        ("7, 2", 20, (2, 7, 10)),
        ("3", 5, (3,)),
    ],
)
def test_lengths_of_lists_may_be_chosen(
    ks: str, beam_width: int, expected: tuple[int, ...]
) -> None:
    settings = Settings(ks=ks, beam_width=beam_width)
    assert settings.cutoffs == expected
    assert "ks" not in settings.resolved(), "it says what is reported, and changes no run"


@pytest.mark.parametrize(
    ("ks", "told"),
    [
        ("1,x", "ks=1,x: must be auto, or whole numbers above 0"),
        ("0", "ks=0: must be auto"),
        ("", "ks=: must be auto"),
        ("-5", "ks=-5: must be auto"),
        ("1,50", "ks=1,50: lists are beam_width=20 long; set beam_width=50 or more"),
        ("9" * 5000, "must be auto"),
    ],
)
def test_lengths_that_cannot_be_are_refused(ks: str, told: str) -> None:
    with pytest.raises(UserError) as caught:
        Settings(ks=ks)
    assert told in str(caught.value) and "\n" not in str(caught.value)
