"""A decoder's layers compiled, for updates of large models on a GPU.

What an update computes beside matrix products, norms, rotations and activations, is many small
kernels that each read and write all activations. ``torch.compile`` writes fewer of them, once for
all layers, in some ten seconds. Passes without gradients keep the layers as they are: rollouts are
recorded (``graphs.py``), and a policy that is compared with itself must not be two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import nn
from transformers.modeling_layers import GradientCheckpointingLayer

from genrec_bench.errors import UserError
from genrec_bench.policy.attention import Layout
from genrec_bench.policy.fused import unfuse

PASS_ON = {"llama", "mistral", "qwen2", "qwen3"}
"""Architectures whose layers hand what they are given on to attention."""

LayerOptions = Callable[[Layout], AbstractContextManager[Mapping[str, Any]]]
"""Opens a context in which the decoder runs a layout, and says what it is given besides."""


@contextmanager
def as_they_are(layout: Layout) -> Iterator[Mapping[str, Any]]:
    """Run layers as transformers has them."""
    yield {}


def compile_layers(
    model: nn.Module, kind: str, products: torch.dtype, backend: str = "inductor"
) -> LayerOptions:
    """Compile the layers of a decoder, for passes with gradients.

    Args:
        kind: transformers' name of the architecture.
        products: what attention computes in.
        backend: of ``torch.compile``.

    Raises:
        UserError: the architecture is not among those that this is for.
    """
    layers = [each for each in model.modules() if isinstance(each, GradientCheckpointingLayer)]
    if kind not in PASS_ON or not layers:
        known = ", ".join(sorted(PASS_ON))
        raise UserError(
            f"acceleration=compile: layers of {known} are compiled, and this is {kind}; set record"
        )
    unfuse(model)
    for layer in layers:
        layer.compile(dynamic=True, fullgraph=True, backend=backend)

    @contextmanager
    def options(layout: Layout) -> Iterator[Mapping[str, Any]]:
        if torch.is_grad_enabled():
            layout.mask(products)
            yield {"layout": layout}
        else:
            with torch.compiler.set_stance("force_eager"):
                yield {}

    return options
