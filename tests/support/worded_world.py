"""The tiny dataset with titles and descriptions, and language models of it that know words."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from small_models import save_model, save_tokenizer
from tiny_runs import NUM_ITEMS, tiny_dataset
from transformers import LlamaConfig

from genrec_bench.data.dataset import Dataset
from genrec_bench.policy.backbones import find_backbone, make_policy
from genrec_bench.policy.policy import Policy
from genrec_bench.training.hyperparameters import from_words
from genrec_bench.training.settings import Settings

KINDS = ("kettle", "lamp", "garden hose")


def worded_dataset(**changes: Any) -> Dataset:
    """Items 0 to 23; item 3 has no title, item 5 no description."""
    titles = [f"{KINDS[item % 3]} {item}" if item != 3 else "" for item in range(NUM_ITEMS)]
    told = [f"{KINDS[item % 3]} of size {item}" if item != 5 else " " for item in range(NUM_ITEMS)]
    words = {"titles": tuple(titles), "descriptions": tuple(told), **changes}
    return dataclasses.replace(tiny_dataset().contents, **words).own


def save_llama(folder: Path, *, places: int = 256, tied: bool = False) -> Path:
    """A random Llama of two layers, with a tokenizer, that reads so many tokens."""
    save_model(
        folder,
        LlamaConfig(
            vocab_size=save_tokenizer(folder) + 3,
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            max_position_embeddings=places,
            tie_word_embeddings=tied,
        ),
    )
    return folder


def worded_policy(folder: Path, dataset: Dataset, *words: str) -> Policy:
    """A policy of a saved model, as SFT begins with it."""
    settings = from_words(Settings, dict(word.split("=") for word in words))
    backbone = find_backbone(str(folder))
    return make_policy(backbone, dataset, settings, torch.device("cpu"))


def trace_lines(dataset: Dataset, count: int) -> list[str]:
    """Traces made from a template over titles, of the first examples."""
    titles, examples = dataset.catalog.titles, dataset.train
    lines = []
    for row in range(count):
        had = ", ".join(titles[item] for item in examples.history(row))
        wants = titles[examples.targets[row]]
        text = f"Evidence: {had}.\nIntent: a {wants}."
        lines.append(json.dumps({"example": row, "text": text}) + "\n")
    return lines
