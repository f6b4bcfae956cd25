"""What every algorithm promises of a rollout, the credit and the loss; see ``stated.py``.

Each check plays an algorithm in a world of a few SIDs and prompts, a fresh one each time: it may
remember things between rollouts, such as a baseline.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genrec_bench.contract.tiny_world import (
    GROUP_SIZE,
    Play,
    TinyWorld,
    fresh,
    groups,
    play,
    roll_out,
    scores_for_loss,
    seen_of,
    tiny_world,
)
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import score
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.training.base_algorithm import Algorithm
from genrec_bench.training.groups import Batch, Seen

TOLERANCE = 1e-4
"""Relative and absolute; a batch and its parts add up float32 numbers in different orders."""


class Violation(Exception):
    """A promise that an algorithm does not keep."""


class Stage:
    """An algorithm and what it is played in; each part is made once, when it is asked for."""

    def __init__(self, algorithm: Algorithm) -> None:
        self.algorithm = fresh(algorithm)

    @cached_property
    def world(self) -> TinyWorld:
        """A world made for the algorithm."""
        return tiny_world(self.algorithm)

    @cached_property
    def groups(self) -> dict[str, tuple[CandidateTree, Tensor]]:
        """Groups that tend to break formulas; see ``tiny_world.groups``."""
        return groups(self.algorithm, self.world)

    def seen(self, tree: CandidateTree, targets: Tensor, rows: Tensor | None = None) -> Seen:
        """Return what the algorithm is shown of some groups, or of those of some prompts [R]."""
        world = self.world
        if rows is not None:
            tree, targets = tree.select(rows), targets[rows]
            world = dataclasses.replace(world, prompts=world.prompts.select(rows), targets=targets)
        return seen_of(self.algorithm, world, tree, targets)

    @cached_property
    def plays(self) -> dict[str, Play]:
        """What the algorithm makes of each of these groups."""
        return {
            group: play(self.algorithm, self.world, tree, targets)
            for group, (tree, targets) in self.groups.items()
        }


Check = Callable[[Stage], None]
"""Raises ``Violation`` if the algorithm on the stage breaks the promise in the docstring."""


def require_that(holds: object, otherwise: str) -> None:
    """Raise ``Violation`` with the message unless the first argument is true."""
    if not holds:
        raise Violation(otherwise)


def require_shape(what: str, tensor: Tensor, *allowed: tuple[int, ...]) -> None:
    """Raise ``Violation`` unless this is a tensor of one of the shapes."""
    require_that(isinstance(tensor, Tensor), f"{what} is no tensor but {type(tensor).__name__}")
    wanted = " or ".join(str(tuple(shape)) for shape in allowed)
    found = tuple(tensor.shape)
    require_that(found in allowed, f"{what} has the shape {found}, not {wanted}")


def require_close(what: str, one: Tensor, other: Tensor) -> None:
    """Raise ``Violation`` unless the two have one shape and differ by no more than rounding."""
    require_shape(f"{what}: the second", other, one.shape)
    near = torch.allclose(one, other, rtol=TOLERANCE, atol=TOLERANCE)
    require_that(near, f"{what} differ by up to {float((one - other).detach().abs().max()):.2g}")


def require_candidates(
    world: TinyWorld, tree: CandidateTree, count: int, temperature: float | None = 1.0
) -> None:
    """Raise ``Violation`` unless these are trees of ``count`` places for the world's prompts.

    Their log-probabilities must be the policy's at the temperature; 0 if there is none.
    """
    trie = world.policy.trie
    shape = (len(world.prompts), count)
    require_shape("the paths", tree.paths, (*shape, trie.num_levels))
    require_shape("valid", tree.valid, shape)
    require_that(tree.valid.any(dim=1).all(), f"a prompt has no candidate at G={count}")
    leaves = tree.leaves[tree.valid]
    require_that((trie.level[leaves] == trie.num_levels).all(), "a candidate is no SID")
    on_paths = tree.on_paths(tree.states)[tree.valid]
    require_that(torch.equal(on_paths, trie.prefixes(leaves)), "a path skips its prefixes")
    if temperature is None:
        silent = not tree.log_probs.any()
        require_that(silent, "rates_candidates is False, and the tree has log_probs that are not 0")
        return
    with torch.no_grad():
        rated = score(world.policy, world.prompts, tree, temperature=temperature).log_probs
    kept = tree.on_paths(tree.log_probs)[tree.valid]
    require_close("the tree's log_probs and the policy's", kept, rated[tree.valid])


def check_rollout(stage: Stage) -> None:
    """A rollout has G places a prompt; in them stand SIDs, with the policy's log-probabilities."""
    world, algorithm = stage.world, stage.algorithm
    at = algorithm.loss_temperature if algorithm.rates_candidates else None
    for group_size in (1, GROUP_SIZE, world.policy.trie.num_leaves + 3):
        require_candidates(world, roll_out(stage.algorithm, world, group_size), group_size, at)


