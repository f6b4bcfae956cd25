"""How a history becomes tokens, and which token is which code.

Two kinds. ``CompactPrompt`` is for policies trained from scratch: a start token and the SIDs of
the history, nothing else. ``TextPrompt`` (``text_prompt.py``) is for pretrained language models: a
question in words, as a template puts it, with one new token for each code.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerBase

from genrec_bench.data.dataset import Catalog, Examples
from genrec_bench.policy.code_tokenizer import code_tokenizer


@dataclass(frozen=True, eq=False)
class Prompts:
    """B tokenized histories.

    Attributes:
        tokens: [B, T] token ids; what stands at padding means nothing.
        mask: [B, T] True at real tokens. Padding may stand on either side.
        histories: [B, H] the items that the prompts tell of, oldest first, -1 behind the last; H
            is 0 where nobody told.
    """

    tokens: Tensor
    mask: Tensor
    histories: Tensor = field(default_factory=lambda: torch.empty(0, 0, dtype=torch.long))

    def __post_init__(self) -> None:
        if len(self.histories) != len(self.tokens):
            object.__setattr__(self, "histories", self.tokens.new_empty(len(self.tokens), 0))

    def __len__(self) -> int:
        """Return B."""
        return len(self.tokens)

    @property
    def lengths(self) -> Tensor:
        """[B] number of real tokens."""
        return self.mask.sum(dim=1)

    def select(self, rows: Tensor) -> Prompts:
        """Return some prompts, by their indices [R], without columns that pad all of them."""
        mask = self.mask[rows]
        columns = mask.any(dim=0)
        histories = self.histories[rows]
        histories = histories[:, (histories >= 0).any(dim=0)]
        return Prompts(self.tokens[rows][:, columns], mask[:, columns], histories)

    def to(self, device: torch.device) -> Prompts:
        """Return the same prompts on a device."""
        return Prompts(self.tokens.to(device), self.mask.to(device), self.histories.to(device))

    @classmethod
    def join(cls, parts: Sequence[Prompts]) -> Prompts:
        """Put several batches together, one after the other; padding is added on the right."""

        def joined(parts: list[Tensor], value: int = 0) -> Tensor:
            width = max(part.shape[1] for part in parts)
            return torch.cat([pad(part, (0, width - part.shape[1]), value=value) for part in parts])

        return cls(
            joined([part.tokens for part in parts]),
            joined([part.mask for part in parts]),
            joined([part.histories for part in parts], -1),
        )

    @classmethod
    def from_rows(
        cls, rows: Sequence[NDArray[np.int64]], histories: Sequence[NDArray[np.int32]] = ()
    ) -> Prompts:
        """Gather token rows, and histories of items, of unequal length, padded on the right."""
        tokens, mask = _padded(rows, 0)
        if not histories:
            return cls(tokens, mask)
        return cls(tokens, mask, _padded(histories, -1)[0])


@dataclass(frozen=True, eq=False)
class Chains:
    """Training sequences in which each supervised item has the history that its example gives it.

    An example whose history is the previous example's history and target continues its sequence,
    so that one pass over a user's items serves many examples, with the same predictions as one
    pass for each: attention is causal. Windows, histories that were cut to their last items, may
    share a sequence too; all but the last then see less than their example gives them.

    Attributes:
        last: [C] the last example of each chain; the chain's items are its history and target.
        num_targets: [C] how many items at the end of the chain are learned.
    """

    last: NDArray[np.int64]
    num_targets: NDArray[np.int64]

    def __len__(self) -> int:
        """Return C."""
        return len(self.last)

    @classmethod
    def single(cls, examples: Examples) -> Chains:
        """Return one chain for each example."""
        count = len(examples)
        return cls(np.arange(count), np.ones(count, dtype=np.int64))

    @classmethod
    def nested(cls, examples: Examples, targets: int = 1, *, beginnings: bool = True) -> Chains:
        """Join examples of a user that continue each other.

        Args:
            beginnings: whether the chain of a user's earliest example is learned from its first
                item on, although that item is no example's target: it was bought within the
                training period, and what people begin with is worth knowing to a policy that starts
                from nothing.
            targets: most of a chain of windows, each of which begins one item later than the one
                before. A chain shows the last window, in which the first of n targets has n - 1
                items less before it than in its own; each target has at least one.
        """
        order = np.argsort(examples.users, kind="stable")
        last: list[int] = []
        num_targets: list[int] = []
        previous = np.empty(0, dtype=np.int32)
        previous_user = -1
        of_windows = False  # whether the chain that grows begins later than its user
        for row in order.tolist():
            history = examples.history(row)
            user = int(examples.users[row])
            same = user == previous_user
            room = of_windows and num_targets[-1] < min(targets, len(history))
            continued = (previous, previous[1:]) if room else (previous,)
            if same and any(np.array_equal(history, items) for items in continued):
                last[-1] = row
                num_targets[-1] += 1
            else:
                last.append(row)
                num_targets.append(1 + len(history) if beginnings and not same else 1)
                of_windows = same
            previous = np.append(history, examples.targets[row])
            previous_user = user
        return cls(np.array(last, dtype=np.int64), np.array(num_targets, dtype=np.int64))


def _padded(
    rows: Sequence[NDArray[np.int64] | NDArray[np.int32]], fill: int
) -> tuple[Tensor, Tensor]:
    """Return rows of unequal length as one table, and where it is theirs."""
    lengths = np.array([len(row) for row in rows])
    mask = np.arange(lengths.max()) < lengths[:, None]
    table = np.full(mask.shape, fill, dtype=np.int64)
    table[mask] = np.concatenate(rows)
    return torch.from_numpy(table), torch.from_numpy(mask)


def spell_codes(codes_per_level: Sequence[int]) -> list[list[str]]:
    """Return how each code of each level is written: ``<a_0>``, ``<b_17>``."""
    return [
        [f"<{chr(ord('a') + level)}_{code}>" for code in range(count)]
        for level, count in enumerate(codes_per_level)
    ]


class PromptFormat(Protocol):
    """What the policy needs to know of a prompt format."""

    name: str
    code_tokens: Tensor
    """[L, K] token id of each code of each level, K the largest number of codes; 0 beyond K_l."""
    vocabulary_size: int

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """What reads and writes these tokens; it is saved with the policy."""

    def encode(self, examples: Examples, rows: NDArray[np.int64]) -> Prompts:
        """Tokenize the histories of some examples."""

    def chains(self, examples: Examples, targets: int = 1) -> Chains:
        """Return the sequences by which supervised training visits the examples.

        Args:
            targets: most of a sequence of windows, see ``Chains.nested``; where a prompt closes
                after its history, more than 1 has examples that continue each other share one.
        """

    def sequence_tokens(
        self, items: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return about how many tokens sequences of so many items and so many targets have."""

    def word_tokens(self, words: str) -> list[int]:
        """Return the tokens of some words; none if the format knows none of them."""


