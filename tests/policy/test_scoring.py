from typing import get_args

import numpy as np
import pytest
import torch

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_examples, tiny_policy
from genrec_bench.data.dataset import Examples
from genrec_bench.decoding.beam import TreeDecoder, beam_search
from genrec_bench.policy.policy import LogProbSpace, Policy
from genrec_bench.policy.prompts import Chains, Prompts
from genrec_bench.policy.scoring import score
from genrec_bench.policy.selfcheck import repeated_log_probs
from genrec_bench.policy.supervised import score_targets
from genrec_bench.policy.tree import CandidateTree

SHAPES = [(40,), (5, 6), (3, 4, 3), (3, 2, 3, 2), (2, 3, 2, 2, 2)]


def rolled_out(
    codes: tuple[int, ...], space: LogProbSpace, group_size: int
) -> tuple[Policy, Prompts, CandidateTree]:
    catalog = tiny_catalog(18, codes, seed=len(codes))
    policy = tiny_policy(catalog, logprob_space=space)
    prompts = policy.prompt_format.encode(tiny_examples(catalog), np.arange(5))
    return policy, prompts, beam_search(policy, prompts, group_size)


def gradients(policy: Policy) -> torch.Tensor:
    found = [parameter.grad for parameter in policy.parameters()]
    policy.zero_grad(set_to_none=True)
    return torch.cat([grad.flatten() for grad in found if grad is not None])


@pytest.mark.parametrize("leaves", [False, True])
@pytest.mark.parametrize("space", get_args(LogProbSpace))
@pytest.mark.parametrize("codes", SHAPES, ids=lambda codes: f"L={len(codes)}")
def test_a_packed_tree_equals_repeated_prompts(
    codes: tuple[int, ...], space: LogProbSpace, leaves: bool
) -> None:
    policy, prompts, tree = rolled_out(codes, space, group_size=4)
    weights = torch.randn(tree.paths.shape, generator=torch.Generator().manual_seed(0))

    packed = score(policy, prompts, tree, leaves=leaves).log_probs
    (packed * weights).sum().backward()
    packed_gradients = gradients(policy)
    plain = repeated_log_probs(policy, prompts, tree.leaves)
    (plain * weights).sum().backward()
    plain_gradients = gradients(policy)

    assert (packed - plain).abs().max() < 1e-4
    assert torch.cosine_similarity(packed_gradients, plain_gradients, dim=0) > 0.99999
    assert torch.allclose(packed_gradients, plain_gradients, atol=1e-3, rtol=1e-3)
    assert torch.allclose(tree.on_paths(tree.log_probs), packed, atol=1e-4)


def test_places_without_a_candidate_reach_nothing() -> None:
    policy, prompts, tree = rolled_out((3, 4, 3), "full", group_size=30)
    assert not tree.valid.all()

    found = score(policy, prompts, tree)
    found.log_probs[~tree.valid].sum().backward()

    # Their paths point at a real node, so that they read something finite; whoever uses them masks.
    assert found.log_probs.isfinite().all()
    assert found.node_log_probs[~tree.is_node].eq(0).all()


@pytest.mark.parametrize("space", get_args(LogProbSpace))
def test_probabilities_sum_to_one_over_what_they_are_normalised_over(space: LogProbSpace) -> None:
    policy, prompts, _ = rolled_out((3, 4, 3), space, group_size=1)
    trie = policy.trie
    every = trie.leaf(torch.arange(trie.num_leaves)).expand(len(prompts), -1)
    blank = torch.zeros(*every.shape, trie.num_levels)
    tree = CandidateTree.build(trie, every, blank)

    with torch.no_grad():
        totals = score(policy, prompts, tree).log_probs.sum(dim=-1).exp().sum(dim=1)

    if space == "trie":
        assert torch.allclose(totals, torch.ones(5), atol=1e-5)
    else:
        assert (totals < 1).all()


def test_leaf_logits_are_those_after_the_finished_candidate() -> None:
    policy, prompts, tree = rolled_out((3, 4, 3), "full", group_size=3)
    tokens = [0, 4]

    with torch.no_grad():
        found = score(policy, prompts, tree, leaves=True).leaf_logits(tokens)
        for row in range(len(prompts)):
            prompt = prompts.tokens[row][prompts.mask[row]]
            for place in range(3):
                codes = policy.tokens_of(policy.trie.prefixes(tree.leaves[row, place]))
                sequence = torch.cat([prompt, codes]).unsqueeze(0)
                policy.backbone.set_attn_implementation("eager")
                exact = policy.backbone(input_ids=sequence).logits[0, -1, tokens]
                policy.backbone.set_attn_implementation("genrec_tree")
                assert torch.allclose(found[row, place], exact, atol=1e-4)

    with pytest.raises(ValueError, match="without its leaves"):
        score(policy, prompts, tree).leaf_logits(tokens)


