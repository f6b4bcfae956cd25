"""The output head in pieces: of a vocabulary's logits only what is asked of them stays.

Logits of thousands of rows over a language model's vocabulary, in float32 and with their gradients,
are by far the largest tensors of an update. What is wanted of them is little: the logits of the
codes that may follow, and the logarithm of a sum. So they are computed for some rows at a time, and
once more in the backward pass, which turns their gradients into those of the hidden states and the
weights at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

PIECE, PIECE_ON_CPU = 2**27, 2**24
"""Logits of a piece; a few copies of them live at once."""

LOW = torch.bfloat16

Reader = Callable[[Tensor, slice], tuple[Tensor, Tensor]]
"""Takes logits [r, V] of the rows of a slice, and returns two tensors of r rows to keep."""


def read_logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, read: Reader, *, low: bool
) -> tuple[Tensor, Tensor]:
    """Apply an output head to [R, D] hidden states, and read its logits, as many rows as fit.

    Args:
        weight: [V, D], and ``bias`` [V].
        read: differentiable in the logits, which are in float32.
        low: whether operands are rounded to bfloat16. Products are not: eight bits of a logit of 10
            would move a probability by some percent.

    Returns:
        What ``read`` returned of all rows.
    """
    rows = piece_rows(len(weight), weight.device)
    if not low and len(hidden) <= rows:
        # What one piece holds may as well be kept for the backward pass.
        return read(nn.functional.linear(hidden, weight, bias), slice(0, len(hidden)))
    return _in_pieces(hidden, weight, bias, read, rows, low)


def piece_rows(vocabulary: int, device: torch.device) -> int:
    """Return of how many rows logits are held at once."""
    return max(1, (PIECE_ON_CPU if device.type == "cpu" else PIECE) // vocabulary)


class _InPieces(torch.autograd.Function):
    """See ``read_logits``."""

    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        read: Reader,
        rows: int,
        low: bool,
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(hidden, weight, bias)
        ctx.read, ctx.rows, ctx.low = read, rows, low
        table = _operand(weight, low)
        parts = [
            read(_logits(_operand(hidden[piece], low), table, bias), piece)
            for piece in _pieces(len(hidden), rows)
        ]
        return torch.cat([kept for kept, _ in parts]), torch.cat([kept for _, kept in parts])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias = ctx.saved_tensors
        for_hidden, for_weight, for_bias = ctx.needs_input_grad[:3]
        grad_hidden = torch.zeros_like(hidden) if for_hidden else None
        grad_weight = torch.zeros_like(weight) if for_weight else None
        grad_bias = torch.zeros_like(bias) if for_bias else None
        table = _operand(weight, ctx.low)
        for piece in _pieces(len(hidden), ctx.rows):
            states = _operand(hidden[piece], ctx.low)
            logits = _logits(states, table, bias).requires_grad_()
            with torch.enable_grad():
                kept = ctx.read(logits, piece)
            (grad,) = torch.autograd.grad(kept, logits, [each[piece] for each in grads])
            if grad_bias is not None:
                grad_bias += grad.sum(dim=0)
            grad = _operand(grad, ctx.low)
            if grad_hidden is not None:
                grad_hidden[piece] = _product(grad, table)
            if grad_weight is not None and grad.dtype == torch.float32:
                grad_weight.addmm_(grad.T, states)
            elif grad_weight is not None:
                grad_weight += _product(grad.T, states)
        return grad_hidden, grad_weight, grad_bias, None, None, None


_in_pieces = cast(Callable[..., tuple[Tensor, Tensor]], _InPieces.apply)


def _pieces(count: int, rows: int) -> Iterator[slice]:
    for start in range(0, max(count, 1), rows):
        yield slice(start, min(start + rows, count))


def _operand(values: Tensor, low: bool) -> Tensor:
    """Round the operand of a product, in float32 where no product of two others gives float32."""
    if not low:
        return values
    rounded = values.to(LOW)
    sums_up = values.is_cuda and hasattr(torch.ops.aten.mm, "dtype")
    return rounded if sums_up else rounded.float()


def _product(left: Tensor, right: Tensor) -> Tensor:
    if left.dtype == torch.float32:
        return left @ right
    return torch.mm(left, right, out_dtype=torch.float32)


def _logits(states: Tensor, table: Tensor, bias: Tensor | None) -> Tensor:
    logits = _product(states, table.T)
    return logits if bias is None else logits + bias
