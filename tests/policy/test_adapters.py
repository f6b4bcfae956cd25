"""LoRA: only adapters and embeddings are trained, and merging them changes nothing but the form."""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_models import DATASET, load, save_backbone, save_model
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, GPT2Config, Qwen3Config

from genrec_bench.policy.adapters import add_adapters, merge_adapters
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.supervised import score_targets
from genrec_bench.training.checkpoints import save_policy
from genrec_bench.training.settings import Settings

EMBEDDINGS = ("embed_tokens", "lm_head", "wte")


def loss_of(policy: Policy) -> Tensor:
    chains = policy.prompt_format.chains(DATASET.train)
    return -score_targets(policy, DATASET.train, chains, np.arange(12)).log_probs.sum()


def train(policy: Policy, steps: int = 3) -> None:
    trained = [parameter for parameter in policy.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.01)
    for _ in range(steps):
        optimizer.zero_grad()
        loss_of(policy).backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()


@pytest.mark.parametrize("tied", [False, True])
def test_only_adapters_and_embeddings_are_trained(tied: bool, tmp_path: Path) -> None:
    policy = load(save_backbone(tmp_path, tie_word_embeddings=tied), Settings())
    before = {name: value.clone() for name, value in policy.backbone.state_dict().items()}
    plain_loss = loss_of(policy).item()
    torch.manual_seed(0)
    add_adapters(policy, rank=2)
    # Fresh adapters do nothing yet.
    assert loss_of(policy).item() == pytest.approx(plain_loss, rel=1e-6)
    train(policy)
    for name, parameter in policy.named_parameters():
        wanted = "lora_" in name or any(part in name for part in EMBEDDINGS)
        assert parameter.requires_grad == wanted, name
        assert (parameter.grad is not None) == wanted, name
    # All seven projections of both layers have an adapter.
    assert sum("lora_A" in name for name, _ in policy.named_parameters()) == 14

    frozen = [name for name in before if "proj" in name or "norm" in name]
    after = policy.backbone.get_base_model().state_dict()  # type: ignore[operator]
    for name in frozen:
        kept = name if name in after else name.replace(".weight", ".base_layer.weight")
        assert torch.equal(after[kept], before[name]), name
    trained_loss = loss_of(policy).item()
    assert trained_loss < plain_loss - 0.1
    merge_adapters(policy)
    assert loss_of(policy).item() == pytest.approx(trained_loss, rel=1e-5)
    assert not any("lora" in name for name, _ in policy.named_parameters())
    assert all(parameter.requires_grad for parameter in policy.parameters())
    backbone = policy.backbone
    one_matrix = backbone.get_input_embeddings().weight is backbone.get_output_embeddings().weight
    assert one_matrix == tied


@pytest.mark.parametrize("kind", ["qwen3", "gpt2"])
def test_a_merged_policy_is_a_plain_model(kind: str, tmp_path: Path) -> None:
    shape: dict[str, Any] = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 32}
    config = (
        Qwen3Config(vocab_size=900, intermediate_size=64, num_key_value_heads=1, **shape)
        if kind == "qwen3"
        else GPT2Config(vocab_size=900, **shape)
    )
    save_model(tmp_path / "start", config)
    policy = load(tmp_path / "start")
    torch.manual_seed(0)
    add_adapters(policy, rank=2)
    train(policy)
    tokens = torch.tensor([[1, 5, 300, 600, 9, 301]])
    policy.eval()
    policy.backbone.set_attn_implementation("eager")
    with torch.no_grad():
        adapted = policy.backbone(input_ids=tokens).logits
    merge_adapters(policy)
    save_policy(policy, tmp_path / "policy")
    assert not (tmp_path / "policy" / "adapter_config.json").exists()
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "policy").eval()
    with torch.no_grad():
        assert torch.allclose(plain(input_ids=tokens).logits, adapted, atol=1e-4)
    start = AutoModelForCausalLM.from_pretrained(tmp_path / "start").eval()
    with torch.no_grad():
        assert (start(input_ids=tokens).logits - adapted).abs().max() > 0.01


def test_flops_are_counted_anew(tmp_path: Path) -> None:
    policy = load(save_backbone(tmp_path), Settings())
    work = {"tokens": 10, "pairs": 100, "head_rows": 10}

    def backward() -> float:
        copied = copy.deepcopy(policy.backbone)
        copied.set_attn_implementation("eager")
        logits = copied(input_ids=torch.arange(10).unsqueeze(0)).logits
        with FlopCounterMode(display=False) as counter:
            logits.sum().backward()
        return float(counter.get_total_flops())

    plain = policy.flops.forward(**work), policy.flops.backward(**work)
    assert plain[1] == backward()
    add_adapters(policy, rank=2)
    adapted = policy.flops.forward(**work), policy.flops.backward(**work)
    assert adapted[1] == backward()
    assert adapted[0] > plain[0]  # the adapters' own products
    assert adapted[1] < plain[1]  # no gradients of frozen weights
    merge_adapters(policy)
    assert (policy.flops.forward(**work), policy.flops.backward(**work)) == plain
