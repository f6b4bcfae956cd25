"""What ``genrec-bench algorithms new`` writes: a file that keeps the contract, to begin from."""

from __future__ import annotations

from genrec_bench.runs.registry import Entry

PLAIN = '''"""{title}: what it is, its paper (authors, year, arXiv), its formulas by number.

Differences from the algorithm that it descends from, numbered.
"""

from dataclasses import dataclass

from torch import Tensor

from genrec_bench.algorithm import Algorithm, Batch, Hyperparameters, Scores, Seen, fixed


@dataclass(frozen=True)
class {title}Hyperparameters(Hyperparameters):
    """Each choice once: the paper's default, what is allowed, and what it is."""

    scale: float = fixed(1.0, low=0.01, high=100, help="factor of the credit")


class {title}(Algorithm):
    """Policy gradient over the candidates that beam search finds."""

    hyperparameters_class = {title}Hyperparameters
    hyperparameters: {title}Hyperparameters

    def reward(self, seen: Seen) -> Tensor:
        """Return [B, G] what each candidate is worth."""
        return seen.tree.hits(seen.targets).float()

    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return [B, G] the credit: here the reward less the group's mean."""
        valid = seen.tree.valid
        mean = rewards.sum(1, keepdim=True) / valid.sum(1, keepdim=True)
        return self.hyperparameters.scale * (rewards - mean) * valid

    def loss(self, batch: Batch, scores: Scores) -> tuple[Tensor, dict[str, Tensor]]:
        """Return [B] what is minimised, and figures to log."""
        return -(batch.advantages * scores.log_probs.sum(-1)).sum(1), {{}}
'''

DERIVED = '''"""{title}: what it is, its paper (authors, year, arXiv), its formulas by number.

Differences from {parent}:

1. ``scale``: the difference, which so far is a factor.
"""

from dataclasses import dataclass

from torch import Tensor

from genrec_bench.algorithm import {face}, fixed
from {module} import {class_name}, {choices}


@dataclass(frozen=True)
class {title}Hyperparameters({choices}):
    """Those of {parent}, and what differs."""

    scale: float = fixed(1.0, low=0.01, high=100, help="factor of the {what}")


class {title}({class_name}):
    """One thing differs."""

    hyperparameters_class = {title}Hyperparameters
    hyperparameters: {title}Hyperparameters

{method}'''

ADVANTAGE = '''    def advantage(self, seen: Seen, rewards: Tensor) -> Tensor:
        """Return the credit of each candidate."""
        return self.hyperparameters.scale * super().advantage(seen, rewards)
'''

TARGET_LOSS = '''    def target_loss(self, scores: TargetScores) -> Tensor:
        """Return what is minimised for each target."""
        return self.hyperparameters.scale * super().target_loss(scores)
'''


def title_of(name: str) -> str:
    """Return the name of the class for the name of a file, ``my_idea`` to ``MyIdea``."""
    return "".join(word[:1].upper() + word[1:] for word in name.split("_"))


def new_text(name: str, parent: Entry | None) -> str:
    """Return the text of a new algorithm's file, which derives from another's class, if any."""
    if parent is None:
        return PLAIN.format(title=title_of(name))
    cls = parent.algorithm
    rolls_out = cls.on_policy
    return DERIVED.format(
        title=title_of(name),
        parent=parent.name,
        face="Seen" if rolls_out else "TargetScores",
        module=cls.__module__,
        class_name=cls.__name__,
        choices=cls.hyperparameters_class.__name__,
        what="credit" if rolls_out else "loss",
        method=ADVANTAGE if rolls_out else TARGET_LOSS,
    )
