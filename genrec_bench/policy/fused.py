"""The same backbone with fewer passes over memory: what transformers leaves to a compiler.

The matrix products of a small policy take little more than half of its time; most of the rest goes
into writing activations to memory and reading them back. RMSNorm with a backward pass of its own
does that less often, and so do gated layers that write over what they do not need again where no
gradient will. Modules are recognised by their exact classes; all others are left alone.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers.activations import SiLUActivation

# They compute the same: w * x / sqrt(mean(x^2) + eps).
_NORMS = {"LlamaRMSNorm", "MistralRMSNorm", "Qwen2RMSNorm", "Qwen3RMSNorm"}

# They compute the same: down(silu(gate(x)) * up(x)), if that is their activation.
_GATED = {"LlamaMLP", "MistralMLP", "Qwen2MLP", "Qwen3MLP"}
_SILU = (nn.SiLU, SiLUActivation)


class _RmsNorm(torch.autograd.Function):
    """Root-mean-square normalisation of the last dimension."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, epsilon: float) -> Tensor:
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        scale = norm.square_().div_(x.shape[-1]).add_(epsilon).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        normed: Tensor = (x * scale).mul_(weight)
        return normed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, scale = ctx.saved_tensors
        unit = x * scale
        # The gradient of the weights before they are summed; times the weights, of the projection.
        product = grads[0] * unit
        grad_weight = product.flatten(0, -2).sum(dim=0) if ctx.needs_input_grad[1] else None
        along = product.mul_(weight).mean(dim=-1, keepdim=True)
        grad_x = (grads[0] * weight).addcmul_(unit, along, value=-1).mul_(scale)
        return grad_x, grad_weight, None


_rms_norm = cast(Callable[[Tensor, Tensor, float], Tensor], _RmsNorm.apply)


@functools.cache
def _fused(kind: type[nn.Module]) -> type[nn.Module]:
    """Return a subclass of a norm or a gated layer that differs in its forward method alone."""
    original = cast(Callable[[nn.Module, Tensor], Tensor], kind.forward)

    def norm(self: Any, hidden_states: Tensor) -> Tensor:
        if hidden_states.dtype != torch.float32 or self.weight.dtype != torch.float32:
            return original(self, hidden_states)
        return _rms_norm(hidden_states, self.weight, self.variance_epsilon)

    def gated(self: Any, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not isinstance(self.act_fn, _SILU):
            return original(self, x)
        # The same operations, and so the same numbers.
        gate = nn.functional.silu(self.gate_proj(x), inplace=True)
        projected: Tensor = self.down_proj(gate.mul_(self.up_proj(x)))
        return projected

    forward = norm if kind.__name__ in _NORMS else gated
    return type(kind.__name__, (kind,), {"forward": forward})


def fuse(model: nn.Module) -> None:
    """Let a model's norms and gated layers run in their faster form; weights and names stay."""
    for module in model.modules():
        kind: Any = type(module)
        known = kind.__name__ in _NORMS or kind.__name__ in _GATED
        if known and kind.__module__.startswith("transformers.models."):
            object.__setattr__(module, "__class__", _fused(kind))