def check_rollout_leaves_the_policy_alone(stage: Stage) -> None:
    """A rollout changes no weight."""
    world = stage.world
    before = {name: weight.clone() for name, weight in world.policy.state_dict().items()}
    roll_out(stage.algorithm, world)
    for name, weight in world.policy.state_dict().items():
        require_that(torch.equal(weight, before[name]), f"{name} changed")


def check_rewards(stage: Stage) -> None:
    """Rewards are [B, G], finite, and 0 where no real candidate stands."""
    for group, (tree, targets) in stage.groups.items():
        rewards = fresh(stage.algorithm).reward(stage.seen(tree, targets))
        require_shape(f"{group}: the reward", rewards, tree.valid.shape)
        require_that(rewards.isfinite().all(), f"{group}: a reward is not finite")
        require_that((rewards[~tree.valid] == 0).all(), f"{group}: an empty place has a reward")


def check_accepts(stage: Stage) -> None:
    """Groups are accepted or not, [B] bool, each whatever the others of its batch are."""
    algorithm = stage.algorithm
    for group, (tree, targets) in stage.groups.items():
        seen = stage.seen(tree, targets)
        rewards = fresh(algorithm).reward(seen)
        accepted = fresh(algorithm).accepts(seen, rewards)
        require_shape(f"{group}: what is accepted", accepted, targets.shape)
        require_that(
            accepted.dtype == torch.bool, f"{group}: accepts returns {accepted.dtype}, no bool"
        )
        for rows in torch.arange(len(targets)).tensor_split([1]):
            alone = fresh(algorithm).accepts(stage.seen(tree, targets, rows), rewards[rows])
            same = torch.equal(accepted[rows], alone)
            require_that(same, f"{group}: a group is accepted in a batch or alone, not both")


def check_advantages(stage: Stage) -> None:
    """Advantages are [B, G], [B, G, L] or [B, G, L, K], finite, and 0 at empty places."""
    algorithm = stage.algorithm
    for group, (tree, targets) in stage.groups.items():
        real, seen = tree.valid.float(), stage.seen(tree, targets)
        given = {
            group: fresh(algorithm).reward(seen),
            f"{group}, all rewards 1": real,
            f"{group}, all rewards 0": 0 * real,
        }
        for case, rewards in given.items():
            advantages = fresh(algorithm).advantage(seen, rewards)
            allowed = [tree.valid.shape, tree.paths.shape]
            if advantages.dim() == 4 and advantages.shape[-1]:
                allowed.append(torch.Size([*tree.paths.shape, advantages.shape[-1]]))
            require_shape(f"{case}: the advantage", advantages, *allowed)
            require_that(advantages.isfinite().all(), f"{case}: an advantage is not finite")
            empty = advantages[~tree.valid]
            require_that((empty == 0).all(), f"{case}: an empty place has an advantage")


