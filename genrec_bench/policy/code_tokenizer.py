"""A tokenizer for policies that know codes alone: transformers reads them like any other."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Regex, Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast


def code_tokenizer(tokens: Sequence[str]) -> PreTrainedTokenizerBase:
    """Return a tokenizer that reads a row of SIDs such as ``<a_1><b_2><c_3>`` after a start token.

    Args:
        tokens: spelled, in the order of their ids; the first is padding and the second the start.
            Whatever is none of them is read as padding.
    """
    padding, start = tokens[:2]
    words = {token: number for number, token in enumerate(tokens)}
    model = Tokenizer(WordLevel(words, unk_token=padding))
    model.pre_tokenizer = Split(Regex("<[^<>]*>"), behavior="isolated")
    model.post_processor = TemplateProcessing(
        single=f"{start} $A", special_tokens=[(start, words[start])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=model, bos_token=start, pad_token=padding, unk_token=padding
    )
