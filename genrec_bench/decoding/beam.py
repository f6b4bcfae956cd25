"""How a candidate tree grows under a prompt: one prefill, then only new nodes.

``TreeDecoder.expand`` is the one operation that every way of decoding calls: it runs the policy
over some nodes, each seeing its prompt and its ancestors in the key-value store, and returns the
log-probabilities of their children. Beam search is the first user of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import pad

from genrec_bench.policy.attention import KeyValueStore, Layout
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.tree import CandidateTree
from genrec_bench.policy.trie import Trie


@dataclass(frozen=True, eq=False)
class Expansion:
    """The children of some nodes.

    Attributes:
        states: [B, n, F] trie states of the children, ``dead`` where there is none.
        log_probs: [B, n, F] log-probability of each child's code given its prefix; -inf for none.
        hidden: [B, n, D] last hidden state of each node itself; 0 for ``dead`` ones.
    """

    states: Tensor
    log_probs: Tensor
    hidden: Tensor


@dataclass(frozen=True, eq=False)
class Level:
    """The nodes of one level that a search expanded.

    Attributes:
        states: [B, n] their trie states, ``dead`` where there is none.
        first: the place of the first of a prompt's nodes, by which it can be a parent; the others
            follow. -1 for the empty prefix.
        expansion: their children.
    """

    states: Tensor
    first: int
    expansion: Expansion


class TreeDecoder:
    """Grows the trees of B prompts; ``root_hidden`` [B, D] has each prompt's last hidden state."""

    def __init__(
        self, policy: Policy, prompts: Prompts, capacity: int, temperature: float = 1.0
    ) -> None:
        """Run B prompts through the policy; at most ``capacity`` nodes of each will follow.

        All log-probabilities will be those at a temperature, which divides the logits.
        """
        self._policy = policy
        self._temperature = temperature
        self._trie = policy.trie
        mask = prompts.mask
        num_prompts, width = mask.shape
        self._lengths = prompts.lengths
        device = mask.device
        graphs = policy.graphs
        width = width if graphs is None else graphs.padded(width)
        self._width = width
        self._capacity = capacity
        if graphs is None:
            self._store = KeyValueStore(num_prompts, width + capacity)
        else:
            self._store = graphs.lend(self, num_prompts, width + capacity)
        index = torch.arange(width, device=device)
        # Tokens are laid out from the left whatever side the padding was on.
        real = index < self._lengths.unsqueeze(1)
        causal = (index <= index.unsqueeze(1)).expand(num_prompts, width, width)
        rows, positions = real.nonzero(as_tuple=True)
        layout = Layout(
            slots=rows * width + positions,
            grid=(num_prompts, width),
            mask=causal,
            pairs=int((self._lengths**2).sum()),
            store=self._store,
            store_slots=rows * self._store.capacity + positions,
        )
        hidden = policy.hidden(prompts.tokens[mask], positions, layout, head_rows=num_prompts)
        self.root_hidden = hidden[self._lengths.cumsum(dim=0) - 1]
        self._prompt_keys = real
        # The places of a node and of its ancestors, by level; its own from its level on.
        self._paths = torch.zeros(
            num_prompts, capacity, self._trie.num_levels, dtype=torch.long, device=device
        )
        self._num_read = torch.zeros(num_prompts, dtype=torch.long, device=device)
        # The first place of each prompt that no node was given yet.
        self._free = torch.zeros_like(self._num_read)
        self._used = 0

    def roots(self) -> Expansion:
        """Return the first codes after each prompt, n = 1."""
        states = torch.zeros(len(self._lengths), 1, dtype=torch.long, device=self._lengths.device)
        return self._expansion(states, self.root_hidden, width=self._trie.fan_out[0])

    def expand(self, states: Tensor, parents: Tensor, level: int | None = None) -> Expansion:
        """Run the policy over new nodes and return their children.

        Args:
            states: [B, n] trie states of the nodes, not leaves; ``dead`` costs nothing.
            parents: [B, n] the place of each node's parent among the nodes expanded so far, in
                the order of all calls, ``dead`` ones counted; -1 for nodes of level 1.
            level: the level of all these nodes, if they share one: children are then looked up
                no wider than that level needs.

        Raises:
            ValueError: if more nodes are expanded than there is capacity for.
        """
        before, count = self._used, states.shape[1]
        self._reserve(before + count)
        self._free.fill_(self._used)
        rows, columns = (states != self._trie.dead).nonzero(as_tuple=True)
        at = (rows, columns)
        hidden = self._run(rows, states[at], parents[at], before + columns, columns, count)
        width = max(self._trie.fan_out) if level is None else self._trie.fan_out[level]
        return self._expansion(states, hidden, width)

    def read(self, rows: Tensor, states: Tensor, parents: Tensor) -> tuple[Tensor, Tensor]:
        """Run the policy over R new nodes, of each prompt as many as there are.

        Args:
            rows: [R] the prompt of each node, in ascending order.
            states: [R] trie states; leaves may be among them.
            parents: [R] the place of each node's parent; any for nodes of level 1.

        Returns:
            [R] the places of the nodes, by which they can be parents, and [R, D] their last hidden
            states.

        Raises:
            ValueError: if a prompt has no capacity for its nodes.
        """
        ranks, counts = ranks_in_rows(rows, len(self._lengths))
        places = self._free[rows] + ranks
        self._free += counts
        count, used = torch.stack([counts.max(), self._free.max()]).tolist()
        self._reserve(used)
        return places, self._run(rows, states, parents, places, ranks, count)

    def _reserve(self, used: int) -> None:
        if used > self._capacity:
            raise ValueError(f"no capacity for {used} nodes, only for {self._capacity}")
        self._used = max(self._used, used)

    def _run(
        self,
        rows: Tensor,
        states: Tensor,
        parents: Tensor,
        places: Tensor,
        columns: Tensor,
        count: int,
    ) -> Tensor:
        """Return [R, D] hidden states of nodes that sit in a grid of B prompts by ``count``."""
        trie, num_prompts, device = self._trie, len(self._lengths), rows.device
        new_nodes = torch.bincount(rows, minlength=num_prompts)
        self._num_read += new_nodes
        levels = trie.level[states]
        above = torch.arange(1, trie.num_levels + 1, device=device) < levels.unsqueeze(1)
        paths = self._paths[rows, parents.clamp(min=0)]
        paths = torch.where(above, paths, places.unsqueeze(1))
        self._paths[rows, places] = paths

        width, slots = self._width, rows * count + columns
        mask = torch.zeros(num_prompts, count, width + self._used, dtype=torch.bool, device=device)
        mask[..., :width] = self._prompt_keys.unsqueeze(1)
        mask.flatten(0, 1)[slots.unsqueeze(1), width + paths] = True
        layout = Layout(
            slots=slots,
            grid=(num_prompts, count),
            mask=mask,
            pairs=int((new_nodes * (self._lengths + self._num_read)).sum()),
            store=self._store,
            store_slots=rows * self._store.capacity + width + places,
        )
        return self._policy.hidden(
            self._policy.tokens_of(states),
            self._lengths[rows] + levels - 1,
            layout,
            head_rows=int((levels < trie.num_levels).sum()),
        )

    def children(self, states: Tensor, hidden: Tensor, width: int) -> tuple[Tensor, Tensor]:
        """Look up the children of R nodes and how probable each is.

        Args:
            states: [R] trie states, not leaves.
            hidden: [R, D].
            width: F, the largest number of children of any of them, or more.

        Returns:
            [R, F] trie states, ``dead`` where there is none, and [R, F] log-probability of each
            child's code given its prefix; -inf for none.
        """
        children, is_child = self._trie.children(states, width)
        codes = self._trie.code[children]
        logits, normalizer = self._policy.code_logits(hidden, states, self._temperature, codes)
        found = logits - normalizer.unsqueeze(1)
        return children, found.masked_fill(~is_child, -torch.inf)

    def _expansion(self, states: Tensor, hidden: Tensor, width: int) -> Expansion:
        """Return the children of [B, n] states, of which those that are not ``dead`` are [R, D]."""
        if len(hidden) == states.numel():
            found, likely = self.children(states.flatten(), hidden, width)
            grid = (*states.shape, -1)
            return Expansion(found.view(grid), likely.view(grid), hidden.view(grid))
        real = states != self._trie.dead
        children = states.new_full((*states.shape, width), self._trie.dead)
        log_probs = torch.full(children.shape, -torch.inf, device=states.device)
        children[real], log_probs[real] = self.children(states[real], hidden, width)
        of_node = hidden.new_zeros(*states.shape, hidden.shape[-1])
        of_node[real] = hidden
        return Expansion(children, log_probs, of_node)