def check_loss(stage: Stage) -> None:
    """The loss is [B] and finite, and so are its gradients; figures are [B] and detached."""
    size = (len(stage.world.prompts),)
    for group, played in stage.plays.items():
        require_shape(f"{group}: the loss", played.losses, size)
        require_that(played.losses.isfinite().all(), f"{group}: a loss is not finite")
        require_that(played.losses.requires_grad, f"{group}: the loss cannot be differentiated")
        for name, figure in played.figures.items():
            require_shape(f"{group}: the figure {name!r}", figure, size)
            require_that(figure.isfinite().all(), f"{group}: the figure {name!r} is not finite")
            require_that(not figure.requires_grad, f"{group}: the figure {name!r} is not detached")
        for name, gradient in _gradients(stage.world, played.losses).items():
            require_that(
                gradient.isfinite().all(), f"{group}: the gradient of {name} is not finite"
            )


def check_gradients(stage: Stage) -> None:
    """The loss trains the backbone, and every head and token that the algorithm asked for."""
    # Over its own codes only, so that a token's weight moves only if the algorithm reads the token.
    algorithm = stage.algorithm
    world = tiny_world(algorithm, logprob_space="level")
    policy = world.policy
    credit = False
    total = {name: torch.zeros_like(weight) for name, weight in policy.named_parameters()}
    for tree, targets in groups(algorithm, world).values():
        played = play(algorithm, world, tree, targets)
        credit |= bool(played.batch.advantages.any())
        for name, gradient in _gradients(world, played.losses).items():
            total[name] += gradient.abs()
    layers = [name for name in total if name.startswith("backbone.") and ".layers." in name]
    if credit:
        require_that(all(total[name].any() for name in layers), "the backbone gets no gradient")
    for head in policy.heads:
        weights = [total[name] for name in total if name.startswith(f"heads.{head}.")]
        require_that(any(weight.any() for weight in weights), f"head {head!r} gets no gradient")
    backbone: Any = policy.backbone
    tables = [backbone.get_input_embeddings().weight, backbone.get_output_embeddings().weight]
    named = policy.named_parameters()
    rows = [total[name] for name, weight in named if any(weight is table for table in tables)]
    for token, index in policy.extra_tokens.items():
        require_that(any(row[index].any() for row in rows), f"token {token!r} gets no gradient")


def check_steps_of_heads(stage: Stage) -> None:
    """Where a step trains heads alone, its loss reaches one, without reference and gradients."""
    world = stage.world
    for share in (0.0, 0.5, 0.99):
        algorithm = fresh(stage.algorithm)
        algorithm.begin_step(3, share)
        if algorithm.trains_backbone:
            continue
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            tree = algorithm.rollout(world.policy, world.prompts, GROUP_SIZE)
            seen = seen_of(algorithm, world, tree, world.targets)
            rewards = algorithm.reward(seen)
            advantages = algorithm.advantage(seen, rewards)
            groups = (world.prompts, tree, world.targets, rewards, advantages)
            scores = scores_for_loss(algorithm, world, world.prompts, tree, world.targets)
        losses, _ = algorithm.loss(Batch(*groups, None, world.embeddings), scores)
        require_shape(f"after {share:g}, the losses", losses, world.targets.shape)
        reached = _gradients(world, losses) if losses.requires_grad else {}
        require_that(
            any(name.startswith("heads.") for name in reached), f"after {share:g}, no head learns"
        )


def check_loss_of_each_prompt_alone(stage: Stage) -> None:
    """A prompt's loss does not depend on the other prompts of its batch."""
    algorithm, world = stage.algorithm, stage.world
    for group, played in stage.plays.items():
        for rows in torch.arange(len(world.prompts)).tensor_split([1]):
            batch = played.batch.select(rows)
            prompts = world.prompts.select(rows)
            scores = scores_for_loss(algorithm, world, prompts, batch.tree, batch.targets)
            alone, _ = fresh(algorithm).loss(batch, scores)
            require_close(f"{group}: losses in a batch and alone", played.losses[rows], alone)


