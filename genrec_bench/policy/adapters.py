"""LoRA adapters by peft: put on for a stage of training, merged into the weights, and stored."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PreTrainedModel

from genrec_bench.errors import UserError, one_line
from genrec_bench.policy.policy import Policy

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
"""As peft names them."""

TRAINED = "trained_embeddings.safetensors"
"""Input embeddings and output head, trained whole, with the rows of added tokens; peft's own file
would lack them, or hold tied ones twice."""


@dataclass(frozen=True)
class Adapter:
    """What was trained beside frozen weights: peft's configuration and its tensors by name."""

    config: Mapping[str, Any]
    tensors: Mapping[str, Tensor]


def add_adapters(policy: Policy, rank: int) -> None:
    """Freeze the backbone and train low-rank adapters of all its layers, and the embeddings.

    The embeddings are trained because a pretrained backbone has never seen a code. Rank and alpha
    (twice the rank) as in UGR's appendix C. Rank 0 leaves the policy as it is, all weights trained.
    """
    if rank == 0:
        return
    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear")
    policy.backbone = cast(PreTrainedModel, get_peft_model(policy.backbone, config))
    policy.backbone.get_input_embeddings().requires_grad_(True)
    policy.backbone.get_output_embeddings().requires_grad_(True)
    policy.count_flops()


def merge_adapters(policy: Policy) -> Adapter | None:
    """Add trained adapters to the weights and take them off; return them, or None without any."""
    adapted: Any = policy.backbone
    if not hasattr(adapted, "peft_config"):
        return None
    tensors = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    adapter = Adapter(
        _plain(adapted.peft_config["default"]),
        {name: tensor.detach().cpu().clone() for name, tensor in sorted(tensors.items())},
    )
    # What adapters add is small, and would be lost in weights of 16 bits.
    policy.backbone = adapted.float().merge_and_unload()
    policy.backbone.requires_grad_(True)
    policy.count_flops()
    return adapter


def is_adapter(folder: Path) -> bool:
    """Return whether a policy's folder holds adapters and not whole weights."""
    return (folder / CONFIG).is_file()


def save_adapter(policy: Policy, adapter: Adapter, folder: Path) -> None:
    """Write all that training changed of a backbone.

    Args:
        policy: the adapter merged.
        folder: gets `CONFIG`, `WEIGHTS` and `TRAINED`.
    """
    text = json.dumps(adapter.config, indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    save_file(dict(adapter.tensors), str(folder / WEIGHTS))
    rows = {name: row.detach().cpu().contiguous() for name, row in _embeddings(policy).items()}
    save_file(rows, str(folder / TRAINED))


@torch.no_grad()
def load_adapter(policy: Policy, folder: Path) -> None:
    """Give a policy that has the weights below an adapter those of the adapter, merged.

    Args:
        policy: with the tokens that were added; torch's generator is drawn from.
        folder: as ``save_adapter`` filled it.

    Raises:
        UserError: a file is missing, damaged, or does not fit.
    """
    file = folder / CONFIG
    try:
        # Peft would ask the hub for a file that is not there.
        if not file.is_file():
            raise FileNotFoundError(f"{file} is missing")
        config = LoraConfig.from_pretrained(str(folder))
        file = folder / WEIGHTS
        tensors = load_file(str(file))
        adapted = get_peft_model(policy.backbone, config)
        known = get_peft_model_state_dict(adapted, save_embedding_layers=False)
        if known.keys() != tensors.keys():
            raise ValueError("its layers are not those of the backbone")
        set_peft_model_state_dict(adapted, tensors)
        policy.backbone = cast(PreTrainedModel, adapted)
        file = folder / TRAINED
        rows, own = load_file(str(file)), _embeddings(policy)
        shapes = [{name: each.shape for name, each in held.items()} for held in (rows, own)]
        if shapes[0] != shapes[1]:
            raise ValueError("it has other tokens than the backbone")
        for name, weight in own.items():
            weight.copy_(rows[name])
    except (OSError, SafetensorError, RuntimeError, ValueError, TypeError, KeyError) as error:
        raise UserError(f"{file}: the adapter cannot be loaded: {one_line(error)}") from None
    merge_adapters(policy)


def _embeddings(policy: Policy) -> dict[str, nn.Parameter]:
    """Return what of input embeddings and output head is trained, once where they are tied."""
    found: dict[str, nn.Parameter] = {}
    places = {
        "input": policy.backbone.get_input_embeddings(),
        "output": policy.backbone.get_output_embeddings(),
    }
    for place, module in places.items():
        for name, weight in cast(nn.Module, module).named_parameters():
            if all(weight is not other for other in found.values()):
                found[f"{place}.{name}"] = weight
    return found


def _plain(config: LoraConfig) -> dict[str, Any]:
    """Return a configuration as JSON holds it: no path, and sets in order."""
    untyped: Any = config
    told: dict[str, Any] = untyped.to_dict() | {"base_model_name_or_path": None}
    return {
        key: sorted(value) if isinstance(value, set) else value
        for key, value in told.items()
        if not callable(value)
    }
