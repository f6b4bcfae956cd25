"""Gradients of losses with respect to the log-probabilities of codes, which say all of a loss."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import torch
from small_trees import group_of
from torch import Tensor, nn

from genrec_bench.algorithm import Algorithm, Batch, Seen
from genrec_bench.contract.tiny_world import Play

HERE: Any = SimpleNamespace(sum=lambda values: values)
"""Answers sums as the only process does, and nothing else."""


def weights_of(module: nn.Module) -> Tensor:
    """All that is trained of a policy, in one vector."""
    return torch.cat([each.detach().flatten() for each in module.parameters()])


def seen_group(probabilities: list[float], hit: int | None) -> Seen:
    """One group of SIDs of one code; see ``group_of``."""
    return replace(Seen.bare(*group_of(probabilities, hit)), asked=HERE)


def gradient(algorithm: Algorithm, played: Play, batch: Batch | None = None) -> Tensor:
    """[B, G, L] of an algorithm's losses of what was played, added up over prompts."""
    losses, _ = algorithm.loss(played.batch if batch is None else batch, played.scores)
    (found,) = torch.autograd.grad(losses.sum(), [played.scores.log_probs], retain_graph=True)
    return found


def moved(played: Play, ratios: list[float]) -> Batch:
    """The batch as if the codes of each level had changed by such a ratio since the rollout."""
    tree = played.batch.tree
    old = played.scores.log_probs.detach() - torch.tensor(ratios).log()
    nodes = torch.zeros_like(tree.log_probs).scatter(1, tree.paths.flatten(1), old.flatten(1))
    return replace(played.batch, tree=replace(tree, log_probs=nodes))


def slope(algorithm: Any, now: float, old: float, advantage: float) -> tuple[float, float]:
    """What ``surrogate`` says of one code with such probabilities, and the slope by log pi."""
    log_prob = torch.tensor([[[now]]]).log().requires_grad_()
    value = algorithm.surrogate(
        log_prob, torch.tensor([[[old]]]).log(), torch.tensor([[[advantage]]])
    )
    (found,) = torch.autograd.grad(value.sum(), [log_prob])
    return float(value.detach()), float(found)
