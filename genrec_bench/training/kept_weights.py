"""Copies of weights: those of the best look, and those that a divergence is measured from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from genrec_bench.errors import UserError
from genrec_bench.policy.flops import FlopModel
from genrec_bench.policy.policy import Policy, embedding_weights


class KeptWeights(nn.Module):
    """Copies of some tensors by name, each once; a checkpoint can hold them."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy tensors; what shares memory, as tied embeddings do, is copied once."""
        super().__init__()
        self._names: dict[str, str] = {}
        there: set[int] = set()
        for name, values in tensors.items():
            if values.data_ptr() not in there:
                there.add(values.data_ptr())
                # Names of buffers may have no dots.
                self._names[name] = name.replace(".", "/")
                self.register_buffer(self._names[name], values.detach().clone())

    @torch.no_grad()
    def copy_from(self, tensors: Mapping[str, Tensor]) -> None:
        """Keep what these tensors hold now."""
        for name, own in self._names.items():
            self.get_buffer(own).copy_(tensors[name])

    @torch.no_grad()
    def copy_to(self, tensors: Mapping[str, Tensor]) -> None:
        """Write what was kept."""
        for name, own in self._names.items():
            tensors[name].copy_(self.get_buffer(own))


def trained_tensors(module: nn.Module) -> dict[str, Tensor]:
    """Return what training may change of a module, by name: all but frozen weights."""
    frozen = {
        name
        for name, parameter in module.named_parameters(remove_duplicate=False)
        if not parameter.requires_grad
    }
    return {name: each for name, each in module.state_dict().items() if name not in frozen}


class KeptStart:
    """A policy as it was when training began.

    A policy whose adapters are trained is its own reference: without them, and with the embeddings
    and the output head that it had, it is what it was.

    Attributes:
        module: what a checkpoint has to hold of it.
    """

    def __init__(self, policy: Policy) -> None:
        """Keep what is needed of a policy that is about to be trained."""
        self._policy, self._flops = policy, policy.flops
        self._tables: dict[str, nn.Parameter] | None = None
        if not hasattr(policy.backbone, "peft_config"):
            meter = policy.meter
            self.whole = deepcopy(policy, {id(meter): meter})
            self.whole.requires_grad_(False).eval()
            self.module: nn.Module = self.whole
            return
        self._tables = {
            str(index): weight for index, weight in enumerate(embedding_weights(policy.backbone))
        }
        self.module = self._kept = KeptWeights(self._tables)
        with self.policy(), policy.passes():
            self._flops = FlopModel(policy.backbone)

    def follow(self, policy: Policy, mix: float) -> None:
        """Mix this share of a policy's weights into what is kept.

        Raises:
            UserError: adapters are trained: a mix of their factors is none of what they add up to.
        """
        if self._tables is not None:
            raise UserError("a reference cannot follow LoRA adapters; set lora_rank=0")
        with torch.no_grad():
            kept = self.whole.parameters()
            for own, current in zip(kept, policy.parameters(), strict=True):
                own.lerp_(current, mix)

    @contextmanager
    def policy(self) -> Iterator[Policy]:
        """Lend the policy of the start; what is trained must be left alone meanwhile."""
        if self._tables is None:
            yield self.whole
            return
        own, backbone = self._policy.flops, self._policy.backbone
        untyped: Any = backbone
        now = {}
        for index, kept in self._kept.named_buffers():
            now[index], self._tables[index].data = self._tables[index].data, kept
        # What is switched off is not computed, and so is not charged.
        self._policy.flops = self._flops
        try:
            with untyped.disable_adapter():
                yield self._policy
        finally:
            self._policy.flops = own
            for index, values in now.items():
                self._tables[index].data = values