def check_empty_places(stage: Stage) -> None:
    """What stands at places without a real candidate does not reach the loss."""
    for group, played in stage.plays.items():
        empty = ~played.batch.tree.valid.unsqueeze(-1)
        reference = played.batch.reference_log_probs
        if reference is not None:
            reference = reference.masked_fill(empty, -2.0)
        batch = dataclasses.replace(played.batch, reference_log_probs=reference)
        noise = played.scores.log_probs.masked_fill(empty, -3.0)
        scores = dataclasses.replace(played.scores, log_probs=noise)
        again, _ = fresh(stage.algorithm).loss(batch, scores)
        require_close(f"{group}: losses with other values at empty places", played.losses, again)


def check_order_and_padding(stage: Stage) -> None:
    """Prompts in another order, padded on the other side, get the same credit and the same loss."""
    algorithm, world = stage.algorithm, stage.world
    order = torch.arange(len(world.prompts)).flip(0)
    lengths = world.prompts.lengths
    width = world.prompts.mask.shape[1]
    # Row by row, the real tokens move to the right end.
    place = (torch.arange(width) + lengths.unsqueeze(1)) % width
    tokens, mask = (each.gather(1, place) for each in (world.prompts.tokens, world.prompts.mask))
    on_left = Prompts(tokens, mask, world.prompts.histories)
    turned = dataclasses.replace(world, prompts=on_left.select(order), targets=world.targets[order])
    first, second = play(algorithm, world), play(algorithm, turned)
    same = torch.equal(first.batch.tree.leaves[order], second.batch.tree.leaves)
    require_that(same, "the rollouts differ")
    for name in ("rewards", "advantages"):
        require_close(name, getattr(first.batch, name)[order], getattr(second.batch, name))
    require_close("losses", first.losses[order], second.losses)


def check_global_randomness(stage: Stage) -> None:
    """Rewards, advantages and losses draw nothing from the global random generators."""
    world = stage.world
    tree = roll_out(stage.algorithm, world)
    with no_global_randomness():
        rewards = play(stage.algorithm, world, tree).batch.rewards
        fresh(stage.algorithm).accepts(stage.seen(tree, world.targets), rewards)


def check_determinism(stage: Stage) -> None:
    """The same seed gives the same rollout, credit and loss, bit by bit."""
    first, second = (play(stage.algorithm, tiny_world(stage.algorithm)) for _ in range(2))
    for name, one, two in (
        ("candidates", first.batch.tree.leaves, second.batch.tree.leaves),
        ("rewards", first.batch.rewards, second.batch.rewards),
        ("advantages", first.batch.advantages, second.batch.advantages),
        ("losses", first.losses, second.losses),
    ):
        require_that(torch.equal(one, two), f"the {name} of two runs differ")


NUMERIC: tuple[Check, ...] = (
    check_rewards,
    check_accepts,
    check_advantages,
    check_loss,
    check_steps_of_heads,
    check_loss_of_each_prompt_alone,
    check_empty_places,
)
PLAYED: tuple[Check, ...] = (
    check_rollout,
    check_rollout_leaves_the_policy_alone,
    *NUMERIC,
    check_gradients,
    check_order_and_padding,
    check_global_randomness,
    check_determinism,
)


def _gradients(world: TinyWorld, losses: Tensor) -> dict[str, Tensor]:
    """Return the gradients of the summed losses, for those weights that they reach."""
    named = dict(world.policy.named_parameters())
    gradients = torch.autograd.grad(
        losses.sum(), list(named.values()), retain_graph=True, allow_unused=True
    )
    return {name: g for name, g in zip(named, gradients, strict=True) if g is not None}


@contextmanager
def no_global_randomness() -> Iterator[None]:
    """Raise ``Violation`` if a number is drawn from a global random generator meanwhile."""

    def states() -> dict[str, Any]:
        legacy: Any = np.random.get_state()
        return {
            "torch": torch.get_rng_state().numpy().tobytes(),
            "numpy": (legacy[1].tobytes(), *legacy[2:]),
            "random": random.getstate(),
        }

    before = states()
    yield
    for name, state in states().items():
        require_that(state == before[name], f"numbers were drawn from the generator of {name}")
