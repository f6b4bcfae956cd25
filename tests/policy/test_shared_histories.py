"""Targets in words that share a pass: predictions and gradients are those of a pass for each."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from small_models import qwen3, save_model, save_tokenizer
from torch import Tensor
from worded_world import save_llama, worded_dataset, worded_policy

from genrec_bench.data.dataset import Dataset, Examples
from genrec_bench.errors import UserError
from genrec_bench.policy.policy import Policy, WorkCount
from genrec_bench.policy.prompts import Chains
from genrec_bench.policy.supervised import TargetScores, score_targets
from genrec_bench.policy.templates import TEMPLATES
from genrec_bench.policy.text_prompt import TextPrompt

ROWS = [
    (0, [4], 9),
    (0, [4, 9], 2),
    (0, [4, 9, 2], 11),
    (1, [7], 8),
    (2, [20, 3], 1),
    (2, [20, 3, 1], 5),
    (2, [6, 7, 8], 9),
]
"""Users 0 and 2 go on; the last example does not continue what came before it."""

EXAMPLES = Examples.from_lists(*zip(*ROWS, strict=True))


def dataset() -> Dataset:
    whole = worded_dataset()
    return dataclasses.replace(whole, splits={**whole.splits, "train": EXAMPLES})


def scored(policy: Policy, targets: int) -> tuple[TargetScores, Tensor, WorkCount]:
    """Scores of all examples, the gradient of a weighted sum of them, and what it took."""
    policy.meter = count = WorkCount()
    chains = policy.prompt_format.chains(EXAMPLES, targets)
    scores = score_targets(policy, EXAMPLES, chains, np.arange(len(chains)))
    weights = torch.randn(scores.log_probs.shape, generator=torch.Generator().manual_seed(0))
    (scores.log_probs * weights).sum().backward()
    grads = [parameter.grad for parameter in policy.parameters() if parameter.grad is not None]
    found = torch.cat([grad.flatten() for grad in grads])
    policy.zero_grad(set_to_none=True)
    return scores, found, count


@pytest.mark.parametrize("name", TEMPLATES)
@pytest.mark.parametrize("space", ["full", "trie"])
def test_shared_histories_predict_as_a_pass_for_each(name: str, space: str, tmp_path: Path) -> None:
    words = (f"prompt={name}", f"logprob_space={space}")
    policy = worded_policy(save_llama(tmp_path), dataset(), *words)
    chains = policy.prompt_format.chains(EXAMPLES, 2)
    assert chains.last.tolist() == [2, 3, 5, 6] and chains.num_targets.tolist() == [3, 1, 2, 1]
    alone, gradient, before = scored(policy, 1)
    shared, other, after = scored(policy, 2)
    assert torch.equal(alone.targets, shared.targets)
    assert torch.allclose(alone.log_probs, shared.log_probs, atol=2e-5)
    assert torch.allclose(alone.hidden, shared.hidden, atol=2e-5)
    assert (gradient - other).norm() < 1e-4 * gradient.norm()
    # Each token once: trunks of 3, 1, 3 and 3 items, and closing words and codes of 7 targets.
    prompt_format = policy.prompt_format
    assert isinstance(prompt_format, TextPrompt) and prompt_format.pieces is not None
    head, between, tail = map(len, prompt_format.pieces)
    levels = prompt_format.item_tokens.shape[1]
    trunks = sum(head + items * levels + (items - 1) * between for items in (3, 1, 3, 3))
    assert after.tokens == trunks + 7 * (tail + levels - 1) < before.tokens
    assert after.flops < before.flops
    counted = prompt_format.sequence_tokens(
        EXAMPLES.history_lengths[chains.last] + 1, chains.num_targets
    )
    assert counted.sum() == after.tokens
    single = Chains.single(EXAMPLES)
    counted = prompt_format.sequence_tokens(EXAMPLES.history_lengths + 1, single.num_targets)
    assert counted.sum() == before.tokens


@pytest.mark.parametrize("wrap", [False, True])
def test_whatever_a_tokenizer_puts_before_a_prompt_stands_there_once(
    wrap: bool, tmp_path: Path
) -> None:
    save_model(tmp_path, qwen3(save_tokenizer(tmp_path, wrap=wrap) + 3))
    policy = worded_policy(tmp_path, dataset())
    alone, _, _ = scored(policy, 1)
    shared, _, _ = scored(policy, 4)
    assert torch.allclose(alone.log_probs, shared.log_probs, atol=5e-5)


def test_items_that_are_written_by_their_place_share_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = worded_policy(save_llama(tmp_path), dataset())
    prompt_format = policy.prompt_format
    assert isinstance(prompt_format, TextPrompt)

    def numbered(items: list[int]) -> str:
        return ", ".join(f"{n}. {prompt_format.item_text[item]}" for n, item in enumerate(items))

    prompt_format.__dict__.pop("pieces", None)
    monkeypatch.setattr(prompt_format, "spell", numbered)
    assert len(prompt_format.chains(EXAMPLES)) == len(EXAMPLES)
    with pytest.raises(UserError, match="sft_targets=3: .*does not write an item.*leave") as error:
        prompt_format.chains(EXAMPLES, 3)
    assert "\n" not in str(error.value)
    assert (prompt_format.sequence_tokens(np.array([3]), np.array([1])) > 9).all()
