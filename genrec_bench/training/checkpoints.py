"""Checkpoints: weights as safetensors, the rest as JSON, each written whole or not at all.

A process may be killed at any moment, and the machine may lose its power. A checkpoint is written
under another name, handed to the disk, and renamed; it holds the hashes of its own files, so that
whatever happens to them later is noticed before they are used. The one before the last is kept,
to fall back on.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import Tensor, nn

from genrec_bench.errors import StorageError, UserError
from genrec_bench.policy.adapters import Adapter, save_adapter
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.text_prompt import TextPrompt
from genrec_bench.storage.bounded_json import load_json
from genrec_bench.storage.digests import file_sha256, json_digest
from genrec_bench.storage.files import read_json
from genrec_bench.storage.folders import remove_leftovers
from genrec_bench.training.workers import Workers

HEADS, POLICY, STATE = "heads.safetensors", "policy.json", "state.json"

BASE = "base"
"""Key of ``policy.json``: the weights that an adapter is put on."""

KEPT = 2
"""Checkpoints of a training that are kept: the last one, and one to fall back on."""


def save_policy(
    policy: Policy,
    folder: Path,
    *,
    adapter: Adapter | None = None,
    about: Mapping[str, Any] | None = None,
    beside: Callable[[Path], None] = lambda new: None,
) -> None:
    """Write a policy whose adapters are merged, so that transformers can load it, with a tokenizer.

    Args:
        adapter: what was merged, to be written in place of the weights; see ``load_adapter``.
        about: more to say of it in ``policy.json``, as JSON holds it.
        beside: writes further files into the folder that it is given, before all is put in place.
    """

    def write(new: Path) -> None:
        if adapter is None:
            policy.backbone.save_pretrained(new)
        else:
            save_adapter(policy, adapter, new)
        policy.prompt_format.tokenizer.save_pretrained(new)
        if policy.heads:
            save_model(policy.heads, str(new / HEADS))
        beside(new)
        description = {
            **(about or {}),
            "codes_per_level": policy.trie.codes_per_level,
            "extra_tokens": policy.extra_tokens,
            "logprob_space": policy.logprob_space,
            "prompt": policy.prompt_format.name,
        }
        if isinstance(policy.prompt_format, TextPrompt):
            description |= policy.prompt_format.wording
        (new / POLICY).write_text(json.dumps(description, indent=2, sort_keys=True) + "\n")

    _replace(folder, write)


def load_heads(policy: Policy, folder: Path) -> None:
    """Fill a policy's heads with those that ``save_policy`` wrote beside its backbone.

    Args:
        policy: made for the algorithm that was saved; one without heads is left as it is.

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
        folder: of a backbone; one that no policy was saved in always fits.

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
    """Write a checkpoint to resume from, its state as JSON, and drop those before the last ones.

    A whole checkpoint of the same step is left as it is: it says the same, and while it is replaced
    there would be none.

    Raises:
        StorageError: the disk refuses.
    """
    checkpoint = folder / f"step-{step:08d}"
    if (checkpoint / STATE).is_file():
        with contextlib.suppress(StorageError):
            _verified(checkpoint)
            return

    def write(new: Path) -> None:
        for name, module in modules.items():
            save_model(module, str(new / f"{name}.safetensors"))
        save_file(
            {key: value.contiguous() for key, value in tensors.items()},
            str(new / "optimizer.safetensors"),
        )
        hashes = {file.name: file_sha256(file) for file in sorted(new.iterdir())}
        content = {"step": step, **state, "files": hashes}
        (new / STATE).write_text(json.dumps({"content": content, "sha256": json_digest(content)}))

    _replace(checkpoint, write)
    for older in training_checkpoints(folder)[:-KEPT]:
        shutil.rmtree(older, ignore_errors=True)


