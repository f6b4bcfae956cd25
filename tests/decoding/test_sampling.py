"""Sampling: hand-made probabilities must come out as frequencies, and tell nothing of the batch."""

import math
from collections.abc import Callable
from itertools import combinations
from typing import cast, get_args

import numpy as np
import pytest
import torch
from scipy.stats import chisquare
from search_world import turned
from search_world import world as world_of
from torch import Tensor, nn

from genrec_bench.contract.tiny_world import tiny_catalog, tiny_policy, tiny_world
from genrec_bench.data.dataset import Catalog
from genrec_bench.decoding.beam import TreeDecoder, beam_search
from genrec_bench.decoding.sampling import sample, stochastic_beam
from genrec_bench.policy.policy import LogProbSpace, Policy, WorkCount
from genrec_bench.policy.prompts import Prompts
from genrec_bench.policy.selfcheck import repeated_log_probs
from genrec_bench.policy.tree import CandidateTree

Draw = Callable[..., CandidateTree]

UNLIKELY = 1e-4
"""A chi-square test that right numbers fail this seldom; the keys are fixed, so it fails or not."""

# A policy whose probabilities can be written down. Under every prompt and prefix it gives code 0, 1
# and 2 of level 1 the chances .5, .3, .2, and code 0 and 1 of level 2 the odds .6 to .4. With the
# SIDs below that makes, renormalised over valid children:
#   (0,0) .5 * .6 = .3   (0,1) .5 * .4 = .2   (1,0) .3 * 1 = .3   (2,0) .2 * .6   (2,1) .2 * .4
SIDS = [[0, 0], [0, 1], [1, 0], [2, 0], [2, 1]]
CHANCES = np.array([0.3, 0.2, 0.3, 0.12, 0.08])
MANY = 2000


def known_policy() -> Policy:
    catalog = Catalog(
        sids=np.array(SIDS, dtype=np.int32),
        codes_per_level=(3, 2),
        item_names=tuple("abcde"),
        titles=("",) * 5,
        popularity=np.zeros(5, dtype=np.int64),
        rank_shared="index",
    )
    policy = tiny_policy(catalog)
    embeddings = cast(nn.Embedding, policy.backbone.get_input_embeddings()).weight
    head = cast(nn.Linear, policy.backbone.get_output_embeddings()).weight
    with torch.no_grad():
        # With one embedding for all tokens, attention finds the same wherever it looks.
        embeddings[:] = embeddings[1].clone()
        hidden = TreeDecoder(policy, many_prompts(policy), capacity=0).roots().hidden[0, 0]
        head.zero_()
        for level, chances in enumerate([(0.5, 0.3, 0.2), (0.6, 0.4)]):
            for code, chance in enumerate(chances):
                row = math.log(chance) * hidden / hidden.square().sum()
                head[policy.code_tokens[level, code]] = row
    return policy


def many_prompts(policy: Policy) -> Prompts:
    """Prompts that differ, so that each has random numbers of its own."""
    codes = policy.code_tokens[0, :3]
    digits = torch.arange(MANY).unsqueeze(1) // 3 ** torch.arange(8) % 3
    return Prompts(codes[digits], torch.ones(MANY, 8, dtype=torch.bool))


def counts(tree: CandidateTree, place: int = 0) -> Tensor:
    """How often each SID stands at a place."""
    return torch.bincount(tree.trie.sid_index(tree.leaves[:, place]), minlength=5)


def test_draws_follow_the_probabilities() -> None:
    policy = known_policy()
    tree = sample(policy, many_prompts(policy), 3, key=11)
    assert tree.valid.all()
    for place in range(3):
        assert chisquare(counts(tree, place), MANY * CHANCES).pvalue > UNLIKELY
    # One draw tells nothing of the next.
    pairs = counts_of_pairs(tree.trie.sid_index(tree.leaves[:, :2]))
    expected = MANY * np.outer(CHANCES, CHANCES)
    assert chisquare(pairs.flatten(), expected.flatten()).pvalue > UNLIKELY


