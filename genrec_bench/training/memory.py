"""What an algorithm remembers between steps: tensors that checkpoints and policy folders keep."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from genrec_bench.errors import UserError
from genrec_bench.training.base_algorithm import Algorithm

FILE = "algorithm.safetensors"
"""Name in a policy's folder; there is none where nothing is remembered."""


def save_memory(algorithm: Algorithm, folder: Path) -> None:
    """Write what an algorithm remembers into the folder of a policy."""
    if tensors := memory_of(algorithm):
        save_file(tensors, str(folder / FILE))


def load_memory(algorithm: Algorithm, folder: Path, device: torch.device) -> None:
    """Give an algorithm back what ``save_memory`` wrote; nothing where it wrote nothing.

    Raises:
        UserError: the file is damaged, or another algorithm's.
    """
    file = folder / FILE
    if not file.is_file():
        return
    try:
        tensors = load_file(str(file))
    except (OSError, SafetensorError) as error:
        raise UserError(f"{file}: cannot be read: {' '.join(str(error).split())}") from None
    remember(algorithm, tensors, device)


def memory_of(algorithm: Algorithm) -> dict[str, Tensor]:
    """Return ``state()`` with each module as its tensors, ``name.parameter``.

    Raises:
        UserError: something in it is neither a tensor nor a module, or its name has a dot.
    """
    found: dict[str, Tensor] = {}
    for name, value in algorithm.state().items():
        if "." in name or not name:
            raise UserError(f"state of {type(algorithm).__name__}: {name!r}: a name without a dot")
        if isinstance(value, nn.Module):
            found |= {f"{name}.{key}": part for key, part in value.state_dict().items()}
        elif isinstance(value, Tensor):
            found[name] = value
        else:
            raise UserError(
                f"state of {type(algorithm).__name__}: {name!r} is {type(value).__name__}, and a "
                "tensor or a module is kept; a number is torch.tensor(number)"
            )
    # Views of one tensor are kept as tensors of their own.
    return {name: part.detach().clone().contiguous() for name, part in found.items()}


def remember(algorithm: Algorithm, tensors: Mapping[str, Tensor], device: torch.device) -> None:
    """Give an algorithm back what ``memory_of`` returned: modules are filled, tensors handed over.

    Raises:
        UserError: they do not fit what the algorithm has.
    """
    moved = {name: tensor.to(device) for name, tensor in tensors.items()}
    alone = {name: tensor for name, tensor in moved.items() if "." not in name}
    if alone:
        algorithm.load_state(alone)
    modules = {name: m for name, m in algorithm.state().items() if isinstance(m, nn.Module)}
    for name in dict.fromkeys(key.partition(".")[0] for key in moved if "." in key):
        start = f"{name}."
        own = {key.removeprefix(start): t for key, t in moved.items() if key.startswith(start)}
        try:
            modules[name].load_state_dict(own)
        except (KeyError, RuntimeError) as error:
            raise UserError(
                f"state of {type(algorithm).__name__}: module {name!r} is not the one that was "
                f"kept: {' '.join(str(error).split())}"
            ) from None