def training_checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first; whether they are whole shows in loading."""
    return sorted(path for path in folder.glob("step-*") if (path / STATE).is_file())


def resume_training(
    folder: Path, modules: Mapping[str, nn.Module], workers: Workers
) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """Read back the last checkpoint that is whole, and clear away what a killed process left.

    Args:
        folder: of all checkpoints of a run; may be missing.

    Returns:
        As ``load_training``; None if there is no checkpoint.

    Raises:
        StorageError: there are checkpoints, and none of them is whole.
    """
    name, damage = "", ""
    if workers.is_main:
        remove_leftovers(folder)
        damaged: list[Path] = []
        for checkpoint in reversed(training_checkpoints(folder)):
            try:
                _verified(checkpoint)
            except StorageError as error:
                damage = damage or str(error)
                damaged.append(checkpoint)
            else:
                name = checkpoint.name
                # The training will write these steps again.
                for later in damaged:
                    shutil.rmtree(later, ignore_errors=True)
                break
    name, damage = workers.agree((name, damage))
    if name:
        return load_training(folder / name, modules)
    if damage:
        raise StorageError(damage)
    return None


def load_training(
    checkpoint: Path, modules: Mapping[str, nn.Module]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read a checkpoint back, into the modules.

    Returns:
        The optimizer's tensors, and the state.

    Raises:
        StorageError: if a file is damaged or does not fit.
    """
    state = _verified(checkpoint)
    try:
        for name, module in modules.items():
            load_model(module, str(checkpoint / f"{name}.safetensors"))
        tensors = load_file(str(checkpoint / "optimizer.safetensors"))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise _unfit(checkpoint, reason) from None
    return tensors, state


def random_state(device: torch.device) -> dict[str, list[int]]:
    """Return the states of torch's generators, in JSON types; CUDA has one of its own.

    No other library's are used: the contract of algorithms forbids it.
    """
    state = {"cpu": torch.get_rng_state().tolist()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device).tolist()
    return state


def set_random_state(state: Mapping[str, list[int]], device: torch.device) -> None:
    """Put torch's generators back to where ``random_state`` found them."""
    torch.set_rng_state(torch.tensor(state["cpu"], dtype=torch.uint8))
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(torch.tensor(state["cuda"], dtype=torch.uint8), device)


def sync_folder(folder: Path) -> None:
    """Hand a folder's list of names to the disk, so that a rename in it outlives a power cut."""
    # Some file systems, and Windows, cannot sync a folder.
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _verified(checkpoint: Path) -> dict[str, Any]:
    """Return a checkpoint's state after comparing every file with its hash.

    Raises:
        StorageError: something is missing, cut short or changed.
    """
    try:
        whole = load_json(checkpoint / STATE, constants=True)
        content: dict[str, Any] = whole["content"]
        if json_digest(content) != whole["sha256"]:
            raise ValueError(f"{STATE} was changed")
        for name, digest in content["files"].items():
            if file_sha256(checkpoint / name) != digest:
                raise ValueError(f"{name} was changed")
    except FileNotFoundError as error:
        raise _unfit(checkpoint, f"{Path(error.filename).name} is missing") from None
    except (OSError, ValueError) as error:
        raise _unfit(checkpoint, str(error)) from None
    except (KeyError, TypeError, AttributeError):
        raise _unfit(checkpoint, f"{STATE} was changed") from None
    return content


def _unfit(checkpoint: Path, reason: str) -> StorageError:
    return StorageError(
        f"{checkpoint}: cannot be resumed from: {reason}; delete {checkpoint.parent} to start anew"
    )


def _replace(folder: Path, write: Callable[[Path], None]) -> None:
    """Write a folder beside its place and move it there when it is whole.

    While an old folder is replaced there is none for a moment: use it for what can be made anew.
    """
    new = folder.with_name(f".{folder.name}.{uuid4().hex}")
    try:
        new.mkdir(parents=True)
        write(new)
        for path in new.rglob("*"):
            if path.is_file():
                with path.open("rb") as file:
                    os.fsync(file.fileno())
        sync_folder(new)
        if folder.exists():
            old = folder.with_name(f".{folder.name}.{uuid4().hex}")
            os.rename(folder, old)
            os.rename(new, folder)
            shutil.rmtree(old, ignore_errors=True)
        else:
            os.rename(new, folder)
        sync_folder(folder.parent)
    except (OSError, SafetensorError) as error:
        # A system error names its cause; a library's message may take several lines.
        cause = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise StorageError(f"cannot write {folder}: {cause}") from None
    finally:
        shutil.rmtree(new, ignore_errors=True)
