"""In what number format a policy computes, and in what its weights are kept.

bfloat16 has the range of float32 and 8 bits of precision: enough to multiply in, and too few to
add small updates to, most of which round to nothing. So weights that are trained, what the
optimizer keeps of them, the sum that layers add to, norms and log-probabilities are in float32
whatever is chosen here; matrix products and attention are what changes.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal, get_args

import torch
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn
from transformers import PreTrainedModel

from genrec_bench.policy.head import LOW

Precision = Literal["fp32", "bf16-mixed", "bf16"]
"""``fp32``: all in float32. ``bf16-mixed``: products in bfloat16, all weights in float32. ``bf16``:
the same, and weights that adapters leave as they are take up 16 bits."""

PRECISIONS: tuple[str, ...] = get_args(Precision)

STORED = {"fp32": "float32", "bf16-mixed": "bf16-mixed", "bf16": "bf16"}
"""What records, SFT starts and policies say under ``dtype``. Those of before there were precisions
say ``float32``, or ``bfloat16`` where weights were trained in it, which is done no more."""


def usual_precision() -> Precision:
    """Return what is right on this machine: ``bf16-mixed`` on a GPU that computes so."""
    if parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available():
        return "fp32"
    return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"


def passes(precision: Precision, device: torch.device) -> AbstractContextManager[None]:
    """Return the context in which a model is run, forward."""
    if precision == "fp32":
        return nullcontext()
    # Its copies of weights are dropped at its end: a training's next pass has other weights.
    return torch.autocast(device.type, dtype=LOW)


def lowered(states: Tensor) -> Tensor:
    """Return states in the number format of products, where these have one of their own.

    What stays in float32 under autocast, such as positions, would be kept for the backward pass so.
    """
    kind = states.device.type
    return states.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else states


def shrink_frozen(backbone: PreTrainedModel) -> None:
    """Keep all weights but embeddings and output head, which adapters leave frozen, in 16 bits."""
    ends = (backbone.get_input_embeddings(), backbone.get_output_embeddings())
    trained = {id(p) for end in ends if isinstance(end, nn.Module) for p in end.parameters()}
    for parameter in backbone.parameters():
        if id(parameter) not in trained:
            parameter.data = parameter.data.to(LOW)
