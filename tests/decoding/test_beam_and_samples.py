"""A beam and draws by one decoder: what both find alone, and fewer tokens than both."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from torch import Tensor

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.decoding.beam import beam_search
from genrec_bench.decoding.sampling import beam_and_samples, sample
from genrec_bench.policy.policy import LogProbSpace, Policy, WorkCount
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.tree import CandidateTree

CATALOG = tiny_catalog()
EXAMPLES = tiny_examples(CATALOG, 30)


def prompts_of(policy: Policy) -> Prompts:
    return policy.prompt_format.encode(EXAMPLES, np.arange(len(EXAMPLES)))


def assert_equal(found: CandidateTree, expected: CandidateTree) -> None:
    for field in fields(CandidateTree):
        value, wanted = getattr(found, field.name), getattr(expected, field.name)
        if field.name == "log_probs":
            assert torch.allclose(value, wanted, atol=1e-5)
        elif isinstance(value, Tensor):
            assert torch.equal(value, wanted), field.name


@pytest.mark.parametrize("space", ["full", "level", "trie"])
@pytest.mark.parametrize(
    ("width", "count", "temperature"),
    # All that is drawn is on the beam; hardly any of it is; more places than there are SIDs.
    [(10, 6, 0.3), (1, 16, 2.0), (64, 4, 1.0), (3, 40, 1.0)],
)
def test_both_are_found_as_if_alone(
    space: LogProbSpace, width: int, count: int, temperature: float
) -> None:
    policy = tiny_policy(CATALOG, logprob_space=space)
    prompts = prompts_of(policy)
    beam, drawn = beam_and_samples(
        policy, prompts, width, count, temperature=temperature, top_p=0.95, key=3
    )
    assert_equal(beam, beam_search(policy, prompts, width))
    alone = sample(policy, prompts, count, temperature=temperature, top_p=0.95, key=3)
    assert_equal(drawn, alone)


def test_neither_depends_on_the_chunk() -> None:
    policy = tiny_policy(CATALOG)
    prompts = prompts_of(policy)
    whole = beam_and_samples(policy, prompts, 5, 8, key=1)
    policy.tokens_per_forward = 60
    parts = beam_and_samples(policy, prompts, 5, 8, key=1)
    for found, expected in zip(parts, whole, strict=True):
        assert_equal(found, expected)


def tokens(policy: Policy, width: int, count: int) -> tuple[int, int]:
    """How many tokens both take together, and one after the other."""
    prompts, spent = prompts_of(policy), []
    for together in (True, False):
        policy.meter = work = WorkCount()
        if together:
            beam_and_samples(policy, prompts, width, count, key=0)
        else:
            beam_search(policy, prompts, width)
            sample(policy, prompts, count, key=0)
        spent.append(work.tokens)
    policy.meter = None
    return spent[0], spent[1]


def test_what_the_beam_has_read_is_not_read_again() -> None:
    policy = tiny_policy(CATALOG)
    in_prompts = int(prompts_of(policy).lengths.sum())
    # A beam that holds every prefix: all that is left to do is to draw.
    everything, apart = tokens(policy, CATALOG.num_items, 20)
    policy.meter = work = WorkCount()
    beam_search(policy, prompts_of(policy), CATALOG.num_items)
    assert everything == work.tokens < apart - in_prompts
    # A narrow beam spares the prompts, and of the nodes no more than it has.
    narrow, apart = tokens(policy, 1, 20)
    assert in_prompts < apart - narrow <= in_prompts + 2 * len(EXAMPLES)
