"""A run from the command to the record: what it leaves, that it repeats, what it refuses."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from board_world import comparable
from safetensors.torch import load_file, save_file
from tiny_runs import (
    Bench,
    equal_weights,
    last_error,
    record_and_curves,
    run_folders,
    save_tiny,
    tiny_dataset,
)

from genrec_bench.data.dataset import Examples
from genrec_bench.data.dataset_store import save_contents
from genrec_bench.policy import backbones
from genrec_bench.policy.prompts import longest_prompt
from genrec_bench.training import sft_start, sft_training
from genrec_bench.training.checkpoints import training_checkpoints
from genrec_bench.training.ledger import TRAINING_PHASES
from genrec_bench.training.metrics import rank_metrics
from genrec_bench.training.settings import as_asked

PHASES = ["evaluation", "rollout", "sft", "update"]


@pytest.mark.parametrize("algorithm", ["sft", "grpo", "ugr"])
def test_a_run_leaves_a_record_of_everything(bench: Bench, data: Path, algorithm: str) -> None:
    folder = bench.run(algorithm)
    record, curves = record_and_curves(folder)
    assert record["algorithm"] == algorithm and record["dataset"] == "industrial"
    assert record["seed"] == 0 and record["complete"] and record["partial"]
    assert record["budget"]["limit"] is None
    assert record["track"]["budget"] == "2 steps of 8 prompts"
    assert record["track"]["prompt"] == "compact"
    assert record["fingerprints"]["dataset"] == tiny_dataset().fingerprint
    assert record["ceiling"]["test"]["HR@10"] == 0.85
    spent = record["budget"]["spent"]
    assert sorted(spent) == (["evaluation", "sft", "update"] if algorithm == "sft" else PHASES)
    assert all(cost["seconds"] > 0 and cost["tokens"] > 0 for cost in spent.values())
    assert all(cost["flops"] > 0 for cost in spent.values())
    for split in ("valid", "test"):
        for figures in (record["sft"][split], record["metrics"][split]):
            assert {"HR@10", "NDCG@10", "sid/HR@10", "sid/NDCG@10"} <= figures.keys()
            assert figures["invalid_rate"] == 0.0 and figures["unique_candidates"] == 10.0
    assert record["sft"]["test"]["HR@10"] > 0.4, "the SFT start has learned something"

    names = {path.name for path in folder.iterdir()}
    assert names == {"run.json", "record.json", "outcomes.parquet", "curves.parquet", "policy"}
    policy = {path.name for path in (folder / "policy").iterdir()}
    policy -= {"items.parquet", "README.md"}
    assert not [name for name in policy if Path(name).suffix not in (".json", ".safetensors")]
    assert str(data) not in (folder / "record.json").read_text(), "no folder of this machine"

    outcomes = pd.read_parquet(folder / "outcomes.parquet")
    for split, figures in record["metrics"].items():
        rows = outcomes[outcomes["split"] == split]
        assert rows["example"].tolist() == list(range(len(tiny_dataset().splits[split])))
        for column, prefix in (("item_rank", ""), ("sid_rank", "sid/")):
            again = rank_metrics(rows[column].to_numpy(), 10)
            assert {prefix + name: value for name, value in again.items()}.items() <= (
                figures.items()
            )

    assert curves["step"].tolist() == [0, 1, 2] and curves["share"].tolist() == [0, 0.5, 1.0]
    looked = curves["valid/NDCG@10"]
    assert looked.notna().all(), "eight looks at two steps are one at each"
    # All 24 validation examples are looked at, so the first and the last look are known.
    assert looked.iloc[0] == pytest.approx(record["sft"]["valid"]["NDCG@10"])
    assert looked.iloc[-1] == pytest.approx(record["metrics"]["valid"]["NDCG@10"])
    last = curves.iloc[-1]
    for kind in ("seconds", "tokens", "flops"):
        total = sum(cost[kind] for name, cost in spent.items() if name in TRAINING_PHASES)
        assert last[kind] == pytest.approx(total)
    if algorithm != "sft":
        assert {"reward", "HR@1", "HR@4", "unique_candidates", "loss"} <= set(curves.columns)


def test_a_run_is_known_by_the_texts_of_its_embeddings(bench: Bench, tmp_path: Path) -> None:
    contents = tiny_dataset().contents
    titles = contents.item_names
    described = Bench(bench.capsys, tmp_path, bench.output)
    found: dict[str, list[tuple[str | None, str]]] = {"vstar": [], "grpo": []}
    for descriptions in ((), tuple(f"about {title}" for title in titles)):
        told = dataclasses.replace(contents, titles=titles, descriptions=descriptions)
        save_contents(told, tmp_path, {})
        for algorithm, seen in found.items():
            folder = described.run(algorithm, "steps=1", "sft_epochs=0.2")
            texts = record_and_curves(folder)[0]["fingerprints"].get("texts")
            seen.append((texts, json.loads((folder / "run.json").read_text())["request"]))
    (first, one), (second, other) = found["vstar"]
    assert first and second and first != second and one != other
    assert found["grpo"][0] == found["grpo"][1] and found["grpo"][0][0] is None


def test_sixteen_candidates_make_the_curves_of_the_paper(bench: Bench) -> None:
    _, curves = record_and_curves(bench.run("ugr", "group_size=16", "steps=1"))
    assert {"HR@1", "HR@16", "unique_candidates", "confidence_of_hit"} <= set(curves.columns)
    assert curves["unique_candidates"].iloc[-1] == 16


@pytest.mark.parametrize(
    ("algorithm", "choices"),
    [
        ("ugr", ["reward=rule", "difficulty=false", "confidence=false"]),
        ("ugr", ["reward=rank", "difficulty=false", "confidence=false"]),
        ("ugr", ["difficulty=false", "confidence=false"]),
        ("ugr", ["confidence=false"]),
        ("ugr", ["group_size=40", "beam_width=40", "sft_epochs=0.2"]),
        ("ugr", ["precision=bf16", "lora_rank=2", "sft_epochs=0.2"]),
        ("grpo", ["precision=bf16-mixed", "updates_per_rollout=2", "sft_epochs=0.2"]),
        ("ugr", ["rerank=true", "gamma_partial=0.2"]),
        ("ugr", ["reward=rule+rank", "without_hit=true", "length_penalty=1"]),
        ("grpo", ["reward=rule"]),
        ("grpo", ["reward=rank"]),
        ("grpo", ["reward=rule+rank"]),
        ("grpo", ["reward=random"]),
        ("grpo", ["divide_by_std=false", "logprob_space=trie"]),
        ("grpo", ["logprob_space=level", "lora_rank=2", "sft_epochs=0.2"]),
        ("grpo", ["beta=0.1", "sync_every=1", "updates_per_rollout=2", "minibatches=2"]),
        ("grpo", ["beta=0.1", "lora_rank=2", "sft_epochs=0.2"]),
    ],
)
def test_every_part_can_be_chosen(bench: Bench, algorithm: str, choices: list[str]) -> None:
    folder = bench.run(algorithm, *choices)
    record, curves = record_and_curves(folder)
    configuration = record["configuration"]
    chosen = configuration["hyperparameters"] | as_asked(configuration["settings"])
    for choice in choices:
        name, _, text = choice.partition("=")
        assert str(chosen[name]).lower() == text or float(chosen[name]) == float(text)
    assert np.isfinite(curves[1:].to_numpy(dtype=float)).all() and len(curves) == 3
    assert ("reference" in record["budget"]["spent"]) == ("beta=0.1" in choices)
    has_confidence = algorithm == "ugr" and "confidence=false" not in choices
    assert ("confidence_loss" in curves.columns) == has_confidence
    tokens = json.loads((folder / "policy" / "policy.json").read_text())["extra_tokens"]
    assert sorted(tokens) == (["[C_HIGH]", "[C_LOW]"] if has_confidence else [])


def test_one_seed_gives_one_record_and_another_seed_another(bench: Bench) -> None:
    folders = [bench.run("ugr", "steps=4"), bench.run("ugr", "steps=4")]
    one, other = (record_and_curves(folder)[0] for folder in folders)
    assert one["run_id"] != other["run_id"] and comparable(one) == comparable(other)
    assert equal_weights(*folders)
    third = bench.run("ugr", "steps=4", "--seed", "1")
    record = record_and_curves(third)[0]
    assert record["seed"] == 1 and not equal_weights(folders[0], third)
    assert record["track_id"] == one["track_id"], "seeds are compared with each other"
    assert record["sft"] == one["sft"] and comparable(record) != comparable(one)


def test_the_pieces_of_a_forward_pass_change_no_record(bench: Bench) -> None:
    small, large = (bench.record("ugr", f"tokens_per_forward={tokens}") for tokens in (64, 100_000))
    assert small["configuration"] == large["configuration"]
    assert small["metrics"]["test"] == pytest.approx(large["metrics"]["test"], abs=1e-6)
    for phase, cost in small["budget"]["spent"].items():
        assert cost["tokens"] == large["budget"]["spent"][phase]["tokens"], phase


def test_the_sft_start_is_trained_once(
    bench: Bench, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    real = sft_training.train_start

    def train(*arguments: Any) -> None:
        trained.append(arguments[3].name)
        real(*arguments)

    monkeypatch.setattr(sft_start, "train_start", train)
    quick = ("sft_epochs=0.1", "sft_seed=5")
    first = bench.record("grpo", *quick)
    assert len(trained) == 1
    for algorithm, other in (("ugr", "steps=1"), ("sft", "weight_decay=0.2")):
        record = bench.record(algorithm, *quick, other)
        assert record["fingerprints"]["sft"] == first["fingerprints"]["sft"]
        assert record["track"]["sft"] == first["fingerprints"]["sft"]
        assert record["sft"] == first["sft"]
        assert record["budget"]["spent"]["sft"] == first["budget"]["spent"]["sft"]
    assert len(trained) == 1
    for other in ("sft_seed=6", "sft_batch=17", "warmup=0.2", "logprob_space=trie"):
        settings = [word for word in quick if word.partition("=")[0] != other.partition("=")[0]]
        record = bench.record("sft", *settings, other)
        assert record["track_id"] != first["track_id"]
    assert len(trained) == 5 == len(set(trained))


def test_a_run_tokenizes_each_split_once_to_find_the_longest_prompt(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts: list[int] = []

    def counted(prompt_format: Any, examples: Examples) -> tuple[int, int]:
        counts.append(len(examples))
        return longest_prompt(prompt_format, examples)

    monkeypatch.setattr(backbones, "longest_prompt", counted)
    # A fresh run makes three policies: to train the start, to evaluate it, and to go on from it.
    bench.run("grpo", "sft_seed=7")
    assert counts == [len(examples) for examples in tiny_dataset().splits.values()]


def test_another_dataset_has_an_sft_start_of_its_own(
    bench: Bench, data: Path, tmp_path: Path
) -> None:
    one = bench.record("sft", "sft_epochs=0.1")
    bench.data = save_tiny(tmp_path / "other", seed=1)
    other = bench.record("sft", "sft_epochs=0.1")
    assert one["fingerprints"]["sft"] != other["fingerprints"]["sft"]
    folders = {path.name for where in (data, bench.data) for path in (where / "sft").glob("*/")}
    assert len({name for name in folders if name.startswith("industrial-")}) == len(folders)


def test_without_epochs_the_backbone_is_the_start(bench: Bench) -> None:
    record = bench.record("grpo", "sft_epochs=0", "steps=1")
    assert "sft" not in record["budget"]["spent"]


def test_a_start_that_was_tampered_with_is_made_again(bench: Bench, tmp_path: Path) -> None:
    bench.data = save_tiny(tmp_path / "data")
    bench.run("sft", "sft_epochs=0.1")
    (folder,) = (bench.data / "sft").glob("industrial-*/")
    file = folder / "policy" / "model.safetensors"
    tensors = load_file(file)
    name = next(iter(tensors))
    tensors[name] = tensors[name] + 1.0
    save_file(tensors, file, metadata={"format": "pt"})
    called = bench.call("sft", "sft_epochs=0.1")
    assert called.code == 0 and str(folder) in called.err and "changed" in called.err
    assert not torch.equal(load_file(file)[name], tensors[name])


@pytest.mark.parametrize(
    ("limit", "kind", "amount"),
    [("5ktok", "tokens", 5e3), ("600Mflop", "flops", 6e8), ("2s", "seconds", 2.0)],
)
def test_a_budget_is_kept(bench: Bench, limit: str, kind: str, amount: float) -> None:
    record, curves = record_and_curves(bench.run("ugr", "--budget", limit))
    assert record["budget"]["limit"] == record["track"]["budget"] == limit
    spent = curves[kind].to_numpy()[1:]
    # Half a step is what the end may miss by; a step is not as long as the other.
    assert spent[-1] > amount - spent[-1] / len(spent)
    assert (spent[:-1] < amount).all() and len(spent) >= 2
    phases = record["budget"]["spent"].items()
    total = sum(cost[kind] for name, cost in phases if name in TRAINING_PHASES)
    assert total == pytest.approx(spent[-1])
    assert ("hardware" in record["track"]) == (kind == "seconds"), "seconds are a machine's own"


def test_a_budget_of_operations_is_the_same_work_every_time(bench: Bench) -> None:
    one, other = (record_and_curves(bench.run("ugr", "--budget", "1Gflop")) for _ in range(2))
    assert comparable(one[0]) == comparable(other[0]) and len(one[1]) == len(other[1]) > 2
    drop = ["seconds"]
    pd.testing.assert_frame_equal(one[1].drop(columns=drop), other[1].drop(columns=drop))


def test_a_budget_below_one_step_is_refused(bench: Bench) -> None:
    # Above what a step takes at least, which is refused before anything is trained.
    said = last_error(bench.call("grpo", "--budget", "100tok"))
    assert said.startswith("--budget 100tok: too small for one step, which took ")
    record = record_and_curves(run_folders(bench.output)[0])[0]
    assert not record["complete"] and record["failure"] == said
    assert record["budget"]["spent"]["update"]["flops"] > 0, "and the step is on the bill"


NAN_AFTER_TWO = """
from genrec_bench.algorithms.grpo import GRPO

