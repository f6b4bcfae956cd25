"""Prompts in words, for pretrained language models: a template's question, with tokens of codes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from genrec_bench.data.dataset import Catalog, Examples
from genrec_bench.errors import UserError
from genrec_bench.policy.prompts import Chains, Prompts, spell_codes
from genrec_bench.policy.templates import THINK, UGR, Template
from genrec_bench.storage.python_files import guarded

WORDS = 30
"""Tokens of a prompt in words beside the items, roughly."""

MOST_TOKENS = 2**22
"""Rows of embeddings that anybody's vocabulary may ask for; the largest have 262,144."""

Tokens = NDArray[np.int64]


def read_words(
    tokenizer: PreTrainedTokenizerBase, texts: list[str], **options: bool
) -> list[list[int]]:
    """Return the tokens of texts; UserError for whatever a tokenizer of others raises."""
    told = "the backbone's tokenizer fails: "
    found: list[list[int]] = guarded(lambda: tokenizer(texts, **options)["input_ids"], told, None)
    return found


class TextPrompt:
    """A question in words, with the SIDs of the history as tokens of their own.

    Attributes:
        template: how it is put.
        item_text: [num_items] each item's SID as it is written.
        item_tokens: [num_items, L] its tokens.
        is_new: [L, K] which codes the tokenizer did not know before.
    """

    def __init__(
        self, catalog: Catalog, tokenizer: PreTrainedTokenizerBase, template: Template = UGR
    ) -> None:
        """Add the codes to the tokenizer, one token each; it is saved with the policy."""
        self.name = template.name
        self.template = template
        self.tokenizer = tokenizer
        codes = catalog.codes_per_level
        spelled = spell_codes(codes)
        known = tokenizer.get_vocab()
        tokenizer.add_tokens([token for tokens in spelled for token in tokens])
        table = np.zeros((len(codes), max(codes)), dtype=np.int64)
        is_new = np.zeros(table.shape, dtype=bool)
        for level, tokens in enumerate(spelled):
            table[level, : len(tokens)] = tokenizer.convert_tokens_to_ids(tokens)
            is_new[level, : len(tokens)] = [token not in known for token in tokens]
        self.code_tokens = torch.from_numpy(table)
        self.is_new = torch.from_numpy(is_new)
        self.item_tokens = table[np.arange(len(codes)), catalog.sids]
        # Not the number of tokens: some tokenizers leave ids out.
        self.vocabulary_size = 1 + max(tokenizer.get_vocab().values())
        if self.vocabulary_size > MOST_TOKENS:
            raise UserError(f"a token has the id {self.vocabulary_size - 1:,}, more than any has")
        self.item_text = [
            "".join(spelled[level][code] for level, code in enumerate(sid))
            for sid in catalog.sids.tolist()
        ]

    def text(self, history: NDArray[np.int32]) -> str:
        """Ask what comes after one history."""
        return self.template.ask(self.template.next_item.format(history=self.spell(history)))

    @property
    def wording(self) -> dict[str, str]:
        """What is asked, with ``{history}`` where SIDs stand with a comma and a space between them.

        It is kept with the policy, for those who use it without this package.
        """
        asked, template = self.template.next_item, self.template
        found = {"question": template.ask(asked)}
        if template.thinking_frame:
            found["thinking_question"] = template.ask_to_think(asked) + THINK
        return found

    def thinking_text(self, history: NDArray[np.int32]) -> str:
        """Ask the same, and begin thoughts about it."""
        question = self.template.next_item.format(history=self.spell(history))
        return self.template.ask_to_think(question) + THINK

    def spell(self, items: NDArray[np.int32]) -> str:
        """Write a row of items."""
        return ", ".join(self.item_text[item] for item in items)

    def encode(self, examples: Examples, rows: NDArray[np.int64]) -> Prompts:
        """Tokenize the histories of some examples, by their rows [B]."""
        histories = [examples.history(int(row)) for row in rows]
        texts = [self.text(history) for history in histories]
        return Prompts.from_rows(self.question_tokens(texts), histories)

    def thinking_prompts(self, histories: Tensor) -> Prompts:
        """Tokenize questions that are answered after thoughts, which have begun.

        Args:
            histories: [B, H] items, -1 behind the last.
        """
        rows = [row[row >= 0].numpy() for row in histories]
        questions = self.question_tokens([self.thinking_text(row) for row in rows])
        return Prompts.from_rows(questions, rows)

    def question_tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of texts that something follows: they begin as texts do."""
        found = [
            np.asarray(tokens, dtype=np.int64) for tokens in read_words(self.tokenizer, list(texts))
        ]
        if not all(map(len, found)):
            raise UserError("the backbone's tokenizer finds no token in a prompt")
        # Some tokenizers end every text; ours goes on with the response.
        end = self.tokenizer.eos_token_id
        return [row[:-1] if row[-1] == end else row for row in found]

    def answer_tokens(self, texts: Sequence[str]) -> list[Tokens]:
        """Return the tokens of texts that follow others: nothing is put before or behind them."""
        found = read_words(self.tokenizer, list(texts), add_special_tokens=False)
        return [np.asarray(tokens, dtype=np.int64) for tokens in found]

    def chains(self, examples: Examples, targets: int = 1) -> Chains:
        """Keep every example to itself, or have those that continue each other share a sequence.

        Raises:
            UserError: they are to share one, and the tokenizer does not cut histories at items.
        """
        if targets == 1:
            return Chains.single(examples)
        if self.pieces is None:
            raise UserError(
                f"sft_targets={targets}: the backbone's tokenizer does not write an item of a "
                "history alike wherever it stands, so that histories cannot share a sequence; "
                "leave sft_targets out"
            )
        return Chains.nested(examples, targets, beginnings=False)

    @cached_property
    def pieces(self) -> tuple[Tokens, Tokens, Tokens] | None:
        """The tokens before a history, between two of its items, and behind it.

        None if prompts are not made of them and of the items' own tokens.
        """

        def tokens(*items: int) -> list[int]:
            found: list[int] = self.question_tokens([self.text(np.array(items, dtype=np.int32))])[
                0
            ].tolist()
            return found

        item = self.item_tokens[0].tolist()
        row = tokens(0, 0)
        there = [n for n in range(len(row)) if row[n : n + len(item)] == item]
        if len(there) != 2:
            return None
        (first, second), size = there, len(item)
        parts = row[:first], row[first + size : second], row[second + size :]
        head, between, tail = (np.array(part, dtype=np.int64) for part in parts)
        last = len(self.item_tokens) - 1
        for items in ((0,), (last, 0, last)):
            words = [self.item_tokens[items[0]]]
            for one in items[1:]:
                words += [between, self.item_tokens[one]]
            if np.concatenate([head, *words, tail]).tolist() != tokens(*items):
                return None
        return head, between, tail

    def sequence_tokens(
        self, items: NDArray[np.int64], targets: NDArray[np.int64]
    ) -> NDArray[np.int64]:
        """Return how many tokens sequences of so many items, and so many targets, have."""
        head, between, tail = map(len, self.pieces or ([0] * WORDS, [0] * 2, []))
        levels = self.item_tokens.shape[1]
        trunk = head + (items - 1) * levels + np.maximum(items - 2, 0) * between
        found: Tokens = trunk + targets * (tail + levels - 1)
        return found

    def word_tokens(self, words: str) -> list[int]:
        """Return the tokens of some words, without those that stand for what is unknown."""
        (found,) = read_words(self.tokenizer, [words], add_special_tokens=False)
        return [token for token in found if token != self.tokenizer.unk_token_id]
