"""Tokens that an algorithm adds to the vocabulary: what they start from, and where they are."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from genrec_bench.policy.policy import Policy, embedding_weights

SPREAD = 0.1
"""Of a token without words: its draw's standard deviation, in those of the embeddings there are."""


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
