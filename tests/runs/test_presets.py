"""Presets: the papers' own settings, read, printed, changed, and kept in records."""

import dataclasses
import json
import pickle
import shlex
from pathlib import Path

import pytest
from tiny_runs import SETTINGS, Bench, Called, call, only_error, tiny_dataset

from genrec_bench.errors import UserError
from genrec_bench.policy import layer_pace
from genrec_bench.policy.backbones import TINY_LEARNING_RATE
from genrec_bench.policy.footprint import footprint
from genrec_bench.policy.shapes import SHAPES
from genrec_bench.runs.jobs import Job, configured
from genrec_bench.runs.preset_files import Preset, load_preset, preset_names
from genrec_bench.runs.preset_needs import needs_of
from genrec_bench.runs.records import read_record
from genrec_bench.runs.registry import discover
from genrec_bench.training.hyperparameters import Hyperparameters
from genrec_bench.training.settings import Settings

pytestmark = pytest.mark.usefixtures("somewhere")

MINE = """
title: mine
source: nowhere
algorithm: grpo
backbone: tiny
set: {learning_rate: 2.0e-5, group_size: 5, epochs: 0.1, prompts_per_step: 8, beam_width: 10}
algorithms:
  grpo: {reward: rank}
"""
QUICK = [word for word in SETTINGS if word.startswith("sft_")]


@pytest.fixture
def mine() -> Preset:
    Path("mine.yaml").write_text(MINE)
    return load_preset("./mine.yaml")


def of(algorithm: str, words: tuple[str, ...], preset: Preset) -> tuple[Hyperparameters, Settings]:
    _, made, settings = configured(Job("", algorithm), words, preset)
    return made.hyperparameters, settings


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_fits_every_algorithm(name: str) -> None:
    preset = load_preset(name)
    known = {entry.name for entry in discover().entries}
    assert {preset.says.algorithm, *preset.says.algorithms} <= known
    for algorithm in known:
        try:
            hyperparameters, settings = of(algorithm, (), preset)
        except UserError as error:
            # A copy of the policy that follows it cannot follow adapters.
            assert preset.says.set["lora_rank"] and "moves a copy of the policy" in str(error)
            assert algorithm not in {preset.says.algorithm, *preset.says.algorithms}
            of(algorithm, ("lora_rank=0",), preset)
            continue
        for key, value in preset.says.set.items():
            assert getattr(hyperparameters if key == "learning_rate" else settings, key) == value
        for key, value in preset.says.algorithms.get(algorithm, {}).items():
            assert getattr(hyperparameters, key) == value
    # What a paper says and the file leaves out would be the default without a word.
    assert {"learning_rate", "group_size", "lora_rank", "beam_width"} <= preset.says.set.keys()


def test_the_papers_numbers() -> None:
    """Those of the papers' sections on their implementation."""
    _, ugr = of("ugr", (), load_preset("ugr"))
    assert (ugr.lora_rank, ugr.sft_learning_rate, ugr.sft_batch, ugr.beam_width) == (
        (16, 2e-4, 64, 10)
    )
    assert (ugr.sft_epochs, ugr.epochs, ugr.group_size) == (10, 2, 16)
    srpo, gream = of("srpo", (), load_preset("gream"))
    assert srpo.learning_rate == 4e-6 and (gream.group_size, gream.prompts_per_step) == (10, 256)
    assert (gream.sft_learning_rate, gream.sft_epochs, gream.beam_width) == (5e-5, 3, 20)
    vstar, _ = of("vstar", (), load_preset("vstar"))
    assert vstar.learning_rate == 1e-5 and vars(vstar)["beta"] == 1e-3
    grpo, _ = of("grpo", (), load_preset("minionerec"))
    assert (vars(grpo)["sync_every"], vars(grpo)["sync_mix"]) == (512, 0.6)


def test_tiny_is_what_is_done_without_a_preset() -> None:
    preset = load_preset("tiny")
    hyperparameters, settings = of("grpo", (), preset)
    usual = configured(Job("", "grpo"), ())
    assert hyperparameters.learning_rate == TINY_LEARNING_RATE
    assert dataclasses.replace(hyperparameters, learning_rate=None) == usual[1].hyperparameters
    # Named in the file, and found by the backbone where nothing is said.
    assert settings.sft_learning_rate == 2e-3
    assert dataclasses.replace(settings, sft_learning_rate=None) == usual[2]