@pytest.mark.parametrize("space", get_args(LogProbSpace))
def test_supervised_loss_is_the_likelihood_of_the_targets(space: LogProbSpace) -> None:
    catalog = tiny_catalog(18, (3, 4, 3))
    policy = tiny_policy(catalog, logprob_space=space)
    examples = tiny_examples(catalog)
    prompts = policy.prompt_format.encode(examples, np.arange(5))
    targets = policy.item_leaves[torch.from_numpy(examples.targets.astype(np.int64))]

    found = score_targets(policy, examples, Chains.single(examples), np.arange(5))

    exact = repeated_log_probs(policy, prompts, targets.unsqueeze(1))
    assert torch.equal(found.targets, targets)
    assert torch.allclose(found.log_probs, exact[:, 0], rtol=1e-5)
    # Of the codes that may follow, the target's own is one; the others are as likely as in a beam.
    states, log_probs = found.children()
    path = policy.trie.prefixes(targets)
    own = (states == path.unsqueeze(-1)).float()
    assert torch.equal(own.sum(dim=-1), torch.ones(5, 3))
    assert torch.allclose((own * log_probs.clamp(min=-99)).sum(dim=-1), found.log_probs)
    if space == "trie":
        assert torch.allclose(log_probs.logsumexp(dim=-1), torch.zeros(5, 3), atol=1e-5)
    decoder = TreeDecoder(policy, prompts, capacity=1)
    first = decoder.roots().log_probs[:, 0]
    assert torch.allclose(log_probs[:, 0, : first.shape[1]], first, atol=1e-5)


def test_a_chain_learns_each_item_with_the_history_that_its_example_gives_it() -> None:
    catalog = tiny_catalog(18, (3, 4, 3))
    policy = tiny_policy(catalog)
    # One user's examples continue each other, but for the last one, whose history was cut.
    examples = Examples.from_lists([0, 0, 0, 0], [[1], [1, 5], [1, 5, 2], [5, 2, 7]], [5, 2, 7, 3])

    chains = Chains.nested(examples)
    scores = score_targets(policy, examples, chains, np.arange(2))
    loss = -scores.log_probs.sum()

    assert chains.last.tolist() == [2, 3]
    # The first chain is learned from its first item on.
    assert chains.num_targets.tolist() == [4, 1]
    assert len(scores.targets) == 5
    each = score_targets(policy, examples, Chains.single(examples), np.arange(4))
    alone = -each.log_probs.sum()
    start = Prompts(torch.tensor([[1]]), torch.ones(1, 1, dtype=torch.bool))
    first = repeated_log_probs(policy, start, policy.item_leaves[torch.tensor([[1]])]).sum()
    assert torch.allclose(loss, alone - first, rtol=1e-5)


def windows(items: list[int], window: int = 4) -> Examples:
    """A user's examples under histories that were cut."""
    places = range(1, len(items))
    histories = [items[max(0, place - window) : place] for place in places]
    return Examples.from_lists([0] * len(places), histories, [items[place] for place in places])


@pytest.mark.parametrize("space", get_args(LogProbSpace))
def test_targets_that_share_a_window_are_each_scored_as_in_what_they_see(
    space: LogProbSpace,
) -> None:
    policy = tiny_policy(tiny_catalog(18, (3, 4, 3)), logprob_space=space)
    items = [1, 5, 2, 7, 3, 0, 9, 4, 11, 6]
    examples = windows(items)
    chains = Chains.nested(examples, 3)
    # After the four that begin with the user: the last windows end with three targets, and two.
    assert [items[row + 1] for row in chains.last] == [3, 4, 6]
    assert chains.num_targets.tolist() == [5, 3, 2]
    scores = score_targets(policy, examples, chains, np.arange(1, 3))
    seen = [[7, 3], [7, 3, 0], [7, 3, 0, 9], [0, 9, 4], [0, 9, 4, 11]]
    alone = Examples.from_lists([0] * 5, seen, [0, 9, 4, 11, 6])
    each = score_targets(policy, alone, Chains.single(alone), np.arange(5))
    assert torch.equal(scores.targets, each.targets)
    assert torch.allclose(scores.log_probs, each.log_probs, rtol=1e-5)
    # The last of each has its own window whole, and so has each where none is shared.
    own = score_targets(policy, examples, Chains.single(examples), chains.last[1:])
    assert torch.allclose(scores.log_probs[[2, 4]], own.log_probs, rtol=1e-5)
    apart = Chains.nested(examples)
    assert apart.num_targets.tolist() == [5, 1, 1, 1, 1, 1]
    whole = score_targets(policy, examples, apart, np.arange(1, 6))
    single = score_targets(policy, examples, Chains.single(examples), np.arange(4, 9))
    assert torch.equal(whole.log_probs, single.log_probs)


def test_no_target_of_a_window_knows_of_a_later_one() -> None:
    policy = tiny_policy(tiny_catalog(18, (3, 4, 3)))
    items = [1, 5, 2, 7, 3, 0, 9, 4]
    found = []
    for last in (4, 12):
        for third in (9, 13):
            examples = windows([*items[:-2], third, last])
            chains = Chains.nested(examples, 3)
            found.append(score_targets(policy, examples, chains, np.array([1])).log_probs)
    first = found[0]
    assert first.shape == (3, 3)
    for other in found[1:]:
        assert torch.equal(other[0], first[0]), "two later items are others"
    assert torch.equal(found[1][1], found[3][1]) and torch.equal(found[0][1], found[2][1])
    assert not torch.equal(found[0][1], found[1][1]) and not torch.equal(first[2], found[2][2])
