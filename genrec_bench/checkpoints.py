"""Checkpoints: weights as safetensors, the rest as JSON, each written whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from genrec_bench.errors import UserError
from genrec_bench.policy import Policy
from genrec_bench.prompts import TextPrompt

HEADS, POLICY, STATE = "heads.safetensors", "policy.json", "state.json"


def save_policy(policy: Policy, folder: Path) -> None:
    """Write a policy so that transformers, too, can load its backbone.

    Args:
        policy: without adapters.
        folder: replaced as a whole if it is there.
    """

    def write(new: Path) -> None:
        policy.backbone.save_pretrained(new)
        if isinstance(policy.prompt_format, TextPrompt):
            policy.prompt_format.tokenizer.save_pretrained(new)
        if policy.heads:
            save_model(policy.heads, str(new / HEADS))
        description = {
            "codes_per_level": policy.trie.codes_per_level,
            "extra_tokens": policy.extra_tokens,
            "logprob_space": policy.logprob_space,
            "prompt": policy.prompt_format.name,
        }
        (new / POLICY).write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")

    _replace(folder, write)


def load_heads(policy: Policy, folder: Path) -> None:
    """Fill a policy's heads with those that ``save_policy`` wrote beside its backbone.

    Args:
        policy: made for the algorithm that was saved; one without heads is left as it is.
        folder: that the policy was saved in.

    Raises:
        UserError: if the heads are missing, damaged, or other ones.
    """
    if not policy.heads:
        return
    file = folder / HEADS
    if not file.is_file():
        names = ", ".join(policy.heads)
        raise UserError(f"{file}: not there, so this checkpoint holds no trained {names}")
    try:
        load_model(policy.heads, str(file))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{file}: the heads cannot be loaded: {reason}") from None


def check_policy_fits(folder: Path, codes_per_level: tuple[int, ...], prompt: str) -> None:
    """Refuse a policy that was trained on other codes or another prompt.

    Args:
        folder: a backbone's; nothing is asked of one that no policy was saved in.
        codes_per_level: of the catalog.
        prompt: the prompt format that is to be used.

    Raises:
        UserError: naming what does not fit.
    """
    file = folder / POLICY
    if not file.is_file():
        return
    description = read_json(file)
    for name, wanted in (("codes_per_level", list(codes_per_level)), ("prompt", prompt)):
        found = description.get(name)
        if found != wanted:
            raise UserError(
                f"{file}: the checkpoint does not fit: it was trained with {name} {found}, and "
                f"this run has {wanted}"
            )


def save_training(
    folder: Path,
    step: int,
    modules: Mapping[str, nn.Module],
    tensors: Mapping[str, Tensor],
    state: Mapping[str, Any],
) -> None:
    """Write a checkpoint to resume from, then drop older ones.

    Args:
        folder: of all checkpoints of a run.
        step: how far the run is.
        modules: saved by name.
        tensors: of the optimizer.
        state: the rest, in plain JSON types.
    """

    def write(new: Path) -> None:
        for name, module in modules.items():
            save_model(module, str(new / f"{name}.safetensors"))
        save_file(
            {key: value.contiguous() for key, value in tensors.items()},
            str(new / "optimizer.safetensors"),
        )
        (new / STATE).write_text(json.dumps({"step": step, **state}))

    _replace(folder / f"step-{step:08d}", write)
    for older in training_checkpoints(folder)[:-1]:
        shutil.rmtree(older, ignore_errors=True)


def training_checkpoints(folder: Path) -> list[Path]:
    """Return the complete checkpoints of a run, oldest first."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE).is_file())


def load_training(
    checkpoint: Path, modules: Mapping[str, nn.Module]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint back.

    Args:
        checkpoint: one of ``training_checkpoints``.
        modules: filled in place.

    Returns:
        The optimizer's tensors, and the state.

    Raises:
        UserError: if a file is damaged or does not fit.
    """
    state = read_json(checkpoint / STATE)
    try:
        for name, module in modules.items():
            load_model(module, str(checkpoint / f"{name}.safetensors"))
        tensors = load_file(str(checkpoint / "optimizer.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UserError(
            f"{checkpoint}: cannot be resumed from: {reason}; delete the folder to start anew"
        ) from None
    return tensors, state


def read_json(file: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        UserError: if the file is missing or no JSON object.
    """
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{file}: cannot be read: {error}") from None
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds no JSON object")
    return content


def torch_random_state() -> list[int]:
    """Return the state of torch's generator on the CPU, in JSON types."""
    return torch.get_rng_state().tolist()


def _replace(folder: Path, write: Any) -> None:
    """Write a folder beside its place and move it there when it is whole."""
    new = folder.with_name(f".{folder.name}.{uuid4().hex}")
    try:
        new.mkdir(parents=True)
        write(new)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{uuid4().hex}")
            os.rename(folder, old)
            os.rename(new, folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(new, folder)
    except (OSError, SafetensorError) as error:
        raise UserError(f"cannot write {folder}: {error}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
