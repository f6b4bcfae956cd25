"""Backbones on disk: what is wrong with one is said in one line, what is right comes back."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from small_models import (
    CPU,
    DATASET,
    VOCABULARY,
    load,
    made_up,
    qwen3,
    refusal,
    save_backbone,
    save_model,
    save_tokenizer,
)
from tiny_runs import Called, call, only_error, run_folders, run_words, save_tiny
from transformers import AutoModelForCausalLM

from genrec_bench.decoding.beam import beam_search
from genrec_bench.errors import UserError
from genrec_bench.policy.backbones import find_backbone, make_policy
from genrec_bench.policy.scoring import score
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.runs.records import read_record
from genrec_bench.training.checkpoints import save_policy
from genrec_bench.training.settings import Settings


def test_nothing_of_a_generation_config_reaches_the_beam(tmp_path: Path) -> None:
    model = save_model(tmp_path / "plain", qwen3(VOCABULARY))
    plain = load(tmp_path / "plain")
    prompts, _ = made_up(plain, "right")
    expected = beam_search(plain, prompts, 5)
    best = plain.tokens_of(plain.trie.prefixes(expected.leaves))[0, 0].tolist()

    likely: dict[str, Any] = {"do_sample": True, "temperature": 0.1, "top_k": 1, "top_p": 0.1}
    likely |= {"min_p": 0.9, "typical_p": 0.1, "num_beams": 3, "num_return_sequences": 2}
    likely |= {"length_penalty": -5.0, "early_stopping": True, "use_cache": True}
    lengths: dict[str, Any] = {"max_length": 1, "max_new_tokens": 1, "min_new_tokens": 50}
    lengths |= {"exponential_decay_length_penalty": [1, 9.0], "no_repeat_ngram_size": 1}
    names: dict[str, Any] = {"suppress_tokens": best, "begin_suppress_tokens": best}
    names |= {"bad_words_ids": [[token] for token in best], "eos_token_id": best}
    names |= {"forced_bos_token_id": 3, "forced_eos_token_id": 3, "pad_token_id": best[0]}
    names |= {"sequence_bias": [[[best[0]], -100.0]], "repetition_penalty": 50.0}
    others = {"guidance_scale": 9.0, "cache_implementation": "static"}
    nasty = {**likely, **lengths, **names, **others}
    model.save_pretrained(tmp_path / "nasty")
    (tmp_path / "nasty" / "generation_config.json").write_text(json.dumps(nasty))
    policy = load(tmp_path / "nasty")
    read = policy.backbone.generation_config
    assert read is not None and read.repetition_penalty == 50.0 and read.suppress_tokens == best
    found = beam_search(policy, prompts, 5)
    assert torch.equal(found.leaves, expected.leaves)
    assert torch.equal(found.log_probs, expected.log_probs)
    # Such a policy can be saved, whatever transformers thinks of the combination.
    save_policy(policy, tmp_path / "saved")
    assert torch.equal(beam_search(load(tmp_path / "saved"), prompts, 5).leaves, expected.leaves)


def cut(file: Path, share: float) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: int(len(content) * share)])


def lose_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def reshape_a_weight(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights["model.embed_tokens.weight"] = torch.zeros(VOCABULARY + 1, 32)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def rewrite_config(**changes: Any) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        file = folder / "config.json"
        content = json.loads(file.read_text()) | changes
        file.write_text(json.dumps(content))

    return rewrite


BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (shutil.rmtree, "neither tiny, nor a folder with a model"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "holds no config.json"),
    "config is no JSON": (lambda folder: cut(folder / "config.json", 0.5), "cannot be loaded"),
    "config is a list": (
        lambda folder: (folder / "config.json").write_text("[]"),
        "cannot be loaded",
    ),
    "config of no known model": (rewrite_config(model_type="nope"), "`nope`"),
    "config of no language model": (rewrite_config(model_type="vit"), "cannot be loaded"),
    "config with a wrong type": (rewrite_config(hidden_size="many"), "expected int, got str"),
    "config that needs code of its own": (
        rewrite_config(model_type="x", auto_map={"AutoConfig": "x.Config"}),
        "cannot be loaded",
    ),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "weights in pickle only": (
        lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
        "model.safetensors",
    ),
    "weights cut in the header": (
        lambda folder: cut(folder / "model.safetensors", 0.001),
        "cannot be loaded",
    ),
    "weights cut": (lambda folder: cut(folder / "model.safetensors", 0.5), "cannot be loaded"),
    "empty weights": (lambda folder: cut(folder / "model.safetensors", 0.0), "cannot be loaded"),
    "a weight missing": (lose_a_weight, "model.layers.1.mlp.up_proj.weight"),
    "a weight of another shape": (reshape_a_weight, "cannot be loaded"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_folder_is_refused(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    save_model(folder, qwen3(VOCABULARY))
    load(folder)
    harm, reason = BROKEN[name]
    harm(folder)
    message = refusal(folder)
    assert reason in message
    assert str(folder) in message


def test_a_missing_or_broken_tokenizer_is_named(tmp_path: Path) -> None:
    save_model(tmp_path, qwen3(VOCABULARY))
    assert "no tokenizer: " in refusal(tmp_path, Settings(prompt="text"))
    save_tokenizer(tmp_path)
    load(tmp_path, Settings(prompt="text"))
    cut(tmp_path / "tokenizer.json", 0.5)
    assert "no tokenizer: " in refusal(tmp_path, Settings(prompt="text"))
    with pytest.raises(UserError, match="tiny has no tokenizer"):
        make_policy(find_backbone("tiny"), DATASET, Settings(prompt="text"), CPU)


def say(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


PATTERN = {"type": "Split", "pattern": {"Regex": "("}, "behavior": "Isolated", "invert": False}
NOTHING = {"type": "Replace", "pattern": {"Regex": "[\\s\\S]"}, "content": ""}


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("tokenizer_config.json", {"model_max_length": [1]}),
        ("tokenizer_config.json", {"model_max_length": "long"}),
        ("tokenizer_config.json", {"tokenizer_class": 3}),
        ("tokenizer_config.json", {"added_tokens_decoder": [1]}),
        ("tokenizer_config.json", {"extra_special_tokens": 5}),
        ("tokenizer.json", {"pre_tokenizer": PATTERN}),
        ("tokenizer.json", {"normalizer": NOTHING}),
        ("tokenizer.json", {"model": {}}),
        ("tokenizer.json", {"truncation": {"max_length": -1}}),
    ],
    ids=str,
)
def test_a_tokenizer_that_says_odd_things_is_one_line(
    tmp_path: Path, file: str, changes: dict[str, Any]
) -> None:
    save_model(tmp_path, qwen3(VOCABULARY))
    save_tokenizer(tmp_path)
    say(tmp_path / file, **changes)
    message = refusal(tmp_path, Settings(prompt="text"))
    assert message.startswith(f"--backbone {tmp_path}: no tokenizer: ") and message.isprintable()


def test_a_token_whose_id_asks_for_all_memory_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path, qwen3(VOCABULARY))
    save_tokenizer(tmp_path)
    file = tmp_path / "tokenizer.json"
    model = json.loads(file.read_text())["model"]
    say(file, model=model | {"vocab": model["vocab"] | {"far": 4_000_000_000}})
    message = refusal(tmp_path, Settings(prompt="text"))
    assert "a token has the id 4,000,000,0" in message and "more than any has" in message


def test_a_misspelled_tiny_is_recognised() -> None:
    with pytest.raises(UserError, match="did you mean 'tiny'"):
        find_backbone("tinny")


@pytest.mark.parametrize("tied", [False, True])
def test_embeddings_grow_once_and_come_back(tied: bool, tmp_path: Path) -> None:
    model: Any = save_model(
        tmp_path / "start", qwen3(save_tokenizer(tmp_path / "start") + 5, tie_word_embeddings=tied)
    )
    old = model.get_input_embeddings().weight.detach()
    tokens = ("[HIGH]", "[LOW]")
    policy = load(tmp_path / "start", Settings(), tokens=tokens)
    num_tokens = 320 + 3 * 256
    assert policy.extra_tokens == {"[HIGH]": num_tokens, "[LOW]": num_tokens + 1}
    rows = num_tokens + 2
    backbone: Any = policy.backbone
    embeddings, head = backbone.get_input_embeddings(), backbone.get_output_embeddings()
    assert embeddings.weight.shape == head.weight.shape == (rows, 32)
    assert (embeddings.weight is head.weight) == tied
    # What was there stays; what is new is the mean of it.
    assert torch.equal(embeddings.weight[: len(old)], old)
    assert torch.allclose(
        embeddings.weight[len(old) :], old.mean(dim=0).expand(rows - len(old), -1)
    )

    # Whatever training makes of them is found again, in place.
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.backbone.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    save_policy(policy, tmp_path / "policy")
    described = json.loads((tmp_path / "policy" / "policy.json").read_text())
    assert described["extra_tokens"] == policy.extra_tokens
    assert described["prompt"] == "text"
    for again in (
        load(tmp_path / "start", Settings(), weights=tmp_path / "policy", tokens=tokens),
        load(tmp_path / "policy", Settings(), tokens=tokens),
    ):
        assert again.extra_tokens == policy.extra_tokens
        assert torch.equal(again.code_tokens, policy.code_tokens)
        assert again.vocabulary_size == rows
        prompts = policy.prompt_format.encode(DATASET.test, np.arange(4))
        tree = beam_search(policy, prompts, 5)
        with torch.no_grad():
            scores = [score(one, prompts, tree, leaves=True) for one in (policy, again)]
        assert torch.equal(scores[0].log_probs, scores[1].log_probs)
        ids = list(policy.extra_tokens.values())
        assert torch.equal(scores[0].leaf_logits(ids), scores[1].leaf_logits(ids))
    names = {file.suffix for file in (tmp_path / "policy").iterdir()}
    assert names == {".json", ".safetensors"}


def test_transformers_reads_a_saved_policy(tmp_path: Path) -> None:
    save_backbone(tmp_path / "start")
    policy = load(tmp_path / "start", Settings())
    save_policy(policy, tmp_path / "policy")
    plain: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").eval()
    prompts = policy.prompt_format.encode(DATASET.test, np.array([3]))
    leaf = policy.trie.leaf(torch.tensor([[5]]))
    tokens = torch.cat([prompts.tokens, policy.tokens_of(policy.trie.prefixes(leaf))[0]], dim=1)
    with torch.no_grad():
        log_probs = plain(input_ids=tokens).logits[0, :-1].log_softmax(dim=-1)
    expected = log_probs.gather(1, tokens[0, 1:, None])[-3:, 0]
    tree = CandidateTree.build(policy.trie, leaf, torch.zeros(1, 1, 3))
    with torch.no_grad():
        found = score(policy, prompts, tree).log_probs[0, 0]
    assert torch.allclose(found, expected, atol=1e-5)


QUICK = ("sft_epochs=0.2", "sft_learning_rate=0.001", "sft_patience=1")


@pytest.mark.parametrize("prompt", ["text", "compact"])
def test_a_run_on_a_backbone_and_a_run_on_its_result(
    prompt: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = save_tiny(tmp_path / "data")
    own, other = [f"prompt={prompt}"], {"text": ["prompt=compact"], "compact": []}[prompt]

    def called(algorithm: str, backbone: Path, output: Path, *words: str) -> Called:
        words = ("--backbone", str(backbone), *words)
        return call(capsys, run_words(algorithm, data, output, *words))

    def run(algorithm: str, backbone: Path, output: Path, *words: str) -> Path:
        said = called(algorithm, backbone, output, *words)
        assert said.code == 0, said.err
        (folder,) = run_folders(output)
        return folder

    if prompt == "text":
        own = []  # a language model's prompt is in words unless told otherwise
        save_backbone(tmp_path / "backbone")
    else:
        save_model(tmp_path / "backbone", qwen3(VOCABULARY))
    folder = run("ugr", tmp_path / "backbone", tmp_path / "first", *own, *QUICK)
    record, former = read_record(folder), folder / "policy"
    assert record["track"]["prompt"] == prompt
    assert record["metrics"]["test"]["invalid_rate"] == 0
    second = run("grpo", former, tmp_path / "second", *own, "sft_epochs=0")
    # Nothing was trained in between: the second run starts where the first one ended.
    start, end = read_record(second)["sft"]["test"], record["metrics"]["test"]
    assert start == pytest.approx(end, abs=1e-6)

    message = only_error(called("grpo", former, tmp_path / "third", *other, "sft_epochs=0"))
    wanted = "compact" if prompt == "text" else "text"
    assert message.endswith(
        f"the checkpoint does not fit: it was trained with prompt {prompt}, and this run has "
        f"{wanted}"
    )
    description = json.loads((former / "policy.json").read_text())
    description["codes_per_level"] = [4, 4, 4]
    (former / "policy.json").write_text(json.dumps(description))
    message = only_error(called("grpo", former, tmp_path / "fourth", *own, "sft_epochs=0"))
    assert "trained with codes_per_level [4, 4, 4], and this run has [256, 256, 256]" in message
