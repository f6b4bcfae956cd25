"""What the policy says of the targets of training sequences, in one forward pass.

An item of a sequence is predicted after those before it, so that one pass over a user's items
serves as many targets as there are; see ``Chains``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from genrec_bench.data.dataset import Examples
from genrec_bench.policy.attention import Layout
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Chains
from genrec_bench.policy.shared_histories import Packed, pack_shared
from genrec_bench.policy.text_prompt import TextPrompt


@dataclass(frozen=True, eq=False)
class TargetScores:
    """What one forward pass over training sequences says of their T targets.

    Attributes:
        policy: that was run.
        targets: [T] leaf states, sequence by sequence, oldest first.
        log_probs: [T, L] log-probability of each code of a target, given those before it.
        logits: [T, L, K] of each level's codes, K the most that a level has, any value beyond
            those there are; in float32.
        log_normalizer: [T, L] what logits lack to be log-probabilities over ``logprob_space``.
        hidden: [T, L, D] hidden states at the places that predicted.
    """

    policy: Policy
    targets: Tensor
    log_probs: Tensor
    logits: Tensor
    log_normalizer: Tensor
    hidden: Tensor

    def children(self) -> tuple[Tensor, Tensor]:
        """Return the codes that the trie allows at each place of a target, and how likely they are.

        Returns:
            [T, L, F] trie states, ``dead`` where there is none, and [T, L, F] log-probabilities
            under ``logprob_space``, -inf for none. The target's own code is among them.
        """
        trie = self.policy.trie
        path = trie.prefixes(self.targets)
        before = torch.cat([torch.zeros_like(path[:, :1]), path[:, :-1]], dim=1)
        states, real = trie.children(before)
        found = self.logits.gather(-1, trie.code[states])
        found = found - self.log_normalizer.unsqueeze(-1)
        return states, found.masked_fill(~real, -torch.inf)


def score_targets(
    policy: Policy, examples: Examples, chains: Chains, rows: NDArray[np.int64]
) -> TargetScores:
    """Score the targets of some chains, by their rows [C]."""
    trie = policy.trie
    num_levels = trie.num_levels
    packed = _packed(policy, examples, chains, rows)
    count = int(chains.num_targets[rows].sum())
    hidden = policy.hidden(
        packed.tokens, packed.positions, packed.layout, head_rows=count * num_levels
    )
    hidden = hidden[packed.predicts]
    states = policy.item_leaves[_targets_of(examples, chains, rows, policy.device)]
    on_path = trie.prefixes(states)
    before = torch.cat([torch.zeros_like(on_path[:, :1]), on_path[:, :-1]], dim=1).flatten()
    logits, normalizer = policy.code_logits(hidden, before)
    found = logits.gather(1, trie.code[on_path].flatten().unsqueeze(1)).squeeze(1)
    shape = (count, num_levels)
    return TargetScores(
        policy,
        states,
        (found - normalizer).view(shape),
        logits.view(*shape, -1),
        normalizer.view(shape),
        hidden.view(*shape, -1),
    )


def _packed(policy: Policy, examples: Examples, chains: Chains, rows: NDArray[np.int64]) -> Packed:
    """Lay chains out: one target after the other, or where prompts close, as branches."""
    prompt_format = policy.prompt_format
    if isinstance(prompt_format, TextPrompt) and chains.num_targets[rows].max() > 1:
        return pack_shared(prompt_format, examples, chains, rows, policy.device)
    trie = policy.trie
    num_levels = trie.num_levels
    device = policy.device
    last = chains.last[rows]
    prompts = policy.prompt_format.encode(examples, last).to(device)
    sid_of_target = torch.from_numpy(examples.targets[last].astype(np.int64)).to(device)
    leaves = policy.item_leaves[sid_of_target]
    target_tokens = policy.tokens_of(trie.prefixes(leaves))
    lengths = prompts.lengths + num_levels - 1
    place = torch.arange(int(lengths.max()), device=device)
    is_prompt = place < prompts.lengths.unsqueeze(1)
    is_real = place < lengths.unsqueeze(1)
    tokens = torch.zeros(is_real.shape, dtype=torch.long, device=device)
    tokens[is_prompt] = prompts.tokens[prompts.mask]
    tokens[is_real & ~is_prompt] = target_tokens[:, :-1].flatten()
    # The codes of a chain's targets are its last ones; each is predicted one place earlier.
    num_targets = torch.from_numpy(chains.num_targets[rows]).to(device)
    predicts = is_real & (place >= (lengths - num_targets * num_levels).unsqueeze(1))
    layout = Layout(
        slots=is_real.flatten().nonzero()[:, 0],
        grid=(len(rows), len(place)),
        mask=(place <= place.unsqueeze(1)).expand(len(rows), -1, -1),
        pairs=int((lengths**2).sum()),
    )
    positions = place.expand(is_real.shape)[is_real]
    return Packed(tokens[is_real], positions, layout, predicts[is_real])


def _targets_of(
    examples: Examples, chains: Chains, rows: NDArray[np.int64], device: torch.device
) -> Tensor:
    """Return the items that chains end with, chain by chain, oldest first."""
    items = []
    for row in rows:
        last, count = int(chains.last[row]), int(chains.num_targets[row])
        sequence = np.append(examples.history(last), examples.targets[last])
        items.append(sequence[-count:])
    return torch.from_numpy(np.concatenate(items).astype(np.int64)).to(device)
