"""Backbones: the embedded ``tiny`` and any causal LM of transformers, fitted to a catalog."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from genrec_bench.algorithm import Algorithm
from genrec_bench.dataset import Catalog, Dataset
from genrec_bench.errors import UserError, nearest
from genrec_bench.policy import Policy
from genrec_bench.prompts import CompactPrompt, PromptFormat, TextPrompt, check_lengths
from genrec_bench.selfcheck import largest_difference
from genrec_bench.settings import Settings
from genrec_bench.store import file_sha256

TINY: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
"""Shape of the embedded backbone: 1.05 M parameters beside the embeddings."""

EQUAL_WITHIN = 1e-3
"""Largest difference of log-probabilities, in float32, between a tree and repeated prompts."""


@dataclass(frozen=True)
class Backbone:
    """What a backbone is called and how it is trained by default.

    Attributes:
        name: as given by the user.
        fingerprint: changes when its weights do; the shape for one made from scratch.
        from_scratch: whether its weights are drawn here.
        sft_learning_rate: peak, in the SFT stage.
        learning_rate: peak, in the RL stage.
    """

    name: str
    fingerprint: str
    from_scratch: bool
    sft_learning_rate: float
    learning_rate: float


def find_backbone(name: str) -> Backbone:
    """Look a backbone up: ``tiny``, a folder, or a name on the Hugging Face hub.

    Raises:
        UserError: if a path does not hold a model.
    """
    if name == "tiny":
        shape = hashlib.sha256(repr(sorted(TINY.items())).encode()).hexdigest()
        return Backbone(name, shape, True, sft_learning_rate=2e-3, learning_rate=3e-4)
    folder = Path(name)
    if folder.is_dir():
        if not (folder / "config.json").is_file():
            raise UserError(f"--backbone {name}: the folder holds no config.json of a model")
        files = sorted(p for p in folder.iterdir() if p.suffix in (".json", ".safetensors"))
        digest = hashlib.sha256("".join(map(file_sha256, files)).encode()).hexdigest()
    elif name.startswith((".", "/", "~")) or "/" not in name:
        hint = nearest(name, ["tiny"])
        raise UserError(
            f"--backbone {name}: neither tiny, nor a folder with a model, nor a hub name such as "
            f"Qwen/Qwen3-0.6B{hint}"
        )
    else:
        digest = hashlib.sha256(name.encode()).hexdigest()
    # UGR, appendix C.
    return Backbone(name, digest, False, sft_learning_rate=2e-4, learning_rate=2e-6)


def prompt_name(backbone: Backbone, settings: Settings) -> str:
    """Return which prompt format a run uses."""
    if settings.prompt != "auto":
        return settings.prompt
    return "compact" if backbone.from_scratch else "text"


def make_policy(
    backbone: Backbone,
    dataset: Dataset,
    settings: Settings,
    device: torch.device,
    *,
    weights: Path | None = None,
    algorithm: Algorithm | None = None,
) -> Policy:
    """Load a backbone and fit it to a dataset.

    Args:
        backbone: from ``find_backbone``.
        dataset: its catalog gives the codes, its histories the lengths.
        settings: prompt, log-probability space, number format.
        device: where to put it.
        weights: a folder to load the backbone from instead: an earlier stage's.
        algorithm: adds its tokens and heads; the heads are drawn from torch's generator.

    Raises:
        UserError: if the backbone cannot be loaded, does not fit the catalog, is too short for a
            history, or computes attention that a tree cannot be packed for.
    """
    prompt_format = _prompt_format(backbone, dataset.catalog, settings, weights)
    model = _load(backbone, prompt_format, settings, weights)
    tokens_per_forward = settings.tokens_per_forward or (4096 if device.type == "cpu" else 131072)
    policy = Policy(
        model,
        prompt_format,
        dataset.catalog,
        logprob_space=settings.logprob_space,  # type: ignore[arg-type]
        tokens_per_forward=tokens_per_forward,
        extra_tokens=algorithm.tokens if algorithm else (),
        heads=algorithm.heads(model.config.hidden_size) if algorithm else {},
    ).to_device(device)
    longest = model.config.max_position_embeddings - dataset.catalog.num_levels
    for split, examples in dataset.splits.items():
        check_lengths(prompt_format, examples, split, longest)
    _check_attention(policy, backbone.name)
    return policy


def _prompt_format(
    backbone: Backbone, catalog: Catalog, settings: Settings, weights: Path | None
) -> PromptFormat:
    if prompt_name(backbone, settings) == "compact":
        return CompactPrompt(catalog)
    if backbone.from_scratch:
        raise UserError("prompt=text: tiny has no tokenizer; use prompt=compact or a --backbone")
    try:
        tokenizer = AutoTokenizer.from_pretrained(weights or backbone.name)
    except (OSError, ValueError) as error:
        raise UserError(f"--backbone {backbone.name}: no tokenizer: {_first_line(error)}") from None
    return TextPrompt(catalog, tokenizer)


def _load(
    backbone: Backbone, prompt_format: PromptFormat, settings: Settings, weights: Path | None
) -> PreTrainedModel:
    dtype = getattr(torch, settings.dtype)
    if backbone.from_scratch and weights is None:
        config = Qwen3Config(vocab_size=prompt_format.vocabulary_size, **TINY)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.sft_seed)
            model: PreTrainedModel = Qwen3ForCausalLM(config)
            model.to(dtype)
            return model
    source = weights or backbone.name
    try:
        config = AutoConfig.from_pretrained(source)
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=dtype, use_safetensors=True, attn_implementation="eager"
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"--backbone {source}: cannot be loaded: {_first_line(error)}") from None
    if prompt_format.name == "compact" and config.vocab_size < prompt_format.vocabulary_size:
        raise UserError(
            f"--backbone {source}: its vocabulary of {config.vocab_size} does not fit a compact "
            f"prompt over this catalog, which needs {prompt_format.vocabulary_size}"
        )
    window = getattr(config, "sliding_window", None)
    layers = getattr(config, "layer_types", None) or []
    if window and "sliding_attention" in layers and window < config.max_position_embeddings:
        # Trees are packed under full attention; within the window both are the same.
        model.config.max_position_embeddings = window
    return model


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@torch.no_grad()
def _check_attention(policy: Policy, name: str) -> None:
    """Refuse a backbone that reads a packed tree differently from repeated prompts.

    Two prompts with two branches each, as one tree and as four sequences under the backbone's own
    attention: whatever an architecture does with positions, masks or its output head, it shows.
    """
    difference = largest_difference(policy)
    tolerance = EQUAL_WITHIN if policy.backbone.dtype == torch.float32 else 0.25
    if not difference <= tolerance:
        raise UserError(
            f"--backbone {name}: its attention or output head is not one that candidate trees can "
            f"be packed for (log-probabilities differ by {difference:.2g})"
        )
