"""Layers whose activations are not kept but computed again in the backward pass.

Activation checkpointing, layer by layer: of a layer's pass its input is kept, which for a language
model is a small part of what it computes. Transformers has a switch for it, which it turns off
outside of train mode; rollouts and updates run in eval mode, without dropout. And attention follows
a layout that is no longer in force when the backward pass comes, in whatever thread.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_layers import GradientCheckpointingLayer

from genrec_bench.policy.attention import present_layout


def recompute_layers(model: nn.Module) -> int:
    """Let a model's layers be computed again in the backward pass; return how many do.

    Weights, their names and all results stay as they are.
    """
    layers = [each for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]
    for layer in layers:
        kind: Any = type(layer)
        object.__setattr__(layer, "__class__", _recomputing(kind))
    return len(layers)


@functools.cache
def _recomputing(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass of a layer that differs in its forward method alone."""
    original: Callable[..., Any] = kind.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if not torch.is_grad_enabled():
            return original(self, *args, **kwargs)
        layout = present_layout()

        def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
            return nullcontext(), nullcontext() if layout is None else layout.active()

        return checkpoint(
            functools.partial(original, self),
            *args,
            use_reentrant=False,
            context_fn=contexts,
            # Where there is dropout, the same is drawn again.
            preserve_rng_state=self.training,
            **kwargs,
        )

    return type(kind.__name__, (kind,), {"forward": forward})