class CompactPrompt:
    """A start token and the SIDs of the history."""

    name = "compact"
    start = 1

    def __init__(self, catalog: Catalog) -> None:
        """Number the tokens: padding, start, then the codes level by level."""
        codes = catalog.codes_per_level
        first = 2 + np.concatenate([[0], np.cumsum(codes)])
        self.vocabulary_size = int(first[-1])
        table = np.zeros((len(codes), max(codes)), dtype=np.int64)
        for level, count in enumerate(codes):
            table[level, :count] = first[level] + np.arange(count)
        self.code_tokens = torch.from_numpy(table)
        self._item_tokens = first[:-1] + catalog.sids
        self._codes = codes

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """Spells codes as in prompts of words; what is no code is read as padding."""
        spelled = [code for codes in spell_codes(self._codes) for code in codes]
        return code_tokenizer(["<pad>", "<s>", *spelled])

    def encode(self, examples: Examples, rows: NDArray[np.int64]) -> Prompts:
        """Tokenize the histories of some examples, by their rows [B]."""
        histories = [examples.history(int(row)) for row in rows]
        tokens = [np.append(self.start, self._item_tokens[items].ravel()) for items in histories]
        return Prompts.from_rows(tokens, histories)

    def chains(self, examples: Examples, targets: int = 1) -> Chains:
        """Join examples that continue each other: an item's tokens look the same everywhere."""
        return Chains.nested(examples, targets)

    def sequence_tokens(
        self, items: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return how many tokens sequences of so many items have."""
        return items * len(self._codes)

    def word_tokens(self, words: str) -> list[int]:
        """Return nothing: there are no words."""
        return []


def longest_prompt(
    prompt_format: PromptFormat, examples: Examples, batch: int = 4096
) -> tuple[int, int]:
    """Return the number of tokens of the longest prompt, and the first example that has as many."""
    batches = np.split(np.arange(len(examples)), range(batch, len(examples), batch))
    lengths = np.concatenate(
        [prompt_format.encode(examples, rows).lengths.numpy() for rows in batches]
    )
    return int(lengths.max()), int(lengths.argmax())
