"""Small causal LMs and a small tokenizer, saved on disk as a user's would be."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_runs import SMALL, tiny_dataset
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from genrec_bench.errors import UserError
from genrec_bench.policy.backbones import find_backbone, make_policy
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.settings import Settings

CPU = torch.device("cpu")
DATASET = tiny_dataset()
VOCABULARY = 900
"""Enough for the compact prompt's 2 + 3 * 256 tokens."""
COMPACT = Settings(prompt="compact")

SENTENCES = (
    "The user has interacted with items in chronological order.",
    "Can you predict the next possible item that the user may expect?",
    "Response: a kettle, a lamp and two garden hoses; Predict what comes next.",
)


def save_tokenizer(folder: Path, *, wrap: bool = False) -> int:
    """Train a byte-level BPE tokenizer, and return the size of its vocabulary.

    Args:
        folder: where to save it.
        wrap: whether it begins and ends every text with a special token, as some do.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    if wrap:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)]
        )
    saved = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>")
    saved.save_pretrained(folder)
    return int(tokenizer.get_vocab_size())


def qwen3(vocab_size: int, **changes: Any) -> Qwen3Config:
    """A shape that takes milliseconds."""
    shape: dict[str, Any] = {"max_position_embeddings": 256, "tie_word_embeddings": False}
    return Qwen3Config(vocab_size=vocab_size, **{**SMALL, **shape, **changes})


def save_model(folder: Path, config: PretrainedConfig) -> PreTrainedModel:
    """Save a model whose weights are large, so that whatever it computes shows in its logits."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model: PreTrainedModel = AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.data.copy_(0.3 * torch.randn_like(parameter))
    model.eval()
    model.save_pretrained(folder)
    return model


def save_backbone(folder: Path, *, spare: int = 5, **changes: Any) -> Path:
    """Save a Qwen3 with a tokenizer whose embeddings have some unused rows, as Qwen's own have."""
    save_model(folder, qwen3(save_tokenizer(folder) + spare, **changes))
    return folder


def load(folder: Path, settings: Settings = COMPACT, **options: Any) -> Policy:
    return make_policy(find_backbone(str(folder)), DATASET, settings, CPU, **options)


def refusal(folder: Path, settings: Settings = COMPACT) -> str:
    with pytest.raises(UserError) as error:
        load(folder, settings)
    assert "\n" not in str(error.value)
    return str(error.value)


def made_up(policy: Policy, side: str, seed: int = 0) -> tuple[Prompts, CandidateTree]:
    """Prompts of unequal length, padded on a side, and trees over random candidates."""
    generator = np.random.default_rng(seed)
    codes = policy.code_tokens[policy.code_tokens > 0].numpy()
    rows = [generator.choice(codes, size=length) for length in (4, 11, 7)]
    prompts = Prompts.from_rows(rows)
    if side == "left":
        order = torch.stack([mask.long().argsort(stable=True) for mask in prompts.mask])
        # What stands at padding means nothing.
        tokens = prompts.tokens.masked_fill(~prompts.mask, 3)
        prompts = Prompts(tokens.gather(1, order), prompts.mask.gather(1, order))
    trie = policy.trie
    sids = np.stack([generator.permutation(trie.num_leaves)[:6] for _ in rows])
    leaves = trie.leaf(torch.from_numpy(sids))
    return prompts, CandidateTree.build(trie, leaves, torch.zeros(3, 6, trie.num_levels))
