"""What a card, or a person, says of how SIDs are made."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from genrec_bench.storage.validation import Must, one_of

METHODS = ("rq-kmeans", "rq-vae", "rq-kmeans-balanced")
COLLISIONS = ("keep", "move", "level", "code")
MOST_LEVELS, MOST_CODES = 26, 65536
"""Limits of a recipe: levels are named by letters, and more codes on one are surely a mistake."""

MOST_SEED = 2**31 - 1
"""That all libraries take."""


@dataclass(frozen=True)
class SIDRecipe:
    """How SIDs are made.

    Attributes:
        embeddings: what is quantized: "text", "collaborative", the name or folder of a
            sentence-transformers model, or a file ``*.npy`` with one row for each item.
        collisions: what becomes of items that share a SID.
    """

    method: Annotated[str, one_of(METHODS)]
    embeddings: str
    collisions: Annotated[str, one_of(COLLISIONS)] = "keep"
    seed: Annotated[int, Must(lambda seed: 0 <= seed <= MOST_SEED, f"from 0 to {MOST_SEED}")] = 0

    def label(self, codes_per_level: Sequence[int]) -> str:
        """Return the name of such SIDs: what they are made of, and what is not the default.

        ``codes_per_level`` are those before collisions are resolved.
        """
        source = Path(self.embeddings)
        parts = [self.method, source.stem if source.suffix == ".npy" else source.name]
        if len(set(codes_per_level)) == 1:
            parts.append(f"{len(codes_per_level)}x{codes_per_level[0]}")
        else:
            parts.append("x".join(map(str, codes_per_level)))
        parts += [] if self.collisions == "keep" else [self.collisions]
        parts += [f"seed{self.seed}"] if self.seed else []
        # Files and models may have other characters in their names.
        return as_label("-".join(parts))


def reads_as_recipe(label: str) -> bool:
    """Return whether a label begins like a recipe's own, which no other SIDs may have."""
    return label.startswith(tuple(f"{method}-" for method in METHODS))


def as_label(text: str) -> str:
    """Return the text with ``-`` for each character that a label may not have."""
    return "".join(c if c.isalnum() or c in "-_." else "-" for c in text)