class Bad(GRPO):
    '''Loses its value in the third step.'''

    def __init__(self, hyperparameters):
        super().__init__(hyperparameters)
        self.calls = 0

    def reward(self, seen):
        self.calls += 1
        return super().reward(seen)

    def loss(self, batch, scores):
        loss, figures = super().loss(batch, scores)
        return (loss * float("nan") if self.calls == 3 else loss), figures
"""


def test_a_loss_without_a_value_stops_the_run_and_keeps_a_checkpoint(
    bench: Bench, tmp_path: Path
) -> None:
    file = tmp_path / "bad.py"
    file.write_text(NAN_AFTER_TWO)
    said = last_error(bench.call(str(file), "steps=5"))
    assert said.startswith("step 3: the loss is nan")
    (folder,) = run_folders(bench.output)
    (kept,) = training_checkpoints(folder / "checkpoints")
    # The run was shorter than the time between checkpoints: the start is what is left.
    assert kept.name == "step-00000000" and said.endswith(kept.name)
    record, curves = record_and_curves(folder)
    assert not record["complete"] and record["failure"] == said
    assert str(tmp_path) not in record["failure"]
    assert record["metrics"] == {"valid": {}, "test": {}} and record["sft"]["test"]
    # Two steps and the rollout of a third were paid for.
    assert curves["step"].tolist() == [0, 1, 2]
    assert record["budget"]["spent"]["rollout"]["tokens"] > curves["tokens"].iloc[-1] / 3
    assert pd.read_parquet(folder / "outcomes.parquet").empty
    tensors = load_file(kept / "policy.safetensors")
    assert tensors and all(torch.isfinite(tensor).all() for tensor in tensors.values())
    # With the fault mended, the algorithm's file is another one, and so is the run.
    file.write_text(NAN_AFTER_TWO.replace("== 3", "== 99"))
    assert bench.run(str(file), "steps=5") != folder


BREAKS = NAN_AFTER_TWO.replace(
    "        self.calls += 1\n",
    "        self.calls += 1\n"
    "        if self.calls == 3:\n"
    "            raise OSError(ERROR, 'so it is', '/there')\n",
)


@pytest.mark.parametrize(
    ("error", "said"),
    [("2", "FileNotFoundError: [Errno 2] so it is: '/there'"), ("None", "OSError: ")],
)
def test_an_error_of_the_system_is_the_algorithms_own_and_recorded(
    bench: Bench, tmp_path: Path, error: str, said: str
) -> None:
    file = tmp_path / "breaks.py"
    file.write_text(BREAKS.replace("ERROR", error))
    with pytest.raises(OSError, match="so it is"):
        bench.call(str(file), "steps=5")
    (folder,) = run_folders(bench.output)
    record, curves = record_and_curves(folder)
    assert not record["complete"] and record["failure"].startswith(said)
    assert curves["step"].tolist() == [0, 1, 2]
    assert record["budget"]["spent"]["rollout"]["tokens"] > curves["tokens"].iloc[-1] / 3


def test_a_disk_that_refuses_is_no_verdict_on_a_run(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "breaks.py"
    file.write_text(BREAKS.replace("ERROR", "28"))
    assert last_error(bench.call(str(file), "steps=5")) == "cannot use /there: so it is"
    (folder,) = run_folders(bench.output)
    assert not (folder / "record.json").exists()


def test_a_file_of_ones_own_is_recorded_under_its_name(bench: Bench, tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(NAN_AFTER_TWO.replace("== 3", "== 99"))
    record = bench.record(str(file))
    assert record["algorithm"] == "mine"
    assert record["metrics"] == bench.record("grpo")["metrics"]


def test_the_last_lines_of_a_run_tell_of_its_training(bench: Bench) -> None:
    called = bench.call("grpo")
    curves = pd.read_parquet(Path(called.out.split()[-1]).with_name("curves.parquet"))
    silent = curves["zero_advantage"].mean()
    assert f"groups without signal: {silent:.1%}" in called.err.splitlines()[-3]
    # Each step makes it worse than it was.
    words = ("learning_rate=0.1", "steps=6", "validations=6")
    assert "warning: it collapsed: NDCG@10 of looks fell" in bench.call("sft", *words).err