def test_what_is_typed_wins(mine: Preset) -> None:
    hyperparameters, settings = of("grpo", ("group_size=7", "reward=rule"), mine)
    assert hyperparameters.learning_rate == 2e-5 and vars(hyperparameters)["reward"] == "rule"
    assert (settings.group_size, settings.prompts_per_step, settings.epochs) == (7, 8, 0.1)
    # A length that is typed takes the place of the other one.
    assert of("grpo", ("steps=3",), mine)[1].epochs == 0
    assert of("ugr", (), mine)[0].learning_rate == 2e-5
    job = Job("", "grpo", ("reward=random",))
    assert vars(configured(job, (), mine)[1].hyperparameters)["reward"] == "random"
    with pytest.raises(UserError, match=r"^--set steps=2 epochs=1: give one$"):
        configured(job, ("steps=2", "epochs=1"), mine)
    assert pickle.loads(pickle.dumps(mine)) == mine


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("group_size", "groupsize"), "set.groupsize: is no setting of every run; did you mean"),
        (("group_size: 5", "clip_low: 0.1"), "set.clip_low: is no setting of every run"),
        (("reward:", "rewards:"), "algorithms.grpo.rewards: is no hyperparameter of grpo; did you"),
        (("group_size: 5", "group_size: zero"), "group_size=zero: must be an int"),
        (("group_size: 5", "group_size: 0"), "group_size=0: must be between 1 and"),
        (("epochs", "steps: 3, epochs"), "set: give steps or epochs, and not both"),
        (("title: mine", "titel: mine"), "titel"),
        (("title: mine", "title: ''"), "key 'title' must be a text that is not empty"),
        (("backbone: tiny", "backbone: [tiny]"), "key 'backbone' must be text"),
        (("set: {", "set: ["), "not valid YAML"),
        (("reward: rank", "reward: [rank]"), "algorithms.grpo.reward"),
    ],
)
def test_a_file_that_says_something_wrong(bench: Bench, change: tuple[str, str], said: str) -> None:
    Path("mine.yaml").write_text(MINE.replace(*change))
    error = only_error(again(bench, "grpo", "--preset", "./mine.yaml"))
    assert said in error


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("urg", "unknown preset 'urg'; did you mean 'ugr'?; the presets are gream, "),
        ("none.yaml", "none.yaml"),
        ("", "preset"),
        (".", "preset"),
    ],
)
@pytest.mark.parametrize("command", ["run grpo", "compare", "ablate ugr", "presets"])
def test_a_preset_that_is_not_there(
    capsys: pytest.CaptureFixture[str], given: str, said: str, command: str
) -> None:
    words = [given] if command == "presets" else ["--preset", given]
    assert said in only_error(call(capsys, [*command.split(), *words]))


def again(bench: Bench, *words: str) -> Called:
    place = ["--dataset", "industrial", "--data-dir", str(bench.data), "--output", "again"]
    return call(bench.capsys, ["run", *words, *place, "--no-mlflow"])


def test_a_record_keeps_the_preset_and_a_run_its_length(bench: Bench, mine: Preset) -> None:
    called = again(bench, "grpo", "--preset", "./mine.yaml", "--set", *QUICK, "group_size=4")
    assert called.code == 0, called.err
    path = Path(called.out.strip().removeprefix("record: "))
    record = read_record(path)
    assert record["preset"] == {"name": "mine", "sha256": mine.sha256}
    told = record["configuration"]["settings"]
    # A tenth of 320 examples, by 8.
    assert told["steps"] == 4 and "epochs" not in told and told["group_size"] == 4
    assert record["configuration"]["hyperparameters"]["reward"] == "rank"
    assert record["track"]["budget"] == "4 steps of 8 prompts"
    # The record says all of it, wherever the file is gone to.
    Path("mine.yaml").unlink()
    printed = call(bench.capsys, ["run", "--from-record", str(path), "--print-config"])
    assert printed.code == 0 and "steps: 4" in printed.out and "preset" not in printed.out
    words = ["run", "--from-record", str(path), "--print-config", "--set", "epochs=1"]
    assert "epochs: 1.0" in call(bench.capsys, words).out


def test_a_printed_config_names_its_preset_and_reads_back(bench: Bench) -> None:
    printed = call(bench.capsys, ["run", "ugr", "--preset", "ugr", "--print-config"])
    assert "backbone: Qwen/Qwen3-8B" in printed.out and "preset: ugr" in printed.out
    assert "  epochs: 2.0" in printed.out and "  steps:" not in printed.out
    Path("c.yaml").write_text(printed.out)
    typed = ["run", "--config", "c.yaml", "--print-config"]
    assert call(bench.capsys, typed).out == printed.out
    changed = call(bench.capsys, [*typed, "--backbone", "tiny", "--set", "steps=3"]).out
    assert "backbone: tiny" in changed and "  steps: 3" in changed and "  epochs" not in changed
    assert "lora_rank: 16" in changed


