"""Values of prefixes: what the best reading of a policy's hidden states says is still to come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Prefixes:
    """M prefixes, each under its prompt, as a value is asked for them.

    Attributes:
        rows: [M] the prompt of each, as a row of the batch.
        states: [M] trie states; the root for the empty prefix.
        levels: [M] how many codes each has, 0 to L.
        hidden: [M, L + 1, D] last hidden states at the prompt's end and at each code of the prefix;
            what stands behind place ``levels`` means nothing.
    """

    rows: Tensor
    states: Tensor
    levels: Tensor
    hidden: Tensor


Value = Callable[[Prefixes], Tensor]
"""Returns [M] values."""
