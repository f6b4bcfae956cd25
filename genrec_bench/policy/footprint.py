"""What a backbone weighs, known from its configuration alone; nothing is loaded."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, Qwen3Config

from genrec_bench.policy.backbone_files import source_of
from genrec_bench.policy.backbones import TINY
from genrec_bench.policy.room import PassSize, pass_size
from genrec_bench.policy.shapes import shape_config


@dataclass(frozen=True)
class Footprint:
    """How large a model is.

    Attributes:
        parameters: all of them; a table that is input and output at once counts once.
        tables: those of embeddings and output head among them.
        of_pass: what forward passes with gradients keep.
        width: of its hidden states.
        adapters: what adapters of rank 1 of all layers have.
    """

    parameters: int
    tables: int
    of_pass: PassSize
    width: int
    adapters: int


def footprint(name: str, codes: int) -> Footprint | None:
    """Return what a backbone weighs; None for one of which too little is known.

    Args:
        name: ``tiny``, a folder, a GGUF file, or a name of the hub whose shape is known here or in
            its cache.
        codes: tokens that a catalog adds.
    """
    return _weighed(name, codes, tuple(TINY.items()) if name == "tiny" else ())


@functools.lru_cache
def _weighed(name: str, codes: int, shape: tuple[tuple[str, Any], ...]) -> Footprint | None:
    try:
        config = configuration(name, codes)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
        sizes = {id(p): p.numel() for p in model.parameters()}
        ends = (model.get_input_embeddings(), model.get_output_embeddings())
        tables = {id(end.weight): end.weight.numel() for end in ends}
        hidden = int(config.hidden_size)
        linear = [m for m in model.modules() if isinstance(m, nn.Linear) and m is not ends[1]]
        adapters = sum(m.in_features + m.out_features for m in linear)
    # A configuration of any kind: what cannot be read is refused where the model is loaded.
    except Exception:
        return None
    more = 0 if name == "tiny" else codes
    tables = {key: size + more * hidden for key, size in tables.items()}
    sizes |= tables
    of_pass = pass_size(config, ends[1].weight.shape[0] + more)
    return Footprint(sum(sizes.values()), sum(tables.values()), of_pass, hidden, adapters)


def configuration(name: str, codes: int) -> PretrainedConfig:
    """Return a backbone's configuration, as transformers has it, as for ``footprint``.

    Any exception: it cannot be read, or is not in the hub's cache.
    """
    if name == "tiny":
        return Qwen3Config(vocab_size=codes, **TINY)
    known = None if Path(name).is_dir() else shape_config(name)
    if known is not None:
        return known
    return _stored(name)


@functools.lru_cache
def _stored(name: str) -> PretrainedConfig:
    found: PretrainedConfig = AutoConfig.from_pretrained(
        **source_of(name), trust_remote_code=False, local_files_only=not Path(name).exists()
    )
    return found
