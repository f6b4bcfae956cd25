"""Passes are as large as memory allows, and on CPUs the same on all machines."""

import numpy as np
import pytest
import torch
from memory_peak import tensors_of
from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen3Config

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples
from genrec_bench.policy import room
from genrec_bench.policy.adapters import add_adapters
from genrec_bench.policy.backbones import TINY
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import CompactPrompt
from genrec_bench.policy.recomputation import recompute_layers
from genrec_bench.policy.room import fit_pass, pass_size
from genrec_bench.policy.supervised import score_targets

CPU, GPU = torch.device("cpu"), torch.device("cuda")
TINY_SIZE = pass_size(Qwen3Config(**TINY), 800)
SMOLLM2 = pass_size(
    LlamaConfig(hidden_size=576, intermediate_size=1536, num_hidden_layers=30), 49_152
)
QWEN_1_5B = pass_size(
    Qwen2Config(hidden_size=1536, intermediate_size=8960, num_hidden_layers=28), 151_936
)


@pytest.mark.parametrize("free", [2e9, 2e10, 2e12])
def test_on_a_cpu_passes_do_not_depend_on_what_is_free(
    monkeypatch: pytest.MonkeyPatch, free: float
) -> None:
    monkeypatch.setattr(room, "free_memory", lambda _: int(free))
    tiny = fit_pass(TINY_SIZE, CPU, "fp32")
    assert (tiny.tokens, tiny.recomputes) == (4096, False), "as ever"
    small = fit_pass(SMOLLM2, CPU, "fp32")
    assert (small.tokens, small.recomputes) == (256, False) and small.size < 1.4e9
    large = fit_pass(QWEN_1_5B, CPU, "fp32")
    assert large.recomputes and large.tokens >= 1024


def test_with_little_memory_they_are_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda _: 10**8)
    assert fit_pass(TINY_SIZE, CPU, "fp32").tokens == 512
    assert fit_pass(TINY_SIZE, CPU, "fp32", taken=10**8).tokens == room.LEAST


@pytest.mark.parametrize(
    ("checkpointing", "asked", "expected"),
    [
        ("off", 0, (256, False)),
        ("on", 0, (4096, True)),
        ("auto", 4096, (4096, True)),
        ("off", 4096, (4096, False)),
        ("auto", 64, (64, False)),
    ],
)
def test_what_is_asked_for_is_done(
    checkpointing: str, asked: int, expected: tuple[int, bool]
) -> None:
    found = fit_pass(SMOLLM2, CPU, "fp32", asked=asked, checkpointing=checkpointing)
    assert (found.tokens, found.recomputes) == expected


def test_on_a_gpu_they_fill_what_training_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "free_memory", lambda _: 74 * 10**9)
    taken = 16 * 1_540_000_000
    whole = fit_pass(QWEN_1_5B, GPU, "bf16-mixed", taken=taken)
    assert not whole.recomputes and whole.tokens >= 2048
    assert whole.size + taken < 74 * 10**9
    tight = fit_pass(QWEN_1_5B, GPU, "bf16-mixed", taken=66 * 10**9)
    assert tight.recomputes and tight.tokens >= 2048


@pytest.mark.parametrize("rank", [0, 8])
@pytest.mark.parametrize("checkpointing", ["off", "on"])
def test_a_pass_takes_about_what_is_expected(checkpointing: str, rank: int) -> None:
    catalog = tiny_catalog()
    prompt_format = CompactPrompt(catalog)
    config = LlamaConfig(
        vocab_size=prompt_format.vocabulary_size,
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=16,
        num_attention_heads=3,
        num_key_value_heads=1,
    )
    torch.manual_seed(0)
    policy = Policy(LlamaForCausalLM(config), prompt_format, catalog).eval()
    add_adapters(policy, rank)
    expected = fit_pass(pass_size(config, 0), CPU, "fp32", asked=1, checkpointing=checkpointing)
    if expected.recomputes:
        recompute_layers(policy.backbone)
    examples = tiny_examples(catalog, 128)
    chains = prompt_format.chains(examples)

    def learn(count: int) -> None:
        score_targets(policy, examples, chains, np.arange(count)).log_probs.sum().backward()

    # Gradients, which are not counted, are there before.
    learn(2)
    taken = tensors_of(lambda: learn(len(chains)))
    tokens = int((examples.history_lengths[chains.last] + 1).sum()) * catalog.num_levels
    assert 0.4 < taken / (expected.each * tokens) < 1.0