def counts_of_pairs(sids: Tensor) -> Tensor:
    return torch.bincount(5 * sids[:, 0] + sids[:, 1], minlength=25).view(5, 5)


def test_one_prompts_draws_follow_the_probabilities_too() -> None:
    policy = known_policy()
    prompt = many_prompts(policy).select(torch.tensor([7]))
    drawn = sample(policy, prompt, MANY, key=5)
    found = torch.bincount(drawn.trie.sid_index(drawn.leaves[0]), minlength=5)
    assert chisquare(found, MANY * CHANCES).pvalue > UNLIKELY
    assert drawn.states.shape == (1, 8), "three prefixes and five leaves, however many draws"
    # Over keys.
    first = [int(sample(policy, prompt, 1, key=key).leaves) for key in range(150)]
    found = torch.bincount(drawn.trie.sid_index(torch.tensor(first)), minlength=5)
    assert chisquare(found, 150 * CHANCES).pvalue > UNLIKELY


@pytest.mark.parametrize(
    ("draw", "options", "expected"),
    [
        # Level 1 squared: .25, .09, .04 of .38 are .658, .237, .105; the first two reach .85 and
        # have 25/34 and 9/34 of their sum. Level 2 squared: .36 and .16 of .52; both are needed.
        (
            sample,
            {"temperature": 0.5, "top_p": 0.85, "key": 3},
            [25 / 34 * 36 / 52, 25 / 34 * 16 / 52, 9 / 34],
        ),
        # The best two codes of every node, or the best.
        (sample, {"top_k": 1, "key": 3}, [1]),
        (sample, {"top_k": 2, "key": 3}, [0.3 / 0.8, 0.2 / 0.8, 0.3 / 0.8]),
        # The first of a stochastic beam is a draw.
        (stochastic_beam, {"key": 11}, CHANCES),
        (
            stochastic_beam,
            {"temperature": 0.5, "key": 12},
            np.array([25 * 9 / 13, 25 * 4 / 13, 9, 4 * 9 / 13, 4 * 4 / 13]) / 38,
        ),
    ],
)
def test_temperature_top_p_and_top_k_act_on_every_code(
    draw: Draw, options: dict[str, float], expected: list[float]
) -> None:
    policy = known_policy()
    found = counts(draw(policy, many_prompts(policy), 1, **options))
    possible = len(expected)
    assert not found[possible:].any()
    if possible > 1:
        assert chisquare(found[:possible], MANY * np.array(expected)).pvalue > UNLIKELY


def test_a_stochastic_beam_draws_without_replacement() -> None:
    policy = known_policy()
    tree = stochastic_beam(policy, many_prompts(policy), 2, key=21)
    sids = tree.trie.sid_index(tree.leaves)
    assert (sids[:, 0] != sids[:, 1]).all()
    found = counts_of_pairs(sids.sort(dim=1).values)
    # {a, b} comes up as a, then b of what is left, or the other way round. For SIDs 0 and 2, for
    # one: .3 * .3 / .7 twice, .257.
    pairs = list(combinations(range(5), 2))
    p = CHANCES
    expected = np.array([p[a] * p[b] / (1 - p[a]) + p[b] * p[a] / (1 - p[b]) for a, b in pairs])
    assert expected[pairs.index((0, 2))] == pytest.approx(0.18 / 0.7)
    assert chisquare([int(found[pair]) for pair in pairs], MANY * expected).pvalue > UNLIKELY


def test_a_stochastic_beam_that_holds_all_but_one_leaves_out_the_unlikely() -> None:
    policy = known_policy()
    tree = stochastic_beam(policy, many_prompts(policy), 4, key=22)
    left_out = 10 - tree.trie.sid_index(tree.leaves).sum(dim=1)
    # The last of a draw without replacement: sum over all orders of the other four.
    chance = np.zeros(5)
    for last in range(5):
        others = [sid for sid in range(5) if sid != last]
        chance[last] = sum(orders(others))
    assert chance.sum() == pytest.approx(1.0) and chance.argmax() == 4
    assert chisquare(torch.bincount(left_out, minlength=5), MANY * chance).pvalue > UNLIKELY


