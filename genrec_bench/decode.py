"""How a candidate tree grows under a prompt: one prefill, then only new nodes.

``TreeDecoder.expand`` is the one operation that every way of decoding calls: it runs the policy
over some nodes, each seeing its prompt and its ancestors in the key-value store, and returns the
log-probabilities of their children. Beam search is the first user of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.attention import KeyValueStore, Layout
from genrec_bench.policy import Policy
from genrec_bench.prompts import Prompts
from genrec_bench.tree import CandidateTree


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


class TreeDecoder:
    """Grows the trees of B prompts, one call for all of them at a time."""

    def __init__(self, policy: Policy, prompts: Prompts, capacity: int) -> None:
        """Run the prompts through the policy.

        Args:
            policy: on the device of the prompts; runs without gradients.
            prompts: B of them.
            capacity: how many nodes a prompt will be expanded at most; their keys are kept.
        """
        self._policy = policy
        self._trie = policy.trie
        mask = prompts.mask
        num_prompts, width = mask.shape
        self._lengths = prompts.lengths
        device = mask.device
        self._store = KeyValueStore(width + capacity)
        index = torch.arange(width, device=device)
        # Tokens are laid out from the left whatever side the padding was on.
        real = index < self._lengths.unsqueeze(1)
        causal = (index <= index.unsqueeze(1)).expand(num_prompts, width, width)
        positions = real.nonzero()[:, 1]
        layout = Layout(
            slots=real.flatten().nonzero()[:, 0],
            grid=(num_prompts, width),
            mask=causal,
            pairs=int((self._lengths**2).sum()),
            store=self._store,
        )
        hidden = policy.hidden(prompts.tokens[mask], positions, layout, head_rows=num_prompts)
        self._store.used = width
        last = self._lengths.cumsum(dim=0) - 1
        self._root_hidden = hidden[last]
        self._prompt_keys = real
        self._seen = torch.zeros(num_prompts, 0, 0, dtype=torch.bool, device=device)
        self._num_expanded = torch.zeros(num_prompts, dtype=torch.long, device=device)

    def roots(self) -> Expansion:
        """Return the first codes after each prompt, n = 1."""
        states = torch.zeros(len(self._lengths), 1, dtype=torch.long, device=self._lengths.device)
        return self._children(states, self._root_hidden, width=self._trie.fan_out[0])

    def expand(self, states: Tensor, parents: Tensor, level: int | None = None) -> Expansion:
        """Run the policy over new nodes and return their children.

        Args:
            states: [B, n] trie states of the nodes, not leaves; ``dead`` costs nothing.
            parents: [B, n] the place of each node's parent among the nodes expanded so far, in
                the order of all calls; -1 for nodes of level 1.
            level: the level of all these nodes, if they share one: children are then looked up
                no wider than that level needs.

        Raises:
            ValueError: if more nodes are expanded than there is capacity for.
        """
        num_prompts, count = states.shape
        before = self._seen.shape[1]
        if self._store.used + count > self._store.capacity:
            raise ValueError(f"no capacity for {count} more nodes after {before}")
        real = states != self._trie.dead
        ancestors = torch.zeros(
            num_prompts, count, before + count, dtype=torch.bool, device=states.device
        )
        if before:
            rows = parents.clamp(min=0).unsqueeze(-1).expand(-1, -1, before)
            ancestors[..., :before] = self._seen.gather(1, rows) & (parents >= 0).unsqueeze(-1)
        ancestors[..., before:] = torch.eye(count, dtype=torch.bool, device=states.device)
        padded = torch.zeros(
            num_prompts, before + count, before + count, dtype=torch.bool, device=states.device
        )
        padded[:, :before, :before] = self._seen
        padded[:, before:] = ancestors
        self._seen = padded

        keys = self._prompt_keys.unsqueeze(1).expand(-1, count, -1)
        new_nodes = real.sum(dim=1)
        self._num_expanded += new_nodes
        layout = Layout(
            slots=real.flatten().nonzero()[:, 0],
            grid=(num_prompts, count),
            mask=torch.cat([keys, ancestors], dim=-1),
            pairs=int((new_nodes * (self._lengths + self._num_expanded)).sum()),
            store=self._store,
        )
        positions = (self._lengths.unsqueeze(1) + self._trie.level[states] - 1)[real]
        tokens = self._policy.tokens_of(states[real])
        hidden = self._policy.hidden(tokens, positions, layout, head_rows=layout.num_tokens)
        self._store.used += count
        width = max(self._trie.fan_out) if level is None else self._trie.fan_out[level]
        return self._children(states, hidden, width)

    def _children(self, states: Tensor, hidden: Tensor, width: int) -> Expansion:
        children, is_child = self._trie.children(states, width)
        real = states != self._trie.dead
        real_states, real_children = states[real], children[real]
        logits = self._policy.logits(hidden)
        normalizer = self._policy.log_normalizer(logits, real_states)
        found = logits.gather(1, self._policy.tokens_of(real_children)) - normalizer.unsqueeze(1)
        log_probs = torch.full(children.shape, -torch.inf, device=states.device)
        log_probs[real] = found
        of_node = hidden.new_zeros(*states.shape, hidden.shape[-1])
        of_node[real] = hidden
        return Expansion(children, log_probs.masked_fill(~is_child, -torch.inf), of_node)


@torch.no_grad()
def beam_search(policy: Policy, prompts: Prompts, width: int) -> CandidateTree:
    """Find the most probable candidates of each prompt, as wide as asked and inside the trie.

    Every step keeps the ``width`` prefixes of highest probability. A catalog with fewer prefixes
    than that leaves places empty; they stay empty and are marked so in the result.

    Args:
        policy: runs as it is, without gradients; nothing of its ``generation_config`` is read.
        prompts: B of them.
        width: G, the beam width and group size.

    Returns:
        Trees whose candidates are sorted by descending probability.
    """
    trees = []
    order = []
    for rows in chunks(
        prompts.lengths + width * (policy.trie.num_levels - 1), policy.tokens_per_forward
    ):
        trees.append(_search(policy, prompts.select(rows), width))
        order.append(rows)
    return CandidateTree.join(trees, torch.cat(order))


def _search(policy: Policy, prompts: Prompts, width: int) -> CandidateTree:
    trie = policy.trie
    decoder = TreeDecoder(policy, prompts, capacity=width * (trie.num_levels - 1))
    expansion = decoder.roots()
    states, scores, log_probs, source = _best(expansion, None, None, width, trie.dead)
    for level in range(1, trie.num_levels):
        # The parent of beam i is expansion source[i] of the call before, which began at this place.
        parents = source + (level - 2) * width if level > 1 else torch.full_like(source, -1)
        expansion = decoder.expand(states, parents, level)
        states, scores, log_probs, source = _best(expansion, scores, log_probs, width, trie.dead)
    return CandidateTree.build(trie, states, log_probs)


def _best(
    expansion: Expansion, scores: Tensor | None, log_probs: Tensor | None, width: int, dead: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Keep the best ``width`` children: their states, scores, log-probabilities and parents."""
    num_prompts, count, fan_out = expansion.states.shape
    totals = expansion.log_probs
    if scores is not None:
        totals = totals + scores.unsqueeze(-1)
    flat = totals.flatten(1)
    if flat.shape[1] < width:
        flat = torch.nn.functional.pad(flat, (0, width - flat.shape[1]), value=-torch.inf)
    best, index = flat.topk(width, dim=1)
    real = best > -torch.inf
    index = torch.where(real, index, 0)
    states = torch.where(real, expansion.states.flatten(1).gather(1, index), dead)
    source = index // fan_out
    own = expansion.log_probs.flatten(1).gather(1, index).unsqueeze(-1)
    if log_probs is not None:
        rows = source.unsqueeze(-1).expand(-1, -1, log_probs.shape[-1])
        own = torch.cat([log_probs.gather(1, rows), own], dim=-1)
    return states, best, own.masked_fill(~real.unsqueeze(-1), 0.0), source


def chunks(sizes: Tensor, most: int) -> Iterator[Tensor]:
    """Cut prompts into groups of similar size, so that grids hold little padding.

    Args:
        sizes: [B] tokens of each prompt and its nodes.
        most: the most tokens that a group may hold; a single prompt may exceed it.

    Yields:
        Indices of prompts, each once, longest groups first.
    """
    order = sizes.argsort(descending=True, stable=True)
    start = 0
    while start < len(order):
        rows = max(1, most // int(sizes[order[start]]))
        yield order[start : start + rows]
        start += rows
