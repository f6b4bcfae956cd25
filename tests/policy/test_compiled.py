"""Compiled layers compute what layers compute, gradients and all."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.decoding.beam import beam_search
from genrec_bench.errors import UserError
from genrec_bench.policy.compiled import compile_layers
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.scoring import score

CATALOG = tiny_catalog()
EXAMPLES = tiny_examples(CATALOG)


def update(policy: Policy, rows: list[int]) -> tuple[Tensor, Tensor]:
    """The candidates' log-probabilities, and all gradients."""
    prompts = policy.prompt_format.encode(EXAMPLES, np.array(rows))
    policy.zero_grad()
    log_probs = score(policy, prompts, beam_search(policy, prompts, 4)).log_probs
    log_probs.square().sum().backward()
    grads = [p.grad.flatten() for p in policy.parameters() if p.grad is not None]
    return log_probs.detach(), torch.cat(grads)


def test_compiled_layers_compute_the_same_for_every_shape() -> None:
    """Traced as a compiler does it; that a compiler's kernels are right is the compiler's."""
    policy = tiny_policy(CATALOG)
    batches = [[0, 1, 2], [3, 4]]
    plain = [update(policy, rows) for rows in batches]
    kind = policy.backbone.config.model_type
    policy.layers = compile_layers(policy._decoder, kind, torch.float32, backend="aot_eager")
    torch._dynamo.utils.counters.clear()
    for rows, (log_probs, grads) in zip(batches, plain, strict=True):
        found, moved = update(policy, rows)
        torch.testing.assert_close(found, log_probs)
        assert (moved - grads).norm() <= 1e-5 * grads.norm()
    # One trace serves all layers and all sizes.
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
    torch._dynamo.reset()


def test_an_architecture_that_is_not_known_is_refused() -> None:
    policy = tiny_policy(CATALOG)
    with pytest.raises(UserError, match="layers of llama, mistral, qwen2, qwen3 are compiled"):
        compile_layers(policy._decoder, "gpt2", torch.float32)
