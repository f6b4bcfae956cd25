import copy

import pytest
import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from genrec_bench.policy.fused import fuse

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}


def model(kind: str) -> PreTrainedModel:
    torch.manual_seed(0)
    if kind == "qwen3":
        return Qwen3ForCausalLM(Qwen3Config(head_dim=16, **SHAPE))  # type: ignore[arg-type]
    return LlamaForCausalLM(LlamaConfig(**SHAPE))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_a_fused_model_computes_the_same(kind: str) -> None:
    plain = model(kind)
    for name, parameter in plain.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=1.0, std=0.3)
    fused = copy.deepcopy(plain)
    fuse(fused)
    tokens = torch.randint(50, (3, 7), generator=torch.Generator().manual_seed(1))

    results = []
    for each in (plain, fused):
        logits = each(input_ids=tokens).logits
        logits.square().sum().backward()
        grads = torch.cat([p.grad.flatten() for p in each.parameters() if p.grad is not None])
        results.append((logits.detach(), grads))

    changed = [
        type(a) is not type(b) for a, b in zip(plain.modules(), fused.modules(), strict=True)
    ]
    # Two norms and a gated layer a layer, and the last norm; Qwen3 has two more norms a layer, on
    # queries and keys.
    assert sum(changed) == (11 if kind == "qwen3" else 7)
    assert torch.allclose(results[0][0], results[1][0], atol=1e-6)
    assert torch.allclose(results[0][1], results[1][1], atol=1e-5, rtol=1e-4)
    assert list(plain.state_dict()) == list(fused.state_dict())


def test_other_number_formats_keep_the_original() -> None:
    plain = model("llama")
    for parameter in plain.parameters():
        parameter.data = parameter.data.bfloat16()
    fused = copy.deepcopy(plain)
    fuse(fused)
    tokens = torch.arange(5).unsqueeze(0)
    assert torch.equal(plain(input_ids=tokens).logits, fused(input_ids=tokens).logits)


@pytest.mark.parametrize("activation", ["silu", "gelu"])
def test_gated_layers_compute_the_same_to_the_bit_where_nothing_learns(activation: str) -> None:
    torch.manual_seed(0)
    plain = LlamaForCausalLM(LlamaConfig(hidden_act=activation, **SHAPE))  # type: ignore[arg-type]
    fused = copy.deepcopy(plain)
    fuse(fused)
    first, faster = plain.model.layers[0].mlp, fused.model.layers[0].mlp
    assert type(first) is not type(faster)
    states = torch.randn(3, 7, 32, generator=torch.Generator().manual_seed(1))
    kept = states.clone()
    with torch.no_grad():
        assert torch.equal(first(states), faster(states))
    assert torch.equal(states, kept), "only what the layer made itself is written over"
    assert torch.equal(first(states), faster(states))
