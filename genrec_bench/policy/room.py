"""How many tokens a forward pass may hold: as many as there is memory for.

An estimate from the shape of the model. It changes no result, and where it proves too high, a batch
is begun again with half of it (``training/out_of_memory.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch
from transformers import PretrainedConfig

from genrec_bench.policy.head import PIECE, PIECE_ON_CPU
from genrec_bench.policy.precision import Precision

CONTAINER = Path("/sys/fs/cgroup")

PER_HIDDEN, PER_INTERMEDIATE = 20, 8
"""Numbers that a layer keeps of a token for the backward pass, by these widths: a rough fit.
Layers of Llama and Qwen3 save 9 to 17 and 4 of them; attention and adapters have the rest."""

FLOAT = 4
"""Bytes of a number in float32, in which all is kept that is trained."""

COPIES = 4
"""Copies of a piece's logits that live at once: they, their exponentials and gradients."""

ROOM_ON_CPU = 2**30
"""Bytes of a pass on a CPU, however much is free: larger ones are no faster there, and one size for
all machines lets equal runs be equal to the bit."""

SHARE = 0.6
"""Of what is free on a GPU; the rest is for what no estimate knows."""

LEAST, MOST_ON_CPU, MOST = 128, 4096, 131_072
"""Tokens of a pass. With fewer than `LEAST` the matrix products of a CPU slow down, and with fewer
than `LEAST_ON_GPU` those of a GPU: then layers are rather computed twice."""

LEAST_ON_GPU = 2048

POWERS = [2**power for power in range(LEAST.bit_length() - 1, MOST.bit_length())]


@dataclass(frozen=True)
class PassSize:
    """Numbers that a pass with gradients keeps of a token.

    Attributes:
        kept: of all layers.
        recomputed: where layers are computed again: their inputs, and one of them whole.
        vocabulary: of the output head, whose logits are held in pieces.
    """

    kept: int
    recomputed: int
    vocabulary: int


@dataclass(frozen=True)
class Pass:
    """A forward pass with gradients.

    Attributes:
        tokens: how many it has.
        recomputes: whether layers are computed again.
        each: bytes that layers keep of a token.
        recomputed: bytes of a token where layers are computed again.
        each_logits: bytes that the logits of a token take while they live.
        most_logits: bytes of the logits of a piece, beyond which there are never more.
    """

    tokens: int
    recomputes: bool
    each: int
    recomputed: int
    each_logits: int
    most_logits: int

    @property
    def size(self) -> int:
        """The bytes that it takes."""
        return self.each * self.tokens + min(self.each_logits * self.tokens, self.most_logits)

    def within(self, room: int) -> int:
        """Return the largest power of two of tokens that fit into some bytes; 0 if hardly any."""
        sizes = {tokens: replace(self, tokens=tokens).size for tokens in POWERS}
        return max((tokens for tokens, size in sizes.items() if size <= room), default=0)


def pass_size(config: PretrainedConfig, vocabulary: int) -> PassSize:
    """Return what passes of a model keep."""
    hidden, layers = int(config.hidden_size), int(config.num_hidden_layers)
    inner = int(getattr(config, "intermediate_size", 0) or 4 * hidden)
    layer = PER_HIDDEN * hidden + PER_INTERMEDIATE * inner
    return PassSize(layers * layer, layers * hidden + layer, vocabulary)


def fit_pass(
    size: PassSize,
    device: torch.device,
    precision: Precision,
    *,
    asked: int = 0,
    checkpointing: str = "auto",
    taken: int = 0,
) -> Pass:
    """Fit a pass into the memory that a device has.

    Args:
        asked: tokens that were asked for; 0 for as many as fit.
        checkpointing: whether layers are computed again: on, off, or auto for where it takes that.
        taken: bytes that training is going to take beside the passes and what is there now.
    """
    on_cpu = device.type == "cpu"
    width = FLOAT if precision == "fp32" else 3
    logits = COPIES * FLOAT * (PIECE_ON_CPU if on_cpu else PIECE)
    free = max(free_memory(device) - taken - (0 if on_cpu else logits), 0)
    room = min(ROOM_ON_CPU, free) if on_cpu else SHARE * free
    least, most = (LEAST, MOST_ON_CPU) if on_cpu else (LEAST_ON_GPU, MOST)

    def fits(kept: int) -> int:
        return 1 << int(math.log2(max(room / (width * kept), LEAST)))

    recomputes = checkpointing == "on"
    if checkpointing == "auto":
        recomputes = room < width * size.kept * (asked or least)
    kept = size.recomputed if recomputes else size.kept
    tokens = asked or min(fits(kept), most)
    each_logits = COPIES * FLOAT * size.vocabulary
    return Pass(tokens, recomputes, width * kept, width * size.recomputed, each_logits, logits)


def whole_memory(device: torch.device) -> int:
    """Return the bytes that a device has, free or not; of a container its limit."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1])
    there = int(psutil.virtual_memory().total)
    try:
        return min(there, int((CONTAINER / "memory.max").read_text()))
    except (OSError, ValueError):  # no such group, or "max"
        return there


def program_memory(device: torch.device) -> int:
    """Return the bytes of a device that this process holds."""
    if device.type == "cuda":
        return int(torch.cuda.memory_reserved(device))
    return int(psutil.Process().memory_info().rss)


def free_memory(device: torch.device) -> int:
    """Return the bytes that are free on a device; of a container what its limit leaves."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    free = int(psutil.virtual_memory().available)
    try:
        limit = int((CONTAINER / "memory.max").read_text())
        used = int((CONTAINER / "memory.current").read_text())
    except (OSError, ValueError):  # no such group, or "max"
        return free
    return min(free, max(limit - used, 0))
