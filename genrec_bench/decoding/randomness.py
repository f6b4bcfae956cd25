"""Random numbers that depend on what they are for, not on when they are asked for.

A number is a hash of a key, of a prompt's tokens, and of counters that say which draw it is. So a
prompt's candidates are the same in whatever order, chunk or process it is rolled out.
"""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_bench.policy.prompts import Prompts


def draw_key() -> int:
    """Draw a key from torch's generator on the CPU, once for all prompts of a rollout."""
    return int(torch.randint(2**31, ()))


def prompt_keys(prompts: Prompts, key: int) -> Tensor:
    """Return [B] a key for each prompt; equal prompts have equal keys, wherever they are padded."""
    place = prompts.mask.long().cumsum(dim=1)
    hashes = mix(prompts.tokens + mix(place + mix(torch.full_like(place, key))))
    return mix(hashes.masked_fill(~prompts.mask, 0).sum(dim=1))


def uniform(keys: Tensor, *counters: Tensor | int) -> Tensor:
    """Return numbers in [0, 1), as double, one for each key and its counters.

    Args:
        keys: [...] of ``prompt_keys``, or any integers.
        counters: each broadcasts with the keys.
    """
    state = keys
    for counter in counters:
        state = mix(state + mix(torch.as_tensor(counter, device=keys.device) + 1))
    return mix(state).double() / 2.0**32


def mix(values: Tensor) -> Tensor:
    """Scatter integers over 32 bits (the finalizer of MurmurHash3)."""
    mixed = values & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 16)) * 0x85EBCA6B) & 0xFFFFFFFF
    mixed = ((mixed ^ (mixed >> 13)) * 0xC2B2AE35) & 0xFFFFFFFF
    return mixed ^ (mixed >> 16)
