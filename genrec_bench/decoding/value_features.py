"""What a value may know of a prefix beside hidden states: probabilities, and nearness of meaning.

V-STAR's reward (Eq. 8) asks how near in meaning a candidate is to the target. A backbone that was
trained on codes alone knows nothing of texts, so that its hidden states cannot say. These can:

* the log-probability of the prefix's last code, and of the whole prefix;
* the mean embedding of the catalog's SIDs under the prefix, and that of the prompt's history;
* the cosine of these two.

A search and a packed tree compute them by the same function.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, normalize, pad

from genrec_bench.errors import UserError
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts

PARTS = ("probability", "embeddings", "cosine")
"""The features, by the names that choose them."""

INPUTS = ("hidden", *PARTS)
"""All that a value may be fed."""

NATS = 5.0
"""By which log-probabilities are divided: a code costs some nats, and inputs should be about 1."""

SPREAD = 0.3
"""Root mean square of an embedding's entries: they are many, and should not drown the rest."""

GAIN = 5.0
"""Of the output: Adam's steps have one size, and ranks must be learned in some 160 of them."""


def value_inputs(name: str, text: str) -> tuple[str, ...]:
    """Read a comma list of ``INPUTS``, each at most once and at least one of them.

    Raises:
        UserError: it is anything else; ``name`` is what it was given for.
    """
    found = tuple(word.strip() for word in text.split(","))
    if len(set(found)) < len(found) or not set(found) <= set(INPUTS):
        raise UserError(f"{name}={text}: choose some of {', '.join(INPUTS)}, separated by commas")
    return found


def history_leaves(policy: Policy, prompts: Prompts) -> Tensor:
    """Return [B, T] the leaf of the item that ends at each token of a prompt, ``dead`` elsewhere.

    The codes of an item are tokens that no other word has, so they are found in any prompt format.
    """
    trie = policy.trie
    code_of = torch.zeros(policy.vocabulary_size, dtype=torch.long, device=policy.device)
    for level, count in enumerate(trie.codes_per_level):
        code_of[policy.code_tokens[level, :count]] = torch.arange(count, device=policy.device)
    before = (trie.num_levels - 1, 0)
    tokens = pad(prompts.tokens.masked_fill(~prompts.mask, 0), before)
    windows = tokens.unfold(1, trie.num_levels, 1)
    real = pad(prompts.mask, before).unfold(1, trie.num_levels, 1)
    states = torch.zeros_like(prompts.tokens)
    for level in range(trie.num_levels):
        token = windows[..., level]
        reached = trie.child(states, code_of[token])
        states = reached.masked_fill(
            ~(policy.level_mask[level, token] & real[..., level]), trie.dead
        )
    return states


def history_means(policy: Policy, prompts: Prompts) -> Tensor:
    """Return [B, E] the mean embedding of each prompt's items; an item that recurs counts again."""
    leaves = history_leaves(policy, prompts)
    count = (leaves != policy.trie.dead).sum(dim=1, keepdim=True).clamp(min=1)
    # ``dead`` has the embedding 0.
    return policy.prefix_embeddings[leaves].sum(dim=1) / count


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of M prefixes without asking the backbone again.

    Attributes:
        rows: [M] the prompt of each, as a row of the batch.
        states: [M] trie states.
        code: [M] log-probability of the last code; 0 for the empty prefix.
        total: [M] that of the whole prefix.
    """

    rows: Tensor
    states: Tensor
    code: Tensor
    total: Tensor


class FeatureValue(nn.Module):
    """A value of each prefix from its features: an MLP with one hidden layer of 64.

    How many codes the prefix has is told too. All values are 0 at first.
    """

    def __init__(self, embedding_size: int, parts: Sequence[str], width: int = 64) -> None:
        """Draw the weights from torch's generator; ``parts`` are some of ``PARTS``."""
        super().__init__()
        self.parts = frozenset(parts)
        scalars = 1 + 2 * ("probability" in parts) + ("cosine" in parts)
        vectors = 2 * embedding_size * ("embeddings" in parts)
        self.up = nn.Linear(scalars + vectors, width)
        self.value = nn.Linear(width, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, policy: Policy, history: Tensor, facts: Facts) -> Tensor:
        """Return [M] values; ``history`` [B, E] is that of ``history_means``."""
        trie = policy.trie
        inputs = [trie.level[facts.states].float().unsqueeze(1) / trie.num_levels]
        if "probability" in self.parts:
            inputs.append(torch.stack([facts.code, facts.total], dim=1).float() / NATS)
        if self.parts & {"embeddings", "cosine"}:
            of_prefix = normalize(policy.prefix_embeddings[facts.states], dim=1)
            of_history = normalize(history, dim=1)[facts.rows]
            if "cosine" in self.parts:
                inputs.append((of_prefix * of_history).sum(dim=1, keepdim=True))
            if "embeddings" in self.parts:
                scale = SPREAD * of_prefix.shape[1] ** 0.5
                inputs += [of_prefix * scale, of_history * scale]
        state = gelu(self.up(torch.cat(inputs, dim=1).to(self.up.weight.dtype)))
        return GAIN * cast(Tensor, self.value(state)).squeeze(1)