def ranks_in_rows(rows: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """Return [R] how many things stand before each in its row, and [B] how many each row has.

    ``rows`` [R] has the row of each thing, in ascending order.
    """
    counts = torch.bincount(rows, minlength=num_rows)
    before = counts.cumsum(dim=0) - counts
    return torch.arange(len(rows), device=rows.device) - before[rows], counts


Rescore = Callable[[Prompts, Tensor, Tensor], Tensor]
"""Scores children; see ``beam_search``."""


@torch.no_grad()
def beam_search(
    policy: Policy, prompts: Prompts, width: int, rescore: Rescore | None = None
) -> CandidateTree:
    """Find the most probable candidates of each prompt, as wide as asked and inside the trie.

    Every step keeps the ``width`` prefixes of highest probability. A catalog with fewer prefixes
    than that leaves places empty; they stay empty and are marked so in the result. Nothing of the
    policy's ``generation_config`` is read.

    Args:
        width: G, the beam width and group size.
        rescore: returns [B, n, F] what to rank children by in place of their log-probability, such
            as its mixture with another model's; a prefix is ranked by the sum along its path. It is
            given some prompts (with ``histories``), [B, n, F] trie states of the children of n
            prefixes, ``dead`` for none, and their log-probabilities. The tree keeps the policy's.

    Returns:
        Trees whose candidates are sorted by descending probability, or by what ranks them.
    """
    return in_chunks(_search, policy, prompts, width, rescore)


def _search(policy: Policy, prompts: Prompts, width: int, rescore: Rescore | None) -> CandidateTree:
    decoder = TreeDecoder(policy, prompts, capacity=width * (policy.trie.num_levels - 1))
    rank = None if rescore is None else partial(rescore, prompts)
    return grow_beam(decoder, policy.trie, width, rank)[0]


def grow_beam(
    decoder: TreeDecoder,
    trie: Trie,
    width: int,
    rank: Callable[[Tensor, Tensor], Tensor] | None = None,
) -> tuple[CandidateTree, list[Level]]:
    """Search with a decoder that has read no node; also return what was expanded, by level."""
    expansion = decoder.roots()
    num_prompts = len(expansion.log_probs)
    scores = expansion.log_probs.new_zeros(num_prompts, 1)
    log_probs = scores.new_zeros(num_prompts, 1, 0)
    states = source = torch.zeros_like(scores, dtype=torch.long)
    levels = [Level(states, -1, expansion)]
    for level in range(trie.num_levels):
        if level:
            # The parent of beam i is node source[i] of the call before.
            first = levels[-1].first
            parents = source + first if level > 1 else torch.full_like(source, -1)
            expansion = decoder.expand(states, parents, level)
            levels.append(Level(states, (level - 1) * width, expansion))
        ranked = expansion.log_probs
        if rank is not None:
            ranked = rank(expansion.states, ranked).masked_fill(ranked == -torch.inf, -torch.inf)
        totals = (ranked + scores.unsqueeze(-1)).flatten(1)
        lack = max(0, width - totals.shape[1])
        scores, index = pad(totals, (0, lack), value=-torch.inf).topk(width, dim=1)
        real = scores > -torch.inf
        index = torch.where(real, index, 0)
        states = torch.where(real, expansion.states.flatten(1).gather(1, index), trie.dead)
        source = index // expansion.states.shape[-1]
        code = expansion.log_probs.flatten(1).gather(1, index).unsqueeze(-1)
        above = log_probs.gather(1, source.unsqueeze(-1).expand(-1, -1, level))
        log_probs = torch.cat([above, code], dim=-1).masked_fill(~real.unsqueeze(-1), 0.0)
    return CandidateTree.build(trie, states, log_probs), levels


def in_chunks(
    search: Callable[..., CandidateTree],
    policy: Policy,
    prompts: Prompts,
    count: int,
    *options: object,
) -> CandidateTree:
    """Call ``search`` for so many prompts at a time as a forward pass may hold, and join trees."""
    sizes = prompts.lengths + count * (policy.trie.num_levels - 1)
    order = list(chunks(sizes, policy.tokens_per_forward))
    trees = [search(policy, prompts.select(rows), count, *options) for rows in order]
    return CandidateTree.join(trees, torch.cat(order))


def chunks(sizes: Tensor, most: int) -> Iterator[Tensor]:
    """Cut prompts into groups of similar size, so that grids hold little padding.

    Args:
        sizes: [B] tokens of each prompt and its nodes.
        most: the most tokens that a group may hold; a single prompt may exceed it.

    Yields:
        Places of prompts, each once, the longest first.
    """
    order = sizes.argsort(descending=True, stable=True)
    start = 0
    while start < len(order):
        rows = max(1, most // int(sizes[order[start]]))
        yield order[start : start + rows]
        start += rows
