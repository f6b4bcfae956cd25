"""How many floating-point operations a causal LM does, without running it each time.

Matrix products are all that is counted, at 2 operations for each multiplication with its addition,
as `torch.utils.flop_counter.FlopCounterMode` counts them. Their sizes depend on three numbers only:
how many tokens go through the layers, how many (query, key) pairs attention compares, and how many
rows the output head is given. So one token is sent through the model once, every product that it
meets is written down together with the operands that need a gradient, and from then on the work of
any forward or backward pass is three multiplications.

Looking at what is executed, rather than at the list of modules, is what makes the count right for
adapters that are switched off, for weights that peft keeps twice, and for the first layers of a
model whose embeddings are frozen, where no gradient of the input is ever computed.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedModel

_WITH_BIAS = {torch.addmm, torch.baddbmm, torch.Tensor.baddbmm}
_BATCHED = {torch.bmm, torch.Tensor.bmm, torch.baddbmm, torch.Tensor.baddbmm}
_PRODUCTS = {
    *_WITH_BIAS,
    *_BATCHED,
    functional.linear,
    torch.mm,
    torch.matmul,
    torch.Tensor.matmul,
    torch.Tensor.__matmul__,
    # The experts of a mixture; older versions of torch have it under a private name only.
    getattr(functional, "grouped_mm", None),
    getattr(torch, "_grouped_mm", None),
} - {None}


@dataclass
class _Work:
    """FLOPs of one unit of work: a token, a (query, key) pair, or a row of the head."""

    forward: float = 0.0
    backward: float = 0.0

    def add(self, flops: float, left: Tensor, right: Tensor) -> None:
        """Add a product of two operands; each that needs a gradient costs it once more."""
        self.forward += flops
        self.backward += flops * (left.requires_grad + right.requires_grad)


class FlopModel:
    """The FLOPs of forward and backward passes of one causal LM.

    The counts equal those of torch's counter on an eager model exactly, forward and backward, for
    dense models with full attention, shared key heads and LoRA included. What they mean elsewhere:

    - Attention is counted as the caller describes it. All products of a pair are counted,
      whatever a kernel leaves out or does again. On CUDA, torch's counter gives fused attention
      2.5 times its forward pass for the backward one, as the kernel computes the scores again; here
      it is 2. On a CPU, torch's counter (as of 2.13) does not see fused attention at all.
    - A backward pass is taken to start at every token's last hidden state. Where a loss reaches a
      cached prompt through its keys and values alone, the last layer's other products cost nothing.
    - Layers in eval mode without gradient checkpointing are what is measured; the forward pass
      that checkpointing repeats is the caller's to add.
    - Mixtures of experts are approximate: each token is taken to meet as many experts as the one
      that was measured. Recurrent and sliding-window layers are counted as if they were full.

    The model is measured when the object is made: make it anew after weights were frozen,
    embeddings grown, or adapters added or switched. The measurement computes no gradient, draws no
    random number, and leaves the model as it was.
    """

    def __init__(self, model: PreTrainedModel | PeftModel) -> None:
        head = cast("nn.Module | None", model.get_output_embeddings())
        if head is None:
            raise ValueError(f"{type(model).__name__} has no output head")
        watch = _Watch()
        hooks = [
            head.register_forward_pre_hook(lambda *_: watch.enter_head()),
            head.register_forward_hook(lambda *_: watch.leave_head()),
        ]
        try:
            # Which operands need a gradient shows only with gradients on; the caller may have none.
            with torch.inference_mode(False), torch.enable_grad(), _plain(model):
                token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
                with watch:
                    model(input_ids=token, use_cache=False)
        finally:
            for hook in hooks:
                hook.remove()
        self._token, self._pair, self._head_row = watch.token, watch.pair, watch.head_row

    def forward(self, *, tokens: int, pairs: int, head_rows: int) -> float:
        """Return the FLOPs of a forward pass.

        Args:
            tokens: how many tokens go through the decoder layers; B * Q for B prompts of Q tokens.
            pairs: over how many (query, key) pairs each layer attends; B * Q * K for a rectangular
                attention over K keys, those of a cache included.
        """
        return (
            tokens * self._token.forward
            + pairs * self._pair.forward
            + head_rows * self._head_row.forward
        )

    def backward(self, *, tokens: int, pairs: int, head_rows: int) -> float:
        """Return the FLOPs of the backward pass of that forward pass.

        Each product costs as much again for each operand that needs a gradient: twice where
        weights are trained, once where a frozen weight only passes a gradient on, nothing before
        the first trained weight.
        """
        return (
            tokens * self._token.backward
            + pairs * self._pair.backward
            + head_rows * self._head_row.backward
        )

    def without_attention(self) -> FlopModel:
        """Return the same model that counts no product of queries, keys and values."""
        other = copy.copy(self)
        other._pair = _Work()
        return other


class _Products(TorchFunctionMode):
    """Notes every matrix product of the code that runs inside it."""

    def note(self, func: Callable[..., Any], left: Tensor, right: Tensor, flops: float) -> None:
        raise NotImplementedError

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if func in _PRODUCTS:
            operands = [value for value in (*args, *kwargs.values()) if isinstance(value, Tensor)]
            left, right = operands[1:3] if func in _WITH_BIAS else operands[:2]
            columns = right.shape[0] if func is functional.linear else right.shape[-1]
            flops = 2.0 * left.numel() * columns
            self.note(func, left, right, flops)
        return func(*args, **kwargs)


class ProductCount(_Products):
    """Counts the matrix products of the code that runs inside it, as a context manager.

    Fused attention, which hides its products, is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._work = _Work()

    def note(self, func: Callable[..., Any], left: Tensor, right: Tensor, flops: float) -> None:
        """Add a product, and what its backward pass will cost."""
        self._work.add(flops, left, right)

    def total(self, backward: bool) -> float:
        """Return the FLOPs so far.

        Args:
            backward: whether to count the backward pass too, once for each operand that needs it.
        """
        return self._work.forward + (self._work.backward if backward else 0.0)


