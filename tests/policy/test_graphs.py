"""Passes that are laid out as whole grids and replayed are those of a flat row of tokens.

A replay needs a GPU. Here a pass that was recorded is computed again over the memory that it was
recorded with, which shows whether that memory holds all that it depends on.
"""

from __future__ import annotations

import copy
import gc
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.decoding.beam import beam_search
from genrec_bench.decoding.sampling import beam_and_samples, sample, stochastic_beam
from genrec_bench.policy import graphs
from genrec_bench.policy.graphs import OFTEN, STEP, ForwardGraphs
from genrec_bench.policy.policy import Policy
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.tree import CandidateTree

CATALOG = tiny_catalog()
EXAMPLES = tiny_examples(CATALOG)
GROUP = 6

Search = Callable[[Policy, Prompts], CandidateTree]
SEARCHES: dict[str, Search] = {
    "beam": lambda policy, prompts: beam_search(policy, prompts, GROUP),
    "sample": lambda policy, prompts: sample(policy, prompts, GROUP, key=1),
    "stochastic beam": lambda policy, prompts: stochastic_beam(policy, prompts, GROUP, key=1),
    "beam and samples": lambda policy, prompts: beam_and_samples(
        policy, prompts, GROUP, GROUP, key=1
    )[1],
}


class Recorder:
    """Counts what it records; a replay computes the pass again."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        self.count += 1
        return run


def recorded(policy: Policy) -> tuple[ForwardGraphs, Recorder]:
    recorder = Recorder()
    policy.graphs = ForwardGraphs(torch.float32, recorder)
    return policy.graphs, recorder


def prompts_of(policy: Policy, rows: list[int]) -> Prompts:
    return policy.prompt_format.encode(EXAMPLES, np.array(rows))


def equal(left: CandidateTree, right: CandidateTree) -> bool:
    close = torch.allclose(left.log_probs, right.log_probs, atol=1e-5)
    return torch.equal(left.states, right.states) and close


@pytest.mark.parametrize("search", SEARCHES)
@torch.no_grad()
def test_replayed_passes_find_what_a_flat_row_finds(search: str) -> None:
    policy = tiny_policy(CATALOG)
    batches = [[0, 1, 2], [3, 4, 1], [2, 0, 4], [1, 4, 3], [0, 1, 2], [4, 4, 1]]
    flat = [SEARCHES[search](policy, prompts_of(policy, rows)) for rows in batches]
    _, recorder = recorded(policy)
    for found, rows in zip(flat, batches, strict=True):
        assert equal(found, SEARCHES[search](policy, prompts_of(policy, rows)))
    assert recorder.count > 0


@torch.no_grad()
def test_a_replay_follows_weights_that_learn() -> None:
    policy = tiny_policy(CATALOG)
    prompts = prompts_of(policy, [0, 1, 2])
    recorded(policy)
    for _ in range(OFTEN + 1):
        before = beam_search(policy, prompts, GROUP)
    for parameter in policy.parameters():
        parameter.mul_(1.05)
    after = beam_search(policy, prompts, GROUP)
    policy.graphs = None
    assert equal(after, beam_search(policy, prompts, GROUP))
    assert not equal(before, after)


@torch.no_grad()
def test_weights_elsewhere_are_recorded_anew() -> None:
    policy = tiny_policy(CATALOG)
    prompts = prompts_of(policy, [0, 1, 2])
    _, recorder = recorded(policy)
    for _ in range(OFTEN + 1):
        beam_search(policy, prompts, GROUP)
    first = recorder.count
    for parameter in policy.parameters():
        parameter.data = 1.05 * parameter.data
    for _ in range(OFTEN + 1):
        beam_search(policy, prompts, GROUP)
    assert recorder.count == 2 * first


@torch.no_grad()
def test_a_shape_that_comes_seldom_is_not_recorded() -> None:
    policy = tiny_policy(CATALOG)
    found, recorder = recorded(policy)
    for count in range(1, 5):
        beam_search(policy, prompts_of(policy, [0] * count), GROUP)
    assert recorder.count == 0
    assert found.padded(1) == found.padded(STEP) == STEP


@torch.no_grad()
def test_two_decoders_at_once_have_a_store_each(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = recorded(tiny_policy(CATALOG))

    class Borrower:
        pass

    one, other = Borrower(), Borrower()
    first, second = found.lend(one, 3, 40), found.lend(other, 3, 40)
    assert first is not second
    del one
    gc.collect()
    assert found.lend(other, 3, 40) is first
    monkeypatch.setattr(graphs, "MOST_TOKENS", 100)
    large = found.lend(other, 3, 40)
    assert large not in (first, second)


@torch.no_grad()
def test_what_was_used_long_ago_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(graphs, "MOST_STORES", 1)
    policy = tiny_policy(CATALOG)
    found, recorder = recorded(policy)
    few, many = prompts_of(policy, [0, 1]), prompts_of(policy, [0, 1, 2])
    for _ in range(OFTEN + 1):
        beam_search(policy, few, GROUP)
    first = recorder.count
    beam_search(policy, many, GROUP)
    for _ in range(OFTEN + 1):
        beam_search(policy, few, GROUP)
    assert recorder.count == 2 * first
    assert len(found._recorded) == first


@torch.no_grad()
def test_a_copy_of_a_policy_records_for_itself() -> None:
    policy = tiny_policy(CATALOG)
    prompts = prompts_of(policy, [0, 1, 2])
    recorded(policy)
    for _ in range(OFTEN + 1):
        before = beam_search(policy, prompts, GROUP)
    other = copy.deepcopy(policy)
    for parameter in policy.parameters():
        parameter.mul_(1.05)
    assert equal(before, beam_search(other, prompts, GROUP))
