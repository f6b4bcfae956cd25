"""Tokens that are added to the vocabulary, by an algorithm or for codes: what they start from."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag

from genrec_bench.data.dataset import Catalog
from genrec_bench.policy.policy import Policy, embedding_weights
from genrec_bench.policy.text_prompt import TextPrompt

SPREAD = 0.1
"""Of a token without words: its draw's standard deviation, in those of the embeddings there are."""

ITEMS_AT_ONCE = 4096


@torch.no_grad()
def start_tokens(policy: Policy, words: Mapping[str, str]) -> None:
    """Give every added token a start of its own, in the input embeddings and in the output head.

    A token starts as the mean of the tokens of its words, as UGR's released code does. Where the
    prompt format knows no words, or the token has none, it starts near the mean of all tokens, at a
    place that torch's generator draws with the embeddings' own spread: tokens that start alike are
    told apart by nothing but their gradients.

    Args:
        words: by name of the added token.
    """
    known = policy.prompt_format.vocabulary_size
    for weight, _ in added_rows(policy):
        old = weight[:known].float()
        for name, row in policy.extra_tokens.items():
            tokens = policy.prompt_format.word_tokens(words[name])
            if tokens:
                start = old[tokens].mean(dim=0)
            else:
                # On the CPU, so that a seed gives one start on all devices.
                noise = torch.randn(old.shape[1]).to(old.device)
                start = old.mean(dim=0) + SPREAD * old.std(dim=0) * noise
            weight[row] = start.to(weight.dtype)


def added_rows(policy: Policy) -> list[tuple[nn.Parameter, list[int]]]:
    """Return the weights that hold the added tokens, once where they are tied, and which rows."""
    rows = list(policy.extra_tokens.values())
    weights = {id(weight): weight for weight in embedding_weights(policy.backbone)}
    return [(weight, rows) for weight in weights.values()] if rows else []


@torch.no_grad()
def start_codes(policy: Policy, catalog: Catalog) -> int:
    """Give new tokens of codes a start from what their items are called.

    A code starts as the mean of its items' titles, of which each is the mean of its tokens, in the
    input embeddings and in the output head. Codes that the backbone knew, and codes of items
    without titles, are left as they are.

    Returns:
        How many codes were given a start.
    """
    prompt_format = policy.prompt_format
    assert isinstance(prompt_format, TextPrompt), "refused before"
    titled = [item for item, title in enumerate(catalog.titles) if title.strip()]
    shape, device = policy.code_tokens.shape, policy.device
    # One number for each code of each level.
    numbers = torch.from_numpy(catalog.sids.astype("int64")) + shape[1] * torch.arange(shape[0])
    tables = {id(weight): weight for weight in embedding_weights(policy.backbone)}.values()
    sums = [
        weight.new_zeros(shape.numel(), weight.shape[1], dtype=torch.float) for weight in tables
    ]
    counts = torch.zeros(shape.numel(), device=device)
    for start in range(0, len(titled), ITEMS_AT_ONCE):
        items = titled[start : start + ITEMS_AT_ONCE]
        texts = prompt_format.answer_tokens([catalog.titles[item] for item in items])
        items = [item for item, row in zip(items, texts, strict=True) if len(row)]
        rows = [row for row in texts if len(row)]
        if not rows:
            continue
        ends = torch.tensor([len(row) for row in rows], device=device).cumsum(0)
        begins = torch.cat([ends.new_zeros(1), ends[:-1]])
        tokens = torch.cat([torch.from_numpy(row) for row in rows]).to(device)
        of_items = numbers[items].to(device)
        for level in range(shape[0]):
            counts.index_add_(0, of_items[:, level], torch.ones(len(items), device=device))
        for weight, total in zip(tables, sums, strict=True):
            means = embedding_bag(tokens, weight.float(), begins, mode="mean")
            for level in range(shape[0]):
                total.index_add_(0, of_items[:, level], means)
    started: Tensor = prompt_format.is_new.flatten().to(device) & (counts > 0)
    for weight, total in zip(tables, sums, strict=True):
        found = total[started] / counts[started].unsqueeze(1)
        weight[policy.code_tokens.flatten()[started]] = found.to(weight.dtype)
    return int(started.sum())
