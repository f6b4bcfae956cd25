"""What a search by value knows: the prefixes found so far under each prompt, and their scores.

B trees that grow side by side, each in a row of tensors with room for N nodes. Node 0 of a row is
the root, the empty prefix; the others follow in the order in which they were added. Each node keeps
the log-probabilities of those children that are not in the tree yet.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from genrec_bench.decoding.beam import ranks_in_rows
from genrec_bench.policy.trie import Trie

By = Literal["value", "probability"]
Pick = Literal["value", "prefix", "probability"]


class SearchTree:
    """The prefixes of a search, and what decides where it goes on.

    Attributes:
        num_nodes: [B] how many nodes each tree has.
        states: [B, N] trie states; ``dead`` where there is no node.
        levels: [B, N] how many codes a node has; 0 where there is none.
        parents: [B, N] the node one code shorter; -1 for the root and where there is none.
        paths: [B, N, L + 1] the nodes from the root to each node, by level; the node itself from
            its own level on.
        log_probs: [B, N] log-probability of the node's code given its prefix.
        totals: [B, N] log-probability of the whole prefix.
        hidden: [B, N, D] last hidden states; 0 for a node that was not read.
        values: [B, N] values.
        priority: [B, N] G of V-STAR's Eq. 11; -inf until the node is rated, so that no traversal
            goes there.
        visits: [B, N] how many traversals passed it; the root's are all there were.
        open: [B, N, F] log-probabilities of the children that are not in the tree; -inf for others.
        num_open: [B, N] how many children that are.
    """

    def __init__(self, trie: Trie, num_prompts: int, capacity: int, hidden: Tensor) -> None:
        """Plant B roots of trees with room for ``capacity`` nodes (N) each, the root included.

        Any hidden states [..., D] tell the size and number format that the nodes' have.
        """
        device = hidden.device
        shape = (num_prompts, capacity)
        self.trie = trie
        self.num_nodes = torch.ones(num_prompts, dtype=torch.long, device=device)
        self.states = torch.full(shape, trie.dead, device=device)
        self.states[:, 0] = 0
        self.levels = torch.zeros(shape, dtype=torch.long, device=device)
        self.parents = torch.full(shape, -1, device=device)
        self.paths = torch.zeros(*shape, trie.num_levels + 1, dtype=torch.long, device=device)
        self.log_probs = torch.zeros(shape, device=device)
        self.totals = torch.zeros(shape, device=device)
        self.hidden = hidden.new_zeros(*shape, hidden.shape[-1])
        self.values = torch.zeros(shape, device=device)
        self.priority = torch.full(shape, -torch.inf, device=device)
        self.visits = torch.zeros(shape, device=device)
        self.open = torch.full((*shape, max(trie.fan_out)), -torch.inf, device=device)
        self.num_open = torch.zeros(shape, dtype=torch.long, device=device)
        self._level_sums = torch.zeros(
            num_prompts, trie.num_levels + 1, dtype=torch.double, device=device
        )
        self._level_counts = torch.zeros_like(self._level_sums)

    def add(self, rows: Tensor, parents: Tensor, children: Tensor) -> Tensor:
        """Put children into the trees, and return the new nodes [R].

        Args:
            rows: [R] the prompt of each, in ascending order.
            parents: [R] nodes.
            children: [R] which child of its parent each is, counted from 0; no child twice.
        """
        ranks, counts = ranks_in_rows(rows, len(self.num_nodes))
        nodes = self.num_nodes[rows] + ranks
        self.num_nodes += counts
        new = (rows, nodes)
        levels = self.levels[rows, parents] + 1
        log_probs = self.open[rows, parents, children]
        self.states[new] = self.trie.first_child[self.states[rows, parents]] + children
        self.levels[new] = levels
        self.parents[new] = parents
        depth = torch.arange(self.paths.shape[-1], device=rows.device)
        above = depth < levels.unsqueeze(1)
        self.paths[new] = torch.where(above, self.paths[rows, parents], nodes.unsqueeze(1))
        self.log_probs[new] = log_probs
        self.totals[new] = self.totals[rows, parents] + log_probs
        self.open[rows, parents, children] = -torch.inf
        self.num_open.index_put_((rows, parents), torch.full_like(rows, -1), accumulate=True)
        return nodes

    def open_up(self, rows: Tensor, nodes: Tensor, log_probs: Tensor) -> Tensor:
        """Tell the children of nodes [R] that are not leaves, of the prompts [R] in ``rows``.

        ``log_probs`` [R, n] has the log-probability of each child, -inf for none. Returned is [R],
        the entropy in nats of the policy over the valid children (V-STAR, Eq. 12).
        """
        self.open[rows, nodes, : log_probs.shape[1]] = log_probs
        self.num_open[rows, nodes] = self.trie.num_children[self.states[rows, nodes]]
        entropy: Tensor = torch.special.entr(log_probs.softmax(dim=-1)).sum(dim=-1)
        return entropy

    def rate(self, rows: Tensor, nodes: Tensor, values: Tensor, priority: Tensor) -> None:
        """Set values and priorities [R] of new nodes, which then count in their level's mean."""
        self.values[rows, nodes] = values
        self.priority[rows, nodes] = priority
        where = (rows, self.levels[rows, nodes])
        # As double, so that the mean of equal priorities is no larger than any of them.
        self._level_sums.index_put_(where, priority.double(), accumulate=True)
        one = torch.ones_like(priority, dtype=torch.double)
        self._level_counts.index_put_(where, one, accumulate=True)

    def decisive(self) -> Tensor:
        """Return [B, N] which nodes have a priority of at least their level's mean (Eq. 14)."""
        means = self._level_sums / self._level_counts.clamp(min=1)
        return self.priority.double() >= means.gather(1, self.levels)

    def upper_bounds(self, exploration: float) -> Tensor:
        """Return [B, N] the scores U of V-STAR's Eq. 13; the root's visits are N_root."""
        log = (self.visits[:, :1] + 1).log()
        bonus: Tensor = (log / (self.visits + 1)).sqrt()
        return self.priority + exploration * bonus

    def traverse(self, active: Tensor, exploration: float) -> tuple[Tensor, Tensor]:
        """Walk down from the roots to the child of the largest U, until a node has none.

        Only ``active`` [B] trees are walked; every node on the way is visited once more. Returned
        are [B, L + 1] nodes by level, and [B, L + 1] where there is one.
        """
        scores = self.upper_bounds(exploration)
        here = torch.zeros_like(self.num_nodes)
        path, on_path = [here], [active]
        for _ in range(self.trie.num_levels):
            is_child = self.parents == here.unsqueeze(1)
            best, child = scores.masked_fill(~is_child, -torch.inf).max(dim=1)
            on_path.append(on_path[-1] & (best > -torch.inf))
            here = child
            path.append(child)
        nodes, there = torch.stack(path, dim=1), torch.stack(on_path, dim=1)
        self.visits.scatter_add_(1, nodes, there.to(self.visits.dtype))
        return nodes, there

    def candidates(
        self, count: int, picked_by: Pick = "value", ranked_by: By = "value"
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Pick G candidates (``count``) among the leaves and the children that are not in the tree.

        Args:
            picked_by: value: the leaves of the largest value. What they lack is filled up: each
                prefix one code short of a leaf gives its most probable child in turn, the prefix of
                the largest value first, then each its second, and so on. Equal values go by
                probability. prefix: the same, but the best prefix fills up until it is used up.
                probability: the most probable SIDs, wherever they are.
            ranked_by: value: as they were picked by value; probability: the most probable first.

        Returns:
            [B, G] leaf states, ``dead`` where there is none; [B, G, L] log-probabilities of their
            codes; [B, G] values, of the prefix for what fills up, -inf where there is none; and
            [B, G] which ones fill up.
        """
        trie, by_value = self.trie, picked_by != "probability"
        exists = self.states != trie.dead
        is_leaf = exists & (self.levels == trie.num_levels)
        is_short = exists & (self.levels == trie.num_levels - 1) & (self.num_open > 0)
        width = trie.fan_out[-1]
        likeliest = self.totals + self.open[..., :width].amax(dim=-1)
        leaves = _best(is_leaf, count, *([self.values] if by_value else []), self.totals)
        # A prefix has a child at least, so no more than G of them can be needed.
        short = _best(is_short, count, *([self.values] if by_value else []), likeliest)

        # A pool of the leaves, and of the children of the prefixes.
        row = torch.arange(len(short), device=short.device).unsqueeze(1)
        last = self.open[row, short, :width].masked_fill(~is_short[row, short, None], -torch.inf)
        turn = last.argsort(dim=-1, descending=True, stable=True).argsort(dim=-1).flatten(1)
        last, num_leaves = last.flatten(1), leaves.shape[1]
        nodes = torch.cat([leaves, short.repeat_interleave(width, dim=1)], dim=1)
        real = torch.cat([is_leaf[row, leaves], last > -torch.inf], dim=1)
        values, totals = self.values[row, nodes], self.totals[row, nodes]
        totals[:, num_leaves:] += last
        turn = turn if picked_by == "value" else torch.zeros_like(turn)
        turn = torch.cat([torch.full_like(leaves, -1), turn], dim=1)
        picked = _best(real, count, *([-turn, values] if by_value else []), totals)
        if ranked_by == "probability":
            again = _best(real.gather(1, picked), count, totals.gather(1, picked))
            picked = picked.gather(1, again)

        missing = ~real.gather(1, picked)
        fills = picked >= num_leaves
        child = (picked - num_leaves).clamp(min=0)
        nodes = nodes.gather(1, picked)
        states = self.states[row, nodes]
        states = torch.where(fills, trie.first_child[states] + child % width, states)
        log_probs = self.log_probs[row.unsqueeze(-1), self.paths[row, nodes]][..., 1:]
        log_probs[..., -1] = torch.where(fills, last.gather(1, child), log_probs[..., -1])
        lack = (0, count - picked.shape[1])
        return (
            pad(states.masked_fill(missing, trie.dead), lack, value=trie.dead),
            pad(log_probs.masked_fill(missing.unsqueeze(-1), 0.0), (0, 0, *lack)),
            pad(values.gather(1, picked).masked_fill(missing, -torch.inf), lack, value=-torch.inf),
            pad(fills & ~missing, lack),
        )


def _best(real: Tensor, count: int, *keys: Tensor) -> Tensor:
    """Return the places of the best ``count`` of each row, real ones first, best first.

    All are [B, n]. The first key counts most, and each is the better the larger it is.
    """
    order = torch.arange(real.shape[1], device=real.device).expand(real.shape)
    for key in (*reversed(keys), real.long()):
        again = key.gather(1, order).argsort(dim=1, descending=True, stable=True)
        order = order.gather(1, again)
    return order[:, :count]
