"""A small policy, some prompts, and values that are known: what tests of searches share."""

import numpy as np
import torch
from torch import Tensor

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.data.dataset import Catalog
from genrec_bench.decoding.value import Prefixes, Value
from genrec_bench.policy.policy import LogProbSpace, Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.trie import Trie

NUM_PROMPTS = 5


def world(catalog: Catalog, space: LogProbSpace = "full") -> tuple[Policy, Prompts]:
    policy = tiny_policy(catalog, logprob_space=space)
    examples = tiny_examples(catalog, NUM_PROMPTS)
    return policy, policy.prompt_format.encode(examples, np.arange(NUM_PROMPTS))


def turned(prompts: Prompts) -> tuple[Prompts, Tensor]:
    """Return prompts the other way round, padded on the left with a token, and their order."""
    order = torch.arange(len(prompts)).flip(0)
    width = prompts.mask.shape[1]
    place = (torch.arange(width) + prompts.lengths.unsqueeze(1)) % width
    mask = prompts.mask.gather(1, place)
    tokens = prompts.tokens.gather(1, place).masked_fill(~mask, 3)
    return Prompts(tokens, mask).select(order), order


def full_catalog(*codes: int) -> Catalog:
    return tiny_catalog(int(np.prod(codes)), codes)


def oracle(table: Tensor) -> Value:
    """The value of a state under a prompt, from a table [B, num_states]."""

    def value(prefixes: Prefixes) -> Tensor:
        return table[prefixes.rows, prefixes.states]

    return value


def constant(prefixes: Prefixes) -> Tensor:
    return torch.zeros(len(prefixes.states))


def random_table(trie: Trie, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(NUM_PROMPTS, trie.num_states, generator=generator)
