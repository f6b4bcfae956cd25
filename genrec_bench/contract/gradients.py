"""What an algorithm promises of its gradients, and of all that it is shown and must leave alone.

Losses say little: at ratio 1 with centred advantages a loss is 0, whatever it does.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from genrec_bench.contract.played import Check, Stage, require_shape, require_that
from genrec_bench.contract.tiny_world import (
    TinyWorld,
    fresh,
    play,
    scores_for_loss,
    tiny_catalog,
    tiny_examples,
)
from genrec_bench.policy.prompts import Chains
from genrec_bench.policy.supervised import score_targets
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.base_algorithm import Algorithm

NEAR = 1e-3
"""Of a gradient's length: what adding up in another order may change."""


def check_gradients_of_each_prompt_alone(stage: Stage) -> None:
    """A prompt's gradient does not depend on the other prompts of its batch."""
    algorithm, world = stage.algorithm, stage.world
    for group, played in stage.plays.items():
        for rows in torch.arange(len(world.prompts)).tensor_split([1]):
            batch, prompts = played.batch.select(rows), world.prompts.select(rows)
            scores = scores_for_loss(algorithm, world, prompts, batch.tree, batch.targets)
            losses, _ = fresh(algorithm).loss(batch, scores)
            require_near(
                f"{group}: gradients of prompts in a batch and alone",
                gradient(world, played.losses[rows].sum()),
                gradient(world, losses.sum()),
                "the loss of a prompt may read nothing of the others; what is said of the whole "
                "batch belongs into advantage, as seen.sum(...)",
            )


def check_repeated_calls(stage: Stage) -> None:
    """The loss is the same however often it was called: parts of a batch are calls of their own."""
    algorithm, world = stage.algorithm, stage.world
    for group, played in stage.plays.items():
        one, found = fresh(algorithm), []
        for _ in range(3):
            tree, targets = played.batch.tree, played.batch.targets
            scores = scores_for_loss(algorithm, world, world.prompts, tree, targets)
            losses, _ = one.loss(played.batch, scores)
            found.append(gradient(world, losses.sum()))
        for later in found[1:]:
            require_near(
                f"{group}: gradients of the first and of a later call of loss",
                found[0],
                later,
                "loss may remember nothing; begin_step and advantage are called once a step",
            )


def check_advantages_without_gradients(stage: Stage) -> None:
    """Rewards and advantages carry no gradient: what is minimised is the loss alone."""
    for group, (tree, targets) in stage.groups.items():
        one, seen = fresh(stage.algorithm), stage.seen(tree, targets)
        with torch.no_grad():
            rewards = one.reward(seen)
            advantages = one.advantage(seen, rewards)
        for name, values in (("reward", rewards), ("advantage", advantages)):
            require_that(
                not values.requires_grad,
                f"{group}: {name} returns {tuple(values.shape)} with gradients; detach it, or put "
                "what is to be learned into loss",
            )


def check_shown_things_stay(stage: Stage) -> None:
    """Candidates, targets, prompts, weights and the meter stay as they are, whoever sees them."""
    algorithm, world = stage.algorithm, stage.world
    for group, (tree, targets) in stage.groups.items():
        one, seen = fresh(algorithm), stage.seen(tree, targets)
        with torch.no_grad():
            with _unchanged(world, tree, targets, f"{group}: reward"):
                rewards = one.reward(seen)
            if one.most_refills:
                with _unchanged(world, tree, targets, f"{group}: accepts"):
                    one.accepts(seen, rewards)
            with _unchanged(world, tree, targets, f"{group}: advantage"):
                one.advantage(seen, rewards)
        with _unchanged(world, tree, targets, f"{group}: loss"):
            play(algorithm, world, tree, targets)


def check_target_loss(stage: Stage) -> None:
    """A loss of targets is [T] or [T, L], finite, and of each target alone."""
    algorithm = stage.algorithm
    if type(algorithm).target_loss is Algorithm.target_loss:
        return
    world, examples = stage.world, tiny_examples(tiny_catalog())
    chains = Chains.single(examples)

    def of(rows: list[int]) -> tuple[Tensor, Tensor]:
        scores = score_targets(world.policy, examples, chains, np.array(rows))
        losses = fresh(algorithm).target_loss(scores)
        count, levels = scores.log_probs.shape
        require_shape("the loss of targets", losses, (count,), (count, levels))
        require_that(losses.isfinite().all(), "a target's loss is not finite")
        return losses, gradient(world, losses.sum())

    losses, whole = of([0, 1, 2, 3, 4])
    require_that(losses.requires_grad, "the loss of targets cannot be differentiated")
    parts = of([0])[1] + of([1, 2, 3, 4])[1]
    require_near(
        "gradients of targets in a batch and alone", whole, parts, "each target is one of its own"
    )


GRADIENTS: tuple[Check, ...] = (
    check_gradients_of_each_prompt_alone,
    check_repeated_calls,
    check_advantages_without_gradients,
    check_shown_things_stay,
)


def gradient(world: TinyWorld, loss: Tensor) -> Tensor:
    """Return the gradient of a loss with respect to all weights of the policy, in one vector."""
    weights = list(world.policy.parameters())
    if not loss.requires_grad:
        return torch.zeros(sum(weight.numel() for weight in weights))
    found = torch.autograd.grad(loss, weights, retain_graph=True, materialize_grads=True)
    return torch.cat([part.flatten() for part in found])


def require_near(what: str, one: Tensor, other: Tensor, right: str) -> None:
    """Raise ``Violation`` unless two gradients differ by no more than rounding."""
    apart, size = float((one - other).norm()), float(torch.maximum(one.norm(), other.norm()))
    near = apart <= NEAR * size + 1e-5
    require_that(near, f"{what} differ by {apart / max(size, 1e-9):.0%} of their length; {right}")


@contextmanager
def _unchanged(world: TinyWorld, tree: CandidateTree, targets: Tensor, what: str) -> Iterator[None]:
    """Raise ``Violation`` if something that is only shown changes meanwhile."""

    def facts() -> dict[str, Tensor]:
        shown = {f"the tree's {f.name}": getattr(tree, f.name) for f in dataclasses.fields(tree)}
        shown |= {
            "targets": targets,
            "the prompts' tokens": world.prompts.tokens,
            "the prompts' mask": world.prompts.mask,
            "the prompts' histories": world.prompts.histories,
        }
        shown |= {f"the policy's {n}": weight for n, weight in world.policy.state_dict().items()}
        return {name: value for name, value in shown.items() if isinstance(value, Tensor)}

    before = {name: (value, value.clone()) for name, value in facts().items()}
    meter = world.policy.meter
    yield
    for name, value in facts().items():
        same = torch.equal(value, before[name][1])
        require_that(same, f"{what} changes {name}, {tuple(value.shape)}; work on a copy")
    require_that(world.policy.meter is meter, f"{what} changes policy.meter, which keeps the bill")
