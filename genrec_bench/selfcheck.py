"""Is a packed tree really the same as repeated prompts? Asked of every backbone at loading."""

from __future__ import annotations

import torch
from torch import Tensor

from genrec_bench.attention import NAME as TREE_ATTENTION
from genrec_bench.policy import Policy
from genrec_bench.prompts import Prompts
from genrec_bench.scoring import score
from genrec_bench.tree import CandidateTree


def repeated_log_probs(policy: Policy, prompts: Prompts, leaves: Tensor) -> Tensor:
    """Score candidates the plain way: a sequence of its own for each, under eager attention.

    Args:
        policy: its backbone is run by its own forward method, output head included.
        prompts: B of them.
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
            logits = policy.backbone(input_ids=sequences, use_cache=False).logits
            logits = logits[:, len(prompt) - 1 : -1].float()
            normalizer = policy.log_normalizer(logits.flatten(0, 1), before[index].flatten())
            wanted = logits.gather(2, tokens[index].unsqueeze(-1)).squeeze(-1)
            rows.append(wanted - normalizer.view(wanted.shape))
    finally:
        policy.backbone.set_attn_implementation(TREE_ATTENTION)
    return torch.stack(rows)


@torch.no_grad()
def largest_difference(policy: Policy) -> float:
    """Compare both ways on two made-up prompts of unequal length; return the largest difference."""
    trie = policy.trie
    device = policy.device
    policy.eval()
    some_codes = policy.code_tokens.flatten()[:8].tolist()
    rows = [some_codes[:3] * 2, some_codes]
    prompts = Prompts.from_rows([torch.tensor(row).numpy() for row in rows]).to(device)
    last = trie.num_leaves - 1
    sids = torch.tensor([[0, last // 2, last], [last, 0, last // 2]], device=device)
    leaves = trie.leaf(sids)
    blank = torch.zeros(*leaves.shape, trie.num_levels, device=device)
    tree = CandidateTree.build(trie, leaves, blank)
    packed = score(policy, prompts, tree).log_probs
    return float((packed - repeated_log_probs(policy, prompts, leaves)).abs().max())
