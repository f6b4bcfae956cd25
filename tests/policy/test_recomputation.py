"""Layers that are computed again in the backward pass change no number."""

import copy

import pytest
import torch
from torch import Tensor

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.decoding.beam import beam_search
from genrec_bench.errors import UserError
from genrec_bench.policy import backbones
from genrec_bench.policy.adapters import add_adapters
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.precision import Precision
from genrec_bench.policy.recomputation import recompute_layers
from genrec_bench.policy.scoring import score
from genrec_bench.training.settings import Settings

CATALOG = tiny_catalog()
EXAMPLES = tiny_examples(CATALOG)


def made(precision: Precision, adapters: bool) -> Policy:
    policy = tiny_policy(CATALOG)
    policy.precision = precision
    if adapters:
        torch.manual_seed(0)
        add_adapters(policy, 2)
    return policy


def gradients(policy: Policy) -> Tensor:
    prompts = policy.prompt_format.encode(EXAMPLES, torch.arange(len(EXAMPLES)).numpy())
    tree = beam_search(policy, prompts, 4)
    policy.zero_grad()
    score(policy, prompts, tree).log_probs.sum().backward()
    return torch.cat([p.grad.flatten() for p in policy.parameters() if p.grad is not None])


@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
@pytest.mark.parametrize("adapters", [False, True])
def test_gradients_are_equal_to_the_bit(precision: Precision, adapters: bool) -> None:
    plain, again = made(precision, adapters), made(precision, adapters)
    assert recompute_layers(again.backbone) == 2
    names = [name for name, _ in plain.named_parameters()]
    assert names == [name for name, _ in again.named_parameters()]
    assert torch.equal(gradients(plain), gradients(again))
    # A copy recomputes with its own weights.
    copied = copy.deepcopy(again)
    with torch.no_grad():
        next(copied.parameters()).mul_(2.0)
    assert not torch.equal(gradients(copied), gradients(again))
    assert torch.equal(gradients(again), gradients(plain))


def test_less_is_kept_for_the_backward_pass() -> None:
    kept = []
    for again in (False, True):
        policy = made("fp32", False)
        if again:
            recompute_layers(policy.backbone)
        sizes: dict[int, int] = {}

        def pack(values: Tensor, sizes: dict[int, int] = sizes) -> Tensor:
            sizes[values.untyped_storage().data_ptr()] = values.untyped_storage().nbytes()
            return values

        prompts = policy.prompt_format.encode(EXAMPLES, torch.arange(len(EXAMPLES)).numpy())
        tree = beam_search(policy, prompts, 4)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda values: values):
            score(policy, prompts, tree).log_probs.sum().backward()
        weights = {p.untyped_storage().data_ptr() for p in policy.parameters()}
        kept.append(sum(size for place, size in sizes.items() if place not in weights))
    assert kept[1] < 0.5 * kept[0]


def test_a_model_without_such_layers_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    policy, cpu = made("fp32", False), torch.device("cpu")
    backbones._fit_passes(policy, Settings(checkpointing="on"), cpu)
    monkeypatch.setattr(backbones, "recompute_layers", lambda _: 0)
    backbones._fit_passes(policy, Settings(), cpu)
    with pytest.raises(UserError, match="checkpointing=on: transformers knows no layers"):
        backbones._fit_passes(policy, Settings(checkpointing="on"), cpu)
