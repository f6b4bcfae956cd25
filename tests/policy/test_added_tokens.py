"""Added tokens: where they start, with words and without, and which rows of weights they are."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import load, save_backbone
from torch import Tensor

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_policy
from genrec_bench.policy.adapters import add_adapters
from genrec_bench.policy.added_tokens import SPREAD, added_rows, start_tokens
from genrec_bench.policy.policy import Policy
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.settings import Settings
from genrec_bench.training.workers import Workers

WORDS = {"[HIGH]": " items that", "[LOW]": " wrong", "[NEW]": ""}


def weights_of(policy: Policy) -> tuple[Tensor, Tensor]:
    backbone: Any = policy.backbone
    return backbone.get_input_embeddings().weight, backbone.get_output_embeddings().weight


@pytest.mark.parametrize("tied", [False, True])
def test_tokens_start_from_their_words(tied: bool, tmp_path: Path) -> None:
    policy = load(save_backbone(tmp_path, tie_word_embeddings=tied), Settings(), tokens=WORDS)
    before = [weight.detach().clone() for weight in weights_of(policy)]
    torch.manual_seed(0)
    start_tokens(policy, WORDS)
    tokenizer: Any = policy.prompt_format.tokenizer
    assert len(added_rows(policy)) == (1 if tied else 2)
    first = policy.prompt_format.vocabulary_size
    for weight, old in zip(weights_of(policy), before, strict=True):
        # Whatever pieces the words are cut into, and nothing that tokenizers put around a text.
        for row, words in ((first, " items that"), (first + 1, " wrong")):
            pieces = tokenizer.convert_tokens_to_ids(tokenizer.tokenize(words))
            assert torch.allclose(weight[row], torch.stack([old[p] for p in pieces]).mean(dim=0))
        # A token without words starts near the mean, and what was known stays.
        assert (weight[first + 2] - old[:first].mean(dim=0)).abs().max() < 5 * SPREAD * old.std()
        assert torch.equal(weight[:first], old[:first])


def test_tokens_without_words_start_apart_near_the_mean_and_a_seed_says_where() -> None:
    words = {f"[{index}]": " correct" for index in range(400)}
    starts = []
    for seed in (0, 0, 1):
        # A compact prompt knows no words.
        policy = tiny_policy(tiny_catalog(), extra_tokens=words)
        torch.manual_seed(seed)
        start_tokens(policy, words)
        starts.append(weights_of(policy)[1].detach())
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])
    known = policy.prompt_format.vocabulary_size
    old, new = starts[0][:known], starts[0][known:]
    # Of 400 draws: the mean is sure to 1/20, the deviation to 1/28 of the deviation.
    deviation = SPREAD * old.std(dim=0)
    assert ((new.mean(dim=0) - old.mean(dim=0)).abs() < 0.25 * deviation).all()
    assert torch.allclose(new.std(dim=0), deviation, rtol=0.2)


def test_a_policy_without_added_tokens_is_left_as_it_is() -> None:
    policy = tiny_policy(tiny_catalog())
    before = {name: value.clone() for name, value in policy.state_dict().items()}
    state = torch.get_rng_state()
    start_tokens(policy, {})
    assert added_rows(policy) == []
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in policy.state_dict().items())


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("rank", [0, 2])
def test_added_tokens_learn_at_the_rate_of_heads_with_adapters_too(
    rank: int, tied: bool, tmp_path: Path
) -> None:
    folder = save_backbone(tmp_path, tie_word_embeddings=tied)
    policy = load(folder, Settings(), tokens=WORDS)
    add_adapters(policy, rank)
    optimization = Optimization(
        policy,
        Workers(),
        learning_rate=1e-4,
        head_learning_rate=1e-2,
        weight_decay=0.0,
        warmup=0.0,
        max_grad_norm=1e9,
        added_rows=added_rows(policy),
    )
    before = [weight.detach().clone() for weight in weights_of(policy)]
    for parameter in optimization.parameters:
        parameter.grad = torch.ones_like(parameter)
    optimization.step(0.0, 0.0, "a step")
    first = policy.prompt_format.vocabulary_size
    for weight, old in zip(weights_of(policy), before, strict=True):
        # The first step of Adam is the learning rate.
        moved = old - weight.detach()
        assert torch.allclose(moved[:first], torch.tensor(1e-4), rtol=0.01)
        assert torch.allclose(moved[first:], torch.tensor(1e-2), rtol=0.01)
