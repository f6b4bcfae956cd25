"""The candidate tree: every distinct prefix of a group's candidates, once.

For B prompts, a forest. A node is a SID prefix under one prompt. Nodes of a prompt are sorted by
trie state, hence by level, hence leaves come last; a prompt with fewer nodes is padded at the end.
Everything that an algorithm asks about prefixes (the longest common one, partial correctness, who
are siblings) is a question about ``paths``, ``parents`` and the trie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from genrec_bench.policy.trie import Trie


@dataclass(frozen=True, eq=False)
class CandidateTree:
    """The candidates of B prompts, G each, as a forest of N nodes a prompt.

    Attributes:
        trie: the catalog's SIDs; the states below are its states.
        states: [B, N] trie state of each node, ``trie.dead`` for padding.
        parents: [B, N] the node of the prefix one code shorter; -1 under the prompt and at padding.
        paths: [B, G, L] the nodes of each candidate, level 1 to L; 0 where it is not real.
        valid: [B, G] which candidates are real: a catalog can have fewer than G.
        log_probs: [B, N] log-probability of each node's code under the behavior policy, given its
            prefix; 0 for padding.
    """

    trie: Trie
    states: Tensor
    parents: Tensor
    paths: Tensor
    valid: Tensor
    log_probs: Tensor

    @classmethod
    def build(cls, trie: Trie, leaves: Tensor, log_probs: Tensor) -> CandidateTree:
        """Gather candidates into a tree that holds each distinct prefix once.

        Args:
            leaves: [B, G] leaf states, ``trie.dead`` where there is no candidate.
            log_probs: [B, G, L] log-probability of each code under the behavior policy.
        """
        num_prompts, group_size = leaves.shape
        num_levels = trie.num_levels
        flat_shape = (num_prompts, group_size * num_levels)
        on_path = trie.prefixes(leaves).view(flat_shape)
        # A stable sort makes the node's log-probability that of its first candidate: one prefix has
        # one probability, and taking a fixed one of equals keeps runs reproducible.
        ordered, order = on_path.sort(dim=1, stable=True)
        is_new = torch.ones_like(ordered, dtype=torch.bool)
        is_new[:, 1:] = ordered[:, 1:] != ordered[:, :-1]
        is_new &= ordered != trie.dead
        node_of_ordered = is_new.cumsum(dim=1) - 1
        # A node at least, so that paths of places without a candidate have something to point at.
        num_nodes = max(1, int(is_new.sum(dim=1).max()))
        slot = torch.where(is_new, node_of_ordered, num_nodes)

        def scatter(values: Tensor, fill: float) -> Tensor:
            target = values.new_full((num_prompts, num_nodes + 1), fill)
            return target.scatter_(1, slot, values)[:, :num_nodes]

        states = scatter(ordered, trie.dead)
        node_log_probs = scatter(log_probs.reshape(flat_shape).gather(1, order), 0.0)
        nodes = torch.empty_like(on_path).scatter_(1, order, node_of_ordered)
        valid = leaves != trie.dead
        paths = nodes.view(num_prompts, group_size, num_levels).masked_fill(~valid.unsqueeze(-1), 0)

        above = torch.cat(
            [paths.new_full((num_prompts, group_size, 1), -1), paths[..., :-1]], dim=-1
        )
        parents = scatter(above.reshape(flat_shape).gather(1, order), -1)
        return cls(trie, states, parents, paths, valid, node_log_probs)

    @classmethod
    def join(cls, trees: Sequence[CandidateTree], order: Tensor) -> CandidateTree:
        """Put trees of one trie and group size together.

        Args:
            order: [B] the place of each tree, as they follow each other, in the result.
        """
        trie = trees[0].trie
        num_nodes = max(tree.states.shape[1] for tree in trees)
        place = order.argsort()

        def nodes(values: Sequence[Tensor], fill: float) -> Tensor:
            padded = [pad(value, (0, num_nodes - value.shape[1]), value=fill) for value in values]
            return torch.cat(padded)[place]

        return cls(
            trie,
            nodes([tree.states for tree in trees], trie.dead),
            nodes([tree.parents for tree in trees], -1),
            torch.cat([tree.paths for tree in trees])[place],
            torch.cat([tree.valid for tree in trees])[place],
            nodes([tree.log_probs for tree in trees], 0.0),
        )

    def with_places(self, group_size: int) -> CandidateTree:
        """Return the same candidates with G places for them, the last of which are empty."""
        missing = group_size - self.group_size
        paths = pad(self.paths, (0, 0, 0, missing))
        return replace(self, paths=paths, valid=pad(self.valid, (0, missing)))

    @property
    def group_size(self) -> int:
        """G, the number of places for candidates of each prompt."""
        return self.paths.shape[1]

    @property
    def is_node(self) -> Tensor:
        """[B, N] which nodes are real."""
        return self.states != self.trie.dead

    @property
    def levels(self) -> Tensor:
        """[B, N] level of each node, 1 to L; 0 for padding."""
        return self.trie.level[self.states]

    @property
    def leaves(self) -> Tensor:
        """[B, G] leaf state of each candidate, ``trie.dead`` where it is not real."""
        return self.on_paths(self.states)[..., -1].masked_fill(~self.valid, self.trie.dead)

    def on_paths(self, node_values: Tensor) -> Tensor:
        """Read values [B, N] of nodes along each candidate's path.

        Returns:
            [B, G, L]; what stands at candidates that are not real means nothing.
        """
        flat = node_values.gather(1, self.paths.flatten(1))
        return flat.view(self.paths.shape)

    def path_sums(self, node_values: Tensor) -> Tensor:
        """Return [B, N] the sum of values [B, N] over each node and those above it."""
        total, above = node_values, self.parents
        for _ in range(self.trie.num_levels - 1):
            at = above.clamp(min=0)
            total = total + node_values.gather(1, at).masked_fill(above < 0, 0.0)
            above = torch.where(above < 0, -1, self.parents.gather(1, at))
        return total

    def sequence_log_probs(self) -> Tensor:
        """Return [B, G] log-probability of each candidate under the behavior policy.

        -inf where a candidate is not real. The cumulative logit intensity s(y) of UGR, §3.2.
        """
        total = self.on_paths(self.log_probs).sum(dim=-1)
        return total.masked_fill(~self.valid, -torch.inf)

    def ranks(self) -> Tensor:
        """Return [B, G] zero-based rank of each candidate by probability, real ones first."""
        order = self.sequence_log_probs().argsort(dim=1, descending=True, stable=True)
        return order.argsort(dim=1)

    def matched_levels(self, targets: Tensor) -> Tensor:
        """Return [B, G] how many leading codes, 0 to L, each candidate shares with the target.

        0 for candidates that are not real; targets are [B] leaf states.
        """
        wanted = self.trie.prefixes(targets).unsqueeze(1)
        same = self.on_paths(self.states) == wanted
        return (same & self.valid.unsqueeze(-1)).sum(dim=-1)

    def hits(self, targets: Tensor) -> Tensor:
        """Return [B, G] whether each candidate is the target's SID, a leaf state of [B].

        At most one of a beam's candidates is; among sampled ones several can be equal.
        """
        return (self.leaves == targets.unsqueeze(1)) & self.valid

    def bucket_mean(self, values: Tensor) -> Tensor:
        """Average values [B, G, E] of candidates over those that pass through each node.

        These share its prefix (a bucket of V-STAR, Eq. 6); one drawn twice counts twice.

        Returns:
            [B, N, E]; 0 for padding.
        """
        # Added up, and not multiplied by a matrix of zeros and ones: its padding would be metered.
        sums = values.new_zeros(*self.states.shape, values.shape[-1])
        counts = values.new_zeros(self.states.shape)
        # What stands at empty places may be anything, and 0 times infinity is not 0.
        own = values.masked_fill(~self.valid.unsqueeze(-1), 0.0)
        for nodes in self.paths.unbind(dim=-1):
            sums.scatter_add_(1, nodes.unsqueeze(-1).expand_as(own), own)
            counts.scatter_add_(1, nodes, self.valid.to(counts.dtype))
        return sums / counts.unsqueeze(-1).clamp(min=1)

    def sibling_sums(self, values: Tensor) -> Tensor:
        """Add up values [B, N] over the siblings of each node: those with its parent, and itself.

        Returns:
            [B, N]; 0 for padding.
        """
        # The place of each node's parent: 0 is the prompt, which only that prompt's nodes have.
        parents, real = self.parents + 1, self.is_node
        sums = values.new_zeros(len(values), values.shape[1] + 1)
        sums.scatter_add_(1, parents, values.masked_fill(~real, 0.0))
        return sums.gather(1, parents).masked_fill(~real, 0.0)

    def with_paths(self, leaves: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the nodes of a tree to which the path to one more leaf of each prompt is added.

        Nodes are sorted as everywhere, so that the tree of one candidate more has the same.

        Args:
            leaves: [B] leaf states, all of them real.

        Returns:
            [B, N'] trie states of the nodes and [B, N'] their parents; [B, N] where each node of
            this tree stands among them, any place for padding; [B, L] where the path's nodes stand.
        """
        path = self.trie.prefixes(leaves)
        together = torch.cat([self.states, path], dim=1).sort(dim=1).values
        again = torch.zeros_like(together, dtype=torch.bool)
        again[:, 1:] = together[:, 1:] == together[:, :-1]
        states = together.masked_fill(again, self.trie.dead).sort(dim=1).values
        states = states[:, : int((states != self.trie.dead).sum(dim=1).max())].contiguous()

        def places(wanted: Tensor) -> Tensor:
            return torch.searchsorted(states, wanted.contiguous()).clamp(max=states.shape[1] - 1)

        above = self.trie.parent[states]
        # The root stands above nodes of level 1, and `dead` is its own parent.
        below_a_node = (above > 0) & (states != self.trie.dead)
        parents = torch.where(below_a_node, places(above), -1)
        return states, parents, places(self.states), places(path)

    def select(self, rows: Tensor) -> CandidateTree:
        """Return the trees of some prompts, by their indices [R], with no needless padding."""
        states = self.states[rows]
        num_nodes = max(1, int((states != self.trie.dead).sum(dim=1).max()))
        return CandidateTree(
            self.trie,
            states[:, :num_nodes],
            self.parents[rows, :num_nodes],
            self.paths[rows],
            self.valid[rows],
            self.log_probs[rows, :num_nodes],
        )
