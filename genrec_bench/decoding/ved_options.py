"""What a VED search is told: how it begins and goes on, what it may spend, what it returns."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal, get_args

from genrec_bench.decoding.search_tree import By, Pick

Priority = Literal["G", "V", "H"]
LeafValue = Literal["own", "parent"]
Counted = Literal["read", "beam"]

CHOICES = {
    "priority": get_args(Priority),
    "leaf_value": get_args(LeafValue),
    "counted": get_args(Counted),
    "picked_by": get_args(Pick),
    "ranked_by": get_args(By),
}

MOST_TRAVERSALS = 3
"""A prompt's traversals are at most so many times its budget; the authors' code has the same."""


@dataclass(frozen=True)
class VEDOptions:
    """The choices of a search; the defaults are the paper's (§5.1, §5.5) where it tells them.

    Attributes:
        initial_beam: width of the beam that plants the tree; half the group if that is less.
        entropy_weight: lambda of Eq. 11.
        exploration: beta of Eq. 13. The paper is silent; 1 in the authors' code.
        token_budget: what may be spent, in multiples of what a beam as wide as the group spends; at
            least 1.
        priority: G is Eq. 11; V leaves the entropy out, H the value (Table 3). Leaves are rated by
            their value in any case.
        leaf_value: own, as in the paper: leaves are read and rated like other nodes. parent, as in
            the authors' code: a leaf has its parent's value and costs nothing.
        counted: what the budget counts. read, as in the paper: every token through the backbone,
            leaves that are read for their own value among them, of which a beam reads none. beam:
            prefixes above the leaves alone, as a beam's are counted; leaves are read all the same,
            and the ledger bills them.
        traversals_per_round: how many traversals that add something a prompt makes before its new
            nodes are read. The paper has 1, which is what Figure 4 is about. More save forward
            passes at large budgets, and the later ones know less.
        picked_by: value, as in the paper: the leaves of the largest value, filled up as told above.
            prefix: the same, but the best prefix fills up until it is used up. probability: the
            most probable of all SIDs whose prefixes the search has read.
        ranked_by: in which order the candidates are listed, which matters in evaluation. The paper
            does not say. By probability a good search cannot spoil the head of a list; value is
            that of the authors' code.
    """

    initial_beam: int = 8
    entropy_weight: float = 0.1
    exploration: float = 1.0
    token_budget: float = 1.0
    priority: Priority = "G"
    leaf_value: LeafValue = "own"
    counted: Counted = "read"
    traversals_per_round: int = 1
    picked_by: Pick = "value"
    ranked_by: By = "probability"

    @classmethod
    def of(cls, hyperparameters: object) -> VEDOptions:
        """Return the options that are attributes of the same name."""
        return cls(**{field.name: getattr(hyperparameters, field.name) for field in fields(cls)})

    def __post_init__(self) -> None:
        """Refuse unknown choices and numbers out of their range by a ``ValueError``."""
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name} {getattr(self, name)!r} is not one of {choices}")
        for name, least in (("initial_beam", 1), ("token_budget", 1), ("traversals_per_round", 1)):
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} {getattr(self, name)} must be at least {least}")

    @property
    def name(self) -> str:
        """Say what bears on the number of tokens, in a few words."""
        return f"ved {self.token_budget:g}x" + ", leaves apart" * (self.counted == "beam")

    @property
    def free_leaves(self) -> bool:
        """Whether a leaf costs nothing: it is not read, or not counted."""
        return self.leaf_value == "parent" or self.counted == "beam"

    def first_beam(self, count: int) -> int:
        """Return how wide the first beam of a group of ``count`` is."""
        return min(self.initial_beam, max(1, count // 2))

    def budget(self, num_levels: int, count: int) -> int:
        """Return the tokens that a prompt may spend, that of the root's prediction included."""
        return 1 + round(self.token_budget * (num_levels - 1) * count)

    def most_nodes(self, num_levels: int, count: int) -> int:
        """Return how many nodes a prompt's tree may have, the root included."""
        budget = self.budget(num_levels, count)
        # A traversal adds one leaf at most, and so does a path of the first beam.
        return budget + self.free_leaves * (MOST_TRAVERSALS * budget + self.initial_beam)

    def most_read(self, num_levels: int, count: int) -> int:
        """Return how many nodes of a prompt may be read."""
        read_all = self.leaf_value == "own"
        return (self.most_nodes if read_all else self.budget)(num_levels, count)