def orders(sids: list[int], used: float = 0.0) -> list[float]:
    """The chance of each order in which these SIDs can be drawn, one after another."""
    if not sids:
        return [1.0]
    return [
        CHANCES[sid] / (1 - used) * rest
        for sid in sids
        for rest in orders([other for other in sids if other != sid], used + CHANCES[sid])
    ]


@torch.no_grad()
@pytest.mark.parametrize("space", get_args(LogProbSpace))
def test_a_tree_keeps_the_policys_own_log_probabilities(space: LogProbSpace) -> None:
    world = tiny_world(logprob_space=space)
    for tree in (
        sample(world.policy, world.prompts, 7, temperature=0.5, top_p=0.9, key=1),
        stochastic_beam(world.policy, world.prompts, 7, temperature=2.0, key=1),
    ):
        exact = repeated_log_probs(world.policy, world.prompts, tree.leaves)
        assert torch.allclose(tree.on_paths(tree.log_probs), exact, atol=1e-4)


def test_the_space_of_log_probabilities_does_not_decide_what_is_drawn() -> None:
    worlds = [tiny_world(logprob_space=space) for space in get_args(LogProbSpace)]
    draws: tuple[Draw, ...] = (sample, stochastic_beam)
    for draw in draws:
        first, *others = (draw(world.policy, world.prompts, 7, key=4).leaves for world in worlds)
        if draw is stochastic_beam:
            # It is sorted by the policy's probability, of which there is one for each space.
            first, *others = (leaves.sort(dim=1).values for leaves in (first, *others))
        assert all(torch.equal(first, other) for other in others)


@pytest.mark.parametrize("draw", [sample, stochastic_beam])
def test_neither_order_nor_padding_nor_chunks_nor_neighbours_matter(draw: Draw) -> None:
    world = tiny_world()
    policy, prompts = world.policy, world.prompts
    whole = draw(policy, prompts, 8, key=9)
    other_way, order = turned(prompts)
    again = draw(policy, other_way, 8, key=9)
    alone = [draw(policy, prompts.select(torch.tensor([row])), 8, key=9) for row in range(5)]
    policy.tokens_per_forward = 60
    in_chunks = draw(policy, prompts, 8, key=9)

    assert torch.equal(again.leaves, whole.leaves[order])
    assert torch.equal(in_chunks.leaves, whole.leaves)
    assert torch.allclose(in_chunks.log_probs, whole.log_probs, atol=1e-5)
    assert torch.equal(torch.cat([tree.leaves for tree in alone]), whole.leaves)


def test_more_draws_begin_with_the_same_ones() -> None:
    world = tiny_world()
    few = sample(world.policy, world.prompts, 3, key=2)
    many = sample(world.policy, world.prompts, 30, key=2)
    assert torch.equal(many.leaves[:, :3], few.leaves)
    assert many.valid.all(), "more draws than SIDs: some come again"


@pytest.mark.parametrize("draw", [sample, stochastic_beam])
def test_a_key_or_torchs_generator_decides(draw: Draw) -> None:
    world = tiny_world()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        before = torch.get_rng_state()
        first = draw(world.policy, world.prompts, 8, key=2).leaves
        assert torch.equal(torch.get_rng_state(), before)
        second = draw(world.policy, world.prompts, 8).leaves
        third = draw(world.policy, world.prompts, 8).leaves
        torch.manual_seed(1)
        again = draw(world.policy, world.prompts, 8).leaves
    assert torch.equal(draw(world.policy, world.prompts, 8, key=2).leaves, first)
    assert torch.equal(again, second)
    assert not torch.equal(second, third) and not torch.equal(first, second)


