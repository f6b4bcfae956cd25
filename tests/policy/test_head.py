"""The head in pieces gives what the whole head gives, and holds less."""

import itertools
from typing import Any, cast

import numpy as np
import pytest
import torch
from memory_peak import PEAK_IS_KEPT, peak_of
from torch import Tensor
from transformers import Qwen3Config, Qwen3ForCausalLM

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.data.dataset import Catalog
from genrec_bench.decoding.beam import beam_search
from genrec_bench.policy import head
from genrec_bench.policy.backbones import TINY
from genrec_bench.policy.policy import LOGPROB_SPACES, LogProbSpace, Policy
from genrec_bench.policy.precision import Precision
from genrec_bench.policy.prompts import CompactPrompt, Prompts
from genrec_bench.policy.scoring import score
from genrec_bench.policy.supervised import score_targets
from genrec_bench.policy.tree import CandidateTree

CATALOG = tiny_catalog()
EXAMPLES = tiny_examples(CATALOG)
ROWS = np.arange(len(EXAMPLES))


def made(space: str, scaled: bool, precision: Precision) -> Policy:
    policy = tiny_policy(CATALOG, logprob_space=cast(LogProbSpace, space))
    policy.precision = precision
    if scaled:
        policy.backbone.config.logit_scale = 0.7
        policy.backbone.config.final_logit_softcapping = 5.0
        output: Any = policy.backbone.get_output_embeddings()
        generator = torch.Generator().manual_seed(0)
        output.bias = torch.nn.Parameter(torch.randn(len(output.weight), generator=generator))
    return policy


def read(policy: Policy, temperature: float) -> tuple[Tensor, Tensor]:
    """What a tree and the targets read, and all gradients."""
    prompts = policy.prompt_format.encode(EXAMPLES, ROWS)
    tree = beam_search(policy, prompts, 6)
    log_probs = score(policy, prompts, tree, temperature=temperature).log_probs
    chains = policy.prompt_format.chains(EXAMPLES)
    loss = -score_targets(policy, EXAMPLES, chains, ROWS).log_probs.sum()
    (log_probs.square().sum() + loss).backward()
    grads = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return torch.cat([log_probs.detach().flatten(), loss.detach().view(1)]), torch.cat(grads)


@pytest.mark.parametrize("space", LOGPROB_SPACES)
@pytest.mark.parametrize(("scaled", "temperature"), [(False, 1.0), (True, 0.5)])
@pytest.mark.parametrize("precision", ["fp32", "bf16-mixed"])
def test_pieces_give_what_the_whole_gives(
    monkeypatch: pytest.MonkeyPatch,
    space: str,
    scaled: bool,
    temperature: float,
    precision: Precision,
) -> None:
    found = []
    for piece in (2**24, 50):
        monkeypatch.setattr(head, "PIECE_ON_CPU", piece)
        found.append(read(made(space, scaled, precision), temperature))
    (whole, whole_grads), (parts, parts_grads) = found
    torch.testing.assert_close(parts, whole, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(parts_grads, whole_grads, rtol=1e-3, atol=1e-3)
    cosine = torch.nn.functional.cosine_similarity(parts_grads, whole_grads, dim=0)
    assert float(cosine) >= 0.99999


def test_frozen_heads_get_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head, "PIECE_ON_CPU", 50)
    policy = made("full", True, "fp32")
    head_module: Any = policy.backbone.get_output_embeddings()
    head_module.requires_grad_(False)
    read(policy, 1.0)
    assert all(p.grad is None for p in head_module.parameters())
    layers = [p for name, p in policy.named_parameters() if ".layers." in name]
    assert layers and all(p.grad is not None for p in layers)


PREDICTED, VOCABULARY, LIMIT = 4096, 151_936, 1.5e9


def wide_world() -> tuple[Policy, Prompts, CandidateTree, int]:
    """The shape of `tiny` with a language model's vocabulary, and trees of many rows to predict."""
    codes = list(itertools.islice(itertools.product(range(64), range(4), range(4)), 1024))
    sids = np.array(codes, dtype=np.int32)
    names = tuple(f"item {row}" for row in range(len(sids)))
    blank, counts = ("",) * len(sids), np.zeros(len(sids), dtype=np.int64)
    catalog = Catalog(sids, (64, 4, 4), names, blank, counts, "popularity")
    prompt_format = CompactPrompt(catalog)
    torch.manual_seed(0)
    backbone = Qwen3ForCausalLM(Qwen3Config(vocab_size=VOCABULARY, **TINY))
    policy = Policy(backbone, prompt_format, catalog).eval()
    # Sixteen first codes, and below each a second one: 33 rows a prompt.
    count = -(-PREDICTED // 33)
    leaves = policy.trie.leaf(torch.arange(0, 1024, 64).expand(count, -1))
    tree = CandidateTree.build(policy.trie, leaves, torch.zeros(count, 16, 3))
    inner = tree.is_node & (tree.levels < policy.trie.num_levels)
    examples = tiny_examples(catalog, count)
    prompts = policy.prompt_format.encode(examples, np.arange(count))
    return policy, prompts, tree, count + int(inner.sum())


@PEAK_IS_KEPT
def test_an_update_over_a_large_vocabulary_takes_little_memory() -> None:
    policy, prompts, tree, predicted = wide_world()
    assert predicted >= PREDICTED

    def update(rows: int) -> None:
        some = torch.arange(rows)
        scores = score(policy, prompts.select(some), tree.select(some))
        scores.log_probs.sum().backward()

    # Weights and gradients, which are not counted, are there before.
    update(2)
    taken = peak_of(lambda: update(len(prompts)))
    assert taken < LIMIT, "the logits alone would take 2.5 GB, several times"
    assert all(p.grad is not None for p in policy.parameters())


@pytest.mark.parametrize("space", LOGPROB_SPACES)
@pytest.mark.parametrize("rows", [2, 1000])
def test_some_codes_are_read_as_all_are(
    monkeypatch: pytest.MonkeyPatch, space: str, rows: int
) -> None:
    monkeypatch.setattr(head, "piece_rows", lambda *_: rows)
    policy = made(space, True, "fp32")
    trie = policy.trie
    states = torch.arange(trie.first_of_level[-1])
    hidden = torch.randn(len(states), 16, generator=torch.Generator().manual_seed(1))
    every, whole = policy.code_logits(hidden, states, 0.5)
    children, real = trie.children(states, 2)
    codes = trie.code[children]
    found, normalizer = policy.code_logits(hidden, states, 0.5, codes)
    assert real.any() and not real.all()
    assert torch.equal(found, every.gather(1, codes)) and torch.equal(normalizer, whole)
