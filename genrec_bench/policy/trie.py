"""The catalog's SIDs as a prefix tree that a decoder can read with a handful of tensor reads.

States are numbered level by level and, within a level, in lexicographic order of their prefix. The
children of a state are then neighbours: child ``j`` of a state is ``first_child[state] + j``, and
four integers describe a state, whatever the number of codes. There is no table of states by codes
to fill, no hash, and no data-dependent shape: a lookup reads as many children as the level's
largest fan-out and masks what is not there.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Trie:
    """A prefix tree over SIDs. State 0 is the root; ``dead`` is a state without children.

    Attributes:
        first_child: [num_states + 1] the first child of each state.
        num_children: [num_states + 1] how many children each state has; 0 for leaves and ``dead``.
        code: [num_states + 1] the code that leads into the state; 0 for the root and ``dead``.
        parent: [num_states + 1] the state one code earlier; the root and ``dead`` are their own.
        level: [num_states + 1] the length of the state's prefix; 0 for the root and ``dead``.
        first_of_level: the first state of each level, L + 1 numbers; level L holds the leaves.
        fan_out: the largest number of children of any state of level l, L numbers.
        codes_per_level: K_l, L numbers.
    """

    first_child: Tensor
    num_children: Tensor
    code: Tensor
    parent: Tensor
    level: Tensor
    first_of_level: tuple[int, ...]
    fan_out: tuple[int, ...]
    codes_per_level: tuple[int, ...]

    @classmethod
    def build(cls, unique_sids: NDArray[np.int32], codes_per_level: tuple[int, ...]) -> Trie:
        """Build the trie of a catalog.

        Args:
            unique_sids: [num_sids, L] distinct SIDs in lexicographic order. Row ``i`` becomes leaf
                ``i``.
            codes_per_level: K_l for each of the L levels.

        Raises:
            ValueError: if the rows are not distinct and sorted, or a code is outside its level.
        """
        num_sids, num_levels = unique_sids.shape
        if num_sids == 0:
            raise ValueError("a trie needs at least one SID")
        if (unique_sids < 0).any() or (unique_sids >= np.asarray(codes_per_level)).any():
            raise ValueError("a code lies outside its level")
        changed = np.ones((num_sids, num_levels), dtype=bool)
        steps = np.diff(unique_sids, axis=0)
        changed[1:] = np.logical_or.accumulate(steps != 0, axis=1)
        first_difference = np.argmax(steps != 0, axis=1)
        if (
            not changed[1:, -1].all()
            or (steps[np.arange(num_sids - 1), first_difference] < 0).any()
        ):
            raise ValueError("SIDs must be distinct and in lexicographic order")

        sizes = changed.sum(axis=0)
        first_of_level = np.concatenate([[0], 1 + np.concatenate([[0], np.cumsum(sizes)[:-1]])])
        num_states = int(1 + sizes.sum())
        dead = num_states
        first_child, num_children, code, parent, level = np.zeros(
            (5, num_states + 1), dtype=np.int64
        )
        parent[dead] = dead
        state_above = np.zeros(num_sids, dtype=np.int64)
        for depth in range(num_levels):
            starts = np.flatnonzero(changed[:, depth])
            states = first_of_level[depth + 1] + np.arange(len(starts))
            code[states] = unique_sids[starts, depth]
            parent[states] = state_above[starts]
            level[states] = depth + 1
            np.add.at(num_children, parent[states], 1)
            parents, first_positions = np.unique(parent[states], return_index=True)
            first_child[parents] = states[first_positions]
            state_above = first_of_level[depth + 1] + np.cumsum(changed[:, depth]) - 1

        bounds = [*(int(first) for first in first_of_level), num_states]
        fan_out = tuple(
            int(num_children[bounds[depth] : bounds[depth + 1]].max())
            for depth in range(num_levels)
        )
        return cls(
            first_child=torch.from_numpy(first_child),
            num_children=torch.from_numpy(num_children),
            code=torch.from_numpy(code),
            parent=torch.from_numpy(parent),
            level=torch.from_numpy(level),
            first_of_level=tuple(bounds[:-1]),
            fan_out=fan_out,
            codes_per_level=tuple(codes_per_level),
        )

    @property
    def num_levels(self) -> int:
        """L, the number of codes of a SID."""
        return len(self.codes_per_level)

    @property
    def num_states(self) -> int:
        """How many prefixes there are, the empty one included and ``dead`` not."""
        return len(self.level) - 1

    @property
    def dead(self) -> int:
        """The state of a candidate that does not exist: it has no children and no code."""
        return self.num_states

    @property
    def num_leaves(self) -> int:
        """How many distinct SIDs there are."""
        return self.num_states - self.first_of_level[-1]

    def to(self, device: torch.device) -> Trie:
        """Return the same trie with its tensors on a device."""
        moved: dict[str, Any] = {
            name: value.to(device)
            for name, value in vars(self).items()
            if isinstance(value, Tensor)
        }
        return replace(self, **moved)

    def children(self, states: Tensor, width: int | None = None) -> tuple[Tensor, Tensor]:
        """Look up the children of many states at once.

        Args:
            width: F, how many children to read for each; by default the trie's largest fan-out. The
                fan-out of the states' level is enough when all are of one level.

        Returns:
            Children [..., F], ``dead`` where there is none, and a mask [..., F] of the real ones.
        """
        width = max(self.fan_out) if width is None else width
        offsets = torch.arange(width, device=states.device)
        real = offsets < self.num_children[states].unsqueeze(-1)
        children = self.first_child[states].unsqueeze(-1) + offsets
        return torch.where(real, children, self.dead), real

    def child(self, states: Tensor, codes: Tensor) -> Tensor:
        """Return where codes lead from states, ``dead`` where they lead nowhere; any one shape."""
        low = self.first_child[states]
        high = end = low + self.num_children[states]
        # Codes of a state's children ascend: a search that knows nothing of other states.
        for _ in range(max(self.fan_out).bit_length()):
            middle = (low + high) // 2
            below = (low < high) & (self.code[middle] < codes)
            low, high = torch.where(below, middle + 1, low), torch.where(below, high, middle)
        return torch.where((low < end) & (self.code[low] == codes), low, self.dead)

    def prefix_means(self, rows: Tensor) -> Tensor:
        """Average rows [num_sids, E] of SIDs over those under each prefix, a SID counting once.

        Returns:
            [num_states + 1, E]; a leaf has its own row, the root the mean of all, ``dead`` zeros.
        """
        if not rows.shape[1]:
            return rows.new_zeros(self.num_states + 1, 0)
        sums = torch.zeros(self.num_states + 1, rows.shape[1], dtype=torch.double)
        counts = torch.zeros(self.num_states + 1, 1, dtype=torch.double)
        first = self.first_of_level[-1]
        sums[first : self.dead], counts[first : self.dead] = rows.cpu().double(), 1.0
        parent, bounds = self.parent.cpu(), (*self.first_of_level, self.dead)
        for level in range(self.num_levels, 0, -1):
            own = slice(bounds[level], bounds[level + 1])
            sums.index_add_(0, parent[own], sums[own].clone())
            counts.index_add_(0, parent[own], counts[own].clone())
        return (sums / counts.clamp(min=1)).to(rows)

    def sid_index(self, leaves: Tensor) -> Tensor:
        """Return the rows of ``unique_sids`` that leaf states stand for, -1 for ``dead``."""
        return torch.where(leaves == self.dead, -1, leaves - self.first_of_level[-1])

    def leaf(self, sid_index: Tensor) -> Tensor:
        """Return the leaf states of rows of ``unique_sids``; the inverse of ``sid_index``."""
        return torch.where(sid_index < 0, self.dead, sid_index + self.first_of_level[-1])

    def prefixes(self, leaves: Tensor) -> Tensor:
        """Return [..., L] the states on the way to each leaf; ``dead`` throughout for ``dead``."""
        states = [leaves]
        for _ in range(self.num_levels - 1):
            states.append(self.parent[states[-1]])
        return torch.stack(states[::-1], dim=-1)
