"""AdamW whose learning rate follows the share of the work that is done, not a count of steps."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genrec_bench.errors import UserError
from genrec_bench.training.workers import Workers


class NotFiniteError(UserError):
    """A loss or a gradient that is not a number."""


class _Rows:
    """Some rows of a weight, as a parameter of their own to the optimizer.

    AdamW treats every number apart, so that these rows can learn at a rate of their own, with the
    others none the wiser: their gradients are taken out of the weight's, and they are put back
    after the step. All that must outlive a step is in the weight and in the optimizer's state.
    """

    def __init__(self, weight: nn.Parameter, rows: list[int]) -> None:
        self.parameter = nn.Parameter(weight.detach()[rows].clone())
        self._weight, self._rows = weight, rows

    @torch.no_grad()
    def take(self) -> None:
        """Take the rows and their gradients, which leaves the weight's at 0."""
        self.parameter.copy_(self._weight[self._rows])
        if self._weight.grad is not None:
            self.parameter.grad = self._weight.grad[self._rows].clone()
            self._weight.grad[self._rows] = 0.0

    @torch.no_grad()
    def put_back(self) -> None:
        """Write the rows into the weight, in place of what the step on the weight made of them."""
        self._weight[self._rows] = self.parameter


class Optimization:
    """Steps of AdamW on the trainable parameters of a policy."""

    def __init__(
        self,
        module: nn.Module,
        workers: Workers,
        *,
        learning_rate: float,
        weight_decay: float,
        warmup: float,
        max_grad_norm: float,
        head_learning_rate: float | None = None,
        added_rows: Sequence[tuple[nn.Parameter, list[int]]] = (),
    ) -> None:
        """Prepare.

        Args:
            workers: gradients are added up over them.
            learning_rate: the peak, reached after warming up; a cosine then takes it to 0.
            weight_decay: of parameters with two axes or more.
            warmup: share of the work to warm up in.
            max_grad_norm: gradients longer than this are shortened to it, those of the heads apart
                from the others, lest a head's error scale the policy's steps.
            head_learning_rate: the peak for the modules of ``heads`` and for added rows; by default
                the same.
            added_rows: weights and some of their rows, which are treated as a head: the tokens that
                an algorithm added.

        Raises:
            UserError: a number format keeps too few digits of what would be trained.
        """
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        for name, parameter in module.named_parameters():
            if parameter.requires_grad and torch.finfo(parameter.dtype).bits < 32:
                raise UserError(
                    f"{name} is trained in {parameter.dtype}, in which most updates round to "
                    "nothing; train it in float32"
                )
        self._workers = workers
        self._warmup = warmup
        self._max_grad_norm = max_grad_norm
        self._rows = [_Rows(weight, rows) for weight, rows in added_rows]
        self._clipped: list[list[nn.Parameter]] = []
        groups = []
        for is_head, peak in ((False, learning_rate), (True, head_learning_rate or learning_rate)):
            own = [
                p
                for name, p in module.named_parameters()
                if p.requires_grad and name.startswith("heads.") == is_head
            ]
            if is_head:
                own += [rows.parameter for rows in self._rows]
            self._clipped.append(own)
            for decay, chosen in (
                (weight_decay, [p for p in own if p.dim() >= 2]),
                (0.0, [p for p in own if p.dim() < 2]),
            ):
                if chosen or not is_head:
                    groups.append({"params": chosen, "weight_decay": decay, "peak": peak})
        self.optimizer = torch.optim.AdamW(groups, lr=learning_rate, betas=(0.9, 0.98), fused=True)

    def schedule(self, share: float) -> float:
        """Return the share of the peak learning rate that is due after a share of the work."""
        if share < self._warmup:
            return max(share / self._warmup, 0.05)
        progress = min((share - self._warmup) / (1.0 - self._warmup), 1.0)
        return 0.5 * (1.0 + math.cos(math.pi * progress))

    def step(self, share: float, loss: float, where: str) -> float:
        """Take one step with the gradients that have been accumulated, and clear them.

        Returns:
            The norm of the gradients before they were clipped.

        Raises:
            NotFiniteError: if the loss or the gradients are not finite; the weights are unchanged.
        """
        self._workers.sum_gradients(self.parameters)
        for rows in self._rows:
            rows.take()
        norm = math.hypot(
            *(float(nn.utils.clip_grad_norm_(p, self._max_grad_norm)) for p in self._clipped)
        )
        if not (math.isfinite(loss) and math.isfinite(norm)):
            self.optimizer.zero_grad(set_to_none=True)
            raise NotFiniteError(
                f"{where}: the loss is {loss} and the gradients' norm is {norm}; try a smaller "
                "learning rate"
            )
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * self.schedule(share)
        self.optimizer.step()
        for rows in self._rows:
            rows.put_back()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def state(self) -> dict[str, Tensor]:
        """Return the optimizer's state as named tensors."""
        return {
            f"{index}.{name}": value
            for index, state in self.optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Take up a state that ``state`` returned."""
        state: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            index, name = key.split(".", 1)
            state.setdefault(int(index), {})[name] = value
        whole = self.optimizer.state_dict()
        whole["state"] = state
        self.optimizer.load_state_dict(whole)
