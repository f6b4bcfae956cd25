"""Added tokens: where they start, with words and without, and which rows of weights they are."""

from pathlib import Path
from typing import Any

import pytest
import torch
from small_models import load, save_backbone
from torch import Tensor
from worded_world import save_llama, worded_dataset, worded_policy

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_policy
from genrec_bench.policy.adapters import add_adapters
from genrec_bench.policy.added_tokens import SPREAD, added_rows, start_codes, start_tokens
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


@pytest.mark.parametrize("tied", [False, True])
def test_codes_start_from_the_titles_of_their_items(tied: bool, tmp_path: Path) -> None:
    dataset = worded_dataset()
    policy = load_worded(save_llama(tmp_path, tied=tied))
    before = [weight.detach().clone() for weight in weights_of(policy)]
    started = start_codes(policy, dataset.catalog)
    catalog, tokenizer = dataset.catalog, policy.prompt_format.tokenizer
    real = {
        (level, code): [n for n in range(24) if catalog.sids[n, level] == code and n != 3]
        for level, count in enumerate(catalog.codes_per_level)
        for code in range(count)
    }
    # The card declares more codes than the catalog uses.
    used = {place: items for place, items in real.items() if items}
    assert started == len(used) < len(real)
    for weight, old in zip(weights_of(policy), before, strict=True):
        rows = set()
        for place, items in used.items():
            row = int(policy.code_tokens[place])
            titles = [tokenizer(catalog.titles[n])["input_ids"] for n in items]
            means = [torch.stack([old[token] for token in tokens]).mean(dim=0) for tokens in titles]
            assert torch.allclose(weight[row], torch.stack(means).mean(dim=0), atol=1e-5)
            rows.add(row)
        others = [row for row in range(len(old)) if row not in rows]
        assert torch.equal(weight[others], old[others])


def test_codes_that_a_backbone_knows_are_left_as_they_are(tmp_path: Path) -> None:
    policy = load_worded(save_llama(tmp_path / "first"))
    policy.backbone.save_pretrained(tmp_path / "second")
    policy.prompt_format.tokenizer.save_pretrained(tmp_path / "second")
    again = load_worded(tmp_path / "second")
    before = [weight.detach().clone() for weight in weights_of(again)]
    assert start_codes(again, worded_dataset().catalog) == 0
    for weight, old in zip(weights_of(again), before, strict=True):
        assert torch.equal(weight, old)


def load_worded(folder: Path) -> Policy:
    return worded_policy(folder, worded_dataset())