def test_shapes_are_those_that_are_published() -> None:
    """Billions of parameters, and of those outside tables, as the models' cards tell them."""
    published = {
        "Qwen/Qwen2.5-0.5B": (0.49, 0.36),
        "Qwen/Qwen2.5-1.5B": (1.54, 1.31),
        "Qwen/Qwen3-0.6B": (0.6, 0.44),
        "Qwen/Qwen3-4B-Instruct-2507": (4.0, 3.6),
        "Qwen/Qwen3-8B": (8.2, 6.95),
    }
    for name, (whole, layers) in published.items():
        size = footprint(name, 0)
        assert size is not None
        assert size.parameters / 1e9 == pytest.approx(whole, rel=0.02)
        assert (size.parameters - size.tables) / 1e9 == pytest.approx(layers, rel=0.02)
    for name in preset_names():
        assert load_preset(name).says.backbone in {*SHAPES, "tiny"}


def test_needs_are_near_what_a_run_takes(
    bench: Bench, mine: Preset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_pace, "ENOUGH", 0.01)
    text = MINE.replace("prompts_per_step", "sft_epochs: 2, sft_batch: 16, prompts_per_step")
    Path("mine.yaml").write_text(text)
    needs = needs_of(load_preset("./mine.yaml"), tiny_dataset())
    called = again(bench, "grpo", "--preset", "./mine.yaml", "--set", "sft_valid_examples=16")
    assert called.code == 0, called.err
    record = read_record(Path(called.out.strip().removeprefix("record: ")))
    spent = record["budget"]["spent"]
    assert needs.steps == 4 and needs.step_flops and needs.sft_flops and needs.seconds
    run = spent["rollout"]["flops"] + spent["update"]["flops"]
    # In so small a model attention is as large as layers; trees share prefixes.
    assert 0.4 < needs.steps * needs.step_flops / run < 1.3
    assert 0.4 < needs.sft_flops / spent["sft"]["flops"] < 1.2
    read = spent["rollout"]["tokens"] + spent["update"]["tokens"]
    assert needs.step_tokens and 0.8 < needs.steps * needs.step_tokens / read < 1.2
    assert needs.ranking_flops and needs.ranking_flops > spent["evaluation"]["flops"]
    work = 4 * needs.step_flops + needs.sft_flops + needs.ranking_flops
    assert needs.pace and needs.seconds * needs.pace == pytest.approx(work)


def test_presets_are_listed_and_printed(
    capsys: pytest.CaptureFixture[str], data: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_pace, "ENOUGH", 0.01)
    listed = call(capsys, ["presets"])
    assert listed.code == 0 and all(name in listed.out for name in preset_names())
    words = ["presets", "ugr", "--dataset", "industrial", "--data-dir", str(data)]
    shown = call(capsys, words)
    assert shown.out.startswith((root / "presets" / "ugr.yaml").read_text())
    assert "parameters: 8,197 million" in shown.out and "  time: about " in shown.out
    told = json.loads(call(capsys, [*words, "--json"]).out)
    assert told["needs"]["memory_bytes"] > 16e9 and told["set"]["group_size"] == 16
    text = MINE.replace("backbone: tiny", "backbone: some/body")
    Path("mine.yaml").write_text(text)
    words[1] = "./mine.yaml"
    assert "memory and time: unknown" in call(capsys, words).out


def test_a_sweep_begins_at_a_preset_and_says_how_to_run_the_best(bench: Bench) -> None:
    text = MINE.replace("reward: rank", "beta: 0.001, epsilon: 0.01")
    Path("mine.yaml").write_text(text)
    words = ["sweep", "grpo", "--dataset", "industrial", "--data-dir", str(bench.data)]
    words += ["--output", "runs", "--no-mlflow", "--preset", "./mine.yaml"]
    words += ["--total-budget", "200Mflop", "--trial-budget", "100Mflop", "--trials", "1"]
    called = call(bench.capsys, [*words, "--set", *QUICK])
    assert called.code == 0, called.err
    best = shlex.split(called.out.splitlines()[-1])
    assert "--preset" in best and "learning_rate=2e-05" in best
    # No step of the search for beta leads to the preset's, which is held then.
    assert not [word for word in best if word.startswith("beta=")]
    (path,) = Path("runs").glob("*/sweeps/*/trials/*/*/*/record.json")
    tried = read_record(path)["configuration"]["hyperparameters"]
    assert (tried["beta"], tried["epsilon"], tried["learning_rate"]) == (0.001, 0.01, 2e-5)


def test_studies_say_their_preset(bench: Bench) -> None:
    place = ["--dataset", "industrial", "--data-dir", str(bench.data), "--no-mlflow"]
    quick = ["--set", *QUICK, "prompts_per_step=8", "group_size=4"]
    words = ["compare", "--preset", "tiny", "--quick", "--plan", "--seeds", "1"]
    words += ["--algorithms", "grpo", "--budget", "500Mflop"]
    plan = call(bench.capsys, [*words, *place, *quick])
    assert "backbone tiny, preset tiny" in plan.out, plan.err
    words = ["ablate", "srpo", "--seed", "0", "--preset", "tiny", "--budget", "30Mflop"]
    told = call(bench.capsys, [*words, *place, *quick, "--json"])
    assert json.loads(told.out)["preset"] == "tiny"