@pytest.mark.parametrize("draw", [sample, stochastic_beam])
def test_a_prefix_is_paid_for_once_however_many_draws_share_it(draw: Draw) -> None:
    world = tiny_world()
    world.policy.meter = meter = WorkCount()
    tree = draw(world.policy, world.prompts, 12, top_k=2, key=6)
    expanded = 0
    if draw is sample:
        for leaves in tree.leaves:
            above = tree.trie.prefixes(leaves)[:, :-1]
            expanded += len(set(above.flatten().tolist()))
        assert expanded < 5 * 12 * 2
        assert meter.tokens == int(world.prompts.lengths.sum()) + expanded
    else:
        # Two children a node: two prefixes of one code and at most four of two.
        assert meter.tokens <= int(world.prompts.lengths.sum()) + 5 * (2 + 4)


@torch.no_grad()
def test_a_stochastic_beam_as_wide_as_the_catalog_is_a_beam() -> None:
    world = tiny_world()
    wide = world.policy.trie.num_leaves + 3
    beam = beam_search(world.policy, world.prompts, wide)
    for temperature in (0.1, 1.0, 5.0):
        tree = stochastic_beam(world.policy, world.prompts, wide, temperature=temperature, key=1)
        assert torch.equal(tree.leaves, beam.leaves)
        assert torch.allclose(tree.log_probs, beam.log_probs, atol=1e-5)


@torch.no_grad()
def test_a_stochastic_beam_is_sorted_and_keeps_to_each_nodes_best_children() -> None:
    world = tiny_world()
    trie = world.policy.trie
    tree = stochastic_beam(world.policy, world.prompts, 10, top_k=2, key=8)
    assert not tree.valid.all(), "with two children a node there are at most eight SIDs"
    totals = tree.sequence_log_probs()
    assert (totals[:, :-1] >= totals[:, 1:]).all(), "sorted, and what is not real comes last"
    every = trie.leaf(torch.arange(trie.num_leaves)).expand(5, -1)
    log_probs = repeated_log_probs(world.policy, world.prompts, every)
    on_path = trie.prefixes(every)
    for row in range(5):
        best: set[int] = set()
        for level in range(3):
            own = dict(zip(on_path[row, :, level].tolist(), log_probs[row, :, level], strict=True))
            for parent in {int(trie.parent[state]) for state in own}:
                children = [state for state in own if int(trie.parent[state]) == parent]
                best |= set(sorted(children, key=lambda s: -float(own[s]))[:2])
        found = trie.prefixes(tree.leaves[row][tree.valid[row]])
        assert set(found.flatten().tolist()) <= best
        reachable = [path[-1] for path in on_path[row].tolist() if set(path) <= best]
        assert sorted(found[:, -1].tolist()) == reachable, "all that can be reached is drawn"


@torch.no_grad()
@pytest.mark.parametrize("codes", [(30,), (3, 4), (2, 3, 2, 3), (2, 3, 2, 2, 2)])
def test_any_number_of_levels(codes: tuple[int, ...]) -> None:
    num_sids = min(18, int(np.prod(codes)))
    policy, prompts = world_of(tiny_catalog(num_sids, codes, seed=len(codes)))
    drawn = sample(policy, prompts, 40, temperature=3.0, key=1)
    beam = stochastic_beam(policy, prompts, num_sids - 2, temperature=3.0, key=1)
    assert drawn.valid.all() and drawn.paths.shape == (5, 40, len(codes))
    assert all(len(set(row.tolist())) == num_sids - 2 for row in beam.leaves)
    for tree in (drawn, beam):
        exact = repeated_log_probs(policy, prompts, tree.leaves)
        assert torch.allclose(tree.on_paths(tree.log_probs), exact, atol=1e-4)


def test_a_random_number_of_zero_draws_no_child_that_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = tiny_world()
    likely = sample(world.policy, world.prompts, 1, top_k=1, key=1)
    first = world.policy.trie.first_of_level[-1]
    assert (likely.leaves > first).all(), "never the first SID of all"
    monkeypatch.setattr(
        "genrec_bench.decoding.sampling.uniform", lambda *_: torch.zeros(5, 3).double()
    )
    drawn = sample(world.policy, world.prompts, 3, top_k=1, key=1)
    assert torch.equal(drawn.leaves, likely.leaves.expand(5, 3))
