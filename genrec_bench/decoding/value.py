"""Values of prefixes: what is still to come, by the policy's hidden states and by features."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu

from genrec_bench.decoding.value_features import PARTS, Facts, FeatureValue, history_means
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import Scores
from genrec_bench.policy.tree import CandidateTree


@dataclass(frozen=True, eq=False)
class Prefixes:
    """M prefixes, each under its prompt, as a value is asked for them.

    Attributes:
        rows: [M] the prompt of each, as a row of the batch.
        states: [M] trie states; the root for the empty prefix.
        levels: [M] how many codes each has, 0 to L.
        code_log_probs: [M] log-probability of the last code given those before; 0 for none.
        log_probs: [M] log-probability of the whole prefix.
        hidden: [M, L + 1, D] last hidden states at the prompt's end and at each code of the prefix;
            what stands behind place ``levels`` means nothing.
    """

    rows: Tensor
    states: Tensor
    levels: Tensor
    code_log_probs: Tensor
    log_probs: Tensor
    hidden: Tensor


Value = Callable[[Prefixes], Tensor]
"""Returns [M] values."""


def value_heads(
    hidden_size: int, embedding_size: int, inputs: Sequence[str]
) -> dict[str, nn.Module]:
    """Return the heads whose values are added up, for some of ``value_features.INPUTS``.

    Without embeddings, an ``embedding_size`` of 0, those inputs are left out that need them.
    """
    heads: dict[str, nn.Module] = {}
    if "hidden" in inputs:
        heads["value"] = ValueHead(hidden_size)
    parts = [part for part in PARTS if part in inputs and (embedding_size or part == PARTS[0])]
    if parts:
        heads["value_features"] = FeatureValue(embedding_size, parts)
    return heads


def value_of(policy: Policy, prompts: Prompts) -> Value:
    """Return the values of prefixes under some prompts by the policy's ``value_heads``.

    Metered as the phase ``value``.
    """
    block, features = _heads_of(policy)
    history = history_means(policy, prompts) if features else None

    def value(prefixes: Prefixes) -> Tensor:
        found = prefixes.log_probs.new_zeros(len(prefixes.rows))
        with policy.metered("value"):
            if block is not None:
                found = found + block(prefixes)
            if features is not None and history is not None:
                facts = Facts(
                    prefixes.rows, prefixes.states, prefixes.code_log_probs, prefixes.log_probs
                )
                found = found + features(policy, history, facts)
        return found

    return value


def tree_values(scores: Scores, *, detach: bool) -> Tensor:
    """Return [B, N] what the policy's ``value_heads`` say of each node; 0 for padding.

    The scores include leaves; with ``detach`` no gradient reaches the backbone.
    """
    policy, tree = scores.policy, scores.tree
    block, features = _heads_of(policy)
    root, nodes, codes = scores.root_hidden, scores.node_hidden, scores.node_log_probs
    if detach:
        root, nodes, codes = root.detach(), nodes.detach(), codes.detach()
    found = torch.zeros_like(codes)
    if block is not None:
        found = found + block.of_tree(tree, root, nodes)
    if features is not None:
        real = tree.is_node
        rows = real.nonzero()[:, 0]
        facts = Facts(rows, tree.states[real], codes[real], tree.path_sums(codes)[real])
        values = features(policy, history_means(policy, scores.prompts), facts)
        found = found + torch.zeros_like(codes).masked_scatter(real, values)
    return found


def _heads_of(policy: Policy) -> tuple[ValueHead | None, FeatureValue | None]:
    heads = dict(policy.heads.items())
    return (
        cast("ValueHead | None", heads.get("value")),
        cast("FeatureValue | None", heads.get("value_features")),
    )


class ValueHead(nn.Module):
    """A value of each prefix: one Transformer block over its hidden states, then an MLP.

    V-STAR, §4.1, which leaves the shape to the reader: here a pre-norm block with causal attention
    and no positions of its own, as the hidden states carry the backbone's.

    Only the value at a prefix's last place is ever asked for. In a single block that place's output
    depends on its own query and on the keys and values of the places up to it, and no other place's
    output is read. One query a prefix therefore gives what the whole causal block would.

    All values are 0 at first: a head that knows nothing prefers nothing.
    """

    def __init__(self, hidden_size: int) -> None:
        """Draw the weights from torch's generator."""
        super().__init__()
        self.num_heads = _num_heads(hidden_size)
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.query = nn.Linear(hidden_size, hidden_size)
        self.key_value = nn.Linear(hidden_size, 2 * hidden_size)
        self.output = nn.Linear(hidden_size, hidden_size)
        self.mlp_norm = nn.LayerNorm(hidden_size)
        self.up = nn.Linear(hidden_size, 2 * hidden_size)
        self.down = nn.Linear(2 * hidden_size, hidden_size)
        self.final_norm = nn.LayerNorm(hidden_size)
        self.regress = nn.Linear(hidden_size, hidden_size)
        self.value = nn.Linear(hidden_size, 1)
        nn.init.zeros_(self.value.weight)
        nn.init.zeros_(self.value.bias)

    def forward(self, prefixes: Prefixes) -> Tensor:
        """Return [M] values, in the number format of the head's weights."""
        places = torch.arange(prefixes.hidden.shape[1], device=prefixes.levels.device)
        seen = places <= prefixes.levels.unsqueeze(1)
        # What stands behind the prefix may be anything, and 0 times infinity is not 0.
        hidden = prefixes.hidden.to(self.query.weight.dtype).masked_fill(~seen.unsqueeze(-1), 0.0)
        normed = self.attention_norm(hidden)
        rows = torch.arange(len(hidden), device=hidden.device)
        last = (rows, prefixes.levels)
        return self._read(hidden[last], normed[last], self.key_value(normed), seen)

    def of_tree(self, tree: CandidateTree, root_hidden: Tensor, node_hidden: Tensor) -> Tensor:
        """Return the value of each node of scored trees; keys are computed once a node.

        Args:
            root_hidden: [B, D] hidden states at the prompts' ends.
            node_hidden: [B, N, D] hidden states of all nodes, leaves included.

        Returns:
            [B, N]; 0 for padding.

        Raises:
            ValueError: if the trees were scored without their leaves.
        """
        real = tree.is_node
        num_prompts = len(real)
        if node_hidden.shape[1] < real.shape[1]:
            raise ValueError("the tree was scored without its leaves")
        # Flat rows: the prompts' ends first, then the real nodes.
        hidden = torch.cat([root_hidden, node_hidden[real]]).to(self.query.weight.dtype)
        row = real.flatten().cumsum(dim=0).view(real.shape) - 1 + num_prompts
        end = torch.arange(num_prompts, device=row.device).unsqueeze(1)
        # above[:, :, i] is the node i codes before; -1 once that is the prompt. Attention without
        # positions does not mind in which order it meets the places.
        above = [torch.arange(real.shape[1], device=row.device).expand_as(row)]
        for _ in range(tree.trie.num_levels):
            over = tree.parents.gather(1, above[-1].clamp(min=0))
            above.append(torch.where(above[-1] < 0, -1, over))
        path = torch.stack(above, dim=-1)
        source = row.gather(1, path.clamp(min=0).flatten(1)).view(path.shape)
        source = torch.where(path < 0, end.unsqueeze(-1), source)[real]
        distance = torch.arange(path.shape[-1], device=row.device)
        seen = distance <= tree.levels[real].unsqueeze(-1)

        normed = self.attention_norm(hidden)
        keys_values = self.key_value(normed).index_select(0, source.flatten())
        keys_values = keys_values.view(*source.shape, -1)
        found = self._read(hidden[num_prompts:], normed[num_prompts:], keys_values, seen)
        return found.new_zeros(real.shape).masked_scatter(real, found)

    def _read(self, last: Tensor, normed: Tensor, keys_values: Tensor, seen: Tensor) -> Tensor:
        """Return [M] values from the last places and the keys and values of the places seen.

        Args:
            last: [M, D] hidden states at each prefix's last place.
            normed: [M, D] the same, normalised.
            keys_values: [M, P, 2 D].
            seen: [M, P] which places belong to the prefix.
        """
        count, num_places = seen.shape
        size = last.shape[-1] // self.num_heads
        shape = (count, num_places, 2, self.num_heads, size)
        keys, values = keys_values.view(shape).permute(2, 0, 3, 1, 4)
        queries = self.query(normed).view(count, self.num_heads, 1, size)
        # Written out, so that the products can be counted.
        logits = torch.matmul(queries, keys.transpose(-1, -2)) / size**0.5
        weights = logits.masked_fill(~seen.view(count, 1, 1, -1), -torch.inf).softmax(dim=-1)
        attended = torch.matmul(weights, values).flatten(1)
        state = last + self.output(attended)
        state = state + self.down(gelu(self.up(self.mlp_norm(state))))
        found: Tensor = self.value(gelu(self.regress(self.final_norm(state))))
        return found.squeeze(-1)


def _num_heads(hidden_size: int) -> int:
    """Return how many attention heads share the hidden states evenly, about 64 wide each."""
    most = max(1, hidden_size // 64)
    return next(count for count in range(most, 0, -1) if hidden_size % count == 0)
