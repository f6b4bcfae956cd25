"""What ``bench`` measures: rollout and update as we do them, and as they are usually done.

``Ours`` does what a run does in a step. ``Rival`` takes its candidates from ``generate`` of
transformers under a prefix constraint, which runs every prompt once for each beam, and repeats
every prompt once for each candidate in the update. It gets what makes that fast without changing
the method: torch's fused attention, a cache of keys, logits of the codes' positions only, and as
many prompts or sequences at a time as suit the machine.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from transformers import GenerationConfig, Qwen3Config, Qwen3ForCausalLM

from genrec_bench.data.dataset import Catalog, Examples
from genrec_bench.decoding.beam import beam_search, chunks
from genrec_bench.decoding.value import ValueHead
from genrec_bench.decoding.ved import Search, ved
from genrec_bench.decoding.ved_options import VEDOptions
from genrec_bench.policy.policy import Policy, WorkCount
from genrec_bench.policy.prompts import CompactPrompt, Prompts
from genrec_bench.policy.scoring import score
from genrec_bench.policy.tree import CandidateTree


def random_policy(shape: Mapping[str, Any], catalog: Catalog, device: torch.device) -> Policy:
    """Draw a policy from scratch of a shape such as ``backbones.TINY``."""
    prompt_format = CompactPrompt(catalog)
    config = Qwen3Config(vocab_size=prompt_format.vocabulary_size, **shape)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        backbone = Qwen3ForCausalLM(config)
    policy = Policy(
        backbone,
        prompt_format,
        catalog,
        tokens_per_forward=4096 if device.type == "cpu" else 131072,
    )
    return policy.to_device(device)


class Ours:
    """Rollout and update of one policy of random weights in eval mode, as a run does them.

    Attributes:
        prompts: B of them.
        tree: what a rollout found.
        advantages: [B, G] drawn at random.
    """

    def __init__(self, policy: Policy, examples: Examples, group_size: int) -> None:
        """Let a policy roll out once.

        Args:
            examples: their histories are the prompts.
            group_size: G.
        """
        self.policy = policy.eval()
        device = policy.device
        prompts = policy.prompt_format.encode(examples, np.arange(len(examples)))
        self.prompts = prompts.to(device)
        self._group_size = group_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            width = cast(nn.Linear, policy.backbone.get_output_embeddings()).weight.shape[1]
            self._head = ValueHead(width)
            # A head starts with all values 0; a trained one tells prefixes apart.
            torch.nn.init.normal_(self._head.value.weight)
        self._head.to(device).eval()
        self.tree = self.rollout()
        generator = torch.Generator().manual_seed(0)
        self.advantages = torch.randn(self.tree.valid.shape, generator=generator).to(device)

    def rollout(self, scale: int = 1) -> CandidateTree:
        """Find candidates by beam search, ``scale`` times as many as the group has."""
        return beam_search(self.policy, self.prompts, scale * self._group_size)

    def search(self, scale: int, traversals_per_round: int) -> Search:
        """Find candidates by VED, at the token budget of ``rollout`` of the same scale."""
        options = VEDOptions(token_budget=scale, traversals_per_round=traversals_per_round)
        return ved(self.policy, self.prompts, self._group_size, self._head, options, key=0)

    def update(self) -> None:
        """Leave the gradients of the policy-gradient loss in the policy."""
        tree = self.tree
        read = tree.is_node & (tree.levels < tree.trie.num_levels)
        sizes = self.prompts.lengths + read.sum(dim=1)
        self.policy.zero_grad()
        for rows in chunks(sizes, self.policy.tokens_per_forward):
            scores = score(self.policy, self.prompts.select(rows), tree.select(rows))
            log_probs = scores.log_probs.sum(dim=-1)
            loss = -(self.advantages[rows] * log_probs).sum() / len(self.prompts)
            loss.backward()

    def codes(self) -> Tensor:
        """Return [B, G, L] tokens of the candidates."""
        return self.policy.tokens_of(self.policy.trie.prefixes(self.tree.leaves))

    def flops(self, work: Callable[[], object]) -> float:
        """Do some work of this policy, and return its FLOPs as the ledger counts them."""
        self.policy.meter = count = WorkCount()
        work()
        self.policy.meter = None
        return count.flops


class Rival:
    """A model with a policy's weights that works transformers' way.

    ``generate`` normalises over the whole vocabulary before it masks; so does the policy then.
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
        # A model of its own, as transformers makes it, whatever the policy does to its backbone.
        config, device = copy.deepcopy(policy.backbone.config), policy.device
        devices = [device] if device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), device:
            self.model = type(policy.backbone)(config)
        self._passes = policy.passes
        self.model.load_state_dict(policy.backbone.state_dict())
        torch.nn.Module.to(self.model, policy.device).eval()
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
        """Return [B, G, L] tokens of candidates, found by calls of ``generate``."""
        length = self._prompts.shape[1]

        def allowed(_: int, sequence: Tensor) -> list[int]:
            return self._allowed[tuple(sequence[length:].tolist())]

        with self._passes():
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
            sequences_per_forward: how many pairs of prompt and candidate a forward pass is given.
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
            with self._passes():
                logits = self.model(
                    input_ids=part[:, :-1], use_cache=False, logits_to_keep=num_levels
                ).logits.float()
            wanted = logits.gather(2, part[:, -num_levels:].unsqueeze(-1)).squeeze(-1)
            log_probs = (wanted - logits.logsumexp(dim=-1)).sum(dim=1)
            (-(weights * log_probs).sum() / num_prompts).backward()


def _allowed_tokens(sids: Tensor) -> dict[tuple[int, ...], list[int]]:
    """Return the tokens that may follow each prefix of these SIDs, [num_sids, L] tokens."""
    allowed: dict[tuple[int, ...], set[int]] = defaultdict(set)
    for sid in sids.tolist():
        for level, token in enumerate(sid):
            allowed[tuple(sid[:level])].add(token)
    return {prefix: sorted(tokens) for prefix, tokens in allowed.items()}
