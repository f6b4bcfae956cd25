"""Our count against torch's own, operation by operation, on small models."""

import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import (
    AttentionInterface,
    BloomConfig,
    DynamicCache,
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3MoeConfig,
)
from transformers.models.auto import AutoModelForCausalLM

from genrec_bench.policy.flops import FlopModel, measure_peak

SMALL: dict[str, Any] = {"vocab_size": 50, "bos_token_id": 1, "eos_token_id": 2}
LLAMA_LIKE: dict[str, Any] = {
    **SMALL,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def qwen3(**overrides: Any) -> PretrainedConfig:
    # Head size 16 of 4 heads is not the hidden size, as in the real ones.
    settings = {"num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True}
    return Qwen3Config(**{**LLAMA_LIKE, **settings, **overrides})


def llama(**overrides: Any) -> PretrainedConfig:
    settings = {"num_key_value_heads": 1, "tie_word_embeddings": False}
    return LlamaConfig(**{**LLAMA_LIKE, **settings, **overrides})


def gpt2(**overrides: Any) -> PretrainedConfig:
    return GPT2Config(**{**SMALL, "n_embd": 32, "n_layer": 2, "n_head": 4, **overrides})


def build(config: PretrainedConfig) -> PreTrainedModel:
    # Eager, since torch's counter does not see fused attention on a CPU.
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    assert isinstance(model, PreTrainedModel)
    return model


def counted(action: Callable[[], object]) -> float:
    with FlopCounterMode(display=False) as counter:
        action()
    return float(counter.get_total_flops())


def inputs(batch: int, queries: int, keys: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(batch, 1, queries, keys, generator=generator) < 0.7
    mask[..., 0] = True
    return {
        "input_ids": torch.randint(50, (batch, queries), generator=generator),
        "position_ids": torch.arange(keys - queries, keys).expand(batch, queries),
        "attention_mask": mask,
    }


def check(
    model: Any, batch: int = 3, queries: int = 7, head_rows: int = 7, cached: int = 0
) -> tuple[float, float]:
    """Compare both counts of a forward and backward pass; return them."""
    work = {
        "tokens": batch * queries,
        "pairs": batch * queries * (queries + cached),
        "head_rows": batch * head_rows,
    }
    extra: dict[str, Any] = {"use_cache": False}
    if cached:
        extra = {"past_key_values": DynamicCache(config=model.config), "use_cache": True}
        with torch.no_grad():
            model(**inputs(batch, cached, cached), **extra)
    logits = []

    def forward() -> None:
        step = inputs(batch, queries, queries + cached)
        logits.append(model(**step, **extra, logits_to_keep=head_rows).logits)

    flops = FlopModel(model)
    forward_flops, backward_flops = flops.forward(**work), flops.backward(**work)
    assert counted(forward) == forward_flops
    if logits[0].requires_grad:
        assert counted(logits[0].sum().backward) == backward_flops
    else:
        assert backward_flops == 0
    return forward_flops, backward_flops


def lora(model: PreTrainedModel, targets: list[str] | str, **settings: Any) -> Any:
    return get_peft_model(model, LoraConfig(r=3, target_modules=targets, **settings))


def test_a_model_small_enough_to_count_by_hand() -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 10}
    model = build(llama(**sizes, num_hidden_layers=1, num_attention_heads=2))
    # Two heads of 4 share one of keys and values.
    query, key, value, output, mlp = 8 * 8, 8 * 4, 8 * 4, 8 * 8, 3 * 8 * 10
    token = 2 * (query + key + value + output + mlp)
    pair = 2 * 2 * 8
    row = 2 * 8 * 50
    flops = FlopModel(model)
    assert flops.forward(tokens=1, pairs=0, head_rows=0) == token
    assert flops.forward(tokens=0, pairs=1, head_rows=0) == pair
    assert flops.forward(tokens=0, pairs=0, head_rows=1) == row
    assert flops.forward(tokens=5, pairs=25, head_rows=3) == 5 * token + 25 * pair + 3 * row
    assert flops.backward(tokens=5, pairs=25, head_rows=3) == 2 * (5 * token + 25 * pair + 3 * row)


@pytest.mark.parametrize("config", [qwen3, llama, gpt2])
@pytest.mark.parametrize("cached", [0, 5])
@pytest.mark.parametrize("head_rows", [1, 7])
def test_all_weights_trained(config: Any, cached: int, head_rows: int) -> None:
    forward, backward = check(build(config()), head_rows=head_rows, cached=cached)
    assert backward == 2 * forward


@pytest.mark.parametrize("config", [qwen3, llama])
@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("key_heads", [1, 2, 4])
def test_tied_heads_and_shared_keys(config: Any, tied: bool, key_heads: int) -> None:
    check(build(config(tie_word_embeddings=tied, num_key_value_heads=key_heads)))


@pytest.mark.parametrize(
    ("config", "targets"),
    [
        (qwen3, ["q_proj", "v_proj"]),
        (qwen3, ["k_proj"]),
        (qwen3, ["v_proj"]),
        (qwen3, ["o_proj"]),
        (qwen3, ["down_proj"]),
        (qwen3, "all-linear"),
        (llama, ["q_proj", "v_proj"]),
        (llama, ["q_proj", "lm_head"]),
        (gpt2, ["c_attn"]),
        (gpt2, ["c_fc"]),
    ],
)
@pytest.mark.parametrize("cached", [0, 5])
def test_lora(config: Any, targets: list[str] | str, cached: int) -> None:
    forward, backward = check(lora(build(config()), targets), cached=cached)
    assert 0 < backward < 1.5 * forward


def test_lora_that_keeps_trained_copies_of_the_embeddings() -> None:
    model = lora(build(llama()), ["q_proj"], modules_to_save=["embed_tokens", "lm_head"])
    plain = FlopModel(build(llama())).forward(tokens=0, pairs=0, head_rows=1)
    assert FlopModel(model).forward(tokens=0, pairs=0, head_rows=1) == plain
    check(model)


def test_adapters_that_are_switched_off_cost_nothing() -> None:
    work = {"tokens": 11, "pairs": 121, "head_rows": 2}
    plain = FlopModel(build(qwen3())).forward(**work)
    model = lora(build(qwen3()), "all-linear")
    assert FlopModel(model).forward(**work) > plain
    with model.disable_adapter():
        reference = FlopModel(model)
        assert counted(lambda: model(**inputs(1, 11, 11), logits_to_keep=2)) == plain
    assert reference.forward(**work) == plain


def test_inputs_that_ask_for_a_gradient_are_seen() -> None:
    # What peft turns on for gradient checkpointing: the first layer then computes it after all.
    model = lora(build(qwen3()), ["q_proj"])
    _, without = check(model)
    model.enable_input_require_grads()
    _, with_inputs = check(model)
    assert with_inputs > without


def test_what_lies_below_the_first_trained_layer_is_free() -> None:
    model = build(llama())
    assert isinstance(model, LlamaForCausalLM)
    model.requires_grad_(False)
    assert check(model)[1] == 0, "a frozen model has no backward pass"
    model.model.layers[1].requires_grad_(True)
    forward, backward = check(model)
    assert 0 < backward < 1.5 * forward
    model.model.layers[1].requires_grad_(False)
    model.lm_head.requires_grad_(True)
    # Only the gradient of the head's weights: as much as its own forward pass.
    assert check(model)[1] == FlopModel(model).forward(tokens=0, pairs=0, head_rows=3 * 7)


def test_only_biases_trained() -> None:
    model = build(gpt2())
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.endswith("attn.c_attn.bias"))
    forward, backward = check(model)
    assert 0 < backward < 1.5 * forward


def test_other_architectures() -> None:
    check(build(GPTNeoXConfig(**LLAMA_LIKE)))
    # Bloom folds heads into the batch, and knows no mask of four dimensions.
    model = build(BloomConfig(**SMALL, hidden_size=32, n_layer=2, n_head=4))
    ids = torch.arange(12).view(2, 6)
    expected = FlopModel(model).forward(tokens=12, pairs=72, head_rows=12)
    assert counted(lambda: model(input_ids=ids, use_cache=False)) == expected


@pytest.mark.parametrize("implementation", ["eager", "grouped_mm"])
def test_experts_are_those_that_a_token_meets(implementation: str) -> None:
    experts: dict[str, Any] = {
        "num_experts": 8,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 24,
    }
    model = build(Qwen3MoeConfig(**LLAMA_LIKE, num_key_value_heads=2, **experts))
    model.set_experts_implementation("eager")
    forward = counted(lambda: model(**inputs(3, 7, 7), use_cache=False))
    model.set_experts_implementation(implementation)
    flops = FlopModel(model)
    assert flops.forward(tokens=21, pairs=147, head_rows=21) == forward
    assert flops.backward(tokens=21, pairs=147, head_rows=21) == 2 * forward


@pytest.mark.parametrize("grown", [64, 40])
def test_new_tokens_make_the_head_dearer(grown: int) -> None:
    model = build(qwen3())
    model.resize_token_embeddings(grown)
    assert FlopModel(model).forward(tokens=0, pairs=0, head_rows=1) == 2 * 32 * grown


def test_measuring_leaves_the_model_as_it_was() -> None:
    def refuse(*_: Any, **__: Any) -> tuple[Tensor, None]:
        raise AssertionError("attention that needs a context was run")

    AttentionInterface.register("refuse", refuse)
    model = build(gpt2(resid_pdrop=0.5))
    assert isinstance(model, GPT2LMHeadModel)
    model.set_attn_implementation("refuse")
    model.train()
    model.transformer.h[0].eval()
    modes = [module.training for module in model.modules()]
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    random = torch.get_rng_state()
    FlopModel(model)
    assert [module.training for module in model.modules()] == modes
    assert model.config._attn_implementation == "refuse"
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(weights[name], value) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not model.lm_head._forward_hooks and not model.lm_head._forward_pre_hooks


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_measured_where_gradients_are_off(context: Any) -> None:
    model = build(qwen3())
    work = {"tokens": 3, "pairs": 9, "head_rows": 1}
    with context():
        flops = FlopModel(model)
    assert flops.backward(**work) == 2 * flops.forward(**work) > 0


def test_a_model_without_a_head_is_refused() -> None:
    model = build(qwen3())
    assert isinstance(model, Qwen3ForCausalLM)
    with pytest.raises(ValueError, match="Qwen3Model has no output head"):
        FlopModel(model.model)


def test_peak_is_reached_by_no_ordinary_product() -> None:
    peak = measure_peak(seconds=0.5)
    # A thin product is bound by memory: hardly a fraction of what square ones reach.
    thin = nn.Linear(2048, 1, bias=False)
    rows = torch.ones(4096, 2048)
    with torch.no_grad():
        thin(rows)
        start = time.perf_counter()
        thin(rows)
        rate = 2.0 * rows.numel() / (time.perf_counter() - start)
    assert 0 < rate < peak
    assert peak > 1e8
