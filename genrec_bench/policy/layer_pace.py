"""How fast this machine computes a layer of a backbone, whose weights need not be there."""

from __future__ import annotations

import functools
import time
from copy import deepcopy
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from genrec_bench.policy.flops import synchronized_time
from genrec_bench.policy.footprint import configuration
from genrec_bench.policy.precision import Precision, passes

ENOUGH = 0.3
"""Seconds of work after which the speed is known."""

LENGTH = 64
"""Tokens of a sequence: about what prompts have."""

MOST_SEQUENCES, MOST_ON_CPU, WORK_ON_CPU = 64, 16, 5e9
"""Sequences of a pass, and on a CPU no more FLOPs of it than these if there are several."""


@functools.lru_cache
def layer_pace(name: str, codes: int, precision: Precision, device: torch.device) -> float | None:
    """Return FLOP/s of a layer, forward and back; None for a backbone that cannot be had here.

    Args:
        name: as given to ``footprint``.
        codes: tokens that a catalog adds.
    """
    try:
        config: Any = deepcopy(configuration(name, codes))
        config.num_hidden_layers, config.pad_token_id, config.vocab_size = 1, None, 2
        if getattr(config, "layer_types", None):
            config.layer_types = config.layer_types[:1]
        with torch.device("meta"):
            whole: Any = AutoModelForCausalLM.from_config(
                config, trust_remote_code=False, attn_implementation="eager"
            )
        layers = whole.base_model.to_empty(device=device)
        with torch.no_grad():
            for each in (*layers.parameters(), *layers.buffers()):
                each.zero_()
        return _pace(layers, int(config.hidden_size), precision, device)
    # A configuration of any kind: what cannot be read is refused where the model is loaded.
    except Exception:
        return None


def _pace(layers: Any, width: int, precision: Precision, device: torch.device) -> float:
    weights: int = sum(p.numel() for p in layers.parameters() if p.dim() > 1)
    weights -= layers.get_input_embeddings().weight.numel()
    # Two of each weight and token, and twice as many back.
    work, count = 6.0 * weights * LENGTH, MOST_SEQUENCES
    if device.type == "cpu":
        count = min(max(int(WORK_ON_CPU / work), 1), MOST_ON_CPU)
    states = torch.zeros(count, LENGTH, width, device=device, requires_grad=True)
    best, deadline = 0.0, time.perf_counter() + ENOUGH
    while True:
        begun = synchronized_time(device)
        with passes(precision, device):
            read = layers(inputs_embeds=states, use_cache=False).last_hidden_state
        read.float().sum().backward()
        now = synchronized_time(device)
        best = max(best, count * work / (now - begun))
        if now > deadline:
            return best