class _Watch(_Products):
    """Writes down the matrix products of a forward pass over one token."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.pair, self.head_row = _Work(), _Work(), _Work()
        self._in_head = False

    def enter_head(self) -> None:
        self._in_head = True

    def leave_head(self) -> None:
        self._in_head = False

    def note(self, func: Callable[..., Any], left: Tensor, right: Tensor, flops: float) -> None:
        self._sort(func, left, right).add(flops, left, right)

    def _sort(self, func: Callable[..., Any], left: Tensor, right: Tensor) -> _Work:
        if self._in_head:
            return self.head_row
        # Attention is the only product of two [batch, head, ...] arrays, folded in older models.
        by_head = func in _BATCHED or (left.dim() == 4 and right.dim() == 4)
        return self.pair if by_head else self.token


@contextmanager
def _plain(model: PreTrainedModel | PeftModel) -> Iterator[None]:
    """Switch off dropout and fused attention, whose products cannot be seen one by one."""
    training = [module for module in model.modules() if module.training]
    attention = model.config._attn_implementation
    model.eval()
    model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(attention)
        for module in training:
            module.training = True


def measure_peak(
    seconds: float = 1.0, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu"
) -> float:
    """Measure how fast this machine multiplies matrices, to judge other rates by.

    Square products and the tall ones of a small policy (tokens x features x features) take turns;
    the best single product counts, as anything slower only tells of what else the machine did.

    Args:
        seconds: how long to measure, in all; each size is measured at least once.
        device: where to multiply, with torch's present number of threads.

    Returns:
        FLOP/s.
    """
    device = torch.device(device)
    sizes = [(1024, 1024, 1024), (2048, 2048, 2048)]
    sizes += [(4096, 256, 1024), (4096, 1024, 256), (4096, 512, 512), (2048, 512, 1024)]
    if device.type != "cpu":
        sizes += [(4096, 4096, 4096), (8192, 8192, 8192)]
    best = 0.0
    for rows, inner, columns in sizes:
        left = torch.ones(rows, inner, dtype=dtype, device=device)
        weight = torch.ones(columns, inner, dtype=dtype, device=device)
        with torch.no_grad():
            functional.linear(left, weight)  # untimed: libraries choose their kernel at first use
            deadline = time.perf_counter() + seconds / len(sizes)
            start = synchronized_time(device)
            while True:
                functional.linear(left, weight)
                end = synchronized_time(device)
                best = max(best, 2.0 * rows * inner * columns / (end - start))
                if end >= deadline:
                    break
                start = end
    return best


def synchronized_time(device: torch.device) -> float:
    """Return the time, in seconds, at which a device has done what it was asked for."""
    if device.type != "cpu":
        torch.get_device_module(device).synchronize()
    return time.perf_counter()
