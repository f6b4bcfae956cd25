"""Is a packed tree really the same as repeated prompts? Asked of every backbone at loading."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AttentionInterface

from genrec_bench.policy.attention import NAME as TREE_ATTENTION
from genrec_bench.policy.attention import tree_attention
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.scoring import score
from genrec_bench.policy.tree import CandidateTree

WATCHED = TREE_ATTENTION + "_watched"


def repeated_log_probs(policy: Policy, prompts: Prompts, leaves: Tensor) -> Tensor:
    """Score candidates the plain way: a sequence of its own for each, under eager attention.

    Args:
        policy: its backbone is run by its own forward method, output head included.
        leaves: [B, G] leaf states, all real.

    Returns:
        [B, G, L], differentiable if gradients are on.
    """
    trie = policy.trie
    states = trie.prefixes(leaves)
    tokens = policy.tokens_of(states)
    before = torch.cat([torch.zeros_like(states[..., :1]), states[..., :-1]], dim=-1)
    rows = []
    policy.backbone.set_attn_implementation("eager")
    try:
        for index in range(len(prompts)):
            prompt = prompts.tokens[index][prompts.mask[index]]
            repeated = prompt.expand(leaves.shape[1], -1)
            sequences = torch.cat([repeated, tokens[index]], dim=1)
            with policy.passes():
                logits = policy.backbone(input_ids=sequences, use_cache=False).logits
            logits = logits[:, len(prompt) - 1 : -1].float()
            normalizer = policy.log_normalizer(logits.flatten(0, 1), before[index].flatten())
            wanted = logits.gather(2, tokens[index].unsqueeze(-1)).squeeze(-1)
            rows.append(wanted - normalizer.view(wanted.shape))
    finally:
        policy.backbone.set_attn_implementation(TREE_ATTENTION)
    return torch.stack(rows)


@torch.no_grad()
def compare_with_repeated(policy: Policy, longest: int) -> tuple[float, int]:
    """Compare a packed tree with repeated prompts, on two made-up prompts of unequal length.

    Args:
        policy: left in eval mode.
        longest: how many tokens the longer prompt gets. What depends on length (a window, scaled
            positions) must show at the lengths that will be used.

    Returns:
        The largest difference between log-probabilities, and how many layers did their attention
        over the tree, and not in a way of their own.
    """
    trie = policy.trie
    device = policy.device
    policy.eval()
    some_codes = policy.code_tokens.flatten()[:8].cpu().numpy()
    rows = [np.resize(some_codes, longest), np.resize(some_codes[:3], max(1, min(6, longest - 1)))]
    prompts = Prompts.from_rows(rows).to(device)
    last = trie.num_leaves - 1
    sids = torch.tensor([[0, last // 2, last], [last, 0, last // 2]], device=device)
    leaves = trie.leaf(sids)
    blank = torch.zeros(*leaves.shape, trie.num_levels, device=device)
    tree = CandidateTree.build(trie, leaves, blank)

    attending = 0

    def watched(*args: Any, **kwargs: Any) -> tuple[Tensor, None]:
        nonlocal attending
        attending += 1
        return tree_attention(*args, **kwargs)

    AttentionInterface.register(WATCHED, watched)
    policy.backbone.set_attn_implementation(WATCHED)
    try:
        packed = score(policy, prompts, tree).log_probs
    finally:
        policy.backbone.set_attn_implementation(TREE_ATTENTION)
    repeated = repeated_log_probs(policy, prompts, leaves)
    return float((packed - repeated).abs().max()), attending
