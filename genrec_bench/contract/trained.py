"""What an algorithm promises of training: a run that goes on, chunks of any size, and its bill.

A few steps are taken in the small world, as the harness takes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from genrec_bench.contract.played import Check, Stage, require_that
from genrec_bench.contract.tiny_world import (
    GROUP_SIZE,
    tiny_catalog,
    tiny_examples,
    tiny_world,
)
from genrec_bench.policy.policy import Policy
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.ledger import Ledger
from genrec_bench.training.optimization import Optimization
from genrec_bench.training.steps import RolloutStepper
from genrec_bench.training.workers import Workers

BEFORE, STEPS = 2, 4
"""Steps before a run is cut short, and of all of it."""

BILL = 0.03
"""How far the ledger may be from torch's counter of FLOPs, attention apart."""


class _Gradients(Optimization):
    """Keeps the gradients of each step."""

    def __init__(self, policy: Policy) -> None:
        rates = {"learning_rate": 1e-3, "weight_decay": 0.0, "warmup": 0.0, "max_grad_norm": 1.0}
        super().__init__(policy, Workers(), **rates)  # type: ignore[arg-type]
        self.kept: list[Tensor] = []

    def step(self, share: float, loss: float, where: str) -> float:
        parts = [p.grad.flatten() for p in self.parameters if p.grad is not None]
        self.kept.append(torch.cat(parts).double() if parts else torch.zeros(1).double())
        return super().step(share, loss, where)


class Training:
    """A training in the small world that can be cut short."""

    def __init__(self, algorithm: Algorithm, tokens_per_forward: int = 4096) -> None:
        self.algorithm = type(algorithm)(algorithm.hyperparameters)
        world = tiny_world(self.algorithm)
        self.policy = world.policy
        self.policy.tokens_per_forward = tokens_per_forward
        self.ledger = self.policy.meter = Ledger(self.policy.device)
        self.optimization = _Gradients(self.policy)
        self.stepper = RolloutStepper(
            self.policy,
            self.algorithm,
            tiny_examples(tiny_catalog(), 12),
            self.optimization,
            self.ledger,
            Workers(),
            group_size=GROUP_SIZE,
            prompts_per_step=4,
            seed=0,
            embeddings=world.embeddings,
        )

    def go(self, first: int, last: int) -> list[dict[str, float]]:
        """Take some steps, and begin before the first."""
        if not first:
            self.stepper.begin()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(first)
            return [self.stepper.step(index, index / STEPS) for index in range(first, last)]

    def take_up(self, other: Training) -> None:
        """Go on where another one was, as from its checkpoint."""
        mine = self.stepper.modules()
        for name, module in other.stepper.modules().items():
            mine[name].load_state_dict(module.state_dict())
        tensors = {name: each.clone() for name, each in other.optimization.state().items()}
        self.optimization.load(tensors)
        self.stepper.load(other.stepper.state())
        self.stepper.remember(other.stepper.memory())


def check_memory(stage: Stage) -> None:
    """A run that was cut short goes on to the bit: what changes in training is in the state."""
    whole = Training(stage.algorithm)
    whole.go(0, BEFORE)
    again = Training(stage.algorithm)
    again.take_up(whole)
    whole.go(BEFORE, STEPS)
    again.go(BEFORE, STEPS)
    ours, theirs = _facts(vars(whole.algorithm)), _facts(vars(again.algorithm))
    for name in sorted({*ours, *theirs}):
        require_that(
            ours.get(name) == theirs.get(name),
            f"the attribute {name!r} changes in training and is not in state(), so that a run that "
            "goes on is another; return it there as a tensor, or tell it from begin_step's numbers",
        )
    weights = again.policy.state_dict()
    for name, weight in whole.policy.state_dict().items():
        same = torch.equal(weight, weights[name])
        require_that(same, f"{name} of a run that went on differs from that of a whole one")


def check_chunks(stage: Stage) -> None:
    """Gradients and the bill do not depend on how many prompts a forward pass holds."""
    whole, parts = Training(stage.algorithm), Training(stage.algorithm, 24)
    for each in (whole, parts):
        each.go(0, 1)
    require_that(
        len(whole.optimization.kept) == len(parts.optimization.kept), "the steps are not as many"
    )
    for one, other in zip(whole.optimization.kept, parts.optimization.kept, strict=True):
        # What few steps of Adam make of rounding is no promise that is broken.
        first = float((one - other).norm()) if one.shape == other.shape else float("inf")
        near = first <= 0.02 * float(one.norm()) + 1e-5
        require_that(
            near,
            f"with smaller forward passes the gradient differs by {first:.2g} of "
            f"{float(one.norm()):.2g}: something is told from calls of the loss, or from its batch",
        )
    ours, theirs = (sum(c.flops for c in each.ledger.spent.values()) for each in (whole, parts))
    require_that(
        abs(ours - theirs) <= 1e-9 * ours,
        f"with smaller forward passes {theirs:.6g} FLOPs are on the bill in place of {ours:.6g}: "
        "padding is paid for; give a head real nodes alone, as scores.tree.is_node tells them",
    )


def check_bill(stage: Stage) -> None:
    """The ledger charges what is computed: torch's counter of FLOPs agrees, attention apart."""
    training = Training(stage.algorithm)
    training.policy.flops = training.policy.flops.without_attention()
    for module in training.stepper.modules().values():
        if isinstance(module, Policy) and module is not training.policy:
            module.flops = module.flops.without_attention()
    counter = FlopCounterMode(display=False)
    with counter:
        training.go(0, 1)
    meter = training.policy.meter
    require_that(meter is training.ledger, "policy.meter is not the ledger any more")
    charged = sum(cost.flops for cost in training.ledger.spent.values())
    done = float(counter.get_total_flops())
    difference = charged / done - 1 if done else 0.0
    require_that(
        abs(difference) <= BILL,
        f"a step computes {done:.4g} FLOPs beside attention and {charged:.4g} are on the bill "
        f"({difference:+.0%}); work of your own belongs into `with policy.metered(...)`",
    )


TRAINED: tuple[Check, ...] = (check_memory, check_chunks, check_bill)


def _facts(value: Any, name: str = "") -> dict[str, Any]:
    """Return what can be compared of a value, by the way to it."""
    if isinstance(value, Tensor):
        return {name: (str(value.dtype), tuple(value.shape), value.detach().cpu().tolist())}
    if isinstance(value, nn.Module):
        return _facts(dict(value.state_dict()), name)
    if value is None or isinstance(value, bool | int | float | str):
        return {name: value}
    if isinstance(value, Mapping):
        parts = {f"{name}.{key}" if name else str(key): each for key, each in value.items()}
    elif isinstance(value, list | tuple):
        parts = {f"{name}[{place}]": each for place, each in enumerate(value)}
        parts[f"len({name})"] = len(value)
    elif dataclasses.is_dataclass(value):
        parts = {f"{name}.{key}": each for key, each in vars(value).items()}
    else:
        return {}
    return {key: fact for way, each in parts.items() for key, fact in _facts(each, way).items()}
