"""Rollout and update as they are usually done: what ``bench`` measures ours against.

Candidates come from transformers' ``generate`` under a prefix constraint, which runs every prompt
once for each beam. The update repeats every prompt once for each candidate. Both get what makes
them fast without changing the method: torch's fused attention, a cache of keys, logits of the codes'
positions only, and as many prompts or sequences at a time as suit the machine.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import cast

import torch
from torch import Tensor
from transformers import GenerationConfig

from genrec_bench.policy import Policy
from genrec_bench.prompts import Prompts


class Rival:
    """A copy of a policy's backbone that works transformers' way.

    Log-probabilities are normalised over the whole vocabulary, as ``generate`` does before it masks.
    """

    def __init__(self, policy: Policy, prompts: Prompts, group_size: int) -> None:
        """Copy the weights of a policy.

        Args:
            policy: of log-probability space ``full``.
            prompts: B of them, of equal length.
            group_size: G.

        Raises:
            ValueError: if prompts are padded, or the policy normalises differently.
        """
        if not bool(prompts.mask.all()):
            raise ValueError("prompts must be of equal length")
        if policy.logprob_space != "full":
            raise ValueError("generate normalises over the whole vocabulary")
        self.model = copy.deepcopy(policy.backbone)
        self.model.set_attn_implementation("sdpa")
        self._prompts = prompts.tokens
        self._group_size = group_size
        leaves = policy.trie.first_of_level[-1] + torch.arange(policy.trie.num_leaves)
        sids = policy.tokens_of(policy.trie.prefixes(leaves.to(policy.device)))
        self._allowed = _allowed_tokens(sids)
        # Whatever a pretrained model's own file says, nothing but this is in force.
        self.model.generation_config = GenerationConfig(
            max_new_tokens=policy.trie.num_levels,
            num_beams=group_size,
            num_return_sequences=group_size,
            do_sample=False,
            early_stopping=True,
            length_penalty=0.0,
            renormalize_logits=False,
            repetition_penalty=1.0,
            no_repeat_ngram_size=0,
            use_cache=True,
            return_dict_in_generate=False,
            pad_token_id=0,
            bos_token_id=None,
            eos_token_id=None,
        )

    @torch.no_grad()
    def rollout(self, prompts_per_call: int) -> Tensor:
        """Find candidates by ``generate``.

        Args:
            prompts_per_call: how many prompts one call of ``generate`` is given.

        Returns:
            [B, G, L] tokens.
        """
        length = self._prompts.shape[1]

        def allowed(_: int, sequence: Tensor) -> list[int]:
            return self._allowed[tuple(sequence[length:].tolist())]

        found = [
            self.model.generate(  # type: ignore[operator]
                part, attention_mask=torch.ones_like(part), prefix_allowed_tokens_fn=allowed
            )
            for part in self._prompts.split(prompts_per_call)
        ]
        return cast(Tensor, torch.cat(found)[:, length:].unflatten(0, (-1, self._group_size)))

    def update(self, codes: Tensor, advantages: Tensor, sequences_per_forward: int) -> None:
        """Leave the gradients of the policy-gradient loss in the model.

        Args:
            codes: [B, G, L] tokens of the candidates.
            advantages: [B, G].
            sequences_per_forward: how many (prompt, candidate) pairs one forward pass is given.
        """
        num_prompts, group_size, num_levels = codes.shape
        repeated = self._prompts.repeat_interleave(group_size, dim=0)
        sequences = torch.cat([repeated, codes.flatten(0, 1)], dim=1)
        parts = zip(
            sequences.split(sequences_per_forward),
            advantages.flatten().split(sequences_per_forward),
            strict=True,
        )
        self.model.zero_grad()
        for part, weights in parts:
            # The last code is predicted, and nothing is predicted from it.
            logits = self.model(
                input_ids=part[:, :-1], use_cache=False, logits_to_keep=num_levels
            ).logits
            wanted = logits.gather(2, part[:, -num_levels:].unsqueeze(-1)).squeeze(-1)
            log_probs = (wanted - logits.logsumexp(dim=-1)).sum(dim=1)
            (-(weights * log_probs).sum() / num_prompts).backward()


def _allowed_tokens(sids: Tensor) -> dict[tuple[int, ...], list[int]]:
    """Return the tokens that may follow each prefix.

    Args:
        sids: [num_sids, L] tokens.
    """
    allowed: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for sid in sids.tolist():
        for level, token in enumerate(sid):
            allowed[tuple(sid[:level])].add(token)
    return {prefix: sorted(tokens) for prefix, tokens in allowed.items()}
