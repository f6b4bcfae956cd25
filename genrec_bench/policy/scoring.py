"""Log-probabilities of whole candidate trees in one forward pass; see ``supervised.py`` for SFT's.

A tree is packed as one sequence a prompt: the prompt's tokens, then each distinct prefix once. The
code of a node is predicted at its parent, so leaves need not be read, unless something is asked of
the finished candidate (UGR's confidence, a value at the last level).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from genrec_bench.policy.attention import Layout
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.tree import CandidateTree


@dataclass(frozen=True, eq=False)
class Scores:
    """What one forward pass over packed trees says; differentiable if gradients are on.

    Attributes:
        policy: that was run.
        prompts: B of them.
        tree: that was scored.
        node_log_probs: [B, N] log-probability of each node's code given its prefix, at the
            temperature that was asked for; 0 for padding.
        log_probs: [B, G, L] the same along each candidate's path.
        root_hidden: [B, D] hidden state at the end of each prompt.
        node_hidden: [B, M, D] hidden states of the nodes that were read: the first M of each tree,
            which are those above the leaves, or all nodes if leaves were asked for.
        target_log_probs: [B, L] log-probability of each code on the path to a target, if targets
            were given; they joined the packed tree beside the candidates.
        target_hidden: [B, L - 1, D] hidden states at the codes of that path but the last, or
            [B, L, D] if leaves were asked for.
    """

    policy: Policy
    prompts: Prompts
    tree: CandidateTree
    node_log_probs: Tensor
    log_probs: Tensor
    root_hidden: Tensor
    node_hidden: Tensor
    target_log_probs: Tensor | None = None
    target_hidden: Tensor | None = None

    def leaf_logits(self, tokens: list[int]) -> Tensor:
        """Return logits of k tokens after each finished candidate.

        Returns:
            [B, G, k]; what stands at candidates that are not real means nothing.

        Raises:
            ValueError: if the tree was scored without its leaves.
        """
        leaves = self.tree.paths[..., -1]
        if self.node_hidden.shape[1] < self.tree.states.shape[1]:
            raise ValueError("the tree was scored without its leaves")
        rows = leaves.unsqueeze(-1).expand(-1, -1, self.node_hidden.shape[-1])
        return self.policy.token_logits(self.node_hidden.gather(1, rows), tokens)


def score(
    policy: Policy,
    prompts: Prompts,
    tree: CandidateTree,
    *,
    leaves: bool = False,
    temperature: float = 1.0,
    targets: Tensor | None = None,
) -> Scores:
    """Score every node of the packed trees of B prompts.

    Args:
        leaves: whether hidden states are read at finished candidates too.
        temperature: divides the logits before they are normalised over ``logprob_space``.
        targets: [B] leaf states whose paths join the trees, without being candidates: prefixes that
            a tree has already cost nothing, each other one a token.
    """
    if targets is not None:
        return _with_targets(policy, prompts, tree, leaves, temperature, targets)
    trie = tree.trie
    lengths = prompts.lengths
    read = tree.is_node if leaves else tree.is_node & (tree.levels < trie.num_levels)
    num_read = read.sum(dim=1)
    most_read = int(num_read.max())
    read = read[:, :most_read]
    num_prompts, total = len(lengths), int((lengths + num_read).max())
    device = lengths.device

    # Where a flat token goes: the prompt fills the first places of its row, its nodes the next.
    place = torch.arange(total, device=device)
    is_prompt = place < lengths.unsqueeze(1)
    is_real = place < (lengths + num_read).unsqueeze(1)
    node_at = (place - lengths.unsqueeze(1)).clamp(0, max(most_read - 1, 0))
    tokens = torch.zeros(num_prompts, total, dtype=torch.long, device=device)
    tokens[is_prompt] = prompts.tokens[prompts.mask]
    positions = place.expand(num_prompts, total)
    if most_read:
        states_read = tree.states[:, :most_read]
        tokens[is_real & ~is_prompt] = policy.tokens_of(states_read[read])
        depth = trie.level[states_read].gather(1, node_at)
        positions = torch.where(is_prompt, positions, lengths.unsqueeze(1) + depth - 1)
    layout = Layout(
        slots=is_real.flatten().nonzero()[:, 0],
        grid=(num_prompts, total),
        mask=_mask(tree.parents[:, :most_read], is_prompt, is_real & ~is_prompt, node_at),
        pairs=int(((lengths + num_read) ** 2).sum()),
    )
    inner = tree.is_node & (tree.levels < trie.num_levels)
    num_inner = inner.sum(dim=1)
    head_rows = int(num_inner.sum()) + num_prompts
    hidden = policy.hidden(tokens[is_real], positions[is_real], layout, head_rows)

    # Flat rows of each prompt's last token and of each node that was read.
    start = (lengths + num_read).cumsum(dim=0) - num_read
    root_row = start - 1
    column = torch.arange(most_read, device=device)
    node_row = (start.unsqueeze(1) + column).clamp(max=len(hidden) - 1)
    has_children = inner[:, :most_read]
    predicting = torch.cat([root_row, node_row[has_children]])
    prefix = torch.cat([torch.zeros_like(root_row), tree.states[:, :most_read][has_children]])
    logits, normalizer = policy.code_logits(hidden[predicting], prefix, temperature)

    # The row of logits that predicts each node: its parent's.
    row_of_inner = torch.zeros(num_prompts, most_read + 1, dtype=torch.long, device=device)
    row_of_inner[:, 0] = torch.arange(num_prompts, device=device)
    row_of_inner[:, 1:][has_children] = num_prompts + torch.arange(
        len(predicting) - num_prompts, device=device
    )
    parent_row = row_of_inner.gather(1, (tree.parents + 1).clamp(max=most_read))
    node_logits = logits[parent_row, trie.code[tree.states]]
    node_log_probs = (node_logits - normalizer[parent_row]).masked_fill(~tree.is_node, 0.0)
    log_probs = tree.on_paths(node_log_probs)
    return Scores(
        policy, prompts, tree, node_log_probs, log_probs, hidden[root_row], hidden[node_row]
    )


def _with_targets(
    policy: Policy,
    prompts: Prompts,
    tree: CandidateTree,
    leaves: bool,
    temperature: float,
    targets: Tensor,
) -> Scores:
    """Score trees to which the paths of targets are added, and take the two apart again."""
    states, parents, places, path = tree.with_paths(targets)
    # Nobody reads the larger tree's candidates: they have one place, which is the target's.
    whole = CandidateTree(
        trie=tree.trie,
        states=states,
        parents=parents,
        paths=path.unsqueeze(1),
        valid=torch.ones_like(targets, dtype=torch.bool).unsqueeze(1),
        log_probs=torch.zeros_like(states, dtype=tree.log_probs.dtype),
    )
    found = score(policy, prompts, whole, leaves=leaves, temperature=temperature)
    own = found.node_log_probs.gather(1, places).masked_fill(~tree.is_node, 0.0)
    read = tree.is_node if leaves else tree.is_node & (tree.levels < tree.trie.num_levels)
    row = torch.arange(len(targets), device=states.device).unsqueeze(1)
    last = found.node_hidden.shape[1] - 1
    at = places[:, : int(read.sum(dim=1).max())].clamp(max=last)
    return Scores(
        policy,
        prompts,
        tree,
        own,
        tree.on_paths(own),
        found.root_hidden,
        found.node_hidden[row, at],
        found.node_log_probs.gather(1, path),
        found.node_hidden[row, path if leaves else path[:, :-1]],
    )


def packed_sizes(
    prompts: Prompts, tree: CandidateTree, leaves: bool = False, targets: Tensor | None = None
) -> Tensor:
    """Return [B] how many tokens ``score`` reads of each prompt; with targets at most so many."""
    read = tree.is_node if leaves else tree.is_node & (tree.levels < tree.trie.num_levels)
    most = 0 if targets is None else tree.trie.num_levels
    return prompts.lengths + read.sum(dim=1) + most


def _mask(parents: Tensor, is_prompt: Tensor, is_node: Tensor, node_at: Tensor) -> Tensor:
    """Return [B, S, S] which places each place of a packed sequence attends to."""
    num_prompts, total = is_prompt.shape
    count = parents.shape[1]
    place = torch.arange(total, device=is_prompt.device)
    causal = place <= place.unsqueeze(1)
    itself = place == place.unsqueeze(1)
    mask = torch.where(is_prompt.unsqueeze(2), causal, is_prompt.unsqueeze(1) | itself)
    if count:
        # ancestors[b, i, j]: node j is node i or stands above it.
        ancestors = torch.eye(count, dtype=torch.bool, device=parents.device)
        ancestors = ancestors.expand(num_prompts, count, count)
        above = parents.clamp(min=0).unsqueeze(-1).expand(-1, -1, count)
        has_parent = (parents >= 0).unsqueeze(-1)
        while True:
            grown = ancestors | (ancestors.gather(1, above) & has_parent)
            if torch.equal(grown, ancestors):
                break
            ancestors = grown
        rows = node_at.unsqueeze(-1).expand(-1, -1, count)
        columns = node_at.unsqueeze(1).expand(-1, total, -1)
        seen = ancestors.gather(1, rows).gather(2, columns)
        mask = mask | (seen & is_node.unsqueeze(1) & is_node.unsqueeze(2))
    return mask
