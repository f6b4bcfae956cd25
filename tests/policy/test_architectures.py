"""Architectures are packed exactly as their own forward method reads them, or refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from small_models import DATASET, VOCABULARY, load, made_up, qwen3, refusal, save_model
from transformers import PretrainedConfig

from genrec_bench.policy.scoring import score
from genrec_bench.policy.selfcheck import repeated_log_probs


def general(**changes: Any) -> dict[str, Any]:
    shape = {
        "vocab_size": VOCABULARY,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    return {**shape, **changes}


def older(**changes: Any) -> dict[str, Any]:
    """Arguments in the words of GPT-2."""
    shape = {"vocab_size": VOCABULARY, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    return {**shape, **changes}


ACCEPTED: dict[str, tuple[str, dict[str, Any]]] = {
    "qwen3": ("Qwen3", general(head_dim=8, num_key_value_heads=4)),
    "qwen3, shared key heads": ("Qwen3", general(head_dim=8)),
    "qwen3, tied": ("Qwen3", general(head_dim=8, tie_word_embeddings=True)),
    "qwen3, experts": (
        "Qwen3Moe",
        general(head_dim=8, num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16),
    ),
    "llama": ("Llama", general()),
    "mistral, a wide window": ("Mistral", general(sliding_window=32)),
    "gpt2, absolute positions": ("GPT2", older()),
    "gpt2, attention scaled by layer": (
        "GPT2",
        older(scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True),
    ),
    "gemma2, logits capped": (
        "Gemma2",
        general(head_dim=8, attn_logit_softcapping=None, final_logit_softcapping=2.0),
    ),
    "gemma3, windows": ("Gemma3Text", general(head_dim=8, sliding_window=32)),
    "granite, logits divided": (
        "Granite",
        general(logits_scaling=4.0, embedding_multiplier=3.0, attention_multiplier=0.2),
    ),
    "cohere, logits multiplied": ("Cohere", general(logit_scale=0.25)),
    "cohere2, some layers without positions": ("Cohere2", general(sliding_window=32)),
    "phi, a biased head": ("Phi", general()),
    "opt, projected embeddings": ("OPT", general(ffn_dim=64, word_embed_proj_dim=16)),
    "gpt-neox": ("GPTNeoX", general()),
    "deepseek3, latent attention": (
        "DeepseekV3",
        general(
            num_key_value_heads=4,
            q_lora_rank=8,
            kv_lora_rank=8,
            qk_rope_head_dim=4,
            qk_nope_head_dim=4,
            v_head_dim=8,
            n_routed_experts=4,
            num_experts_per_tok=2,
            n_group=1,
            topk_group=1,
            moe_intermediate_size=16,
            first_k_dense_replace=1,
        ),
    ),
}

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "a window narrower than a history": ("Mistral", general(sliding_window=16), "allows 13;"),
    "a window in some layers": ("Gemma3Text", general(head_dim=8, sliding_window=16), "allows 13;"),
    "few positions": ("GPT2", older(n_positions=20), "allows 17;"),
    "gemma2, attention capped": ("Gemma2", general(head_dim=8), "'softcap' is not supported"),
    "gpt-oss, sinks": (
        "GptOss",
        general(head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=64),
        "'s_aux' is not supported",
    ),
    "longrope, other positions for long prompts": (
        "Phi3",
        general(
            original_max_position_embeddings=12,
            rope_parameters={
                "rope_type": "longrope",
                "rope_theta": 10000.0,
                "short_factor": [1.0] * 4,
                "long_factor": [4.0] * 4,
                "original_max_position_embeddings": 12,
            },
        ),
        "differ by",
    ),
    "bloom, attention by distance": (
        "Bloom",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "n_layer": 2, "n_head": 4},
        "0 of its 2 layers",
    ),
    "gpt-neo": (
        "GPTNeo",
        {
            "vocab_size": VOCABULARY,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
        },
        "0 of its 2 layers",
    ),
    "mamba, no attention": (
        "Mamba",
        {"vocab_size": VOCABULARY, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4},
        "0 of its 2 layers",
    ),
    "lfm2, convolutions": (
        "Lfm2",
        general(layer_types=["conv", "full_attention"]),
        "1 of its 2 layers",
    ),
    "llama4, chunks": (
        "Llama4Text",
        general(head_dim=8, intermediate_size_mlp=64, num_local_experts=2, attention_chunk_size=8),
        "cannot be packed",
    ),
    "bert, not causal": ("Bert", general(), "cannot be packed"),
    "a vocabulary that is too small": ("Llama", general(vocab_size=40), "its vocabulary of 40"),
}


def config_of(kind: str, arguments: dict[str, Any]) -> PretrainedConfig:
    made: PretrainedConfig = getattr(transformers, f"{kind}Config")(**arguments)
    return made


@pytest.mark.parametrize("name", ACCEPTED)
def test_packed_trees_equal_repeated_prompts(name: str, tmp_path: Path) -> None:
    save_model(tmp_path, config_of(*ACCEPTED[name]))
    policy = load(tmp_path)
    found = {}
    for side in ("right", "left"):
        prompts, tree = made_up(policy, side)
        with torch.no_grad():
            packed = score(policy, prompts, tree).log_probs
            repeated = repeated_log_probs(policy, prompts, tree.leaves)
        assert (packed - repeated).abs().max() < 1e-4
        # The test could not fail if the prompts made no difference.
        assert (repeated - repeated.roll(1, 0)).abs().max() > 0.01
        found[side] = packed
    assert torch.equal(found["left"], found["right"])


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_packed_is_refused(name: str, tmp_path: Path) -> None:
    kind, arguments, reason = REFUSED[name]
    save_model(tmp_path, config_of(kind, arguments))
    assert reason in refusal(tmp_path)


def test_an_architecture_without_attention_is_refused_whatever_its_weights(tmp_path: Path) -> None:
    kind, arguments, reason = REFUSED["mamba, no attention"]
    model = save_model(tmp_path, config_of(kind, arguments))
    for parameter in model.parameters():
        parameter.data.zero_()  # every log-probability is that of a uniform distribution
    model.save_pretrained(tmp_path)
    assert reason in refusal(tmp_path)


def test_the_longest_history_is_named_if_it_has_no_positions(tmp_path: Path) -> None:
    save_model(tmp_path, qwen3(VOCABULARY, max_position_embeddings=20))
    lengths = 1 + 3 * DATASET.train.history_lengths
    row = int(lengths.argmax())
    assert refusal(tmp_path).startswith(
        f"train example {row}: its history takes {lengths[row]} tokens as a compact prompt and the "
        "backbone allows 17;"
    )
